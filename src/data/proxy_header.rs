//! Reads the PROXY protocol header of a load balancer in front of this gateway, which names the client.
//!
//! Headers are accepted only from configured sources; from any other source a header is payload. So is a second header,
//! which a client may have forged: the outer load balancer puts its own in front of it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use super::leg::Leg;
use super::proxy_protocol::{Command, Parsed, parse};
use super::socket::Socket;

/// Time limit for the header. It arrives with the first segment, unless that is lost.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the client that the header names, having read exactly the header's bytes; `None` without a valid header.
pub(crate) async fn read_proxy_header(mut connection: &Socket, peer: SocketAddr) -> Option<SocketAddr> {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes) {
            Parsed::Header(header) => {
                return Some(match header.command {
                    // A health check of the outer load balancer.
                    Command::Local => peer,
                    Command::Proxy => header.source.unwrap_or(peer),
                });
            }
            Parsed::Invalid(_) => return None,
            Parsed::Incomplete => {
                let from = bytes.len();
                bytes.resize(from + missing(&bytes), 0);
                let taken = poll_fn(|cx| connection.poll_recv(cx, &mut bytes[from..])).await.ok()?;
                if taken == 0 {
                    return None;
                }
                bytes.truncate(from + taken);
            }
        }
    }
}

/// A lower bound of the bytes that the header still lacks, so that no payload is read.
fn missing(bytes: &[u8]) -> usize {
    /// Enough to distinguish the versions; no header is shorter.
    const EITHER: usize = 8;
    const FIXED: usize = 16;
    match bytes {
        short if short.len() < EITHER => EITHER - short.len(),
        // Version 1 ends with a newline, so it is read byte by byte.
        [b'P', ..] => 1,
        start if start.len() < FIXED => FIXED - start.len(),
        whole => (FIXED + usize::from(u16::from_be_bytes([whole[14], whole[15]]))).saturating_sub(whole.len()).max(1),
    }
}
