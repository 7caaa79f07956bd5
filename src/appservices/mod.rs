//! The HTTP front end of App Services: an app's private endpoints and its public address.
//!
//! In reading order: `path` says what a path asks for and `verdict` whether a request is served, `headers` and `location`
//! what each side gets, all of them pure. `front` opens and closes addresses as snapshots say; a `worker` accepts,
//! `connection` serves a client by TLS and HTTP, with `activity` for its time limits and `streams` for those of HTTP/2.
//! `request` checks and forwards each request; `request_body` and `response_body` stream its bytes, and `client`
//! holds it in flight until both are over; `backend` keeps connections to backends. `upgrade` hands WebSockets to the relay
//! that carries TCP flows, `websockets` lists them. `outage` suspends what goes through a lost zone. `context` is what all of these share on a worker.
//!
//! Where a request comes from is decided by the address that its connection came to and the source address, never by
//! anything in it.

mod activity;
mod backend;
mod certificates;
mod client;
mod client_io;
mod connection;
mod context;
mod front;
mod headers;
mod location;
mod metrics;
mod options;
mod outage;
mod path;
mod request;
mod request_body;
mod response_body;
mod socket;
mod streams;
mod target;
mod upgrade;
mod verdict;
mod websockets;
mod worker;

pub use certificates::{CertificateFiles, CertificateSource, Certificates};
pub use front::{AppFront, AppFrontParts, BoundListeners, FrontError};
pub use headers::{ENDPOINT, ORIGIN};
pub use options::{AppLimits, AppOptions};
pub use path::PathClass;
pub use verdict::{AccessPath, AppRules, Verdict, decide};
