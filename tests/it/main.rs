//! Tests from outside: only what the crate makes public, real processes, real sockets.

mod admission;
mod appservices;
mod cli;
mod drain;
mod faults;
mod flows;
mod health;
mod lab;
mod limits;
mod moves;
mod quickstart;
mod reload;
mod store;
mod support;
