//! Queries the kernel's TCP counters of a connection (`NETLINK_SOCK_DIAG`).
//!
//! A keepalive probe carries no payload, so reads and readiness do not show it, but `tcpi_segs_in` does. `getsockopt`
//! with `TCP_INFO` needs unsafe code. Netlink returns the same structure by plain reads and writes, needs no privilege,
//! and looks the connection up by its addresses in a hash table (sock_diag(7)).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// `SOCK_DIAG_BY_FAMILY`: the type of request and answer.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `INET_DIAG_INFO`: the attribute that holds `struct tcp_info`, and the bit that asks for it.
const INFO: u16 = 2;
/// Sizes of `struct nlmsghdr` and `struct inet_diag_msg`, and offsets in `struct tcp_info` (`linux/tcp.h`).
const HEADER: usize = 16;
const MESSAGE: usize = 72;
const LAST_ACK_RECV: usize = 56;
const SEGS_OUT: usize = 136;
const SEGS_IN: usize = 140;

/// The kernel's counters of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcpCounters {
    /// Received segments, with and without payload.
    pub(crate) segments: u32,
    /// Sent segments.
    pub(crate) segments_out: u32,
    /// Milliseconds since the last acknowledgement of our data or of our own keepalive probe. A peer's probe, which
    /// repeats an old sequence number, does not count.
    pub(crate) since_ack: u32,
}

/// A netlink socket for queries.
#[derive(Debug)]
pub(crate) struct SockDiag(OwnedFd);

impl SockDiag {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?))
    }

    /// The counters of the connection from `local` to `peer`; `None` if the kernel does not know it.
    pub(crate) fn ask(&self, local: SocketAddr, peer: SocketAddr) -> Option<TcpCounters> {
        send(&self.0, &question(local, peer), SendFlags::empty()).ok()?;
        // The kernel answers before `send` returns.
        let mut answer = [0; 1024];
        let (n, _) = recv(&self.0, &mut answer, RecvFlags::DONTWAIT).ok()?;
        parse(&answer[..n])
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn question(local: SocketAddr, peer: SocketAddr) -> [u8; HEADER + 56] {
    let mut message = [0; HEADER + 56];
    let mut put = |at: usize, bytes: &[u8]| message[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &((HEADER + 56) as u32).to_ne_bytes());
    put(4, &BY_FAMILY.to_ne_bytes());
    put(6, &REQUEST.to_ne_bytes());
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    put(HEADER, &[family.as_raw() as u8, 6, 1 << (INFO - 1), 0]);
    put(HEADER + 4, &u32::MAX.to_ne_bytes());
    put(HEADER + 8, &local.port().to_be_bytes());
    put(HEADER + 10, &peer.port().to_be_bytes());
    for (at, ip) in [(HEADER + 12, local.ip()), (HEADER + 28, peer.ip())] {
        match ip {
            IpAddr::V4(ip) => put(at, &ip.octets()),
            IpAddr::V6(ip) => put(at, &ip.octets()),
        }
    }
    // Any cookie.
    put(HEADER + 48, &[0xff; 8]);
    message
}

fn parse(answer: &[u8]) -> Option<TcpCounters> {
    let short = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    if short(4)? != BY_FAMILY {
        return None;
    }
    let mut at = HEADER + MESSAGE;
    loop {
        let length = usize::from(short(at)?);
        if short(at + 2)? == INFO {
            let info = answer.get(at + 4..at + length)?;
            let word = |at: usize| Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?));
            return Some(TcpCounters {
                segments: word(SEGS_IN)?,
                segments_out: word(SEGS_OUT)?,
                since_ack: word(LAST_ACK_RECV)?,
            });
        }
        at += length.max(4).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn segments_of_a_connection_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (mut server, peer) = listener.accept().expect("accepted");
        let local = server.local_addr().expect("connected");
        let diag = SockDiag::open().expect("the kernel has sock_diag");
        let before = diag.ask(local, peer).expect("it is known");
        client.write_all(b"x").expect("written");
        let mut one = [0; 1];
        server.read_exact(&mut one).expect("read");
        let after = diag.ask(local, peer).expect("it is known");
        assert_eq!(after.segments, before.segments + 1);
        assert!(after.segments_out > before.segments_out || after.segments_out > 0, "{after:?}");
        drop((client, server));
        let unknown = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(diag.ask(unknown, unknown), None);
        let answer_of_another_kind = [0; 200];
        assert_eq!(parse(&answer_of_another_kind), None);
    }
}
