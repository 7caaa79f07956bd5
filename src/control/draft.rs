//! Changes of the inventory that an API can request. Each one either changes the draft or returns why it can't. The
//! plan's rules are checked afterwards by the owner, in the same way for every API.

mod apps;
pub mod atlas;
mod clouds;
pub mod ec2;
pub mod named_strings;
pub mod profiles;
mod serverless;

use crate::model::ParseTextError;
use crate::plan::RuleError;

use super::inventory::{Inventory, Timestamp};

/// Why a change is refused before it is planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The resource does not exist.
    #[error("there is no {what} `{id}`")]
    Missing {
        /// The kind of resource.
        what: ResourceKind,
        /// The requested id.
        id: String,
    },
    /// The resource already exists.
    #[error("{what} `{id}` already exists")]
    Exists {
        /// The kind of resource.
        what: ResourceKind,
        /// Its id.
        id: String,
    },
    /// Another resource uses it.
    #[error("{what} `{id}` is in use by {by}; remove that first")]
    InUse {
        /// The kind of resource.
        what: ResourceKind,
        /// Its id.
        id: String,
        /// The resource that uses it.
        by: String,
    },
    /// The subnet has no free address.
    #[error("subnet {0} has no free address")]
    SubnetFull(String),
    /// AWS reserves this address.
    #[error("address {0} is in the subnet's reserved address range")]
    ReservedAddress(std::net::IpAddr),
    /// The service is not in the subnet's zone.
    #[error("endpoint service {service} does not support the availability zone of the subnet: {subnet}")]
    UnsupportedZone {
        /// The service's name.
        service: String,
        /// The subnet.
        subnet: String,
    },
    /// A default security group can only be deleted with its VPC.
    #[error("security group {0} is its VPC's default one and cannot be deleted")]
    DefaultGroup(String),
    /// A limit is reached.
    #[error("there are {most} {what}s at most")]
    Limit {
        /// The kind of resource.
        what: ResourceKind,
        /// The limit.
        most: usize,
    },
    /// The token was used for another request.
    #[error("client token `{0}` was used for a request with other parameters")]
    TokenReused(String),
    /// The resource is in a state in which the change is not allowed.
    #[error("{what} `{id}` is {state}, and must be {wanted}")]
    WrongState {
        /// The kind of resource.
        what: ResourceKind,
        /// Its id.
        id: String,
        /// Its state.
        state: String,
        /// The required state.
        wanted: &'static str,
    },
    /// An invalid value.
    #[error("{0}")]
    Invalid(String),
    /// Another resource prevents it.
    #[error("{0}")]
    Conflict(String),
    /// Number of private endpoints by region, where the change would require regional mode.
    #[error(
        "several private endpoints in one region exclude private endpoints elsewhere, on any cloud provider, unless \
         regionalized private endpoints are on; there would be {0}"
    )]
    Spread(String),
    /// A rule of the plan, checked early.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

/// The kind of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceKind {
    /// A VPC.
    Vpc,
    /// A subnet.
    Subnet,
    /// An IPv6 network of a VPC, by its association's id.
    VpcNetwork,
    /// An IPv6 network of a subnet, by its association's id.
    SubnetNetwork,
    /// A security group.
    SecurityGroup,
    /// A security group on an endpoint's interfaces.
    InterfaceGroup,
    /// A rule of a security group, by its content.
    SecurityRule,
    /// A rule of a security group, by its id.
    SecurityRuleId,
    /// A tag of a resource.
    Tag,
    /// An interface endpoint.
    Endpoint,
    /// An endpoint service.
    Service,
    /// A project.
    Project,
    /// A cluster.
    Cluster,
    /// A serverless instance.
    Serverless,
    /// An app.
    App,
    /// A private endpoint of a service or an app.
    PrivateEndpoint,
    /// An entry of an IP access list.
    AccessEntry,
    /// A database user.
    DatabaseUser,
    /// A private endpoint connection string.
    ConnectionString,
    /// An injected fault.
    Fault,
}

