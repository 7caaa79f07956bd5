//! Tests from outside: only what the crate makes public, real processes, real sockets.

mod admission;
mod drain;
mod flows;
mod lab;
mod moves;
mod reload;
mod store;
mod support;
