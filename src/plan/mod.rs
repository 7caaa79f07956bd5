//! What is wanted, turned into a snapshot. Pure: no I/O, no clock; the answer depends on the arguments alone.
//!
//! [`compile()`] makes a [`Snapshot`] of a [`Desired`](crate::model::Desired) state and of the [`PortAllocations`] so far;
//! [`diff()`] says what a new snapshot opens, retargets and closes.
//!
//! In reading order: `survey` looks the desired state up by id, `targets` says what takes a port, `rules` what is allowed,
//! `ports` who gets which port, `paths` which endpoints lead to which cluster, `strings` and `dns` how that is written
//! down, `gates` who may use an endpoint; `compile` puts them together.

mod apps;
#[cfg(test)]
mod clouds_tests;
mod compile;
mod diff;
mod dns;
#[cfg(test)]
mod dual_stack_tests;
mod error;
#[cfg(test)]
mod fixture;
mod gates;
mod horizons;
mod paths;
mod port_allocations;
mod ports;
#[cfg(test)]
mod properties;
mod rules;
mod snapshot;
mod strings;
mod survey;
mod targets;

pub use apps::{AppListener, AppListenerKind, AppReadiness, AppView, AppsView, ListenerApp};
pub use compile::compile;
pub use diff::{Changes, MemberRemoval, diff};
pub use error::{AppEndpointKindName, Location, PlanError, PlanErrors, RuleError, TargetLimit};
pub use horizons::{Horizon, horizons, listed, private_hosts, private_member, public_member};
pub use port_allocations::PortAllocations;
pub use ports::{LedgerError, PortError, PortLedger, PortsExhausted, allocate};
pub use rules::may_disable_regional_mode;
pub use snapshot::{
    ClientGroup, ClusterStrings, DnsAnswer, DnsFault, DnsView, DnsZone, EndpointGate, Gate, GateAddress, Generation,
    Listener, ListenerMode, Member, PrivateStrings, RecordSets, ResolvedRule, SecurityRules, Snapshot, TargetGroup,
    TargetKind, TargetView, UnresolvedMember, VpcDns, ZoneAddress, ZoneView,
};
