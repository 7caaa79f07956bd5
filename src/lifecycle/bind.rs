//! Binds the process's ports. Errors name the service, the address, the cause, and the option that changes the address.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::socket_owner::socket_owner;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

/// Backlog of the gateway's own HTTP listeners.
const BACKLOG: i32 = 1024;

/// Why an address cannot be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindProblem {
    /// Another socket is bound to it.
    InUse,
    /// The process lacks the permission, usually for a port below 1024.
    PermissionDenied,
    /// No interface of the machine has the address.
    NotAvailable,
    /// Any other error; see the source.
    Other,
}

impl From<&io::Error> for BindProblem {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse,
            io::ErrorKind::PermissionDenied => Self::PermissionDenied,
            io::ErrorKind::AddrNotAvailable => Self::NotAvailable,
            _ => Self::Other,
        }
    }
}

/// A socket that could not be bound.
#[derive(Debug)]
pub struct BindError {
    /// The service: `the DNS server`.
    pub what: String,
    /// The address.
    pub address: SocketAddr,
    /// The options that change the address: `` `--dns ADDRESS:PORT` or `dns.listen` ``.
    pub moved_by: String,
    /// The cause.
    pub problem: BindProblem,
    /// The process that uses the address, if known.
    pub holder: Option<String>,
    source: io::Error,
}

impl BindError {
    /// The error of a socket that the caller bound itself.
    #[must_use]
    pub fn new(what: &str, address: SocketAddr, moved_by: &str, source: io::Error) -> Self {
        let problem = BindProblem::from(&source);
        let holder = if problem == BindProblem::InUse { socket_owner(address) } else { None };
        Self { what: what.to_owned(), address, moved_by: moved_by.to_owned(), problem, holder, source }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, address, moved_by, .. } = self;
        write!(f, "cannot bind {what} to {address}: ")?;
        match self.problem {
            BindProblem::InUse => {
                let holder = self.holder.as_ref().map(|holder| format!(" by {holder}")).unwrap_or_default();
                write!(f, "address already in use{holder}; choose another with {moved_by}")
            }
            BindProblem::PermissionDenied if address.port() < 1024 && address.port() != 0 => write!(
                f,
                "permission denied; ports below 1024 need root or `CAP_NET_BIND_SERVICE`, choose a higher one with \
                 {moved_by}"
            ),
            BindProblem::PermissionDenied => write!(f, "permission denied; choose another with {moved_by}"),
            BindProblem::NotAvailable => write!(
                f,
                "no interface of this machine has the address {}; add it (`ip address add`) or choose another with \
                 {moved_by}",
                address.ip()
            ),
            BindProblem::Other => write!(f, "the system refuses it; choose another with {moved_by}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The message already describes the other problems.
        (self.problem == BindProblem::Other).then_some(&self.source as _)
    }
}

/// Binds a listening TCP socket for `what`; `moved_by` names the flag and the key that change the address.
///
/// # Errors
///
/// [`BindError`].
///
/// # Panics
///
/// Outside a runtime.
pub fn bind_tcp(address: SocketAddr, what: &str, moved_by: &str) -> Result<TcpListener, BindError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Lets a restarted gateway bind its port despite connections in TIME_WAIT; on Linux two listeners still exclude
        // each other.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    bind().map_err(|source| BindError::new(what, address, moved_by, source))
}

/// Binds a UDP socket for `what`; `moved_by` names the flag and the key that change the address.
///
/// # Errors
///
/// [`BindError`].
///
/// # Panics
///
/// Outside a runtime.
pub fn bind_udp(address: SocketAddr, what: &str, moved_by: &str) -> Result<UdpSocket, BindError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        UdpSocket::from_std(socket.into())
    };
    bind().map_err(|source| BindError::new(what, address, moved_by, source))
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    const MOVED_BY: &str = "`--dns ADDRESS:PORT` or `dns.listen`";

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_flag_that_changes_it() {
        let tcp = bind_tcp(any(), "the DNS server", MOVED_BY).expect("a free port");
        let address = tcp.local_addr().unwrap();
        let expected = format!(
            "cannot bind the DNS server to {address}: address already in use by {}; choose another with \
             `--dns ADDRESS:PORT` or `dns.listen`",
            this_process()
        );
        let error = bind_tcp(address, "the DNS server", MOVED_BY).expect_err("taken");
        assert_eq!((error.problem, error.to_string()), (BindProblem::InUse, expected));
        assert!(error.source().is_none(), "the message already contains the cause");

        let udp = bind_udp(any(), "the DNS server", MOVED_BY).expect("a free port");
        let error = bind_udp(udp.local_addr().unwrap(), "the DNS server", MOVED_BY).expect_err("taken");
        assert_eq!((error.problem, error.holder), (BindProblem::InUse, Some(this_process())));
    }

    fn this_process() -> String {
        let name = std::fs::read_to_string("/proc/self/comm").expect("readable");
        format!("{} (pid {})", name.trim(), std::process::id())
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_named_as_such() {
        // TEST-NET-1, RFC 5737: no machine has it.
        let error = bind_tcp("192.0.2.1:0".parse().unwrap(), "a listener", MOVED_BY).expect_err("not ours");
        assert_eq!(error.problem, BindProblem::NotAvailable);
        assert!(error.to_string().contains("no interface of this machine has the address 192.0.2.1"), "{error}");
    }

    #[test]
    fn the_error_for_a_port_below_1024_names_the_missing_permission() {
        let denied = |port| {
            let source = io::Error::from(io::ErrorKind::PermissionDenied);
            BindError::new("the DNS server", SocketAddr::from(([127, 0, 0, 1], port)), MOVED_BY, source).to_string()
        };
        assert!(denied(53).contains("ports below 1024 need root or `CAP_NET_BIND_SERVICE`"), "{}", denied(53));
        assert!(!denied(5335).contains("below 1024"));
    }

    #[test]
    fn any_other_problem_keeps_its_source() {
        let source = io::Error::other("an unusual error");
        let error = BindError::new("a listener", any(), MOVED_BY, source);
        assert_eq!(error.source().expect("the cause").to_string(), "an unusual error");
    }

    #[tokio::test]
    async fn a_port_is_free_again_after_a_restart() {
        let listener = bind_tcp(any(), "a listener", MOVED_BY).unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::net::TcpStream::connect(address).await.unwrap();
        // The listener's side closes first, so its end of the connection stays in TIME_WAIT.
        drop(listener.accept().await.unwrap());
        drop((listener, client));
        bind_tcp(address, "a listener", MOVED_BY).expect("free again");
    }
}
