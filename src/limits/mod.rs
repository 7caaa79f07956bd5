//! Resource limits, per source and in total: connections, descriptors, log lines.

pub(crate) mod budget;
mod connections;
mod refusals;
mod sources;

pub use connections::{ConnectionSlot, Connections, Shares};
pub use refusals::Refusals;
pub(crate) use refusals::{RefusedCount, RefusedSource};
pub(crate) use sources::{SourceCounts, source_of};
