//! Tests from outside: only what the crate makes public, real processes, real sockets.

mod admission;
mod appservices;
mod drain;
mod flows;
mod health;
mod moves;
mod reload;
mod store;
mod support;
