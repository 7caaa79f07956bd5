//! Origins of connections.

use schemars::JsonSchema;
use serde::Serialize;

/// The origin of a connection, derived from the address on which it arrived and its source address, never from anything
/// that the client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The endpoint's own VPC.
    Vpc,
    /// A VPC peered with the endpoint's.
    Peered,
    /// A network connected to the endpoint's VPC by Direct Connect or VPN.
    OnPremises,
    /// The provider's side: the VPC of an endpoint service, which may never open a connection towards the consumer.
    Service,
    /// Anywhere else.
    Public,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 5] = [Self::Vpc, Self::Peered, Self::OnPremises, Self::Service, Self::Public];

    /// The name in logs, metrics and tests.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Vpc => "vpc",
            Self::Peered => "peered",
            Self::OnPremises => "on_premises",
            Self::Service => "service",
            Self::Public => "public",
        }
    }
}
