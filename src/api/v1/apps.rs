//! `/v1/apps`: the App Services apps, and two settings that the vendor's API does not have.

use std::net::SocketAddr;

use hyper::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Operation, OperationRequest};
use super::{V1Error, bad, refused};
use crate::model::{App, AppEndpoint, AppId, DeploymentModel, ProjectId, Region};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::GET, "/v1/apps", "listApps", "The App Services apps", list),
        Operation::with_body(
            Method::PATCH,
            "/v1/apps/{clientAppId}",
            "changeApp",
            "Lets requests from outside the VPC in, or switches the wire protocol",
            change,
        ),
    ]
}

/// An App Services app.
#[derive(Serialize, JsonSchema)]
struct AppView {
    id: AppId,
    project: ProjectId,
    deployment: DeploymentModel,
    region: Region,
    allow_non_vpc_client_requests: bool,
    /// Whether it has endpoints and refuses requests from outside the VPC.
    restricted: bool,
    wire_protocol: bool,
    public_address: SocketAddr,
    endpoints: Vec<AppEndpoint>,
}

impl From<&App> for AppView {
    fn from(app: &App) -> Self {
        Self {
            id: app.id.clone(),
            project: app.project.clone(),
            deployment: app.deployment,
            region: app.region.clone(),
            allow_non_vpc_client_requests: app.allow_non_vpc_requests,
            restricted: !app.endpoints.is_empty() && !app.allow_non_vpc_requests,
            wire_protocol: app.wire_protocol,
            public_address: app.public_address,
            endpoints: app.endpoints.clone(),
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct Apps {
    apps: Vec<AppView>,
}

async fn list(request: OperationRequest) -> Result<Apps, V1Error> {
    Ok(Apps { apps: request.shared.control.inventory().apps.values().map(AppView::from).collect() })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AppChange {
    allow_non_vpc_client_requests: Option<bool>,
    wire_protocol: Option<bool>,
}

async fn change(request: OperationRequest, body: AppChange) -> Result<AppView, V1Error> {
    let control = &request.shared.control;
    let app: AppId = request.part("clientAppId").parse().map_err(bad)?;
    let which = app.clone();
    let edit = control.edit(move |draft| {
        if let Some(allow) = body.allow_non_vpc_client_requests {
            draft.app_mut(&which)?.allow_non_vpc_requests = allow;
        }
        if let Some(on) = body.wire_protocol {
            draft.app_mut(&which)?.wire_protocol = on;
        }
        Ok(())
    });
    edit.await.map_err(|error| refused(&error))?;
    let inventory = control.inventory();
    let view = inventory.apps.get(app.as_str()).map(AppView::from);
    view.ok_or_else(|| V1Error::new(StatusCode::NOT_FOUND, "not_found", format!("there is no app `{app}`")))
}
