//! Compiles the desired state to a snapshot. Pure: no I/O, no clock; the result depends only on the arguments.
//!
//! [`compile()`] computes a [`Snapshot`] from a [`Desired`](crate::model::Desired) state and the earlier
//! [`PortAllocations`]; [`diff()`] computes which listeners a new snapshot opens, retargets and closes.
//!
//! In reading order: `survey` indexes the desired state by id, `targets` lists the addressable targets, `rules` checks
//! what is allowed, `ports` allocates ports, `paths` determines which endpoints reach which cluster, `strings` and
//! `dns` format that, `endpoint_access` resolves the access rules of endpoints; `compile` combines them.

mod apps;
#[cfg(test)]
mod clouds_tests;
mod compile;
mod diff;
mod dns;
#[cfg(test)]
mod dual_stack_tests;
mod endpoint_access;
mod error;
#[cfg(test)]
mod fixture;
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
pub use error::{Location, PlanError, PlanErrors, RuleError, TargetLimit};
pub use horizons::{Horizon, horizons, listed, private_hosts, private_member, public_member};
pub use port_allocations::PortAllocations;
pub use ports::{PortLedger, allocate};
pub use rules::may_disable_regional_mode;
pub use snapshot::{
    ClientGroup, ClusterStrings, DnsAnswer, DnsFault, DnsView, DnsZone, EndpointAccess, Generation, Listener,
    ListenerAccess, ListenerMode, Member, PrivateStrings, RecordSets, ResolvedRule, SecurityRules, Snapshot,
    TargetGroup, TargetKind, TargetView, UnresolvedMember, VpcDns, ZoneAddress, ZoneView,
};
