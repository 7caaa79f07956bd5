//! Test helpers: a worker's runtime and connections.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use super::socket::Socket;
use crate::plan::{Generation, Listener, PortAllocations, TargetGroup, compile};

/// A runtime like a worker's.
pub(crate) fn worker_runtime() -> LocalRuntime {
    Builder::new_current_thread().enable_io().build_local(LocalOptions::default()).expect("a runtime")
}

/// A connection: the peer's blocking end, and the gateway's end in the current runtime.
pub(crate) fn pair() -> (TcpStream, Socket) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (far, _) = listener.accept().expect("accepted");
    far.set_nonblocking(true).expect("a live socket");
    (near, Socket::new(far.into()).expect("registered"))
}

/// A listener at `address` with the single target `backend`.
pub(crate) fn listener_to(backend: SocketAddr, address: SocketAddr) -> Listener {
    let desired = crate::config::quickstart().desired;
    let snapshot = compile(&desired, &PortAllocations::default(), Generation(1)).expect("a plan").0;
    let mut listener = Listener::clone(snapshot.listeners.values().next().expect("a listener"));
    listener.address = address;
    let mut group = TargetGroup::clone(&listener.group);
    group.members.iter_mut().for_each(|member| member.address = backend);
    listener.group = Arc::new(group);
    listener
}
