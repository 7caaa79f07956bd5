//! Tests from outside: only what the crate makes public, real processes, real sockets.

mod admission;
mod cli;
mod drain;
mod flows;
mod moves;
mod quickstart;
mod reload;
mod store;
mod support;
