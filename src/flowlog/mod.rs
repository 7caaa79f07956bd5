//! Flow logs as a VPC has them, and an access log: one thread, fed through a bounded queue that no flow ever waits for.
//!
//! In AWS the flow log of a VPC records what its network interfaces let through and what not, summed over an aggregation
//! interval; an interface endpoint has one interface a zone (Amazon VPC User Guide, *Logging IP traffic using VPC Flow
//! Logs*). Here the data plane tells of a flow when it ends or is refused, and once an interval of those that are open.
//! Nothing is done while bytes move. What finds the queue full is counted and recorded as SKIPDATA.
//!
//! `event` is what the data plane tells, `window` sums it up (pure), `record` and `access` write it as text, `file` keeps
//! it, `writer` is the thread.

mod access;
mod event;
mod file;
mod record;
mod window;
mod writer;

pub use event::{Ended, Interface, OpenFlow, Packets, Refused};
pub use writer::{Destination, FlowLog, FlowLogError, FlowLogOptions, Options, Traffic};
