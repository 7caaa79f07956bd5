//! HTTP and WebSockets over TLS, as a client of a proxy: requests on kept connections, echoes, handshakes, silence.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;

use crate::args::Args;
use crate::connect::dial;
use crate::cpu::Window;
use crate::histogram::Histogram;
use crate::poll::Poll;
use crate::report::Report;
use crate::tls::{self, Tls};

/// The repeated request of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A GET, and its answer.
    Request,
    /// A WebSocket message, and its echo.
    Echo,
}

/// A message of the WebSocket, short enough for a length of one byte: final, binary, masked with zeros.
fn frame(bytes: usize) -> Vec<u8> {
    let mut frame = vec![0x82, 0x80 | (bytes.min(125) as u8), 0, 0, 0, 0];
    frame.resize(6 + bytes.min(125), 7);
    frame
}

struct Connection {
    tls: Tls,
    answer: Vec<u8>,
    sent: Instant,
}

/// Ready for its first message; blocking still.
fn open(args: &Args, nth: usize, kind: Kind, config: &Arc<ClientConfig>) -> io::Result<Connection> {
    let mut tls = Tls::open(args.target(nth), config, &args.host)?;
    if kind == Kind::Echo {
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            args.path, args.host
        );
        tls.send(head.as_bytes())?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.receive(&mut byte)?;
            answer.push(byte[0]);
        }
        if !answer.starts_with(b"HTTP/1.1 101 ") {
            return Err(unexpected(&answer));
        }
    }
    Ok(Connection { tls, answer: Vec::with_capacity(4096), sent: Instant::now() })
}

fn unexpected(answer: &[u8]) -> io::Error {
    io::Error::other(format!("unexpected answer: {}", String::from_utf8_lossy(&answer[..answer.len().min(200)])))
}

/// Whether `answer` is whole; an error when it is another than was to come.
fn is_whole(answer: &[u8], kind: Kind, args: &Args) -> io::Result<bool> {
    if kind == Kind::Echo {
        let bytes = args.request.min(125);
        if answer.len() >= 2 && answer[..2] != [0x82, bytes as u8] {
            return Err(unexpected(answer));
        }
        return Ok(answer.len() == 2 + bytes);
    }
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        return Err(unexpected(answer));
    }
    Ok(answer.len() == end + 4 + crate::http::BODY)
}

fn message(args: &Args, kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Request => {
            format!("GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: loadgen\r\nAccept: */*\r\n\r\n", args.path, args.host)
                .into_bytes()
        }
        Kind::Echo => frame(args.request),
    }
}

/// One message outstanding on every connection.
pub(crate) fn run(args: &Args, kind: Kind) -> io::Result<Report> {
    let config = tls::config()?;
    let mut poll = Poll::new()?;
    let message = message(args, kind);
    let mut connections = Vec::new();
    for nth in 0..args.connections {
        let connection = open(args, nth, kind, &config)?;
        connection.tls.stream.set_nonblocking(true)?;
        poll.watch(&connection.tls.stream, nth as u64, false)?;
        connections.push(connection);
    }
    for connection in &mut connections {
        connection.sent = Instant::now();
        connection.tls.send(&message)?;
    }
    let mut buffer = vec![0; 16 << 10];
    let mut play = |latency: &mut Histogram, until: Instant| -> io::Result<()> {
        while Instant::now() < until {
            for number in poll.wait(Some(until))? {
                let connection = &mut connections[number as usize];
                while let Some(n) = connection.tls.receive(&mut buffer)? {
                    connection.answer.extend_from_slice(&buffer[..n]);
                    if is_whole(&connection.answer, kind, args)? {
                        connection.answer.clear();
                        let now = Instant::now();
                        latency.record(now.duration_since(connection.sent).as_nanos() as u64);
                        connection.sent = now;
                        connection.tls.send(&message)?;
                        break;
                    }
                }
            }
        }
        Ok(())
    };
    play(&mut Histogram::new(), Instant::now() + args.warmup)?;
    let mut latency = Histogram::new();
    let window = Window::open(args);
    play(&mut latency, Instant::now() + args.time)?;
    Ok(report(window, &latency, 0))
}

fn report(window: Window<'_>, latency: &Histogram, failed: u64) -> Report {
    let mut report = Report::default();
    let time = window.close(&mut report);
    report.put("operations", latency.total() as f64);
    report.put("failed", failed as f64);
    report.put("per_second", latency.total() as f64 / time.as_secs_f64());
    report.put_latency(latency);
    report
}

/// Connect, shake hands in full, close; a number at a time.
pub(crate) fn handshakes(args: &Args) -> io::Result<Report> {
    struct Shaking {
        tls: Tls,
        started: Instant,
        said: bool,
    }
    let config = tls::config()?;
    let mut poll = Poll::new()?;
    let mut turn = 0;
    let mut start = |poll: &Poll, place: usize| -> io::Result<Shaking> {
        let (stream, started) = (dial(args.target(turn))?, Instant::now());
        turn += 1;
        poll.watch(&stream, place as u64, true)?;
        Ok(Shaking { tls: Tls::new(stream, &config, &args.host)?, started, said: false })
    };
    let mut shaking = Vec::new();
    for place in 0..args.connections {
        shaking.push(start(&poll, place)?);
    }
    let mut play = |latency: &mut Histogram, until: Instant| -> io::Result<u64> {
        let mut failed = 0;
        while Instant::now() < until {
            let ready: Vec<u64> = poll.wait(Some(until))?.collect();
            for place in ready.into_iter().map(|number| number as usize) {
                let one = &mut shaking[place];
                if !one.said {
                    match one.tls.push() {
                        Ok(()) => one.said = true,
                        Err(error) if error.kind() == io::ErrorKind::NotConnected => continue,
                        Err(_) => {
                            failed += 1;
                            *one = start(&poll, place)?;
                        }
                    }
                    continue;
                }
                match one.tls.shake() {
                    Ok(false) => continue,
                    Ok(true) => latency.record(one.started.elapsed().as_nanos() as u64),
                    Err(_) => failed += 1,
                }
                *one = start(&poll, place)?;
            }
        }
        Ok(failed)
    };
    play(&mut Histogram::new(), Instant::now() + args.warmup)?;
    let mut latency = Histogram::new();
    let window = Window::open(args);
    let failed = play(&mut latency, Instant::now() + args.time)?;
    Ok(report(window, &latency, failed))
}

/// Connections that carried one message each, held until stdin ends.
pub(crate) fn idle(args: &Args, kind: Kind) -> io::Result<Report> {
    let config = tls::config()?;
    let message = message(args, kind);
    // Only the sockets are kept, so that the clients' TLS sessions take no memory.
    let mut held: Vec<TcpStream> = Vec::with_capacity(args.connections);
    let mut buffer = vec![0; 16 << 10];
    for nth in 0..args.connections {
        let mut connection = open(args, nth, kind, &config)?;
        connection.tls.send(&message)?;
        while !is_whole(&connection.answer, kind, args)? {
            let n = connection.tls.receive(&mut buffer)?.unwrap_or_default();
            connection.answer.extend_from_slice(&buffer[..n]);
        }
        held.push(connection.tls.stream);
    }
    println!("holding");
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    let mut report = Report::default();
    report.put("operations", held.len() as f64);
    Ok(report)
}
