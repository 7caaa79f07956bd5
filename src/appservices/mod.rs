//! The App Services front: an app's private endpoints and its public address, over HTTP.
//!
//! In reading order: `path` says what a path asks for and `verdict` what becomes of a request, `headers` and `location`
//! what each side is told, all of them pure; `front` opens and closes addresses as snapshots say, `certificates` has what
//! clients are shown; a `worker` accepts, `connection` takes a client through TLS to HTTP, `live` sees to its limits;
//! `request` has each request judged and passed on, `body` lets its bytes through, `backend` keeps connections for it;
//! `upgrade` hands WebSockets to the relay that carries TCP flows, `sockets` lists them.
//!
//! Where a request comes from is decided by the address that its connection came to and the source address, never by
//! anything in it.

mod backend;
mod body;
mod certificates;
mod client_io;
mod connection;
mod front;
mod headers;
mod live;
mod location;
mod metrics;
mod options;
mod path;
mod request;
mod sockets;
mod upgrade;
mod verdict;
mod worker;

pub use certificates::{CertificateFiles, CertificateSource, Certificates};
pub use front::{AppFront, BoundDoors, FrontError};
pub use headers::{ENDPOINT, ORIGIN};
pub use options::{AppLimits, AppOptions};
pub use path::PathClass;
pub use verdict::{AppRules, Verdict, WayIn, decide};
