//! Answers names from the snapshot, as a VPC's resolver or a public one would.
//!
//! [`answer()`] is pure: it maps source, question and [`DnsView`](crate::plan::DnsView) to records. The DNS library
//! provides sockets and messages: `handler` is its request handler, `message` converts, `tcp` limits connections,
//! `forward` queries upstream resolvers for names outside the zones. [`export()`] writes the same records as zone
//! files.

mod answer;
mod bind;
mod error;
mod export;
mod forward;
mod handler;
mod message;
mod metrics;
mod question;
mod rotation;
mod server;
mod tcp;
mod view;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Rcode, Record, RecordData, RecordOwner, answer};
pub use bind::{DnsSockets, bind};
pub use error::DnsError;
pub use export::{ExportFormat, ZoneExport, export, export_zones};
pub use message::reply;
pub use metrics::DnsMetrics;
pub use question::{QueryType, Question};
pub use server::DnsServer;
pub use view::ViewKind;
