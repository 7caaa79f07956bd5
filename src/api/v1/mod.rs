//! The gateway's own API: what the vendors' have no word for. JSON; an error is `{"code":"…","message":"…"}`.

mod faults;
mod limits;
mod logs;
mod private_endpoints;
mod throughput;
mod views;
mod zones;

use std::sync::Arc;

use hyper::header::ALLOW;
use hyper::{Method, StatusCode};
use serde::Deserialize;

use self::private_endpoints::PrivateEndpointsView;
use self::throughput::ThroughputView;
use self::views::{EndpointsView, FlowsPage, SnapshotView, StatusView, StringsView, TargetsView};
use super::Shared;
use super::call::{Call, Reply, empty, json, problem, set};
use crate::control::draft::EditError;
use crate::control::{ChangeError, Pace, chain};
use crate::model::{App, AppId, FlowId, ListenerPort, TargetId, VpceServiceId};

/// What a request comes to: a reply, or why not.
type Outcome = Result<Reply, Refusal>;

/// Why not, in this front's shape.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

pub(super) async fn answer(shared: &Arc<Shared>, call: &Call) -> Reply {
    let outcome = match (&call.method, call.segments()[1..].as_ref()) {
        (&Method::GET, ["status"]) => Ok(status(shared)),
        (&Method::GET, ["snapshot"]) => Ok(ok(&SnapshotView::of(&shared.control.snapshot()))),
        (&Method::GET, ["targets"]) => Ok(ok(&TargetsView::of(&shared.control.snapshot()))),
        (&Method::GET, ["endpoints"]) => Ok(ok(&EndpointsView::of(&shared.control.snapshot()))),
        (&Method::GET, ["private-endpoints"]) => Ok(ok(&PrivateEndpointsView::of(&shared.control.inventory()))),
        (&Method::GET, ["throughput"]) => {
            Ok(ok(&ThroughputView::of(shared.flows.carried(), shared.flows.carried_by_target())))
        }
        (&Method::GET, ["connection-strings"]) => Ok(connection_strings(shared, call)),
        (&Method::GET, ["flows"]) => Ok(flows(shared, call)),
        (&Method::DELETE, ["flows", id]) => kill(shared, id),
        (&Method::POST, ["targets", cluster, member, "move"]) => move_target(shared, call, cluster, member).await,
        (&Method::POST, ["targets", cluster, member, "deregister"]) => {
            register(shared, call, cluster, member, false).await
        }
        (&Method::POST, ["targets", cluster, member, "register"]) => {
            register(shared, call, cluster, member, true).await
        }
        (_, ["faults"]) => faults::all(shared, call).await,
        (_, ["faults", name]) => faults::one(shared, call, name).await,
        (&Method::GET, ["zones"]) => Ok(zones::list(&shared.control)),
        (_, ["zones", zone, "shift"]) => zones::shift(shared, call, zone).await,
        (_, ["limits"]) => limits::answer(shared, call).await,
        (&Method::GET, ["lifecycle"]) => Ok(pace(shared)),
        (&Method::PUT, ["lifecycle"]) => set_pace(shared, call).await,
        (&Method::POST, ["lifecycle", "push"]) => push(shared).await,
        (&Method::GET, ["apps"]) => Ok(apps(shared)),
        (&Method::PATCH, ["apps", id]) => change_app(shared, call, id).await,
        (&Method::POST, ["reload"]) => reload(shared).await,
        (&Method::GET, ["logs"]) => logs::show(shared),
        (&Method::PUT, ["logs"]) => logs::change(shared, call),
        (_, ["apps", _]) => Ok(only("PATCH")),
        (_, ["lifecycle"] | ["logs"]) => Ok(only("GET, PUT")),
        (_, ["lifecycle", "push"]) => Ok(only("POST")),
        (_, ["apps" | "status" | "snapshot" | "targets" | "endpoints" | "connection-strings" | "flows" | "zones"]) => {
            Ok(only("GET"))
        }
        (_, ["private-endpoints" | "throughput"]) => Ok(only("GET")),
        (_, ["flows", _]) => Ok(only("DELETE")),
        (_, ["targets", _, _, "move" | "deregister" | "register"] | ["reload"]) => Ok(only("POST")),
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at `{}`", call.path))),
    };
    outcome.unwrap_or_else(|Refusal { status, code, message }| problem(status, code, message))
}

