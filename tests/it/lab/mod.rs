//! The lab VPC from its users' view: `plgw lab …` as a process, sockets put into its namespaces, packets captured there.
//!
//! Where namespaces are not available, each test says `SKIP` with the reason and passes, except on CI's machine; those that put
//! sockets in a namespace need root.

mod access;
mod clouds;
mod commands;
mod dual_stack;
mod inside;
mod leftovers;
mod names;
mod one_way;
mod packets;
mod real_backends;
mod regions;
mod support;
mod trust;
mod unassigned;
mod zones;
