//! Where a connection comes from.

use schemars::JsonSchema;
use serde::Serialize;

/// Where a connection comes from, decided from the address it arrived on and its source address, never from anything
/// that the client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The endpoint's own VPC.
    Vpc,
    /// A VPC peered with the endpoint's.
    Peered,
    /// A network joined to the endpoint's VPC by Direct Connect or VPN.
    OnPremises,
    /// The provider's side: the VPC of an endpoint service. May never open a connection towards the consumer.
    Service,
    /// Anywhere else.
    Public,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 5] = [Self::Vpc, Self::Peered, Self::OnPremises, Self::Service, Self::Public];

    /// The one lower-case name in log, metric and test.
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
