//! `/v1/gateways`: the gateways that share the state, and the zones that each serves.

use std::collections::BTreeSet;

use hyper::Method;
use schemars::JsonSchema;
use serde::Serialize;

use super::operation::{Operation, OperationRequest};
use super::{V1Error, bad, refused};
use crate::api::text::iso8601;
use crate::control::{ClaimView, GatewayState, GatewayView};
use crate::model::{ClaimId, GatewayId};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(
            Method::GET,
            "/v1/gateways",
            "listGateways",
            "The gateways that share the state, and who serves which zone",
            list,
        ),
        Operation::new(
            Method::DELETE,
            "/v1/gateways/{gateway}",
            "forgetGateway",
            "Gives up a gateway that is gone for good: its zones and ports are free",
            forget,
        ),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Gateways {
    /// Whether the state is shared; otherwise the other fields are empty.
    shared: bool,
    gateways: Vec<GatewayOut>,
    claims: Vec<ClaimOut>,
    /// Why the others do not see the gateway that answers, or why it does not serve all of its zones.
    problem: Option<String>,
}

/// A gateway that shares the state.
#[derive(Serialize, JsonSchema)]
struct GatewayOut {
    id: GatewayId,
    /// Whether it is the gateway that answers.
    is_this: bool,
    state: GatewayState,
    /// The zones that it is configured for, and `public`; null: it serves all addresses.
    zones: Option<BTreeSet<ClaimId>>,
    /// The zones that it serves.
    serving: BTreeSet<ClaimId>,
    /// Its version; null if it left and only its ports are remembered.
    version: Option<String>,
    /// The URL of its admin API.
    admin: Option<String>,
    started: Option<String>,
    /// Seconds since it was last seen.
    heard_seconds_ago: Option<u64>,
}

impl From<&GatewayView> for GatewayOut {
    fn from(view: &GatewayView) -> Self {
        Self {
            id: view.id.clone(),
            is_this: view.is_this,
            state: view.state,
            zones: view.claims.clone(),
            serving: view.serving.clone(),
            version: view.version.clone(),
            admin: view.admin.clone(),
            started: view.started.map(|at| iso8601(at, true)),
            heard_seconds_ago: view.heard.map(|heard| heard.as_secs()),
        }
    }
}

/// A zone that gateways can serve, or `public`.
#[derive(Serialize, JsonSchema)]
struct ClaimOut {
    zone: ClaimId,
    /// The gateway that holds it.
    gateway: Option<GatewayId>,
    /// Whether that one stops serving it when the state store does not answer, so that a standby can take it.
    fenced: bool,
    /// Living gateways that wait for it.
    standbys: Vec<GatewayId>,
}

impl From<&ClaimView> for ClaimOut {
    fn from(view: &ClaimView) -> Self {
        Self {
            zone: view.claim.clone(),
            gateway: view.holder.clone(),
            fenced: view.fenced,
            standbys: view.standbys.clone(),
        }
    }
}

async fn list(request: OperationRequest) -> Result<Gateways, V1Error> {
    let Some(view) = request.shared.control.gateways() else {
        return Ok(Gateways { shared: false, gateways: Vec::new(), claims: Vec::new(), problem: None });
    };
    Ok(Gateways {
        shared: true,
        gateways: view.gateways.iter().map(GatewayOut::from).collect(),
        claims: view.claims.iter().map(ClaimOut::from).collect(),
        problem: view.problem.clone(),
    })
}

#[derive(Serialize, JsonSchema)]
struct Forgotten {
    gateway: GatewayId,
    /// The number of unassigned ports that waited for it, alone or with others.
    ports: usize,
}

async fn forget(request: OperationRequest) -> Result<Forgotten, V1Error> {
    let gateway: GatewayId = request.part("gateway").parse().map_err(bad)?;
    let ports = request.shared.control.forget_gateway(gateway.clone()).await.map_err(|error| refused(&error))?;
    Ok(Forgotten { gateway, ports })
}
