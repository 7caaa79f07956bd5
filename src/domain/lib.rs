//! What the gateway's rules are made of, free of sockets, clocks and tasks: [`model`] has the domain's types, [`config`]
//! turns text into a checked config, [`plan`] turns the desired state into a snapshot.
//!
//! A crate of its own so that a first build compiles it beside the libraries that only the rest of `plgw` needs; `plgw`
//! exports its modules as its own.

pub mod config;
pub mod model;
pub mod plan;
