//! `/v1/targets`: the addressable targets, port moves, and target registration.

use hyper::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Operation, OperationRequest};
use super::{V1Error, bad, refused};
use crate::control::Moved;
use crate::model::{ListenerPort, TargetId, VpceServiceId};
use crate::plan::TargetView;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(
            Method::GET,
            "/v1/targets",
            "listTargets",
            "Every target with its port, members and health",
            list,
        ),
        Operation::with_body(
            Method::POST,
            "/v1/targets/{cluster}/{member}/move",
            "moveTarget",
            "Moves a target to another port: the requested one, or the lowest free one",
            r#move,
        ),
        Operation::with_body(
            Method::POST,
            "/v1/targets/{cluster}/{member}/deregister",
            "deregisterTarget",
            "Takes processes out of a target group: no new flows, open ones drain",
            deregister,
        ),
        Operation::with_body(
            Method::POST,
            "/v1/targets/{cluster}/{member}/register",
            "registerTarget",
            "Puts processes back into a target group",
            register,
        ),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Targets {
    targets: Vec<TargetView>,
}

async fn list(request: OperationRequest) -> Result<Targets, V1Error> {
    let snapshot = request.shared.control.snapshot();
    Ok(Targets { targets: snapshot.targets.iter().chain(&snapshot.leaving).cloned().collect() })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MoveRequest {
    /// Missing: the lowest free one.
    port: Option<ListenerPort>,
    /// The load balancer; required if several have a target of this name.
    service: Option<VpceServiceId>,
}

async fn r#move(request: OperationRequest, body: MoveRequest) -> Result<Moved, V1Error> {
    let moved = request.shared.control.move_target(target(&request)?, body.service, body.port).await;
    moved.map_err(|error| refused(&error))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RegisterRequest {
    /// The load balancer; required if several have a target of this name.
    service: Option<VpceServiceId>,
    /// One process of the target; missing: all of them.
    member: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Registered {
    target: TargetId,
    members: Vec<String>,
    registered: bool,
}

async fn deregister(request: OperationRequest, body: RegisterRequest) -> Result<Registered, V1Error> {
    let target = target(&request)?;
    let members = request.shared.control.deregister(target.clone(), body.service, body.member).await;
    Ok(Registered { target, members: members.map_err(|error| refused(&error))?, registered: false })
}

async fn register(request: OperationRequest, body: RegisterRequest) -> Result<Registered, V1Error> {
    let target = target(&request)?;
    let members = request.shared.control.register(target.clone(), body.service, body.member).await;
    Ok(Registered { target, members: members.map_err(|error| refused(&error))?, registered: true })
}

fn target(request: &OperationRequest) -> Result<TargetId, V1Error> {
    format!("{}/{}", request.part("cluster"), request.part("member")).parse().map_err(bad)
}
