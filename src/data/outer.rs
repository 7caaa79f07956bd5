//! A load balancer in front of this gateway: what it says of the client in a PROXY protocol header is taken.
//!
//! Only from sources that are named; from any other a header is payload. So is a second header, which a client may have
//! sent itself: the outer load balancer puts its own in front of it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::listener::{self, ListenerState};
use super::proxy_protocol::{Command, Parsed, parse};
use super::refuse;
use super::worker::Worker;
use crate::model::Refusal;

/// How long the header may take: it comes with the first segment, unless that was lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads the header of a connection from a named source, and then admits or refuses the client that it names.
pub(crate) async fn take(worker: Rc<Worker>, state: ListenerState, mut client: TcpStream, address: SocketAddr) {
    match tokio::time::timeout(PATIENCE, read_source(&mut client, address)).await {
        Ok(Some(source)) => listener::admit(&worker, &state, client, source),
        Ok(None) | Err(_) => refuse::refuse(&worker, &state, client, address, Refusal::ProxyHeader),
    }
}

/// The client's address, with exactly the header's bytes read; `None` when there is no header.
async fn read_source(client: &mut TcpStream, address: SocketAddr) -> Option<SocketAddr> {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes) {
            Parsed::Header(header) => {
                return match header.command {
                    // The outer load balancer's own: its health check.
                    Command::Local => Some(address),
                    Command::Proxy => Some(header.source.unwrap_or(address)),
                };
            }
            Parsed::Invalid(_) => return None,
            Parsed::Incomplete => {
                let from = bytes.len();
                bytes.resize(from + missing(&bytes), 0);
                client.read_exact(&mut bytes[from..]).await.ok()?;
            }
        }
    }
}

/// How many bytes of the header are surely still to come, so that nothing behind it is read.
fn missing(bytes: &[u8]) -> usize {
    /// Both versions are told apart by then, and neither is shorter.
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
