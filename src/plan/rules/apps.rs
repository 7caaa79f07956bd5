//! App Services' private endpoints. Source of the rules: App Services, "Use a VPC Private Endpoint".

use std::collections::BTreeMap;

use super::super::apps::app_hosts;
use super::super::dns::managed_zones;
use super::super::error::{Findings, Location, RuleError};
use super::super::survey::{ServiceOwner, Survey, counts};
use super::{distinct, twice};
use crate::model::{App, AppEndpoint, AppEndpointKind, BackendUrl, DeploymentModel, VpceId};

pub(super) fn check(survey: &Survey<'_>, findings: &mut Findings) {
    let desired = survey.desired;
    distinct("app", desired.apps.iter().map(|app| &app.id), |id| Location::App((*id).clone()), findings);
    let places = desired.app_services.iter().map(|service| {
        let words = format!("{} in {}", service.kind.name(), service.region);
        (words, &service.id)
    });
    let mut services = BTreeMap::new();
    for (place, id) in places {
        if services.insert(place.clone(), id).is_some() {
            findings.refuse(Location::Service(id.clone()), twice("App Services endpoint service", place));
        }
    }
    let mut answering = BTreeMap::new();
    for app in &desired.apps {
        check_app(survey, app, findings);
        for registered in &app.endpoints {
            check_conflict(survey, app, registered, &mut answering, findings);
        }
    }
}

/// Whether requests to an app's backend would come to this gateway: at an interface endpoint's address (any port), an
/// app's public address, another listener of the gateway (admin, metrics, DNS), or by an app's name. Other names are
/// not resolved: a request that comes back is detected by its `Via` header.
fn is_own_backend(survey: &Survey<'_>, app: &App) -> bool {
    let Ok(backend) = app.backend.parse::<BackendUrl>() else { return false };
    let desired = survey.desired;
    let Some(address) = backend.address() else {
        let is_name = |app: &App| app_hosts(app).iter().any(|name| name.as_str() == backend.host);
        return desired.apps.iter().any(is_name);
    };
    let is_endpoint =
        desired.endpoints.values().flat_map(|found| &found.addresses).any(|found| found.ip == address.ip());
    is_endpoint
        || survey.own_address_at(address).is_some()
        || desired.apps.iter().any(|app| app.public_address == address)
}

fn check_app(survey: &Survey<'_>, app: &App, findings: &mut Findings) {
    let at = Location::App(app.id.clone());
    if is_own_backend(survey, app) {
        let rule = format!(
            "backend `{}` is an address of this gateway, so that requests would come back to it; write the address of the \
             server that is to answer them",
            app.backend
        );
        findings.refuse(at.clone(), rule);
    }
    distinct("private endpoint", app.endpoints.iter().map(|e| &e.endpoint), |_| at.clone(), findings);
    if app.endpoints.is_empty() {
        return;
    }
    if app.deployment == DeploymentModel::Global {
        let rule = "private endpoints are only available for apps deployed locally to a region in AWS, and this one is \
                    deployed globally";
        findings.refuse(at.clone(), rule.to_owned());
    }
    if app.wire_protocol {
        let rule = "wire protocol connections and private endpoints exclude each other; switch one of them off";
        findings.refuse(at.clone(), rule.to_owned());
    }
    for registered in &app.endpoints {
        check_registered(survey, app, registered, &at, findings);
    }
    if !is_paired(app) {
        for sync in app.endpoints.iter().filter(|registered| registered.kind == AppEndpointKind::Sync) {
            findings.note(
                &at,
                format_args!(
                    "Sync endpoint {} is incomplete: every Sync endpoint must be paired with a General endpoint; until \
                     then its names lead nowhere private",
                    sync.endpoint
                ),
            );
        }
    }
}

/// Whether a Sync endpoint of the app has the General one that it requires.
pub(in super::super) fn is_paired(app: &App) -> bool {
    app.endpoints.iter().any(|registered| registered.kind == AppEndpointKind::General)
}

fn check_registered(survey: &Survey<'_>, app: &App, registered: &AppEndpoint, at: &Location, findings: &mut Findings) {
    let Some(endpoint) = survey.desired.endpoints.get(&registered.endpoint) else {
        let rule = RuleError::Unknown { what: "interface endpoint", id: registered.endpoint.to_string() };
        findings.refuse(at.clone(), rule);
        return;
    };
    let actual = match survey.providers.get(endpoint.service.service()) {
        // An unknown service is already reported for the endpoint itself.
        None => return,
        Some(ServiceOwner::App(service)) if service.kind == registered.kind => {
            if service.region != app.region {
                findings.note(
                    at,
                    format_args!(
                        "endpoint {} leads to {}, but the app is deployed to {}: it is unusable; create a new endpoint \
                         in the app's region",
                        registered.endpoint, service.region, app.region
                    ),
                );
            }
            return;
        }
        Some(ServiceOwner::App(service)) => format!("App Services' {} service", service.kind.name()),
        Some(ServiceOwner::Project(project, _)) => format!("the service of project {}", project.id),
    };
    let (kind, id, service) = (registered.kind.name(), &registered.endpoint, &endpoint.service);
    findings.refuse(at.clone(), format!("{kind} endpoint {id} leads to `{service}`, which is {actual}"));
}

/// AWS refuses a second endpoint with the same private DNS name in a VPC. Several apps may share one endpoint.
fn check_conflict<'a>(
    survey: &Survey<'a>,
    app: &'a App,
    registered: &'a AppEndpoint,
    answering: &mut BTreeMap<(String, String), &'a VpceId>,
    findings: &mut Findings,
) {
    let Some(endpoint) = survey.desired.endpoints.get(&registered.endpoint).filter(|endpoint| counts(endpoint)) else {
        return;
    };
    if *endpoint.service.region() != app.region {
        return;
    }
    for name in managed_zones(registered.kind, &app.region) {
        let first = answering.entry((endpoint.vpc.to_string(), name.to_string())).or_insert(&registered.endpoint);
        if **first != registered.endpoint {
            let rule = format!(
                "endpoints {first} and {} would both answer for `{name}` in {}; a VPC can have one endpoint per private DNS \
                 name",
                registered.endpoint, endpoint.vpc
            );
            findings.refuse(Location::App(app.id.clone()), rule);
            return;
        }
    }
}
