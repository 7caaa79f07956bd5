//! `/v1/standins`: the members of the stand-in replica sets, if there are any.

use hyper::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::V1Error;
use super::operation::{Operation, OperationRequest};
use crate::model::{StandInCommand, StandInMember, StandInRefusal};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::GET, "/v1/standins", "listStandIns", "The members of the stand-in replica sets", list)
            .refusals(&[404, 503]),
        Operation::new(
            Method::POST,
            "/v1/standins/{cluster}/{member}/stop",
            "stopStandIn",
            "Stops a member as a crash would",
            stop,
        ),
        Operation::new(
            Method::POST,
            "/v1/standins/{cluster}/{member}/start",
            "startStandIn",
            "Starts a member that was stopped",
            start,
        ),
        Operation::new(
            Method::POST,
            "/v1/standins/{cluster}/step-down",
            "stepDownStandIn",
            "Lets a set's primary hand over, as replSetStepDown does",
            step_down,
        ),
    ]
}

#[derive(Serialize, JsonSchema)]
struct StandIns {
    members: Vec<StandInMember>,
}

async fn list(request: OperationRequest) -> Result<StandIns, V1Error> {
    run(&request, StandInCommand::List).await
}

async fn stop(request: OperationRequest) -> Result<StandIns, V1Error> {
    let (cluster, member) = member(&request);
    run(&request, StandInCommand::Stop { cluster, member }).await
}

async fn start(request: OperationRequest) -> Result<StandIns, V1Error> {
    let (cluster, member) = member(&request);
    run(&request, StandInCommand::Start { cluster, member }).await
}

async fn step_down(request: OperationRequest) -> Result<StandIns, V1Error> {
    run(&request, StandInCommand::StepDown { cluster: request.part("cluster").to_owned() }).await
}

fn member(request: &OperationRequest) -> (String, String) {
    (request.part("cluster").to_owned(), request.part("member").to_owned())
}

async fn run(request: &OperationRequest, command: StandInCommand) -> Result<StandIns, V1Error> {
    let Some(stand_ins) = &request.shared.stand_ins else {
        let message = "this gateway has real servers behind it, no stand-ins: stop a server itself, or let the gateway lose \
                       it by a `target-down` fault";
        return Err(V1Error::new(StatusCode::NOT_FOUND, "no_stand_ins", message));
    };
    let members = stand_ins(command).await.map_err(|refusal| {
        let (status, code) = match &refusal {
            StandInRefusal::Unknown { .. } => (StatusCode::NOT_FOUND, "no_such_stand_in"),
            StandInRefusal::Refused(_) => (StatusCode::CONFLICT, "refused"),
            StandInRefusal::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "stand_ins_unavailable"),
        };
        V1Error::new(status, code, refusal.to_string())
    })?;
    Ok(StandIns { members })
}
