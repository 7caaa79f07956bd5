//! Control's refusals as Atlas' `ApiError`. Codes that appear in no recorded traffic are the gateway's own.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::super::call::Call;
use crate::control::draft::{EditError, ResourceKind};
use crate::control::{ChangeError, chain};
use crate::plan::RuleError;

/// An error of Atlas'.
#[derive(Debug)]
pub(super) struct AtlasError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    parameters: Vec<String>,
}

impl AtlasError {
    pub(super) fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, code, detail: detail.into(), parameters: Vec::new() }
    }

    pub(super) fn with(mut self, parameters: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.parameters = parameters.into_iter().map(Into::into).collect();
        self
    }

    pub(super) fn no_group(id: &str) -> Self {
        Self::new(404, "GROUP_NOT_FOUND", format!("No group with ID {id} exists.")).with([id])
    }

    pub(super) fn no_resource(call: &Call) -> Self {
        Self::new(404, "RESOURCE_NOT_FOUND", format!("Cannot find resource {}.", call.path)).with([call.path.as_str()])
    }

    pub(super) fn method(call: &Call) -> Self {
        Self::new(405, "METHOD_NOT_ALLOWED", format!("{} cannot be used on {}.", call.method, call.path))
    }

    /// The error for a body that can't be parsed.
    pub(super) fn body_error(error: &serde_json::Error) -> Self {
        match error.classify() {
            serde_json::error::Category::Data => Self::new(
                400,
                "INVALID_JSON_ATTRIBUTE",
                format!("Received JSON does not match what is expected: {error}."),
            ),
            _ => Self::new(400, "INVALID_JSON", format!("Received JSON is malformed: {error}.")),
        }
    }

    /// The error for unknown fields, by their paths.
    pub(super) fn unknown(paths: Vec<String>) -> Self {
        let detail = format!("Invalid attribute {} specified: it is not known here; leave it out.", paths.join(", "));
        Self::new(400, "INVALID_ATTRIBUTE", detail).with(paths)
    }

    pub(super) fn path(call: &Call, name: &str, value: &str) -> Self {
        let detail = format!("An error occurred while parsing {value} for the parameter {name}.");
        Self::new(400, "PATH_PARAM_PARSE_ERROR", detail).with([call.path.as_str()])
    }

    pub(super) fn body(self) -> (StatusCode, Value) {
        let body = json!({
            "detail": self.detail,
            "error": self.status.as_u16(),
            "errorCode": self.code,
            "parameters": self.parameters,
            "reason": self.status.canonical_reason().unwrap_or_default(),
        });
        (self.status, body)
    }
}

impl From<ChangeError> for AtlasError {
    fn from(error: ChangeError) -> Self {
        match &error {
            ChangeError::Edit(EditError::Rule(rule)) => of_rule(rule),
            ChangeError::Edit(edit) => of_edit(edit),
            ChangeError::Plan(errors) => match errors.as_slice() {
                [one] => of_rule(&one.rule),
                _ => Self::new(409, "CONFLICT", error.to_string()),
            },
            ChangeError::Bind(_) => Self::new(409, "LISTENER_UNAVAILABLE", chain(&error)),
            ChangeError::Save(_) if error.is_too_large() => Self::new(409, "CONFLICT", chain(&error)),
            ChangeError::Save(_) | ChangeError::Stopping => Self::new(503, "SERVICE_UNAVAILABLE", chain(&error)),
            ChangeError::Config(_) | ChangeError::Refused(..) => Self::new(400, "VALIDATION_ERROR", chain(&error)),
        }
    }
}

