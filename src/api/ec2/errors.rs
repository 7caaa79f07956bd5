//! Control's refusals with EC2's codes. Source of the codes: Amazon EC2 API Reference, *Error codes*.

use hyper::StatusCode;

use crate::control::draft::{EditError, ResourceKind};
use crate::control::{ChangeError, chain};
use crate::plan::RuleError;

/// An error of EC2's.
#[derive(Debug)]
pub(in super::super) struct Ec2Error {
    pub(in super::super) status: StatusCode,
    pub(in super::super) code: &'static str,
    pub(in super::super) message: String,
}

impl Ec2Error {
    pub(in super::super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }

    pub(super) fn missing(name: &str) -> Self {
        Self::new("MissingParameter", format!("The request must contain the parameter {name}"))
    }

    pub(super) fn invalid(name: &str, value: &str) -> Self {
        Self::new("InvalidParameterValue", format!("Value ({value}) for parameter {name} is invalid."))
    }

    pub(super) fn dry_run() -> Self {
        let message = "Request would have succeeded, but DryRun flag is set.".to_owned();
        Self { status: StatusCode::PRECONDITION_FAILED, code: "DryRunOperation", message }
    }
}

impl From<ChangeError> for Ec2Error {
    fn from(error: ChangeError) -> Self {
        match &error {
            ChangeError::Edit(edit) => of_edit(edit),
            ChangeError::Plan(errors) => {
                let first = errors.as_slice().first();
                first.map_or_else(|| Self::new("InvalidParameter", error.to_string()), |first| of_rule(&first.rule))
            }
            ChangeError::Bind(_) => Self::new("InvalidParameterValue", chain(&error)),
            ChangeError::Save(_) if error.is_too_large() => Self::new("ResourceCountExceeded", chain(&error)),
            ChangeError::Save(_) | ChangeError::Stopping => {
                Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "Unavailable", message: chain(&error) }
            }
            ChangeError::Config(_) | ChangeError::Refused(..) => Self::new("InvalidParameter", chain(&error)),
        }
    }
}

