//! The App Services front over real sockets: clients of several places, a backend that notes what it is asked.

mod abuse;
mod access;
mod backends;
mod client;
mod forgery;
mod lab;
mod recorder;
mod websockets;