fn of_edit(error: &EditError) -> AtlasError {
    let detail = error.to_string();
    match error {
        EditError::Missing { what: ResourceKind::Project, id } => AtlasError::no_group(id),
        EditError::Missing { what: ResourceKind::Cluster, id } => no_cluster(id),
        EditError::Missing { what: ResourceKind::DatabaseUser, id } => no_user(id),
        EditError::Missing { what: ResourceKind::Service, id } => no_service(id),
        EditError::Missing { what: ResourceKind::Serverless, id } => no_instance(id),
        EditError::Missing { what: ResourceKind::PrivateEndpoint | ResourceKind::Endpoint, id } => no_endpoint(id),
        EditError::Missing { id, .. } => AtlasError::new(404, "RESOURCE_NOT_FOUND", detail).with([id]),
        EditError::Exists { what: ResourceKind::PrivateEndpoint, id } => AtlasError::new(
            409,
            "PRIVATE_ENDPOINT_ALREADY_EXISTS",
            format!("An interface endpoint with ID {id} already exists."),
        )
        .with([id]),
        EditError::Exists { what: ResourceKind::DatabaseUser, id } => {
            let name = user_name(id);
            AtlasError::new(409, "USER_ALREADY_EXISTS", format!("A user with username {name} already exists."))
                .with([name])
        }
        EditError::Exists { what: ResourceKind::Cluster | ResourceKind::Serverless, id } => AtlasError::new(
            400,
            "DUPLICATE_CLUSTER_NAME",
            format!("A cluster named {id} is already present in the group."),
        )
        .with([id]),
        EditError::Exists { what: ResourceKind::Project, id } => {
            AtlasError::new(409, "GROUP_ALREADY_EXISTS", format!("A group with name \"{id}\" already exists."))
                .with([id])
        }
        EditError::InUse { what: ResourceKind::Project, by, .. } if by == "endpoint services" => AtlasError::new(
            409,
            "CANNOT_CLOSE_GROUP_ACTIVE_ATLAS_PRIVATE_ENDPOINT_SERVICES",
            "There are active private endpoint services in this group.",
        ),
        EditError::InUse { what: ResourceKind::Project, .. } => AtlasError::new(
            409,
            "CANNOT_CLOSE_GROUP_ACTIVE_ATLAS_CLUSTERS",
            format!("The project cannot go: {detail}."),
        ),
        EditError::InUse { what: ResourceKind::Serverless, id, .. } => AtlasError::new(
            409,
            "CANNOT_TERMINATE_SERVERLESS_INSTANCE_WITH_PRIVATE_ENDPOINT",
            format!("Remove the private endpoint of {id} first."),
        )
        .with([id]),
        EditError::InUse { what: ResourceKind::Cluster, id, .. } => AtlasError::new(
            400,
            "CANNOT_TERMINATE_CLUSTER_WHEN_TERMINATION_PROTECTION_ENABLED",
            format!("The cluster {id} has termination protection: set terminationProtectionEnabled to false first."),
        )
        .with([id]),
        EditError::Spread(_) => AtlasError::new(409, "MULTIPLE_PRIVATE_ENDPOINTS_IN_MULTIPLE_REGIONS", detail),
        EditError::Exists { .. } | EditError::InUse { .. } | EditError::Conflict(_) => {
            AtlasError::new(409, "CONFLICT", detail)
        }
        EditError::WrongState { .. } => AtlasError::new(409, "PRIVATE_ENDPOINT_SERVICE_NOT_READY", detail),
        _ => AtlasError::new(400, "VALIDATION_ERROR", detail),
    }
}

pub(super) fn no_cluster(name: &str) -> AtlasError {
    AtlasError::new(404, "CLUSTER_NOT_FOUND", format!("No cluster named {name} exists in the group.")).with([name])
}

/// The error for an unknown database user `DATABASE/USERNAME`.
pub(super) fn no_user(id: &str) -> AtlasError {
    let name = user_name(id);
    AtlasError::new(404, "USERNAME_NOT_FOUND", format!("No user with username {name} exists.")).with([name])
}

fn user_name(id: &str) -> &str {
    id.split_once('/').map_or(id, |(_, name)| name)
}

pub(super) fn no_instance(name: &str) -> AtlasError {
    let detail = format!("No serverless instance named {name} exists in the group.");
    AtlasError::new(404, "SERVERLESS_INSTANCE_NOT_FOUND", detail).with([name])
}

pub(super) fn no_service(id: &str) -> AtlasError {
    let detail = format!("No private endpoint service with ID {id} exists.");
    AtlasError::new(404, "PRIVATE_ENDPOINT_SERVICE_NOT_FOUND", detail).with([id])
}

pub(super) fn no_endpoint(id: &str) -> AtlasError {
    AtlasError::new(404, "PRIVATE_ENDPOINT_NOT_FOUND", format!("No interface endpoint with ID {id} exists.")).with([id])
}

fn of_rule(rule: &RuleError) -> AtlasError {
    let conflict = |code| AtlasError::new(409, code, rule.to_string());
    match rule {
        RuleError::ServiceExistsForRegion(region) => AtlasError::new(
            409,
            "PRIVATE_ENDPOINT_SERVICE_ALREADY_EXISTS_FOR_REGION",
            format!("A private endpoint service already exists for {} region {}.", region.provider(), region.atlas()),
        )
        .with([region.provider().to_owned(), region.atlas()]),
        RuleError::TargetLimit(_) => conflict("MAX_NODES_PER_PRIVATELINK_REGION_EXCEEDED"),
        RuleError::LimitTooHigh { .. } => AtlasError::new(400, "LIMIT_VALUE_ABOVE_MAXIMUM", rule.to_string()),
        RuleError::SharedTier(_) => conflict("PRIVATE_ENDPOINTS_UNSUPPORTED_FOR_SHARED_TIER"),
        RuleError::RegionalModeWithReplicaSet => conflict("REGIONALIZED_PRIVATE_ENDPOINTS_WITH_REPLICA_SET"),
        RuleError::RegionalModeInUse(_) => conflict("CANNOT_DISABLE_REGIONALIZED_PRIVATE_ENDPOINTS"),
        RuleError::EndpointSpread(_) => conflict("MULTIPLE_PRIVATE_ENDPOINTS_IN_MULTIPLE_REGIONS"),
        RuleError::RemoteRegionIsOwn(region) => {
            AtlasError::new(400, "CROSS_REGION_PRIVATE_LINK_SELF_REGION", rule.to_string()).with([region.atlas()])
        }
        RuleError::PausedCluster { .. } => conflict("CLUSTER_PAUSED_IN_PRIVATE_ENDPOINT_REGION"),
        _ => conflict("CONFLICT"),
    }
}
