//! The data plane: what happens to a flow's bytes.

pub mod proxy_protocol;
