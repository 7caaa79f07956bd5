//! `GET /v1/private-endpoints`: every endpoint service with its private endpoints, with the statuses of Atlas' Private
//! Endpoint tab. Source: Atlas, "Troubleshoot Private Endpoint Connection Issues".

use hyper::Method;
use schemars::JsonSchema;
use serde::Serialize;

use super::V1Error;
use super::operation::{Operation, OperationRequest};
use crate::control::inventory::{
    CloudEndpoint, EndpointRecord, Inventory, Pair, ProjectRecord, Registration, ServiceState,
};
use crate::model::{
    AppEndpointKind, EndpointAddress, EndpointState, ProjectId, Region, ServiceName, VpcId, VpceId, VpceServiceId,
};

pub(super) fn operations() -> Vec<Operation> {
    let summary = "Every endpoint service with its endpoints, as Atlas' Private Endpoint tab shows them";
    vec![Operation::new(Method::GET, "/v1/private-endpoints", "listPrivateEndpoints", summary, list)]
}

async fn list(request: OperationRequest) -> Result<PrivateEndpoints, V1Error> {
    Ok(PrivateEndpoints::of(&request.shared.control.inventory()))
}

#[derive(Serialize, JsonSchema)]
struct PrivateEndpoints {
    private_endpoints: Vec<ServiceView>,
}

/// An endpoint service.
#[derive(Serialize, JsonSchema)]
struct ServiceView {
    id: VpceServiceId,
    name: ServiceName,
    /// The cloud provider.
    #[schemars(extend("enum" = ["AWS", "AZURE", "GCP"]))]
    provider: &'static str,
    region: Region,
    /// Other regions whose VPCs may have new endpoints.
    supported_remote_regions: Vec<Region>,
    /// The service's purpose: `atlas`, or App Services' `general` and `sync`.
    #[schemars(extend("enum" = ["atlas", "general", "sync"]))]
    kind: &'static str,
    /// The owning project; App Services' own services have none.
    project: Option<ProjectId>,
    project_name: Option<String>,
    /// Atlas Endpoint Service Status.
    #[schemars(extend("enum" = ["Creating private link", "Available", "Failed", "Deleting"]))]
    status: &'static str,
    error: Option<String>,
    endpoints: Vec<EndpointView>,
}

/// A private endpoint of a service.
#[derive(Serialize, JsonSchema)]
struct EndpointView {
    id: VpceId,
    /// Endpoint Status.
    #[schemars(extend("enum" = ["Pending acceptance", "Pending", "Initiating", "Available", "Failed", "Deleting"]))]
    status: &'static str,
    error: Option<String>,
    /// EC2's state; null if EC2 has no such endpoint, as for all of other providers.
    state: Option<&'static str>,
    /// Whether the service's owner has added it.
    registered: bool,
    /// The VPC; on Azure the virtual network, on Google Cloud the VPC network.
    vpc: Option<VpcId>,
    /// The VPC's region, which may differ from the service's.
    region: Option<Region>,
    addresses: Vec<EndpointAddress>,
}

impl PrivateEndpoints {
    fn of(inventory: &Inventory) -> Self {
        let projects = inventory.project_services().map(|record| {
            let id = &record.service.id;
            ServiceView {
                id: id.clone(),
                name: record.service.name(),
                provider: record.service.region.provider(),
                region: record.service.region.clone(),
                supported_remote_regions: record.service.remote_regions.clone(),
                kind: "atlas",
                project: Some(record.project.clone()),
                project_name: inventory.projects.get(&record.project).map(|ProjectRecord { name, .. }| name.clone()),
                status: service_status(record.state),
                error: record.error.clone(),
                endpoints: endpoints(inventory, id),
            }
        });
        let apps = inventory.fixed.app_services.iter().map(|service| ServiceView {
            id: service.id.clone(),
            name: service.name(),
            provider: service.region.provider(),
            region: service.region.clone(),
            supported_remote_regions: Vec::new(),
            kind: match service.kind {
                AppEndpointKind::General => "general",
                AppEndpointKind::Sync => "sync",
            },
            project: None,
            project_name: None,
            status: service_status(ServiceState::Available),
            error: None,
            endpoints: endpoints(inventory, &service.id),
        });
        Self { private_endpoints: projects.chain(apps).collect() }
    }
}

