//! Calls of STS and IAM by which tools identify their credentials. Sources: AWS STS API Reference, *GetCallerIdentity*;
//! IAM API Reference.

use hyper::StatusCode;

use super::params::Params;
use super::xml::Xml;
use super::{OWNER, reply, uuid};
use crate::api::call::Reply;

const STS: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const IAM: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// The ARN of every caller.
fn arn() -> String {
    format!("arn:aws:iam::{OWNER}:user/lab")
}

/// The response to a call of STS or IAM; `None`: the call is EC2's.
pub(super) fn answer(action: &str, params: &Params) -> Option<Reply> {
    match action {
        "GetCallerIdentity" => Some(match params.check_all_read() {
            Ok(()) => reply(StatusCode::OK, &identity()),
            Err(refusal) => failure(STS, StatusCode::BAD_REQUEST, refusal.code, &refusal.message),
        }),
        "GetUser" | "ListRoles" => {
            let message = format!("User: {} is not authorized to perform: iam:{action}", arn());
            Some(failure(IAM, StatusCode::FORBIDDEN, "AccessDenied", &message))
        }
        _ => None,
    }
}

fn identity() -> String {
    let mut xml = Xml::new();
    xml.nest("GetCallerIdentityResult", |xml| {
        xml.leaf("Arn", arn());
        xml.leaf("UserId", "AIDAPRIVATELINKLAB01");
        xml.leaf("Account", OWNER);
    });
    xml.nest("ResponseMetadata", |xml| xml.leaf("RequestId", uuid()));
    format!("<GetCallerIdentityResponse xmlns=\"{STS}\">{}</GetCallerIdentityResponse>\n", xml.as_str())
}

fn failure(namespace: &str, status: StatusCode, code: &str, message: &str) -> Reply {
    let mut xml = Xml::new();
    xml.nest("Error", |xml| {
        xml.leaf("Type", "Sender");
        xml.leaf("Code", code);
        xml.leaf("Message", message);
    });
    xml.leaf("RequestId", uuid());
    reply(status, &format!("<ErrorResponse xmlns=\"{namespace}\">{}</ErrorResponse>\n", xml.as_str()))
}
