//! Every route of the admin listener. The router uses these tables, so a path that is not in them reaches no handler,
//! and the OpenAPI description is generated from them. `/v1` has its own table; that of the vendors' APIs is here.

use hyper::Method;

use super::call::Call;
use super::v1;

/// The routes below a project of Atlas' API.
macro_rules! group {
    ($rest:literal) => {
        concat!("/api/atlas/v2/groups/{groupId}", $rest)
    };
}

/// The routes below a project of the API's first version that the second does not have.
macro_rules! old {
    ($rest:literal) => {
        concat!("/api/atlas/v1.0/groups/{groupId}/privateEndpoint", $rest)
    };
}

/// The routes below an app.
macro_rules! app {
    ($rest:literal) => {
        concat!("/api/admin/v3.0/groups/{groupId}/apps/{appId}", $rest)
    };
}

/// An operation of a vendor's API, with its name in the vendor's description.
pub(super) struct VendorOperation {
    pub(super) method: Method,
    pub(super) id: &'static str,
    /// The name in `openapi.json` of the request body's schema; empty: no body.
    pub(super) body: &'static str,
    pub(super) status: u16,
    /// The name of the response's schema; `[Name]` for a list; empty: no body.
    pub(super) answer: &'static str,
}

const fn get(id: &'static str, answer: &'static str) -> VendorOperation {
    send(Method::GET, id, "", 200, answer)
}

const fn delete(id: &'static str, status: u16, answer: &'static str) -> VendorOperation {
    send(Method::DELETE, id, "", status, answer)
}

const fn send(
    method: Method,
    id: &'static str,
    body: &'static str,
    status: u16,
    answer: &'static str,
) -> VendorOperation {
    VendorOperation { method, id, body, status, answer }
}

