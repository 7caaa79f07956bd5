//! MongoDB nodes in memory: enough of the wire protocol for drivers to connect, to find the topology, and to read and
//! write.
//! In reading order: [`ReplicaSet`] and [`Mongos`] start nodes; `node` serves a connection; `wire` frames messages;
//! `hello` reports the node's role, through a [`Horizons`] view; `command` dispatches all other commands to `crud`,
//! `catalog` and `diagnostics`, which work on the `store` that all nodes of a set share. In a set, `member` exchanges
//! heartbeats and votes with the others, by the rules in `election`.
//!
//! Deliberately omitted: users and authentication, transactions, change streams, indexes that enforce something,
//! compression (never offered), projections, collations, most operators and pipeline stages, and every write to disk.
//! Unsupported requests are refused with CommandNotFound.

mod batch;
mod catalog;
mod command;
mod crud;
mod diagnostics;
mod election;
mod error;
mod filter;
mod hello;
mod horizon;
mod member;
mod mongos;
mod node;
mod order;
mod path;
mod pipeline;
mod proxied;
mod replica_set;
mod store;
mod update;
mod wire;

#[cfg(test)]
mod tests;

pub use election::Timing;
pub use horizon::Horizons;
pub use mongos::{Mongos, MongosAddresses, MongosSpec};
pub use replica_set::{MemberStatus, ReplicaSet, ReplicaSetSpec};
pub use store::StandInCounts;
pub(crate) use wire::exchange;

/// The server version that the stand-in behaves like.
const VERSION: &str = "8.0.10";
/// The same, in parts.
const VERSION_PARTS: [i32; 4] = [8, 0, 10, 0];
/// That version's wire version.
const WIRE_VERSION: i32 = 25;
/// Largest document (MongoDB limits and thresholds).
const MAX_DOCUMENT: usize = 16 * 1024 * 1024;
/// Largest message.
const MAX_MESSAGE: usize = 48_000_000;
/// Maximum number of writes in one command.
const MAX_BATCH: usize = 100_000;
/// Maximum nesting of documents.
const MAX_DEPTH: usize = 100;
