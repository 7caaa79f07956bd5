//! `/v1/flows`: the open flows.

use hyper::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::operation::{NoContent, Operation, OperationRequest};
use super::{V1Error, bad};
use crate::data::FlowView;
use crate::model::FlowId;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::GET, "/v1/flows", "listFlows", "The open flows, oldest first", list)
            .query(&["endpoint", "target", "origin", "client"]),
        Operation::new(Method::DELETE, "/v1/flows/{flowId}", "endFlow", "Ends a flow at once", end)
            .refusals(&[400, 404]),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Flows {
    flows: Vec<FlowView>,
}

async fn list(request: OperationRequest) -> Result<Flows, V1Error> {
    let wanted = |name: &str, value: &str| request.query(name).is_none_or(|wanted| wanted == value);
    let flows = request.shared.flows.flows().into_iter().filter(|flow| {
        wanted("endpoint", &flow.endpoint)
            && wanted("target", &flow.target)
            && wanted("origin", flow.origin.label())
            && wanted("client", &flow.client.ip().to_string())
    });
    Ok(Flows { flows: flows.collect() })
}

async fn end(request: OperationRequest) -> Result<NoContent, V1Error> {
    let id = request.part("flowId");
    let number = u64::from_str_radix(id, 16).map_err(|_| bad(format!("`{id}` is not a flow id (hex digits)")))?;
    if request.shared.flows.kill(FlowId(number)) {
        Ok(NoContent)
    } else {
        Err(V1Error::new(StatusCode::NOT_FOUND, "no_such_flow", format!("there is no flow `{id}`; it may have ended")))
    }
}
