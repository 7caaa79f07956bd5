//! What is wanted, turned into a snapshot. Pure: no I/O, no clock; the answer depends on the arguments alone.
//!
//! [`compile`] makes a [`Snapshot`] of a [`Desired`](crate::model::Desired) state and of what is [`Held`] from before;
//! [`diff`] says what a new snapshot opens, retargets and closes.

mod held;
mod ports;
mod snapshot;

pub use held::Held;
pub use ports::{LedgerError, PortError, PortLedger, PortsExhausted, allocate};
pub use snapshot::{
    ClientGroup, ClusterStrings, DnsView, DnsZone, EndpointGate, Gate, GateAddress, Generation, Listener, Member,
    PrivateStrings, RecordSets, ResolvedRule, SecurityRules, Snapshot, TargetGroup, TargetKind, TargetView, VpcDns,
};
