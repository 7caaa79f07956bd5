//! The sockets that DNS is served on.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, UdpSocket};

use super::DnsError;

/// Attempts to find a free port if the kernel chooses it: it may be free for UDP and taken for TCP.
const ATTEMPTS: usize = 16;

/// Bound sockets: for each address one pair, or several pairs for several cores.
#[derive(Debug, Default)]
pub struct DnsSockets {
    /// For datagrams.
    pub udp: Vec<UdpSocket>,
    /// For connections.
    pub tcp: Vec<TcpListener>,
}

impl DnsSockets {
    /// Adds the sockets of `other`.
    pub fn extend(&mut self, other: Self) {
        self.udp.extend(other.udp);
        self.tcp.extend(other.tcp);
    }
}

/// Binds `address` for UDP and TCP, within a tokio runtime. With port 0, both get the same free port.
///
/// A reply leaves from the address that its socket is bound to, so bind addresses one by one rather than `0.0.0.0`.
///
/// # Errors
///
/// [`DnsError::Bind`] with the address, and `key`, the config key or flag that sets it.
pub fn bind(address: SocketAddr, key: &str) -> Result<DnsSockets, DnsError> {
    let fail = |address, transport| {
        let key = key.to_owned();
        move |source| DnsError::Bind { address, transport, key, source }
    };
    let mut attempts = if address.port() == 0 { ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let (udp, bound) = bind_udp(address).map_err(fail(address, "UDP"))?;
        match bind_tcp(bound) {
            Ok(tcp) => return Ok(DnsSockets { udp: vec![udp], tcp: vec![tcp] }),
            Err(error) if attempts > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(fail(bound, "TCP")(error)),
        }
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let bound = socket.local_addr()?;
    Ok((UdpSocket::from_std(socket)?, bound))
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_address_is_named_with_the_key_that_moves_it() {
        let held = bind("127.0.0.1:0".parse().expect("an address"), "dns.listen").expect("a free port");
        let address = held.udp[0].local_addr().expect("bound");
        assert_eq!(address, held.tcp[0].local_addr().expect("bound"));

        let error = bind(address, "dns.listen").expect_err("taken");
        assert_eq!(error.to_string(), format!("cannot bind DNS to {address} (UDP); `dns.listen` sets the address"));

        let DnsSockets { udp, tcp } = held;
        drop(udp);
        let error = bind(address, "dns.listen").expect_err("still taken for TCP");
        assert_eq!(error.to_string(), format!("cannot bind DNS to {address} (TCP); `dns.listen` sets the address"));
        drop(tcp);
    }
}
