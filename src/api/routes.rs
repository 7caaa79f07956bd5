//! Every route that the admin listener has. The router goes by this table: what is not in it reaches no handler, and the
//! OpenAPI description has the same lines, so that none can be forgotten in either.

use hyper::Method;

use super::call::Call;

/// The routes below a project of Atlas'.
macro_rules! group {
    ($rest:literal) => {
        concat!("/api/atlas/v2/groups/{groupId}", $rest)
    };
}

/// The routes below a project of the API's first version, where the second has no twin.
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

/// Path templates with the methods that each has. Of two that fit, the first counts.
pub(super) const ROUTES: &[(&str, &[Method])] = &[
    ("/", &[Method::POST]),
    ("/openapi.json", &[Method::GET]),
    ("/v1/status", &[Method::GET]),
    ("/v1/snapshot", &[Method::GET]),
    ("/v1/targets", &[Method::GET]),
    ("/v1/targets/{cluster}/{member}/move", &[Method::POST]),
    ("/v1/targets/{cluster}/{member}/deregister", &[Method::POST]),
    ("/v1/targets/{cluster}/{member}/register", &[Method::POST]),
    ("/v1/faults", &[Method::GET, Method::POST, Method::DELETE]),
    ("/v1/faults/{faultName}", &[Method::GET, Method::PUT, Method::DELETE]),
    ("/v1/zones", &[Method::GET]),
    ("/v1/zones/{zone}/shift", &[Method::POST, Method::DELETE]),
    ("/v1/limits", &[Method::GET, Method::PUT]),
    ("/v1/endpoints", &[Method::GET]),
    ("/v1/private-endpoints", &[Method::GET]),
    ("/v1/throughput", &[Method::GET]),
    ("/v1/logs", &[Method::GET, Method::PUT]),
    ("/v1/connection-strings", &[Method::GET]),
    ("/v1/flows", &[Method::GET]),
    ("/v1/flows/{flowId}", &[Method::DELETE]),
    ("/v1/apps", &[Method::GET]),
    ("/v1/apps/{clientAppId}", &[Method::PATCH]),
    ("/v1/lifecycle", &[Method::GET, Method::PUT]),
    ("/v1/lifecycle/push", &[Method::POST]),
    ("/v1/reload", &[Method::POST]),
    ("/api/oauth/token", &[Method::POST]),
    ("/api/oauth/revoke", &[Method::POST]),
    ("/api/atlas/v2/groups", &[Method::GET, Method::POST]),
    ("/api/atlas/v2/groups/byName/{groupName}", &[Method::GET]),
    (group!(""), &[Method::GET, Method::DELETE]),
    (group!("/privateEndpoint/endpointService"), &[Method::POST]),
    (group!("/privateEndpoint/endpointService/{endpointServiceId}"), &[Method::PATCH]),
    (group!("/privateEndpoint/regionalMode"), &[Method::GET, Method::PATCH]),
    (group!("/privateEndpoint/serverless/instance/{instanceName}/endpoint"), &[Method::GET, Method::POST]),
    (
        group!("/privateEndpoint/serverless/instance/{instanceName}/endpoint/{endpointId}"),
        &[Method::GET, Method::PATCH, Method::DELETE],
    ),
    (group!("/privateEndpoint/{cloudProvider}/endpointService"), &[Method::GET]),
    (group!("/privateEndpoint/{cloudProvider}/endpointService/{endpointServiceId}"), &[Method::GET, Method::DELETE]),
    (group!("/privateEndpoint/{cloudProvider}/endpointService/{endpointServiceId}/endpoint"), &[Method::POST]),
    (
        group!("/privateEndpoint/{cloudProvider}/endpointService/{endpointServiceId}/endpoint/{endpointId}"),
        &[Method::GET, Method::DELETE],
    ),
    (group!("/privateNetworkSettings/endpointIds"), &[Method::GET, Method::POST]),
    (group!("/privateNetworkSettings/endpointIds/{endpointId}"), &[Method::GET, Method::DELETE]),
    (group!("/serverless"), &[Method::GET, Method::POST]),
    (group!("/serverless/{instanceName}"), &[Method::GET, Method::PATCH, Method::DELETE]),
    (group!("/clusters"), &[Method::GET, Method::POST]),
    (group!("/clusters/{clusterName}"), &[Method::GET, Method::PATCH, Method::DELETE]),
    (group!("/limits"), &[Method::GET]),
    (group!("/limits/{limitName}"), &[Method::GET, Method::PATCH, Method::DELETE]),
    (group!("/accessList"), &[Method::GET, Method::POST]),
    (group!("/accessList/{entryValue}"), &[Method::GET, Method::DELETE]),
    (group!("/accessList/{entryValue}/status"), &[Method::GET]),
    (old!(""), &[Method::GET, Method::POST]),
    (old!("/{endpointServiceId}"), &[Method::GET, Method::DELETE]),
    (old!("/{endpointServiceId}/interfaceEndpoints"), &[Method::POST]),
    (old!("/{endpointServiceId}/interfaceEndpoints/{endpointId}"), &[Method::GET, Method::DELETE]),
    ("/api/admin/v3.0/auth/providers/mongodb-cloud/login", &[Method::POST]),
    ("/api/admin/v3.0/auth/session", &[Method::POST, Method::DELETE]),
    ("/api/admin/v3.0/auth/profile", &[Method::GET]),
    ("/api/admin/v3.0/provider_regions", &[Method::GET]),
    ("/api/admin/v3.0/groups/{groupId}/apps", &[Method::GET]),
    (app!(""), &[Method::GET]),
    (app!("/deployment_migration"), &[Method::GET, Method::PUT]),
    (app!("/services"), &[Method::GET]),
    (app!("/services/{serviceId}"), &[Method::GET]),
    (app!("/services/{serviceId}/config"), &[Method::GET, Method::PATCH]),
    (app!("/security/private_endpoint_service_infos"), &[Method::GET]),
    (app!("/security/private_endpoints"), &[Method::GET, Method::POST]),
    (app!("/security/private_endpoints/{privateEndpointId}"), &[Method::GET, Method::PUT, Method::DELETE]),
    (app!("/security/allow_non_vpc_client_requests"), &[Method::POST]),
];

/// Whether a path's segments fit a template.
fn fits(template: &str, path: &[&str]) -> bool {
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

/// Whether a request has a route. `Err` has the methods of its path, or nothing when there is no such path.
///
/// # Errors
///
/// The methods that would do, as an `Allow` header has them.
pub(super) fn check(call: &Call) -> Result<(), String> {
    let given = call.segments();
    // The first versions of Atlas' API have what the second has, and calls of their own.
    let is_old = matches!(given.as_slice(), ["api", "atlas", "v1.0" | "v1.5", ..]);
    let as_v2: Vec<&str> =
        given.iter().enumerate().map(|(n, part)| if is_old && n == 2 { "v2" } else { part }).collect();
    let mut found = ROUTES.iter().filter(|(template, _)| fits(template, &given) || fits(template, &as_v2));
    let Some((_, methods)) = found.next() else { return Err(String::new()) };
    if methods.contains(&call.method) {
        return Ok(());
    }
    Err(methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "))
}