/// Path templates with their operations. The first template that matches a path applies.
pub(super) static VENDORS: &[(&str, &[VendorOperation])] = &[
    ("/openapi.json", &[get("getOpenapi", "AnyObject")]),
    ("/api/oauth/token", &[send(Method::POST, "createToken", "TokenRequest", 200, "Token")]),
    ("/api/oauth/revoke", &[send(Method::POST, "revokeToken", "RevokeRequest", 200, "Empty")]),
    (
        "/api/atlas/v2/groups",
        &[get("listGroups", "Groups"), send(Method::POST, "createGroup", "GroupRequest", 201, "Group")],
    ),
    ("/api/atlas/v2/groups/byName/{groupName}", &[get("getGroupByName", "Group")]),
    ("/api/atlas/v2/orgs", &[get("listOrgs", "Orgs")]),
    ("/api/atlas/v2/orgs/{orgId}", &[get("getOrg", "Org")]),
    ("/api/atlas/v2/orgs/{orgId}/groups", &[get("getOrgGroups", "Groups")]),
    ("/api/atlas/v2/clusters", &[get("listClusterDetails", "ClustersOfGroups")]),
    ("/api/private/ipinfo", &[get("getIpInfo", "IpInfo")]),
    (
        group!(""),
        &[
            get("getGroup", "Group"),
            send(Method::PATCH, "updateGroup", "GroupChange", 200, "Group"),
            delete("deleteGroup", 202, "Empty"),
        ],
    ),
    (
        group!("/settings"),
        &[
            get("getGroupSettings", "GroupSettings"),
            send(Method::PATCH, "updateGroupSettings", "GroupSettingsChange", 200, "GroupSettings"),
        ],
    ),
    (group!("/managedSlowMs"), &[get("getGroupManagedSlowMs", "Flag")]),
    (group!("/managedSlowMs/enable"), &[send(Method::POST, "enableGroupManagedSlowMs", "", 204, "")]),
    (group!("/managedSlowMs/disable"), &[delete("disableGroupManagedSlowMs", 204, "")]),
    (group!("/teams"), &[get("listGroupTeams", "EmptyPage")]),
    (group!("/users"), &[get("listGroupUsers", "EmptyPage")]),
    (group!("/alerts"), &[get("listGroupAlerts", "EmptyPage")]),
    (group!("/flexClusters"), &[get("listGroupFlexClusters", "EmptyPage")]),
    (group!("/ipAddresses"), &[get("listGroupIpAddresses", "GroupIpAddresses")]),
    (group!("/containers"), &[get("listGroupContainers", "Containers")]),
    (group!("/containers/all"), &[get("listGroupContainerAll", "Containers")]),
    (group!("/containers/{containerId}"), &[get("getGroupContainer", "Container")]),
    (
        group!("/databaseUsers"),
        &[
            get("listGroupDatabaseUsers", "DatabaseUsers"),
            send(Method::POST, "createGroupDatabaseUser", "DatabaseUserRequest", 201, "DatabaseUser"),
        ],
    ),
    (
        group!("/databaseUsers/{databaseName}/{username}"),
        &[
            get("getGroupDatabaseUser", "DatabaseUser"),
            send(Method::PATCH, "updateGroupDatabaseUser", "DatabaseUserChange", 200, "DatabaseUser"),
            delete("deleteGroupDatabaseUser", 204, ""),
        ],
    ),
    (
        group!("/clusters/{clusterName}/processArgs"),
        &[
            get("getGroupClusterProcessArgs", "ProcessArgs"),
            send(Method::PATCH, "updateGroupClusterProcessArgs", "ProcessArgs", 200, "ProcessArgs"),
        ],
    ),
    (
        group!("/clusters/{clusterName}/privateEndpointConnectionStrings"),
        &[
            get("listGroupClusterPrivateEndpointConnectionStrings", "NamedStringsPage"),
            send(
                Method::POST,
                "createGroupClusterPrivateEndpointConnectionString",
                "NamedStringsRequest",
                201,
                "NamedStrings",
            ),
        ],
    ),
    (
        group!("/clusters/{clusterName}/privateEndpointConnectionStrings/{connectionStringId}"),
        &[
            get("getGroupClusterPrivateEndpointConnectionString", "NamedStrings"),
            send(
                Method::PATCH,
                "updateGroupClusterPrivateEndpointConnectionString",
                "NamedStringsChange",
                200,
                "NamedStrings",
            ),
            delete("deleteGroupClusterPrivateEndpointConnectionString", 204, ""),
        ],
    ),
    (
        "/api/atlas/v1.0/groups/{groupId}/whitelist",
        &[
            get("listOldAccessListEntries", "AccessEntries"),
            send(Method::POST, "createOldAccessListEntries", "AccessEntryRequest", 201, "AccessEntries"),
        ],
    ),
    (
        "/api/atlas/v1.0/groups/{groupId}/whitelist/{entryValue}",
        &[get("getOldAccessListEntry", "AccessEntry"), delete("deleteOldAccessListEntry", 204, "")],
    ),
    (
        group!("/privateEndpoint/endpointService"),
        &[send(
            Method::POST,
            "createGroupPrivateEndpointEndpointService",
            "EndpointServiceRequest",
            201,
            "EndpointService",
        )],
    ),
    (
        group!("/privateEndpoint/endpointService/{endpointServiceId}"),
        &[send(
            Method::PATCH,
            "updateGroupPrivateEndpointEndpointService",
            "EndpointServiceChange",
            200,
            "AWSPrivateLinkConnection",
        )],
    ),
    (
        group!("/privateEndpoint/regionalMode"),
        &[
            get("getGroupPrivateEndpointRegionalMode", "RegionalMode"),
            send(Method::PATCH, "toggleGroupPrivateEndpointRegionalMode", "RegionalMode", 202, "RegionalMode"),
        ],
    ),
    (
        group!("/privateEndpoint/serverless/instance/{instanceName}/endpoint"),
        &[
            get("listGroupPrivateEndpointServerlessInstanceEndpoint", "[ServerlessEndpoint]"),
            send(
                Method::POST,
                "createGroupPrivateEndpointServerlessInstanceEndpoint",
                "ServerlessEndpointRequest",
                201,
                "ServerlessEndpoint",
            ),
        ],
    ),
    (
        group!("/privateEndpoint/serverless/instance/{instanceName}/endpoint/{endpointId}"),
        &[
            get("getGroupPrivateEndpointServerlessInstanceEndpoint", "ServerlessEndpoint"),
            send(
                Method::PATCH,
                "updateGroupPrivateEndpointServerlessInstanceEndpoint",
                "ServerlessEndpointChange",
                200,
                "ServerlessEndpoint",
            ),
            delete("deleteGroupPrivateEndpointServerlessInstanceEndpoint", 204, ""),
        ],
    ),
    (
        group!("/privateEndpoint/{cloudProvider}/endpointService"),
        &[get("listGroupPrivateEndpointEndpointService", "[EndpointService]")],
    ),
    (
        group!("/privateEndpoint/{cloudProvider}/endpointService/{endpointServiceId}"),
        &[
            get("getGroupPrivateEndpointEndpointService", "EndpointService"),
            delete("deleteGroupPrivateEndpointEndpointService", 202, "Empty"),
        ],
    ),
    (
        group!("/privateEndpoint/{cloudProvider}/endpointService/{endpointServiceId}/endpoint"),
        &[send(
            Method::POST,
            "createGroupPrivateEndpointEndpointServiceEndpoint",
            "EndpointRequest",
            201,
            "PrivateLinkEndpoint",
        )],
    ),
    (
        group!("/privateEndpoint/{cloudProvider}/endpointService/{endpointServiceId}/endpoint/{endpointId}"),
        &[
            get("getGroupPrivateEndpointEndpointServiceEndpoint", "PrivateLinkEndpoint"),
            delete("deleteGroupPrivateEndpointEndpointServiceEndpoint", 202, "Empty"),
        ],
    ),
    (
        group!("/privateNetworkSettings/endpointIds"),
        &[
            get("listGroupPrivateNetworkSettingEndpointIds", "ArchiveEndpoints"),
            send(
                Method::POST,
                "createGroupPrivateNetworkSettingEndpointId",
                "ArchiveEndpointRequest",
                200,
                "ArchiveEndpoints",
            ),
        ],
    ),
    (
        group!("/privateNetworkSettings/endpointIds/{endpointId}"),
        &[
            get("getGroupPrivateNetworkSettingEndpointId", "ArchiveEndpoint"),
            delete("deleteGroupPrivateNetworkSettingEndpointId", 204, ""),
        ],
    ),
    (
        group!("/serverless"),
        &[
            get("listGroupServerlessInstances", "ServerlessInstances"),
            send(Method::POST, "createGroupServerlessInstance", "ServerlessInstanceRequest", 201, "ServerlessInstance"),
        ],
    ),
    (
        group!("/serverless/{instanceName}"),
        &[
            get("getGroupServerlessInstance", "ServerlessInstance"),
            send(Method::PATCH, "updateGroupServerlessInstance", "AnyObject", 200, "ServerlessInstance"),
            delete("deleteGroupServerlessInstance", 202, "Empty"),
        ],
    ),
    (
        group!("/clusters"),
        &[
            get("listGroupClusters", "Clusters"),
            send(Method::POST, "createGroupCluster", "ClusterRequest", 201, "Cluster"),
        ],
    ),
    (
        group!("/clusters/{clusterName}"),
        &[
            get("getGroupCluster", "Cluster"),
            send(Method::PATCH, "updateGroupCluster", "ClusterChange", 200, "Cluster"),
            delete("deleteGroupCluster", 202, "Empty"),
        ],
    ),
    (group!("/limits"), &[get("listGroupLimits", "[Limit]")]),
    (
        group!("/limits/{limitName}"),
        &[
            get("getGroupLimit", "Limit"),
            send(Method::PATCH, "setGroupLimit", "LimitChange", 200, "Limit"),
            delete("deleteGroupLimit", 200, "Empty"),
        ],
    ),
    (
        group!("/accessList"),
        &[
            get("listGroupAccessListEntries", "AccessEntries"),
            send(Method::POST, "createGroupAccessListEntries", "AccessEntryRequest", 201, "AccessEntries"),
        ],
    ),
    (
        group!("/accessList/{entryValue}"),
        &[get("getGroupAccessListEntry", "AccessEntry"), delete("deleteGroupAccessListEntry", 204, "")],
    ),
    (group!("/accessList/{entryValue}/status"), &[get("getGroupAccessListStatus", "AccessEntryStatus")]),
    (
        old!(""),
        &[
            get("listOldServices", "[OldService]"),
            send(Method::POST, "createOldService", "OldServiceRequest", 201, "OldService"),
        ],
    ),
    (old!("/{endpointServiceId}"), &[get("getOldService", "OldService"), delete("deleteOldService", 202, "Empty")]),
    (
        old!("/{endpointServiceId}/interfaceEndpoints"),
        &[send(Method::POST, "createOldEndpoint", "OldEndpointRequest", 201, "OldEndpoint")],
    ),
    (
        old!("/{endpointServiceId}/interfaceEndpoints/{endpointId}"),
        &[get("getOldEndpoint", "OldEndpoint"), delete("deleteOldEndpoint", 202, "Empty")],
    ),
    (
        "/api/admin/v3.0/auth/providers/mongodb-cloud/login",
        &[send(Method::POST, "adminLogin", "Login", 200, "Session")],
    ),
    (
        "/api/admin/v3.0/auth/session",
        &[send(Method::POST, "adminCreateSession", "", 201, "AccessToken"), delete("adminDeleteSession", 204, "")],
    ),
    ("/api/admin/v3.0/auth/profile", &[get("getAdminProfile", "Profile")]),
    ("/api/admin/v3.0/provider_regions", &[get("adminListAppRegions", "[ProviderRegion]")]),
    ("/api/admin/v3.0/groups/{groupId}/apps", &[get("adminListApplications", "[Application]")]),
    (app!(""), &[get("adminGetApplication", "Application")]),
    (
        app!("/deployment_migration"),
        &[
            get("adminGetDeploymentMigration", "DeploymentMigration"),
            send(
                Method::PUT,
                "adminCreateDeploymentMigration",
                "DeploymentMigrationRequest",
                200,
                "DeploymentMigration",
            ),
        ],
    ),
    (app!("/services"), &[get("adminListServices", "[DataSource]")]),
    (app!("/services/{serviceId}"), &[get("adminGetService", "DataSource")]),
    (
        app!("/services/{serviceId}/config"),
        &[
            get("adminGetServiceConfig", "DataSourceConfig"),
            send(Method::PATCH, "adminUpdateServiceConfig", "DataSourceChange", 204, ""),
        ],
    ),
    (
        app!("/security/private_endpoint_service_infos"),
        &[get("adminListPrivateEndpointServices", "[PrivateEndpointServiceInfo]")],
    ),
    (
        app!("/security/private_endpoints"),
        &[
            get("adminGetPrivateEndpoints", "[PrivateEndpoint]"),
            send(Method::POST, "adminCreatePrivateEndpoint", "PrivateEndpointCreate", 201, "PrivateEndpoint"),
        ],
    ),
    (
        app!("/security/private_endpoints/{privateEndpointId}"),
        &[
            get("adminGetPrivateEndpoint", "PrivateEndpoint"),
            send(Method::PUT, "adminUpdatePrivateEndpoint", "PrivateEndpointCreate", 200, "PrivateEndpoint"),
            delete("adminDeletePrivateEndpoint", 204, ""),
        ],
    ),
    (
        app!("/security/allow_non_vpc_client_requests"),
        &[send(Method::POST, "allowNonVpcClientRequests", "NonVpc", 204, "")],
    ),
    ("/", &[send(Method::POST, "ec2", "Ec2Request", 200, "")]),
];

