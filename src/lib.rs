//! Stands where AWS PrivateLink and the network load balancer stand between a VPC and MongoDB Atlas, in a lab.
//!
//! The rooms, in reading order: [`model`] has the domain's words, [`config`] turns text into a checked config, [`plan`]
//! turns what is wanted into a snapshot, [`data`] carries flows, [`tls`] makes certificates.

pub mod config;
pub mod data;
pub mod model;
pub mod plan;
pub mod tls;