fn ok(body: &impl serde::Serialize) -> Reply {
    json(StatusCode::OK, body)
}

fn only(method: &'static str) -> Reply {
    let mut reply = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("use {method} here"));
    set(&mut reply, ALLOW, method);
    reply
}

fn bad(message: impl std::fmt::Display) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "bad_request", message.to_string())
}

fn status(shared: &Shared) -> Reply {
    let problem = shared.control.last_problem().borrow().clone();
    let flows = shared.flows.open_flows();
    let carried = shared.flows.carried();
    ok(&StatusView::of(&shared.control.snapshot(), shared.readiness.view(), problem, flows, carried))
}

fn connection_strings(shared: &Shared, call: &Call) -> Reply {
    let snapshot = shared.control.snapshot();
    ok(&StringsView::of(&snapshot, call.query("project"), call.query("cluster")))
}

fn flows(shared: &Shared, call: &Call) -> Reply {
    let wanted = |name: &str, value: &str| call.query(name).is_none_or(|wanted| wanted == value);
    let flows = shared.flows.flows().into_iter().filter(|flow| {
        wanted("endpoint", &flow.endpoint)
            && wanted("target", &flow.target)
            && wanted("origin", flow.origin.label())
            && wanted("client", &flow.client.ip().to_string())
    });
    ok(&FlowsPage { flows: flows.collect() })
}

