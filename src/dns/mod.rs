//! Answers names from the snapshot, as a VPC's resolver or a public one would.
//!
//! [`answer()`] is pure: who asks, what, of which [`DnsView`](crate::plan::DnsView). `wire` puts its result into bytes;
//! `server` is the one adapter to the DNS library; `udp` and `tcp` own the sockets; `forward` asks upstream resolvers for
//! other people's names; [`export()`] writes the same records as zone files.

mod answer;
mod bind;
mod error;
mod export;
mod forward;
mod metrics;
mod options;
mod question;
mod rotation;
mod server;
mod tcp;
mod udp;
mod view;
mod wire;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Code, Data, Owner, Record, answer};
pub use bind::{DnsSockets, bind};
pub use error::DnsError;
pub use export::{ExportFormat, ZoneExport, export, export_zones};
pub use metrics::DnsMetrics;
pub use options::DnsOptions;
pub use question::{Kind, Question};
pub use server::DnsServer;
pub use view::ViewKind;
