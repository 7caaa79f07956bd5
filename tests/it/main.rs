//! Tests from outside: only what the crate makes public, real processes, real sockets.

mod store;