/// Every route: path template and method.
pub(super) fn routes() -> impl Iterator<Item = (&'static str, &'static Method)> {
    let vendors = VENDORS.iter().flat_map(|(path, all)| all.iter().map(move |operation| (*path, &operation.method)));
    v1::OPERATIONS.iter().map(|operation| (operation.path, &operation.method)).chain(vendors)
}

/// Whether a path's segments match a template.
pub(super) fn fits(template: &str, path: &[&str]) -> bool {
    let mut parts = template.split('/').filter(|part| !part.is_empty());
    let mut rest = path.iter();
    loop {
        match (parts.next(), rest.next()) {
            (None, None) => return true,
            (Some(part), Some(text)) if part.starts_with('{') || part == *text => {}
            _ => return false,
        }
    }
}

/// The path template of a request's route. `Err` has the methods of its path, or is empty if there is no such path.
///
/// # Errors
///
/// The allowed methods, in the format of an `Allow` header.
pub(super) fn check(call: &Call) -> Result<&'static str, String> {
    let given = call.segments();
    // The first versions of Atlas' API have the calls of the second, and some more.
    let is_old = matches!(given.as_slice(), ["api", "atlas", "v1.0" | "v1.5", ..]);
    let as_v2: Vec<&str> =
        given.iter().enumerate().map(|(n, part)| if is_old && n == 2 { "v2" } else { part }).collect();
    let found = routes().find(|(template, _)| fits(template, &given) || fits(template, &as_v2));
    let Some((path, _)) = found else { return Err(String::new()) };
    let methods = || routes().filter(|(template, _)| *template == path).map(|(_, method)| method);
    if methods().any(|method| *method == call.method) {
        return Ok(path);
    }
    Err(methods().map(Method::as_str).collect::<Vec<_>>().join(", "))
}