fn of_edit(error: &EditError) -> Ec2Error {
    match error {
        EditError::Missing { what, id } => not_found(*what, id),
        EditError::Exists { what: ResourceKind::SecurityGroup, id } => {
            Ec2Error::new("InvalidGroup.Duplicate", format!("The security group '{id}' already exists for this VPC"))
        }
        EditError::Exists { what: ResourceKind::SecurityRule, id } => {
            Ec2Error::new("InvalidPermission.Duplicate", format!("the specified rule \"{id}\" already exists"))
        }
        EditError::Limit { what: ResourceKind::SecurityRule, .. } => Ec2Error::new(
            "RulesPerSecurityGroupLimitExceeded",
            "The maximum number of rules per security group has been reached.",
        ),
        EditError::Limit { what: ResourceKind::Tag, .. } => {
            Ec2Error::new("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
        }
        EditError::Limit { what: ResourceKind::VpcNetwork, most } => Ec2Error::new(
            "CidrLimitExceeded",
            format!("This network has met its maximum number of allowed CIDRs: {most}"),
        ),
        EditError::Limit { what, most } => {
            let code = match what {
                ResourceKind::Vpc => "VpcLimitExceeded",
                ResourceKind::Subnet => "SubnetLimitExceeded",
                ResourceKind::SecurityGroup => "SecurityGroupLimitExceeded",
                ResourceKind::InterfaceGroup => "SecurityGroupsPerInterfaceLimitExceeded",
                ResourceKind::Endpoint => "VpcEndpointLimitExceeded",
                _ => "ResourceLimitExceeded",
            };
            Ec2Error::new(code, format!("The maximum number of {what}s has been reached: {most}."))
        }
        EditError::DefaultGroup(id) => Ec2Error::new(
            "CannotDelete",
            format!("the specified group: \"{id}\" name: \"default\" cannot be deleted by a user"),
        ),
        EditError::ReservedAddress(ip) => {
            Ec2Error::new("InvalidParameterValue", format!("Address {ip} is in subnet's reserved address range"))
        }
        EditError::UnsupportedZone { service, subnet } => Ec2Error::new(
            "InvalidParameter",
            format!(
                "The VPC endpoint service {service} does not support the availability zone of the subnet: {subnet}."
            ),
        ),
        EditError::Exists { .. } => Ec2Error::new("InvalidParameter", error.to_string()),
        EditError::InUse { what: ResourceKind::SecurityGroup, id, .. } => {
            Ec2Error::new("DependencyViolation", format!("resource {id} has a dependent object"))
        }
        EditError::InUse { what, id, .. } => {
            let kind = what.to_string().to_lowercase();
            Ec2Error::new("DependencyViolation", format!("The {kind} '{id}' has dependencies and cannot be deleted."))
        }
        EditError::SubnetFull(_) => Ec2Error::new("InsufficientFreeAddressesInSubnet", error.to_string()),
        EditError::TokenReused(_) => Ec2Error::new("IdempotentParameterMismatch", error.to_string()),
        EditError::WrongState { .. } => Ec2Error::new("IncorrectState", error.to_string()),
        EditError::Invalid(message) => Ec2Error::new("InvalidParameterValue", message.clone()),
        EditError::Conflict(message) => Ec2Error::new("InvalidParameter", message.clone()),
        EditError::Spread(_) => Ec2Error::new("InvalidParameter", error.to_string()),
        EditError::Rule(rule) => of_rule(rule),
    }
}

pub(super) fn not_found(what: ResourceKind, id: &str) -> Ec2Error {
    let (code, text) = match what {
        ResourceKind::Vpc => ("InvalidVpcID.NotFound", "The vpc ID"),
        ResourceKind::Subnet => ("InvalidSubnetID.NotFound", "The subnet ID"),
        ResourceKind::VpcNetwork => {
            ("InvalidVpcCidrBlockAssociationIdError.NotFound", "The vpc CIDR block association ID")
        }
        ResourceKind::SubnetNetwork => {
            ("InvalidSubnetCidrBlockAssociationID.NotFound", "The subnet CIDR block with association ID")
        }
        ResourceKind::SecurityGroup | ResourceKind::InterfaceGroup => ("InvalidGroup.NotFound", "The security group"),
        ResourceKind::SecurityRule => {
            let message = format!("The specified rule does not exist in this security group: {id}");
            return Ec2Error::new("InvalidPermission.NotFound", message);
        }
        ResourceKind::SecurityRuleId => ("InvalidSecurityGroupRuleId.NotFound", "The security group rule ID"),
        ResourceKind::Endpoint | ResourceKind::PrivateEndpoint => {
            ("InvalidVpcEndpointId.NotFound", "The Vpc Endpoint Id")
        }
        ResourceKind::Service => ("InvalidVpcEndpointServiceId.NotFound", "The VpcEndpointService Id"),
        _ => ("InvalidParameter", "The id"),
    };
    Ec2Error::new(code, format!("{text} '{id}' does not exist"))
}

fn of_rule(rule: &RuleError) -> Ec2Error {
    let code = match rule {
        RuleError::NoSuchService(name) => {
            return Ec2Error::new("InvalidServiceName", format!("The Vpc Endpoint Service '{name}' does not exist"));
        }
        // AWS does not document its code; tools treat this one as a service that can't be used from there.
        RuleError::UnsupportedRegion { .. } => "InvalidServiceName",
        RuleError::Unknown { what: "VPC", id } => return not_found(ResourceKind::Vpc, id),
        RuleError::Unknown { what: "subnet", id } => return not_found(ResourceKind::Subnet, id),
        RuleError::Unknown { what: "security group", id } => return not_found(ResourceKind::SecurityGroup, id),
        RuleError::UnknownGroupInRule { missing, .. } => {
            return not_found(ResourceKind::SecurityGroup, missing.as_str());
        }
        RuleError::DuplicateSubnetsInSameZone { .. } => "DuplicateSubnetsInSameZone",
        RuleError::NetworksOverlap { own_kind, own, .. } if own_kind.starts_with("subnet") => {
            let message = format!("The CIDR '{own}' conflicts with another subnet");
            return Ec2Error::new("InvalidSubnet.Conflict", message);
        }
        RuleError::SubnetOutsideVpc { cidr, .. } => {
            return Ec2Error::new("InvalidSubnet.Range", format!("The CIDR '{cidr}' is invalid."));
        }
        RuleError::AddressInUse { .. } => "InvalidIPAddress.InUse",
        RuleError::NetworksOverlap { .. }
        | RuleError::SubnetOutsideRegion { .. }
        | RuleError::AddressOutsideSubnet { .. } => "InvalidParameterValue",
        _ => "InvalidParameter",
    };
    Ec2Error::new(code, rule.to_string())
}
