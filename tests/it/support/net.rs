//! A /16 of loopback that one test has to itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use plgw::config::{self, Config};

/// The network of a test's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientNetwork {
    Vpc,
    Peered,
    OnPremises,
    Service,
    Public,
}

/// 127.N.0.0/16: the VPC in .0–.63, the peered VPC in .64–.95, on-premises in .96–.127, the service's side in
/// .128–.191, the internet in .192–.255.
pub(crate) struct Net {
    n: u8,
    /// Keeps the network this test's own, among all processes of the machine.
    _claim: TcpListener,
}

/// A port on an address of each network that is bound to claim the network; nothing else binds it.
pub(super) const CLAIM_PORT: u16 = 64_999;

impl Net {
    /// A free network.
    pub(crate) fn claim() -> Self {
        // Never reuse a network of this process: its sockets may still be closing.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let first = std::process::id() as usize * 37 + NEXT.fetch_add(1, Ordering::Relaxed);
        let networks = (32..=250).cycle().skip(first % 219).take(219);
        networks
            .into_iter()
            .find_map(|n| {
                let claim = TcpListener::bind((Ipv4Addr::new(127, n, 255, 254), CLAIM_PORT)).ok()?;
                Some(Self { n, _claim: claim })
            })
            .expect("fewer than 200 tests run at once")
    }

    fn ip(&self, third: u8, fourth: u8) -> IpAddr {
        Ipv4Addr::new(127, self.n, third, fourth).into()
    }

    /// The endpoint's address in zone a.
    pub(crate) fn endpoint_a(&self) -> IpAddr {
        self.ip(30, 194)
    }

    /// The endpoint's address in zone b.
    pub(crate) fn endpoint_b(&self) -> IpAddr {
        self.ip(20, 54)
    }

    /// An address of a client at `place`.
    pub(crate) fn source(&self, place: ClientNetwork) -> IpAddr {
        match place {
            ClientNetwork::Vpc => self.ip(1, 9),
            ClientNetwork::Peered => self.ip(64, 9),
            ClientNetwork::OnPremises => self.ip(96, 9),
            ClientNetwork::Service => self.ip(128, 99),
            ClientNetwork::Public => self.ip(192, 9),
        }
    }

    /// A blocking connection from `place`, for tests of whole processes.
    pub(crate) fn connect(&self, place: ClientNetwork, to: SocketAddr) -> std::io::Result<TcpStream> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(self.source(place), 0).into())?;
        socket.connect(&to.into())?;
        Ok(socket.into())
    }

    /// Where the `i`th target listens.
    pub(crate) fn target(&self, i: u8) -> SocketAddr {
        SocketAddr::new(self.ip(128, 11 + i), 27017)
    }

    /// Where metrics are.
    pub(crate) fn metrics(&self) -> SocketAddr {
        SocketAddr::new(self.ip(0, 1), 9464)
    }

    /// Where DNS is.
    pub(crate) fn dns(&self) -> SocketAddr {
        SocketAddr::new(self.ip(0, 2), 5335)
    }

    /// The config text: `Cluster0` with members `a`, `b` and `c`, ports from 1024, two zones, state in memory.
    pub(crate) fn text(&self) -> String {
        include_str!("gateway.toml").replace("127.N.", &format!("127.{}.", self.n))
    }

    /// The config.
    pub(crate) fn config(&self) -> Config {
        config::parse(&self.text(), "test.toml").unwrap_or_else(|errors| panic!("{errors}"))
    }
}