/// The endpoints of a service: those on EC2, those that were added but do not exist on EC2, and those on other
/// providers.
fn endpoints(inventory: &Inventory, service: &VpceServiceId) -> Vec<EndpointView> {
    let made = inventory.endpoints.values().filter(|record| record.endpoint.service.service() == service);
    let made = made.map(|record| {
        let id = &record.endpoint.id;
        let registration = inventory.registrations.get(&Pair(service.clone(), id.clone()));
        let (status, error) = endpoint_status(Some(record), registration);
        EndpointView {
            id: id.clone(),
            status,
            error: error.or_else(|| registration.and_then(|r| r.error.clone())).or_else(|| record.error.clone()),
            state: Some(record.endpoint.state.label()),
            registered: inventory.is_registered(&record.endpoint),
            vpc: Some(record.endpoint.vpc.clone()),
            region: inventory.region_of(&record.endpoint).cloned(),
            addresses: record.endpoint.addresses.clone(),
        }
    });
    let unknown = inventory.registrations.iter().filter(|(key, _)| {
        key.0 == *service && inventory.endpoints.get(&key.1).is_none_or(|r| r.endpoint.service.service() != service)
    });
    let unknown = unknown.map(|(key, registration)| {
        let (status, _) = endpoint_status(None, Some(registration));
        EndpointView {
            id: key.1.clone(),
            status,
            error: registration.error.clone(),
            state: None,
            registered: !registration.deleting && registration.error.is_none(),
            vpc: None,
            region: None,
            addresses: Vec::new(),
        }
    });
    made.chain(unknown).chain(cloud_endpoints(inventory, service)).collect()
}

/// The endpoints on Azure and Google Cloud.
fn cloud_endpoints(inventory: &Inventory, service: &VpceServiceId) -> impl Iterator<Item = EndpointView> {
    inventory.cloud_endpoints_of(service).filter_map(|(key, own)| {
        let region = &inventory.project_service(&key.0)?.service.region;
        let place = inventory.in_network(key);
        Some(EndpointView {
            id: own.id(region, &key.1)?,
            status: cloud_endpoint_status(own),
            error: own.error.clone(),
            state: None,
            registered: !matches!(own.state, ServiceState::Failed | ServiceState::Deleting),
            vpc: place.as_ref().map(|place| place.vpc.clone()),
            region: Some(region.clone()),
            addresses: place.map(|place| place.addresses).unwrap_or_default(),
        })
    })
}

/// Endpoint Status on Azure and Google Cloud.
fn cloud_endpoint_status(own: &CloudEndpoint) -> &'static str {
    match own.state {
        ServiceState::Initiating | ServiceState::Updating => "Initiating",
        ServiceState::Available => "Available",
        ServiceState::Failed => "Failed",
        ServiceState::Deleting => "Deleting",
    }
}

/// Atlas Endpoint Service Status.
fn service_status(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Initiating | ServiceState::Updating => "Creating private link",
        ServiceState::Available => "Available",
        ServiceState::Failed => "Failed",
        ServiceState::Deleting => "Deleting",
    }
}

