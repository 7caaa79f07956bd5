//! What decides and does not act: [`model`] has the domain's types, [`config`] turns text into a checked config,
//! [`plan`] turns the desired state into a snapshot.
//!
//! A crate of its own, so that nothing here can import the rest of `plgw`, and a first build compiles it beside the
//! libraries that only the rest needs. `plgw` exports its modules as its own.

pub mod config;
pub mod model;
pub mod plan;
