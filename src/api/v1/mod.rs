//! The gateway's own API, for everything that the vendors' APIs do not have. JSON; an error is
//! `{"code":"…","message":"…"}`.
//!
//! An operation is one line in its module's table and one handler; route, parsing and OpenAPI description are derived
//! from both.

mod apps;
mod events;
mod faults;
mod flows;
mod former_keys;
mod gateways;
mod lifecycle;
mod limits;
mod logs;
mod operation;
mod private_endpoints;
mod problems;
mod stand_ins;
mod targets;
mod throughput;
mod views;
mod zones;

use std::sync::{Arc, LazyLock};

use hyper::StatusCode;

pub(super) use self::operation::Operation;
use super::ApiState;
use super::call::{Call, Reply, problem};
use super::routes::fits;
use crate::control::draft::EditError;
use crate::control::{ChangeError, Refused, chain};

/// The result of a request: a reply or an error.
type V1Result = Result<Reply, V1Error>;

/// Every operation of `/v1`.
pub(super) static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    [
        views::operations(),
        targets::operations(),
        faults::operations(),
        zones::operations(),
        limits::operations(),
        private_endpoints::operations(),
        throughput::operations(),
        events::operations(),
        flows::operations(),
        gateways::operations(),
        apps::operations(),
        stand_ins::operations(),
        lifecycle::operations(),
        logs::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
});

/// An error in this API's format.
struct V1Error {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl V1Error {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

/// Handles a request that has a route.
pub(super) async fn answer(shared: &Arc<ApiState>, call: &Call) -> Reply {
    let segments = call.segments();
    let mut fitting = OPERATIONS.iter().filter(|operation| fits(operation.path, &segments));
    let operation = fitting.find(|operation| operation.method == call.method).expect("the router found it");
    let outcome = operation.answer(shared, call).await;
    outcome.unwrap_or_else(|V1Error { status, code, message }| problem(status, code, message))
}

fn bad(message: impl std::fmt::Display) -> V1Error {
    V1Error::new(StatusCode::BAD_REQUEST, "bad_request", message.to_string())
}

/// Control's refusal in this API's format.
fn refused(error: &ChangeError) -> V1Error {
    let (status, code) = match error {
        ChangeError::Edit(EditError::Missing { .. }) => (StatusCode::NOT_FOUND, "not_found"),
        ChangeError::Edit(EditError::Exists { .. }) => (StatusCode::CONFLICT, "exists"),
        ChangeError::Edit(EditError::Invalid(_)) => (StatusCode::BAD_REQUEST, "bad_request"),
        ChangeError::Edit(_) => (StatusCode::CONFLICT, "refused"),
        ChangeError::Plan(_) => (StatusCode::CONFLICT, "plan_refused"),
        ChangeError::Bind(_) => (StatusCode::CONFLICT, "bind_failed"),
        ChangeError::Save(_) if error.outcome_is_unknown() => (StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown"),
        ChangeError::Save(_) if error.is_too_large() => (StatusCode::CONFLICT, "too_many_keys"),
        ChangeError::Save(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_saved"),
        ChangeError::Config(_) => (StatusCode::UNPROCESSABLE_ENTITY, "config_refused"),
        ChangeError::Refused(Refused::NoSuchTarget, _) => (StatusCode::NOT_FOUND, "no_such_target"),
        ChangeError::Refused(Refused::AmbiguousTarget, _) => (StatusCode::CONFLICT, "ambiguous_target"),
        ChangeError::Refused(Refused::NoSuchFault, _) => (StatusCode::NOT_FOUND, "no_such_fault"),
        ChangeError::Refused(Refused::BadFault, _) => (StatusCode::BAD_REQUEST, "bad_fault"),
        ChangeError::Refused(Refused::NoSuchZone, _) => (StatusCode::NOT_FOUND, "no_such_zone"),
        ChangeError::Refused(Refused::ShiftedAlready, _) => (StatusCode::CONFLICT, "shifted_already"),
        ChangeError::Refused(Refused::NoSuchGateway, _) => (StatusCode::NOT_FOUND, "no_such_gateway"),
        ChangeError::Refused(Refused::GatewayLives, _) => (StatusCode::CONFLICT, "gateway_lives"),
        ChangeError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    };
    V1Error::new(status, code, chain(error))
}
