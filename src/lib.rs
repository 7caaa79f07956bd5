//! Takes the place of AWS PrivateLink and its network load balancer between a VPC and MongoDB Atlas, in a lab.
//!
//! The modules, in reading order: [`model`] has the domain's types, [`config`] turns text into a checked config,
//! [`plan`] turns the desired state into a snapshot, [`control`] owns the desired state, [`data`] carries flows,
//! [`appservices`] serves apps over HTTP, [`dns`] answers DNS queries, [`flowlog`] writes flow logs, [`tls`] issues
//! certificates, `http` serves the gateway's own listeners, [`limits`] limits what a source can use, [`telemetry`] has
//! metrics and logs, [`lifecycle`] readiness, signals and the phases of a stop, [`api`] the HTTP APIs and the console;
//! [`standin`] has backends for trying it; [`app`] wires them; [`quickstart`] runs everything on loopback and checks
//! it, [`lab`] in network namespaces; [`cli`] is the command line. ARCHITECTURE.md lists what each imports.

pub mod api;
pub mod app;
pub mod appservices;
pub mod cli;
pub mod config;
pub mod control;
pub mod data;
pub mod dns;
mod files;
pub mod flowlog;
mod http;
pub mod lab;
pub mod lifecycle;
pub mod limits;
pub mod model;
pub mod plan;
pub mod quickstart;
pub mod standin;
pub mod telemetry;
pub mod tls;
