//! App Services: its endpoint services and apps.

use std::collections::HashSet;

use super::cidr_set;
use super::declared::{Declared, NetworkSide, required_networks};
use crate::config::raw::Section;
use crate::config::settings::Settings;
use crate::config::value::{aws_region, boolean, network, one_of, parsed, socket, text};
use crate::model::{
    App, AppEndpoint, AppEndpointKind, AppId, AppService, BackendUrl, DeploymentModel, ProjectId, VpceId, VpceServiceId,
};

/// The kinds of private endpoints.
const KINDS: [(&str, AppEndpointKind); 2] = [("general", AppEndpointKind::General), ("sync", AppEndpointKind::Sync)];

/// One `[[app_service]]`.
pub(super) fn service(section: &Section<'_>, declared: &mut Declared) -> Option<AppService> {
    let id = section.required("id", parsed::<VpceServiceId>);
    let region = section.required("region", aws_region);
    let kind = section.required("type", one_of(&KINDS));
    let cidrs = required_networks(section, "cidrs", "the service's side is distinguished from clients by its networks");
    if let Some(id) = &id {
        declared.unique(section.problems, "endpoint service id", &id.value, &id.location);
    }
    if let (Some(region), Some(kind)) = (&region, &kind) {
        let both = format!("{}/{:?}", region.value, kind.value).to_lowercase();
        declared.unique(section.problems, "region and type", &both, &section.location);
    }
    declared.networks(NetworkSide::Service, &cidrs);
    let service = AppService { id: id?.value, region: region?.value, kind: kind?.value, cidrs: cidr_set(&cidrs) };
    declared.services.insert(service.name(), None);
    Some(service)
}

/// One `[[app]]`.
pub(super) fn app(section: &Section<'_>, settings: &Settings, declared: &mut Declared) -> Option<App> {
    let problems = section.problems;
    let id = section.required("id", parsed::<AppId>);
    let project = section.required("project", parsed::<ProjectId>);
    let models = [("local", DeploymentModel::Local), ("global", DeploymentModel::Global)];
    let deployment = section.or("deployment", DeploymentModel::Local, one_of(&models));
    let region = section.required("region", aws_region);
    let access_list = section.list("access_list", network).unwrap_or_default();
    let public_address = section.required("public_address", socket);
    let backend = section.required("backend", backend);
    if let Some(backend) = &backend
        && let Some(what) = served_by_gateway(&backend.value, settings)
    {
        let text = format!(
            "`{}` is {what}; write the address of the server that is to answer the app's requests",
            backend.value
        );
        problems.report(&backend.location, text);
    }
    if let Some(id) = &id {
        declared.unique(problems, "client app id", &id.value, &id.location);
    }
    if let Some(project) = &project {
        declared.expect_project(problems, project);
    }
    if let Some(public) = &public_address {
        declared.bind_app(public);
    }
    let mut own: HashSet<VpceId> = HashSet::new();
    let endpoints = section.tables("endpoint", |found| {
        let endpoint = found.required("endpoint", parsed::<VpceId>);
        let kind = found.required("type", one_of(&KINDS));
        let comment = found.or("comment", String::new(), text);
        let endpoint = endpoint?;
        declared.expect_endpoint(problems, &endpoint);
        if !own.insert(endpoint.value.clone()) {
            problems.report(&endpoint.location, format!("the app has `{}` already", endpoint.value));
        }
        Some(AppEndpoint { endpoint: endpoint.value, kind: kind?.value, comment })
    });
    Some(App {
        deployment,
        allow_non_vpc_requests: section.or("allow_non_vpc_requests", false, boolean),
        access_list: cidr_set(&access_list),
        wire_protocol: section.or("wire_protocol", false, boolean),
        endpoints: endpoints.into_iter().flatten().collect(),
        id: id?.value,
        project: project?.value,
        region: region?.value,
        public_address: public_address?.value,
        backend: backend?.value,
    })
}

/// The gateway's own server at the backend's address, if there is one. The plan checks addresses of endpoints and apps.
fn served_by_gateway(backend: &str, settings: &Settings) -> Option<&'static str> {
    let address = backend.parse::<BackendUrl>().ok()?.address()?;
    if settings.admin == Some(address) {
        Some("the gateway's own admin API")
    } else if settings.metrics == Some(address) {
        Some("the gateway's own metrics exporter")
    } else {
        None
    }
}

/// A backend, in its original notation.
fn backend(value: &toml::de::DeValue<'_>) -> Result<String, String> {
    let url = text(value)?;
    url.parse::<BackendUrl>().map_err(|error| error.to_string())?;
    Ok(url)
}
