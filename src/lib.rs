//! Stands where AWS PrivateLink and the network load balancer stand between a VPC and MongoDB Atlas, in a lab.
//!
//! The rooms, in reading order: [`model`] has the domain's words, [`config`] turns text into a checked config, [`plan`]
//! turns what is wanted into a snapshot, [`control`] owns what is wanted, [`data`] carries flows, [`dns`] answers names,
//! [`tls`] makes certificates, [`telemetry`] and [`lifecycle`] say how the process is and end it well, [`standin`] has
//! backends to try it with; [`app`] wires them; [`quickstart`] runs everything on loopback and checks it, and [`cli`] is
//! the command line.

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
pub mod lab;
pub mod lifecycle;
pub mod model;
pub mod plan;
pub mod quickstart;
pub mod standin;
pub mod telemetry;
pub mod tls;
