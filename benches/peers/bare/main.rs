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

fn serve(listener: TcpListener, to: SocketAddr) -> io::Result<()> {
    let (poller, mut inbox, put_off) = (Poller::new()?, Inbox::new(), Arc::new(PutOff::default()));
    let waker = Waker::from(Arc::clone(&put_off));
    let tools = Tools { scratch: scratch::Scratch::new(128 << 10), pipes: pipes::Pipes::new(64, 256 << 10) };
    let (mut flows, mut generation, mut again) = (Slab::<Flow>::new(), 0_u32, Vec::new());
    poller.watch_level(&listener, Token::Door(0))?;
    loop {
        let mut told = std::mem::take(&mut again);
        while let Some((token, news)) = inbox.take() {
            let Token::Connection(key, side) = token else {
                for _ in 0..ACCEPTS_A_WAKE {
                    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                    let Ok((client, _)) = acceptfrom_with(&listener, flags) else { break };
                    let Ok(mut target) = dial(to) else { continue };
                    generation = generation.wrapping_add(1);
                    let key = Key { slot: flows.vacant_key() as u32, generation };
                    target.watch(&poller, Token::Connection(key, Side::Target))?;
                    let (client, relay) = (Socket::new(client), Relay::new());
                    flows.insert(Flow { generation, client, target, connected: false, relay });
                }
                continue;
            };
            let Some(flow) = flow_of(&mut flows, key) else { continue };
            match side {
                Side::Client => flow.client.hear(news),
                Side::Target => flow.target.hear(news),
            }
            // Who gave way to others hears of it in its turn.
            if !told.contains(&key)
                && !again.contains(&key)
                && go_on(&mut flows, key, &poller, &tools, &waker, &put_off)
            {
                again.push(key);
            }
        }
        told.retain(|key| go_on(&mut flows, *key, &poller, &tools, &waker, &put_off));
        again.append(&mut told);
        poller.wait(&mut inbox, (!again.is_empty()).then_some(Duration::ZERO))?;
    }
}

fn flow_of(flows: &mut Slab<Flow>, key: Key) -> Option<&mut Flow> {
    flows.get_mut(key.slot as usize).filter(|flow| flow.generation == key.generation)
}

/// Polls a flow; true when it gave way to others and wants another turn.
fn go_on(flows: &mut Slab<Flow>, key: Key, poller: &Poller, tools: &Tools, waker: &Waker, put_off: &PutOff) -> bool {
    let Some(flow) = flow_of(flows, key) else { return false };
    if !flow.connected {
        if !flow.target.is_settled() {
            return false;
        }
        let watched = flow.client.watch(poller, Token::Connection(key, Side::Client));
        if flow.target.take_error().is_some() || watched.is_err() {
            flow.client.reset();
            flows.remove(key.slot as usize);
            return false;
        }
        flow.connected = true;
    }
    let Flow { client, target, relay, .. } = flow;
    let moved = relay.poll(&mut Context::from_waker(waker), client, target, tools, &Nobody);
    let gave_way = put_off.take();
    if let Poll::Ready(done) = moved {
        if done.is_err() {
            flow.client.reset();
            flow.target.reset();
        }
        flows.remove(key.slot as usize);
        return false;
    }
    gave_way
}
