//! Stands where AWS PrivateLink and the network load balancer stand between a VPC and MongoDB Atlas, in a lab.
//!
//! The rooms, in reading order: [`model`] has the domain's words, [`plan`] turns what is wanted into a snapshot.

pub mod data;
pub mod model;
pub mod plan;
pub mod standin;
pub mod tls;
