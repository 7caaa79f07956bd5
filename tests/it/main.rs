//! Tests from outside: only the crate's public API, real processes, real sockets.

mod admission;
mod appservices;
mod architecture;
mod cli;
mod conformance;
mod drain;
mod driver;
mod faults;
mod flow_logs;
mod flows;
mod health;
mod lab;
mod limits;
mod logs;
mod manager;
mod metrics;
mod moves;
mod node_names;
mod operator;
mod plane;
mod quickstart;
mod regions;
mod reload;
mod rules;
mod store;
mod support;
