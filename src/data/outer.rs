//! A load balancer in front of this gateway: what it says of the client in a PROXY protocol header is taken.
//!
//! Only from sources that are named; from any other a header is payload. So is a second header, which a client may have
//! sent itself: the outer load balancer puts its own in front of it.

use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::leg::Leg;
use super::listener::ListenerState;
use super::proxy_protocol::{Command, Parsed, parse};
use super::socket::Socket;
use super::worker::Turn;
use crate::model::Refusal;

/// How long the header may take: it comes with the first segment, unless that was lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection from a named source of which the header was not read yet.
#[derive(Debug)]
pub(crate) struct Outer {
    pub(crate) client: Socket,
    /// The route for the client that it names.
    pub(crate) state: ListenerState,
    /// Where it came from itself.
    pub(crate) address: SocketAddr,
    bytes: Vec<u8>,
    until: Instant,
}

impl Outer {
    pub(crate) fn new(client: Socket, state: &ListenerState, address: SocketAddr) -> Self {
        Self { client, state: state.clone(), address, bytes: Vec::new(), until: Instant::now() + PATIENCE }
    }

    /// Reads on. When the header is there, [`Turn::Admit`] the client that it names; exactly its bytes are read then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Turn {
        if self.until <= Instant::now() {
            return Turn::Admit(Err(Refusal::ProxyHeader));
        }
        loop {
            match parse(&self.bytes) {
                Parsed::Header(header) => {
                    return Turn::Admit(Ok(match header.command {
                        // The outer load balancer's own: its health check.
                        Command::Local => self.address,
                        Command::Proxy => header.source.unwrap_or(self.address),
                    }));
                }
                Parsed::Invalid(_) => return Turn::Admit(Err(Refusal::ProxyHeader)),
                Parsed::Incomplete => {
                    let from = self.bytes.len();
                    self.bytes.resize(from + missing(&self.bytes), 0);
                    let taken = self.client.poll_take(cx, &mut self.bytes[from..]);
                    self.bytes.truncate(from + if let Poll::Ready(Ok(n)) = taken { n } else { 0 });
                    match taken {
                        Poll::Ready(Ok(1..)) => {}
                        Poll::Ready(_) => return Turn::Admit(Err(Refusal::ProxyHeader)),
                        Poll::Pending => return Turn::WaitUntil(self.until),
                    }
                }
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
