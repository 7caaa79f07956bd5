//! The HTTP front end of App Services: an app's private endpoints and its public address.
//!
//! In reading order: `path` classifies a request's path, `verdict` decides whether the request is served, `headers` and
//! `location` rewrite the messages; all of these are pure. `front_end` opens and closes addresses; a `worker` accepts;
//! `connection` serves TLS and HTTP, with the time limits of `activity` and, for HTTP/2, of `streams`. `request` checks
//! and forwards each request; `request_body` and `response_body` stream its bytes, and `client` keeps it in flight
//! until both have ended; `backend` pools connections to backends. `upgrade` hands WebSockets to the relay that also
//! carries TCP flows, `websockets` lists them. `outage` suspends connections through a lost zone. `context` is the
//! state shared on a worker.
//!
//! A request's origin is derived from the address that the client connected to and its source address, never from the
//! content of the request.

mod activity;
mod backend;
mod certificates;
mod client;
mod client_io;
mod connection;
mod context;
mod front_end;
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
pub use front_end::{AppFrontEnd, AppFrontEndParts, BoundListeners, FrontEndError};
pub use headers::{ENDPOINT, ORIGIN};
pub use options::{AppLimits, AppOptions};
pub use path::PathClass;
pub use verdict::{AccessPath, AppRules, Verdict, decide};
