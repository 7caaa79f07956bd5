//! Changes of the inventory that an API can ask for. Each either changes the draft or says why not; what the plan's
//! rules say of the result is the owner's to find out, and the same for every front.

mod apps;
pub mod atlas;
mod clouds;
pub mod ec2;
pub mod named_strings;
pub mod profiles;
mod serverless;

use crate::model::ParseIdError;
use crate::plan::RuleError;

use super::inventory::{Inventory, Timestamp};

/// Why a change is refused before the plan is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There is no such thing.
    #[error("there is no {what} `{id}`")]
    Missing {
        /// What sort of thing.
        what: Kind,
        /// Its id as asked for.
        id: String,
    },
    /// It is there already.
    #[error("{what} `{id}` is there already")]
    Exists {
        /// What sort of thing.
        what: Kind,
        /// Its id.
        id: String,
    },
    /// Something else needs it.
    #[error("{what} `{id}` is in use by {by}; remove that first")]
    InUse {
        /// What sort of thing.
        what: Kind,
        /// Its id.
        id: String,
        /// What needs it.
        by: String,
    },
    /// No address of the subnet is free.
    #[error("subnet {0} has no free address")]
    SubnetFull(String),
    /// AWS keeps this address for itself.
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
    /// A group that AWS made stays as long as its VPC.
    #[error("security group {0} is its VPC's default one and cannot be deleted")]
    DefaultGroup(String),
    /// One more than there may be.
    #[error("there are {most} {what}s at most")]
    Limit {
        /// What sort of thing.
        what: Kind,
        /// How many there may be.
        most: usize,
    },
    /// The token was used for another request.
    #[error("client token `{0}` was used for a request with other parameters")]
    TokenReused(String),
    /// What it is just doing forbids it.
    #[error("{what} `{id}` is {state}, and must be {wanted}")]
    WrongState {
        /// What sort of thing.
        what: Kind,
        /// Its id.
        id: String,
        /// What it is doing.
        state: String,
        /// What it would have to be doing.
        wanted: &'static str,
    },
    /// A value that can't be.
    #[error("{0}")]
    Invalid(String),
    /// Another resource prevents it.
    #[error("{0}")]
    Conflict(String),
    /// Private endpoints are where they may only be with regional mode: how many in each region.
    #[error(
        "several private endpoints in one region exclude private endpoints elsewhere, on any cloud provider, unless \
         regionalized private endpoints are on; there would be {0}"
    )]
    Spread(String),
    /// A rule of the plan's, asked beforehand.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

/// The kind of resource that an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
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
    /// A rule of a security group, by what it says.
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
    /// A fault on demand.
    Fault,
}

impl Kind {
    /// What an id of EC2's names, by its prefix.
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

impl std::fmt::Display for Kind {
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

/// The inventory while it is changed.
#[derive(Debug)]
pub struct Draft {
    /// What there is to be.
    pub inventory: Inventory,
    /// The moment of the change.
    pub now: Timestamp,
}

/// Unpredictable hexadecimal digits.
pub(crate) fn random_hex(digits: usize) -> String {
    random(digits, b"0123456789abcdef")
}

/// Unpredictable letters of `alphabet`.
pub(crate) fn random(length: usize, alphabet: &[u8]) -> String {
    use ring::rand::SecureRandom;
    let mut bytes = vec![0u8; length];
    // The system's generator fails only before it was seeded, at boot; ids need be distinct and no more then.
    if ring::rand::SystemRandom::new().fill(&mut bytes).is_err() {
        let now = Timestamp::now().0.to_le_bytes();
        bytes.iter_mut().zip(now.iter().cycle()).for_each(|(byte, other)| *byte = *other);
    }
    bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect()
}

/// A new id of AWS: `prefix` and 17 hex digits that is not in use.
fn new_id<T: std::str::FromStr<Err = ParseIdError>>(prefix: &str, taken: impl Fn(&T) -> bool) -> T {
    new_id_of(prefix, 17, taken)
}

/// A new id: `prefix` and `digits` hex digits that is not in use.
fn new_id_of<T>(prefix: &str, digits: usize, taken: impl Fn(&T) -> bool) -> T
where
    T: std::str::FromStr<Err = ParseIdError>,
{
    loop {
        let id: T = format!("{prefix}0{}", random_hex(digits - 1)).parse().expect("so many hex digits make an id");
        if !taken(&id) {
            return id;
        }
    }
}