fn kill(shared: &Shared, id: &str) -> Outcome {
    let number = u64::from_str_radix(id, 16).map_err(|_| bad(format!("`{id}` is not a flow id (hex digits)")))?;
    if shared.flows.kill(FlowId(number)) {
        Ok(empty(StatusCode::NO_CONTENT))
    } else {
        Err(Refusal::new(StatusCode::NOT_FOUND, "no_such_flow", format!("there is no flow `{id}`; it may have ended")))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveBody {
    port: Option<ListenerPort>,
    service: Option<VpceServiceId>,
}

async fn move_target(shared: &Shared, call: &Call, cluster: &str, member: &str) -> Outcome {
    let body: MoveBody = call.json().map_err(bad)?;
    let target: TargetId = format!("{cluster}/{member}").parse().map_err(bad)?;
    match shared.control.move_target(target, body.service, body.port).await {
        Ok(moved) => Ok(ok(&moved)),
        Err(error) => Err(refused(&error)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegisterBody {
    service: Option<VpceServiceId>,
    /// One process of the target; left out: all of them.
    member: Option<String>,
}

/// Takes processes out of a target group, or puts them back.
async fn register(shared: &Shared, call: &Call, cluster: &str, member: &str, registered: bool) -> Outcome {
    let body: RegisterBody = call.json().map_err(bad)?;
    let target: TargetId = format!("{cluster}/{member}").parse().map_err(bad)?;
    let control = &shared.control;
    let members = if registered {
        control.register(target.clone(), body.service, body.member).await
    } else {
        control.deregister(target.clone(), body.service, body.member).await
    };
    let members = members.map_err(|error| refused(&error))?;
    Ok(ok(&serde_json::json!({ "target": target, "members": members, "registered": registered })))
}

fn pace(shared: &Shared) -> Reply {
    ok(&PaceBody { pace: shared.control.pace() })
}

/// How quickly the lives of what the APIs make go on.
#[derive(serde::Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PaceBody {
    pace: Pace,
}

async fn set_pace(shared: &Shared, call: &Call) -> Outcome {
    let body: PaceBody = call.json().map_err(bad)?;
    shared.control.set_pace(body.pace).await.map_err(|error| refused(&error))?;
    Ok(pace(shared))
}

async fn push(shared: &Shared) -> Outcome {
    let pushed = shared.control.push().await.map_err(|error| refused(&error))?;
    Ok(ok(&serde_json::json!({ "pushed": pushed })))
}

fn app_view(app: &App) -> serde_json::Value {
    serde_json::json!({
        "id": app.id,
        "project": app.project,
        "deployment": app.deployment,
        "region": app.region,
        "allow_non_vpc_client_requests": app.allow_non_vpc_requests,
        "restricted": !app.endpoints.is_empty() && !app.allow_non_vpc_requests,
        "wire_protocol": app.wire_protocol,
        "public_address": app.public_address,
        "endpoints": app.endpoints,
    })
}

fn apps(shared: &Shared) -> Reply {
    let inventory = shared.control.inventory();
    let apps: Vec<_> = inventory.apps.values().map(app_view).collect();
    ok(&serde_json::json!({ "apps": apps }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppChange {
    allow_non_vpc_client_requests: Option<bool>,
    wire_protocol: Option<bool>,
}

async fn change_app(shared: &Shared, call: &Call, id: &str) -> Outcome {
    let body: AppChange = call.json().map_err(bad)?;
    let app: AppId = id.parse().map_err(bad)?;
    let which = app.clone();
    let edit = shared.control.edit(move |draft| {
        if let Some(allow) = body.allow_non_vpc_client_requests {
            draft.set_non_vpc(&which, allow)?;
        }
        if let Some(on) = body.wire_protocol {
            draft.set_wire_protocol(&which, on)?;
        }
        Ok(())
    });
    edit.await.map_err(|error| refused(&error))?;
    let inventory = shared.control.inventory();
    let view = inventory.apps.get(app.as_str()).map(app_view);
    view.map(|view| ok(&view))
        .ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "not_found", format!("there is no app `{app}`")))
}

async fn reload(shared: &Shared) -> Outcome {
    match (shared.reload)().await {
        Ok(()) => Ok(ok(&serde_json::json!({ "generation": shared.control.snapshot().generation }))),
        Err(error) => Err(refused(&error)),
    }
}

/// Control's refusal in this front's shape.
fn refused(error: &ChangeError) -> Refusal {
    let (status, code) = match error {
        ChangeError::Edit(EditError::Missing { .. }) => (StatusCode::NOT_FOUND, "not_found"),
        ChangeError::Edit(EditError::Exists { .. }) => (StatusCode::CONFLICT, "exists"),
        ChangeError::Edit(EditError::Invalid(_)) => (StatusCode::BAD_REQUEST, "bad_request"),
        ChangeError::Edit(_) => (StatusCode::CONFLICT, "refused"),
        ChangeError::Plan(_) => (StatusCode::CONFLICT, "plan_refused"),
        ChangeError::Bind(_) => (StatusCode::CONFLICT, "bind_failed"),
        ChangeError::Save(_) if error.outcome_is_unknown() => (StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown"),
        ChangeError::Save(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_saved"),
        ChangeError::Config(_) => (StatusCode::UNPROCESSABLE_ENTITY, "config_refused"),
        ChangeError::NoSuchTarget { .. } => (StatusCode::NOT_FOUND, "no_such_target"),
        ChangeError::AmbiguousTarget { .. } => (StatusCode::CONFLICT, "ambiguous_target"),
        ChangeError::NoSuchFault { .. } => (StatusCode::NOT_FOUND, "no_such_fault"),
        ChangeError::BadFault { .. } => (StatusCode::BAD_REQUEST, "bad_fault"),
        ChangeError::NoSuchZone { .. } => (StatusCode::NOT_FOUND, "no_such_zone"),
        ChangeError::ShiftedAlready { .. } => (StatusCode::CONFLICT, "shifted_already"),
        ChangeError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    };
    Refusal::new(status, code, chain(error))
}
