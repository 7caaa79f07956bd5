//! A load balancer in front of this gateway: what it says of the client in a PROXY protocol header is taken.
//!
//! Only from sources that are named; from any other a header is payload. So is a second header, which a client may have
//! sent itself: the outer load balancer puts its own in front of it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use super::leg::Leg;
use super::proxy_protocol::{Command, Parsed, parse};
use super::socket::Socket;

/// How long the header may take: it comes with the first segment, unless that was lost.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The client that the header names; exactly its bytes are read then. `None`: there is no valid header.
pub(crate) async fn read_proxy_header(mut connection: &Socket, peer: SocketAddr) -> Option<SocketAddr> {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes) {
            Parsed::Header(header) => {
                return Some(match header.command {
                    // The outer load balancer's own: its health check.
                    Command::Local => peer,
                    Command::Proxy => header.source.unwrap_or(peer),
                });
            }
            Parsed::Invalid(_) => return None,
            Parsed::Incomplete => {
                let from = bytes.len();
                bytes.resize(from + missing(&bytes), 0);
                let taken = poll_fn(|cx| connection.poll_take(cx, &mut bytes[from..])).await.ok()?;
                if taken == 0 {
                    return None;
                }
                bytes.truncate(from + taken);
            }
        }
    }
}

/// How many bytes of the header are surely still to come, so that nothing behind it is read.
fn missing(bytes: &[u8]) -> usize {
    /// Enough to distinguish the versions; neither is shorter.
    const EITHER: usize = 8;
    const FIXED: usize = 16;
    match bytes {
        short if short.len() < EITHER => EITHER - short.len(),
        // Version 1 ends with its line.
        [b'P', ..] => 1,
        start if start.len() < FIXED => FIXED - start.len(),
        whole => (FIXED + usize::from(u16::from_be_bytes([whole[14], whole[15]]))).saturating_sub(whole.len()).max(1),
    }
}