impl ResourceKind {
    /// The error that there is no such resource.
    fn missing(self, id: impl std::fmt::Display) -> EditError {
        EditError::Missing { what: self, id: id.to_string() }
    }

    /// The error that it already exists.
    fn exists(self, id: impl std::fmt::Display) -> EditError {
        EditError::Exists { what: self, id: id.to_string() }
    }

    /// The error that it is in use.
    fn in_use(self, id: impl std::fmt::Display, by: impl std::fmt::Display) -> EditError {
        EditError::InUse { what: self, id: id.to_string(), by: by.to_string() }
    }

    /// The error that its state does not allow the change.
    fn in_state(self, id: impl std::fmt::Display, state: &str, wanted: &'static str) -> EditError {
        EditError::WrongState { what: self, id: id.to_string(), state: state.to_owned(), wanted }
    }

    /// The kind of resource that an id of EC2's denotes, by its prefix.
    #[must_use]
    pub fn of_id(id: &str) -> Self {
        match id.rsplit_once('-').map(|(prefix, _)| prefix) {
            Some("subnet") => Self::Subnet,
            Some("vpc-cidr-assoc") => Self::VpcNetwork,
            Some("subnet-cidr-assoc") => Self::SubnetNetwork,
            Some("sg") => Self::SecurityGroup,
            Some("sgr") => Self::SecurityRuleId,
            Some("vpce") => Self::Endpoint,
            _ => Self::Vpc,
        }
    }
}

impl std::fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Vpc => "VPC",
            Self::Subnet => "subnet",
            Self::VpcNetwork => "IPv6 CIDR block of a VPC",
            Self::SubnetNetwork => "IPv6 CIDR block of a subnet",
            Self::SecurityGroup => "security group",
            Self::InterfaceGroup => "security group on an interface",
            Self::SecurityRule | Self::SecurityRuleId => "security group rule",
            Self::Tag => "tag",
            Self::Endpoint => "interface endpoint",
            Self::Service => "endpoint service",
            Self::Project => "project",
            Self::Cluster => "cluster",
            Self::Serverless => "serverless instance",
            Self::App => "app",
            Self::PrivateEndpoint => "private endpoint",
            Self::AccessEntry => "access list entry",
            Self::DatabaseUser => "database user",
            Self::ConnectionString => "private endpoint connection string",
            Self::Fault => "fault",
        })
    }
}

/// A copy of the inventory that is being changed.
#[derive(Debug)]
pub struct Draft {
    /// The changed inventory.
    pub inventory: Inventory,
    /// The time of the change.
    pub now: Timestamp,
}

/// Random hexadecimal digits.
pub(crate) fn random_hex(digits: usize) -> String {
    random(digits, b"0123456789abcdef")
}

/// Random letters of `alphabet`.
pub(crate) fn random(length: usize, alphabet: &[u8]) -> String {
    use ring::rand::SecureRandom;
    let mut bytes = vec![0u8; length];
    // The system's generator fails only before it is seeded, at boot; ids then only have to be unique.
    if ring::rand::SystemRandom::new().fill(&mut bytes).is_err() {
        let now = Timestamp::now().0.to_le_bytes();
        bytes.iter_mut().zip(now.iter().cycle()).for_each(|(byte, other)| *byte = *other);
    }
    bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect()
}

/// A new AWS id: `prefix` and 17 hex digits, not in use.
fn new_id<T: std::str::FromStr<Err = ParseTextError>>(prefix: &str, taken: impl Fn(&T) -> bool) -> T {
    new_id_of(prefix, 17, taken)
}

/// A new id: `prefix` and `digits` hex digits, not in use.
fn new_id_of<T>(prefix: &str, digits: usize, taken: impl Fn(&T) -> bool) -> T
where
    T: std::str::FromStr<Err = ParseTextError>,
{
    loop {
        let id: T = format!("{prefix}0{}", random_hex(digits - 1)).parse().expect("so many hex digits make an id");
        if !taken(&id) {
            return id;
        }
    }
}