/// Endpoint Status, and its explanation if the status alone implies one.
fn endpoint_status(
    record: Option<&EndpointRecord>,
    registration: Option<&Registration>,
) -> (&'static str, Option<String>) {
    match (registration, record.map(|record| (record.endpoint.state, record))) {
        (Some(Registration { deleting: true, .. }), _)
        | (_, Some((EndpointState::Deleting | EndpointState::Deleted, _))) => ("Deleting", None),
        (Some(Registration { error: Some(_), .. }), _)
        | (_, Some((EndpointState::Rejected | EndpointState::Failed | EndpointState::Expired, _))) => ("Failed", None),
        (_, Some((state, record)))
            if record.endpoint.addresses.is_empty() && state != EndpointState::PendingAcceptance =>
        {
            let id = &record.endpoint.id;
            let why = format!(
                "No dns entries found for endpoint {id}, your endpoint must be provisioned in at least one subnet"
            );
            ("Failed", Some(why))
        }
        (_, Some((EndpointState::PendingAcceptance, _))) => ("Pending acceptance", None),
        (_, Some((EndpointState::Pending, _)) | None) => ("Pending", None),
        (_, Some((EndpointState::Available, _))) => ("Available", None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config;
    use crate::control::inventory::Timestamp;

    const SERVICE: &str = "vpce-svc-02863655456245e5c";
    const ENDPOINT: &str = "vpce-024f5b57108c8d3ed";

    fn quickstart() -> Inventory {
        Inventory::from_config(&config::quickstart().desired)
    }

    /// The project's service in the response.
    fn shown(inventory: &Inventory) -> Value {
        let view = serde_json::to_value(PrivateEndpoints::of(inventory)).unwrap();
        view["private_endpoints"].as_array().unwrap().iter().find(|service| service["id"] == SERVICE).unwrap().clone()
    }

    fn registration<'a>(inventory: &'a mut Inventory, endpoint: &str) -> &'a mut Registration {
        let key = Pair(SERVICE.parse().unwrap(), endpoint.parse().unwrap());
        let new = Registration { since: Timestamp::default(), deleting: false, error: None };
        inventory.registrations.entry(key).or_insert(new)
    }

    #[test]
    fn the_services_of_projects_and_of_app_services_are_shown_with_their_endpoints() {
        let view = serde_json::to_value(PrivateEndpoints::of(&quickstart())).unwrap();
        let line = |service: &Value| {
            let text = |field: &str| service[field].as_str().unwrap_or("-").to_owned();
            let endpoints = service["endpoints"].as_array().unwrap();
            format!("{} {} {} {}", text("kind"), text("project_name"), text("status"), endpoints[0]["status"])
        };
        let lines: Vec<_> = view["private_endpoints"].as_array().unwrap().iter().map(line).collect();
        let expected = [
            "atlas Project0 Available \"Available\"",
            "general - Available \"Available\"",
            "sync - Available \"Available\"",
        ];
        assert_eq!(lines, expected);
        let endpoint = &shown(&quickstart())["endpoints"][0];
        assert_eq!((&endpoint["id"], &endpoint["registered"]), (&ENDPOINT.into(), &true.into()));
        assert_eq!(endpoint["addresses"][1]["zone"], "us-east-1b");
    }

    /// A23: the page's table, "Atlas Endpoint Service Status".
    #[test]
    fn a_service_has_the_documented_statuses() {
        let mut inventory = quickstart();
        for (state, word) in [
            (ServiceState::Initiating, "Creating private link"),
            (ServiceState::Available, "Available"),
            (ServiceState::Failed, "Failed"),
            (ServiceState::Deleting, "Deleting"),
        ] {
            inventory.services.get_mut(&SERVICE.parse::<VpceServiceId>().unwrap()).unwrap().state = state;
            assert_eq!(shown(&inventory)["status"], word);
        }
    }

    /// A23: the page's table, "Endpoint Status"; *Not configured* is a service without an endpoint.
    #[test]
    fn an_endpoint_has_the_documented_statuses() {
        let mut inventory = quickstart();
        let id: VpceId = ENDPOINT.parse().unwrap();
        for (state, word) in [
            (EndpointState::PendingAcceptance, "Pending acceptance"),
            (EndpointState::Pending, "Pending"),
            (EndpointState::Available, "Available"),
            (EndpointState::Deleting, "Deleting"),
            (EndpointState::Rejected, "Failed"),
            (EndpointState::Failed, "Failed"),
            (EndpointState::Expired, "Failed"),
        ] {
            inventory.endpoints.get_mut(&id).unwrap().endpoint.state = state;
            assert_eq!(shown(&inventory)["endpoints"][0]["status"], word, "{state:?}");
        }
        let record = inventory.endpoints.get_mut(&id).unwrap();
        record.endpoint.state = EndpointState::Available;
        record.endpoint.addresses.clear();
        let failed = shown(&inventory)["endpoints"][0].clone();
        assert_eq!(failed["status"], "Failed");
        assert!(
            failed["error"].as_str().unwrap().starts_with("No dns entries found for endpoint vpce-024f"),
            "{failed}"
        );
        inventory.endpoints.remove(&id);
        inventory.registrations.clear();
        assert_eq!(shown(&inventory)["endpoints"], Value::Array(Vec::new()));
    }

    #[test]
    fn an_endpoint_known_only_to_atlas_waits_then_fails_then_is_deleted() {
        let mut inventory = quickstart();
        let unknown = "vpce-0fffffffffffffff0";
        registration(&mut inventory, unknown);
        let other = |inventory: &Inventory| shown(inventory)["endpoints"][1].clone();
        assert_eq!((&other(&inventory)["id"], &other(&inventory)["status"]), (&unknown.into(), &"Pending".into()));
        assert_eq!(other(&inventory)["state"], Value::Null);
        registration(&mut inventory, unknown).error = Some("AWS does not know it".to_owned());
        let failed = other(&inventory);
        assert_eq!((&failed["status"], &failed["error"]), (&"Failed".into(), &"AWS does not know it".into()));
        registration(&mut inventory, unknown).deleting = true;
        assert_eq!(other(&inventory)["status"], "Deleting");
    }
}
