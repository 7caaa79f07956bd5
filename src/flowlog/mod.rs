//! VPC flow logs and an access log, written by one thread behind a bounded queue that never blocks a flow.
//!
//! In AWS the flow log of a VPC records the accepted and rejected traffic of its network interfaces, aggregated over an
//! interval; an interface endpoint has one interface per zone (Amazon VPC User Guide, *Logging IP traffic using VPC
//! Flow Logs*). Here the data plane sends an event when a flow ends or is refused, and a list of the open flows once
//! per interval. The relay does no extra work. Events that find the queue full are counted and recorded as SKIPDATA.
//!
//! `event` has the data plane's events, `window` aggregates them (pure), `record` and `access` format them, `file`
//! rotates files, `writer` is the thread.

mod access;
mod event;
mod file;
mod record;
mod window;
mod writer;

pub use event::{EndedFlow, Interface, OpenFlow, Packets, RefusedFlow};
pub use writer::{FlowLog, FlowLogError};
