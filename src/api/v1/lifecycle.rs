//! `/v1/lifecycle` and `/v1/reload`: the pace of lifecycles, and reloads of the config.

use hyper::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Operation, OperationRequest};
use super::{V1Error, refused};
use crate::model::Pace;
use crate::plan::Generation;

pub(super) fn operations() -> Vec<Operation> {
    let lifecycle = "/v1/lifecycle";
    vec![
        Operation::new(Method::GET, lifecycle, "getPace", "How quickly resources go from state to state", show),
        Operation::with_body(
            Method::PUT,
            lifecycle,
            "setPace",
            "Sets how quickly resources go from state to state",
            set,
        )
        .refusals(&[400, 503]),
        Operation::new(
            Method::POST,
            "/v1/lifecycle/push",
            "push",
            "Moves the next waiting resource to its next state",
            push,
        )
        .refusals(&[400, 503]),
        Operation::new(Method::POST, "/v1/reload", "reload", "Reads the config again and puts it in force", reload)
            .refusals(&[400, 409, 422, 503]),
    ]
}

/// The pace at which resources of the vendors' APIs change state.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Lifecycle {
    pace: Pace,
}

async fn show(request: OperationRequest) -> Result<Lifecycle, V1Error> {
    Ok(Lifecycle { pace: request.shared.control.pace() })
}

async fn set(request: OperationRequest, body: Lifecycle) -> Result<Lifecycle, V1Error> {
    request.shared.control.set_pace(body.pace).await.map_err(|error| refused(&error))?;
    show(request).await
}

#[derive(Serialize, JsonSchema)]
struct Pushed {
    /// Whether any resource changed state.
    pushed: bool,
}

async fn push(request: OperationRequest) -> Result<Pushed, V1Error> {
    let pushed = request.shared.control.push().await.map_err(|error| refused(&error))?;
    Ok(Pushed { pushed })
}

#[derive(Serialize, JsonSchema)]
struct Reloaded {
    generation: Generation,
    /// Keys of settings that were changed and need a restart.
    needs_restart: Vec<String>,
}

async fn reload(request: OperationRequest) -> Result<Reloaded, V1Error> {
    (request.shared.reload)().await.map_err(|error| refused(&error))?;
    let needs_restart = request.shared.pending_settings.borrow().clone();
    Ok(Reloaded { generation: request.shared.control.snapshot().generation, needs_restart })
}
