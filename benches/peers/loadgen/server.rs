//! The server: echoes, swallows, pours, checks or answers HTTP, as each connection's first bytes ask.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use rustix::net::RecvFlags;

use crate::poll::{Poll, would_block};
use crate::wire::{PREAMBLE, Purpose};
use crate::{bulk, check, http};

/// Bytes that one connection may move before others have their turn.
const TURN: usize = 4 << 20;
const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    preamble: Vec<u8>,
    purpose: Option<Purpose>,
    /// It carries HTTP.
    http: Option<http::Exchange>,
    /// Bytes of the present request that have come.
    got: usize,
    /// Bytes of answers that the client did not take yet.
    owed: usize,
    /// The peer has finished, so no further edge will arrive.
    ended: bool,
}

/// The result of a connection's turn.
enum Turn {
    /// It waits for the kernel.
    Waits,
    /// It could go on, but others come first.
    Again,
    /// It is over.
    Over,
    /// It is to be checked, by threads of its own.
    HandOver,
}

struct Buffers {
    zeros: Vec<u8>,
    read: Vec<u8>,
}

/// A listener and the connections that it accepted.
pub(crate) struct Server {
    listener: TcpListener,
    poll: Poll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    buffers: Buffers,
    /// Connections with an interrupted turn.
    again: Vec<u64>,
    /// How many came.
    pub(crate) accepted: usize,
}

/// Serves until it is ended from outside.
pub(crate) fn serve(address: SocketAddr) -> io::Result<()> {
    let mut server = Server::bind(address)?;
    loop {
        server.turn(None)?;
    }
}

impl Server {
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let (listener, poll) = (listen(address)?, Poll::new()?);
        poll.watch(&listener, LISTENER, false)?;
        let buffers = Buffers { zeros: vec![0; bulk::CHUNK], read: vec![0; bulk::CHUNK] };
        Ok(Self { listener, poll, connections: Vec::new(), free: Vec::new(), buffers, again: Vec::new(), accepted: 0 })
    }

    /// Waits for events until `until`, and handles them.
    pub(crate) fn turn(&mut self, until: Option<Instant>) -> io::Result<()> {
        let until = if self.again.is_empty() { until } else { Some(Instant::now()) };
        let mut ready: Vec<(u64, bool)> = self.poll.wait_for_ends(until)?.collect();
        ready.extend(self.again.drain(..).map(|number| (number, false)));
        for (number, ended) in ready {
            if number == LISTENER {
                self.accept()?;
                continue;
            }
            let place = number as usize;
            let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else { continue };
            connection.ended |= ended;
            match connection.turn(&mut self.buffers).unwrap_or(Turn::Over) {
                Turn::Waits => {}
                Turn::Again => self.again.push(number),
                turn @ (Turn::Over | Turn::HandOver) => {
                    let connection = self.connections[place].take();
                    self.free.push(place);
                    if let (Turn::HandOver, Some(Connection { stream, purpose: Some(purpose), .. })) =
                        (turn, connection)
                    {
                        check::answer(stream, purpose);
                    }
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Ok(Some((stream, _))) = would_block(self.listener.accept()) {
            stream.set_nonblocking(true)?;
            self.accepted += 1;
            let place = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.poll.watch(&stream, place as u64, true)?;
            let preamble = Vec::with_capacity(PREAMBLE);
            self.connections[place] =
                Some(Connection { stream, preamble, purpose: None, http: None, got: 0, owed: 0, ended: false });
        }
        Ok(())
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // A sample may serve one address itself while the general server has all of them: the more specific bind wins.
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl Connection {
    fn turn(&mut self, buffers: &mut Buffers) -> io::Result<Turn> {
        if let Some(http) = &mut self.http {
            let stays = http.turn(&self.stream, &mut buffers.read[..16 << 10], self.ended)?;
            return Ok(if stays { Turn::Waits } else { Turn::Over });
        }
        let purpose = match self.purpose {
            Some(purpose) => purpose,
            None => {
                let mut bytes = [0; PREAMBLE];
                // No byte past the preamble: the rest belongs to the purpose.
                let missing = PREAMBLE - self.preamble.len();
                match would_block(self.stream.read(&mut bytes[..missing]))? {
                    None => return Ok(Turn::Waits),
                    Some(0) => return Ok(Turn::Over),
                    Some(n) => self.preamble.extend_from_slice(&bytes[..n]),
                }
                let Ok(preamble) = <[u8; PREAMBLE]>::try_from(self.preamble.as_slice()) else { return Ok(Turn::Again) };
                if http::is_request(&preamble) {
                    self.http = Some(http::Exchange::new(&preamble));
                    return self.turn(buffers);
                }
                let Some(purpose) = Purpose::decode(&preamble) else { return Ok(Turn::Over) };
                self.purpose = Some(purpose);
                purpose
            }
        };
        match purpose {
            Purpose::Echo { request, response } => self.echo(request as usize, response as usize, buffers),
            Purpose::Sink => self.swallow(buffers),
            Purpose::Source => self.pour(buffers),
            Purpose::Check { .. } => Ok(Turn::HandOver),
        }
    }

    /// One `recv` a message: a short read means that the socket is empty, and the next edge will tell; but when the message
    /// and the end came in one edge.
    fn echo(&mut self, request: usize, response: usize, buffers: &mut Buffers) -> io::Result<Turn> {
        loop {
            if self.owed > 0 && !self.pay(buffers)? {
                return Ok(Turn::Waits);
            }
            let room = buffers.read.len().min(64 << 10);
            let n = match would_block(self.stream.read(&mut buffers.read[..room]))? {
                None => return Ok(Turn::Waits),
                Some(0) => return Ok(Turn::Over),
                Some(n) => n,
            };
            self.got += n;
            self.owed += self.got / request * response;
            self.got %= request;
            if self.owed > 0 && !self.pay(buffers)? {
                return Ok(Turn::Waits);
            }
            if n < room && !self.ended {
                return Ok(Turn::Waits);
            }
        }
    }

    /// Sends pending data; false when the client takes no more.
    fn pay(&mut self, buffers: &Buffers) -> io::Result<bool> {
        while self.owed > 0 {
            match would_block(self.stream.write(&buffers.zeros[..self.owed.min(buffers.zeros.len())]))? {
                None => return Ok(false),
                Some(n) => self.owed -= n,
            }
        }
        Ok(true)
    }

    fn swallow(&mut self, buffers: &mut Buffers) -> io::Result<Turn> {
        let mut moved = 0;
        while moved < TURN {
            match would_block(bulk::discard(&self.stream, &mut buffers.read, RecvFlags::empty()))? {
                None => return Ok(Turn::Waits),
                Some(0) => return Ok(Turn::Over),
                Some(n) => moved += n,
            }
        }
        Ok(Turn::Again)
    }

    fn pour(&mut self, buffers: &Buffers) -> io::Result<Turn> {
        let mut moved = 0;
        while moved < TURN {
            match would_block(self.stream.write(&buffers.zeros))? {
                None => return Ok(Turn::Waits),
                Some(n) => moved += n,
            }
        }
        Ok(Turn::Again)
    }
}
