//! Finds the process that uses an address, for the error message of a port in use.

use std::net::SocketAddr;

use procfs::net::{TcpState, tcp, tcp6, udp, udp6};
use procfs::process::{FDTarget, all_processes};

/// The process that listens on `address` or on its port at the unspecified address, over TCP or UDP: `haproxy (pid
/// 4711)`.
pub(super) fn socket_owner(address: SocketAddr) -> Option<String> {
    let holds = |local: SocketAddr| {
        local.port() == address.port() && (local.ip() == address.ip() || local.ip().is_unspecified())
    };
    let listening = [tcp(), tcp6()].into_iter().flatten().flatten().filter(|entry| entry.state == TcpState::Listen);
    let datagrams = [udp(), udp6()].into_iter().flatten().flatten();
    let inodes: Vec<u64> = listening
        .filter(|entry| holds(entry.local_address))
        .map(|entry| entry.inode)
        .chain(datagrams.filter(|entry| holds(entry.local_address)).map(|entry| entry.inode))
        .collect();
    let is_holder = |target: &FDTarget| matches!(target, FDTarget::Socket(inode) if inodes.contains(inode));
    // Only root can see the descriptors of other users' processes.
    let holder = all_processes().ok()?.flatten().find(|process| {
        process
            .fd()
            .is_ok_and(|mut descriptors| descriptors.any(|found| found.is_ok_and(|found| is_holder(&found.target))))
    })?;
    Some(format!("{} (pid {})", holder.stat().ok()?.comm, holder.pid()))
}
