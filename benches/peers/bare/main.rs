//! A raw epoll loop that only relays: the limit of what a user-space relay can do with the kernel's sockets.
//!
//! `bare FRONT TARGET`. One thread, one epoll, edge by edge, one buffer; no runtime, no code of the gateway's, and none of
//! what the gateway does besides (admission, flow table, counters, time-outs, orders).

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, acceptfrom_with, recv, send, shutdown};
use socket2::{Domain, SockRef, Socket, Type};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The listening socket's event; a flow's are twice its slot, one more for the target's side.
const LISTENER: u64 = u64::MAX;
/// Reads of a direction before other sockets are served.
const READS: usize = 16;
const BUFFER: usize = 128 << 10;
const EVENTS: usize = 256;

const EDGES: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// One socket of a flow.
struct Side {
    fd: OwnedFd,
    readable: bool,
    writable: bool,
    /// No more bytes come than those that are there.
    closing: bool,
    /// FIN was read from it.
    finished: bool,
    /// Data not sent yet.
    waiting: Vec<u8>,
}

impl Side {
    fn new(fd: OwnedFd) -> Self {
        Self { fd, readable: false, writable: false, closing: false, finished: false, waiting: Vec::new() }
    }

    fn note(&mut self, flags: EventFlags) {
        let closing = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        self.closing |= closing;
        self.readable |= closing || flags.contains(EventFlags::IN);
        self.writable |= flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
    }
}

struct Flow {
    /// Client and target.
    sides: [Side; 2],
    connected: bool,
}

fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(front), Some(target)) = (words.next(), words.next()) else {
        println!("bare FRONT TARGET");
        return Ok(());
    };
    let parse = |word: String| word.parse::<SocketAddr>().map_err(io::Error::other);
    serve(&listen(parse(front)?)?, parse(target)?)
}

fn listen(front: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(front), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&front.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A socket that is connecting.
fn dial(target: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), None)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&target.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(socket.into()),
    }
}

fn serve(listener: &TcpListener, to: SocketAddr) -> io::Result<()> {
    let poller = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poller, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let (mut flows, mut free): (Vec<Option<Flow>>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    let (mut buffer, mut again) = (vec![0; BUFFER], Vec::new());
    loop {
        events.clear();
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let wait = (!again.is_empty()).then_some(&at_once);
        match epoll::wait(&poller, spare_capacity(&mut events), wait) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = std::mem::take(&mut again);
        let mut freed = Vec::new();
        for event in &events {
            let (data, flags) = (event.data.u64(), event.flags);
            if data == LISTENER {
                // One at a time: an accept that finds no client costs as much as one that does.
                let Ok((client, _)) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else {
                    continue;
                };
                let Ok(target) = dial(to) else { continue };
                let slot = free.pop().unwrap_or_else(|| {
                    flows.push(None);
                    flows.len() - 1
                });
                epoll::add(&poller, &target, EventData::new_u64(slot as u64 * 2 + 1), EDGES)?;
                flows[slot] = Some(Flow { sides: [Side::new(client), Side::new(target)], connected: false });
                continue;
            }
            let (slot, side) = (data as usize / 2, data as usize % 2);
            if let Some(flow) = &mut flows[slot] {
                flow.sides[side].note(flags);
                ready.push(slot);
            }
        }
        for slot in ready {
            let Some(flow) = &mut flows[slot] else { continue };
            match go_on(&poller, flow, slot, &mut buffer) {
                Next::Wait => {}
                Next::Again => again.push(slot),
                Next::End => {
                    flows[slot] = None;
                    freed.push(slot);
                }
            }
        }
        // Not before all events of this round are attended to, which may be of flows that have just ended.
        free.append(&mut freed);
    }
}

enum Next {
    Wait,
    Again,
    End,
}

/// Moves as much as possible.
fn go_on(poller: &OwnedFd, flow: &mut Flow, slot: usize, buffer: &mut [u8]) -> Next {
    if !flow.connected {
        let [client, target] = &flow.sides;
        if !target.writable {
            return Next::Wait;
        }
        let failed = target.closing && SockRef::from(&target.fd).take_error().is_ok_and(|error| error.is_some());
        if failed || epoll::add(poller, &client.fd, EventData::new_u64(slot as u64 * 2), EDGES).is_err() {
            return reset(flow);
        }
        flow.connected = true;
    }
    let [client, target] = &mut flow.sides;
    let (Ok(up), Ok(down)) = (copy(client, target, buffer), copy(target, client, buffer)) else { return reset(flow) };
    let is_over = |source: &Side, sink: &Side| source.finished && sink.waiting.is_empty();
    if is_over(client, target) && is_over(target, client) {
        return Next::End;
    }
    if up || down { Next::Again } else { Next::Wait }
}

fn reset(flow: &Flow) -> Next {
    for side in &flow.sides {
        let _ = SockRef::from(&side.fd).set_linger(Some(Duration::ZERO));
    }
    Next::End
}

/// Copies from `source` to `sink`; true when there may be more.
fn copy(source: &mut Side, sink: &mut Side, buffer: &mut [u8]) -> Result<bool, Errno> {
    for _ in 0..READS {
        if !sink.waiting.is_empty() {
            if !sink.writable {
                return Ok(false);
            }
            match send(&sink.fd, &sink.waiting, SendFlags::NOSIGNAL) {
                Ok(n) => {
                    sink.waiting.drain(..n);
                }
                Err(Errno::AGAIN) => sink.writable = false,
                Err(error) => return Err(error),
            }
            if source.finished && sink.waiting.is_empty() {
                let _ = shutdown(&sink.fd, Shutdown::Write);
            }
            continue;
        }
        if source.finished || !source.readable {
            return Ok(false);
        }
        let n = match recv(&source.fd, &mut *buffer, RecvFlags::empty()) {
            Ok((n, _)) => n,
            Err(Errno::AGAIN) => {
                source.readable = false;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        if n == 0 {
            source.finished = true;
            let _ = shutdown(&sink.fd, Shutdown::Write);
            return Ok(false);
        }
        if n < buffer.len() && !source.closing {
            source.readable = false;
        }
        let taken = match send(&sink.fd, &buffer[..n], SendFlags::NOSIGNAL) {
            Ok(taken) => taken,
            Err(Errno::AGAIN) => {
                sink.writable = false;
                0
            }
            Err(error) => return Err(error),
        };
        sink.waiting.extend_from_slice(&buffer[taken..n]);
    }
    Ok(true)
}
