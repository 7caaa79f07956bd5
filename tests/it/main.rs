//! Tests from outside: only what the crate makes public, real processes, real sockets.

mod admission;
mod appservices;
mod conformance;
mod drain;
mod driver;
mod flows;
mod health;
mod lab;
mod moves;
mod reload;
mod rules;
mod store;
mod support;
