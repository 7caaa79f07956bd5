//! Stands where AWS PrivateLink and the network load balancer stand between a VPC and MongoDB Atlas, in a lab.
//!
//! The rooms, in reading order: [`model`] has the domain's words, [`config`] turns text into a checked config, [`plan`]
//! turns what is wanted into a snapshot, [`control`] owns what is wanted, [`data`] carries flows, [`appservices`] is the
//! HTTP front of App Services, [`dns`] answers names,
//! [`tls`] makes certificates, [`telemetry`] and [`lifecycle`] say how the process is and end it well.

pub mod appservices;
pub mod config;
pub mod control;
pub mod data;
pub mod dns;
pub mod lifecycle;
pub mod model;
pub mod plan;
pub mod telemetry;
pub mod tls;
