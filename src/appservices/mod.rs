//! The App Services front: an app's private endpoints and its public address, over HTTP.
//!
//! In reading order: `path` says what a path asks for and `verdict` what becomes of a request, both pure; `front` opens
//! and closes addresses as snapshots say; `connection` takes a client through TLS to HTTP; `request` has each request
//! judged and passed on; `backend` keeps connections to backends; `upgrade` hands WebSockets to the relay that carries
//! TCP flows.

mod headers;
mod location;
mod path;
mod verdict;

pub use path::PathClass;
pub use verdict::{AppRules, Verdict, WayIn, decide};
