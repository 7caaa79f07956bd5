//! The gateway's relay with nothing around it: no admission, flow table, counters, idle rules, metrics or logs.
//!
//! `bare FRONT TARGET`. The very sources of `src/data` are compiled in, so the difference to the gateway is the price of
//! what the gateway does besides.

#![allow(dead_code, reason = "the sources offer more than a bare relay uses")]

mod model {
    pub(crate) use plgw::model::{FlowEnd, Side};
}
#[path = "../../../src/data/leg.rs"]
mod leg;
#[path = "../../../src/data/pipes.rs"]
mod pipes;
#[path = "../../../src/data/poll.rs"]
mod poll;
#[path = "../../../src/data/relay.rs"]
mod relay;
#[path = "../../../src/data/scratch.rs"]
mod scratch;
#[path = "../../../src/data/socket.rs"]
mod socket;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::net::{SocketFlags, acceptfrom_with};
use slab::Slab;
use socket2::{Domain, Socket as Plain, Type};

use self::model::Side;
use self::poll::{Inbox, Key, Poller, PutOff, Token};
use self::relay::{Relay, Tools};
use self::socket::Socket;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections accepted before others have their turn, as in the gateway.
const ACCEPTS_A_WAKE: usize = 32;

/// Counts nothing.
struct Nobody;

impl relay::Meter for Nobody {
    fn to_target(&self, _: usize) {}
    fn to_client(&self, _: usize) {}
}

/// Two sockets, and how far they are.
struct Flow {
    generation: u32,
    client: Socket,
    target: Socket,
    connected: bool,
    relay: Relay,
}

fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(front), Some(target)) = (words.next(), words.next()) else {
        println!("bare FRONT TARGET");
        return Ok(());
    };
    let parse = |word: String| word.parse::<SocketAddr>().map_err(io::Error::other);
    serve(listen(parse(front)?)?, parse(target)?)
}

fn listen(front: SocketAddr) -> io::Result<TcpListener> {
    let socket = Plain::new(Domain::for_address(front), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&front.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A socket that is connecting.
fn dial(target: SocketAddr) -> io::Result<Socket> {
    let socket = Plain::new(Domain::for_address(target), Type::STREAM.nonblocking(), None)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Err(error),
        Ok(()) | Err(_) => Ok(Socket::new(OwnedFd::from(socket))),
    }
}

fn serve(listener: TcpListener, target: SocketAddr) -> io::Result<()> {
    let (poller, mut inbox, put_off) = (Poller::new()?, Inbox::new(), Arc::new(PutOff::default()));
    let waker = Waker::from(Arc::clone(&put_off));
    let tools = Tools { scratch: scratch::Scratch::new(128 << 10), pipes: pipes::Pipes::new(64, 256 << 10) };
    let (mut flows, mut generation, mut again) = (Slab::<Flow>::new(), 0_u32, Vec::new());
    poller.watch_level(&listener, Token::Door(0))?;
    loop {
        while let Some((token, news)) = inbox.take() {
            let Token::Connection(key, side) = token else {
                for _ in 0..ACCEPTS_A_WAKE {
                    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                    let Ok((client, _)) = acceptfrom_with(&listener, flags) else { break };
                    let Ok(mut target) = dial(target) else { continue };
                    generation = generation.wrapping_add(1);
                    let key = Key { slot: flows.vacant_key() as u32, generation };
                    target.watch(&poller, Token::Connection(key, Side::Target))?;
                    let (client, relay) = (Socket::new(client), Relay::new());
                    flows.insert(Flow { generation, client, target, connected: false, relay });
                }
                continue;
            };
            if let Some(flow) = flows.get_mut(key.slot as usize).filter(|flow| flow.generation == key.generation) {
                match side {
                    Side::Client => flow.client.hear(news),
                    Side::Target => flow.target.hear(news),
                }
                again.push(key);
                go_on(&mut flows, &poller, &tools, &put_off, &waker, &mut again);
            }
        }
        // Who gave way to others.
        for key in std::mem::take(&mut again) {
            again.push(key);
            go_on(&mut flows, &poller, &tools, &put_off, &waker, &mut again);
        }
        poller.wait(&mut inbox, (!again.is_empty()).then_some(Duration::ZERO))?;
    }
}

/// Polls the flow that is last in `again`, and leaves it there if it wants another turn.
fn go_on(
    flows: &mut Slab<Flow>,
    poller: &Poller,
    tools: &Tools,
    put_off: &PutOff,
    waker: &Waker,
    again: &mut Vec<Key>,
) {
    let Some(key) = again.pop() else { return };
    let Some(flow) = flows.get_mut(key.slot as usize).filter(|flow| flow.generation == key.generation) else { return };
    if !flow.connected {
        if !flow.target.is_settled() {
            return;
        }
        let watched = flow.client.watch(poller, Token::Connection(key, Side::Client));
        if flow.target.take_error().is_some() || watched.is_err() {
            flow.client.reset();
            flows.remove(key.slot as usize);
            return;
        }
        flow.connected = true;
    }
    let Flow { client, target, relay, .. } = flow;
    match relay.poll(&mut Context::from_waker(waker), client, target, tools, &Nobody) {
        Poll::Pending if put_off.take() => again.push(key),
        Poll::Pending => {}
        Poll::Ready(done) => {
            if done.is_err() {
                flow.client.reset();
                flow.target.reset();
            }
            flows.remove(key.slot as usize);
        }
    }
}
