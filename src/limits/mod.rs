//! What one source, and all of them together, may take of the process: connections, descriptors, lines of the log.

pub(crate) mod budget;
mod connections;
mod refusals;
mod sources;

pub use connections::{Connection, Connections, Shares};
pub use refusals::Refusals;
pub(crate) use refusals::{RefusedCount, RefusedSource};
pub(crate) use sources::{SourceCounts, source_of};
