//! The App Services HTTP front end over real sockets: clients of several places, a backend that notes what it is asked.

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
