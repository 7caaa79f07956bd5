//! The App Services HTTP front end over real sockets: clients of several origins, a backend that records its requests.

mod abuse;
mod access;
mod backends;
mod bodies;
mod client;
mod clients;
mod forgery;
mod lab;
mod messages;
mod outage;
mod raw_backend;
mod recorder;
mod websockets;
