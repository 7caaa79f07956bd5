//! Connections: connect, one echo, close, a number at a time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};

use crate::args::Args;
use crate::cpu::Window;
use crate::histogram::Histogram;
use crate::poll::{Poll, would_block};
use crate::report::Report;
use crate::wire::{PREAMBLE, Purpose};

struct Connection {
    stream: TcpStream,
    started: Instant,
    asked: bool,
    missing: usize,
}

/// Starts to connect; the first edge reports completion.
pub(crate) fn dial(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from(socket))
}

fn start(target: SocketAddr, poll: &Poll, place: usize, response: usize) -> io::Result<Connection> {
    let started = Instant::now();
    let stream = dial(target)?;
    poll.watch(&stream, place as u64, true)?;
    Ok(Connection { stream, started, asked: false, missing: response })
}

pub(crate) fn run(args: &Args) -> io::Result<Report> {
    let mut poll = Poll::new()?;
    let mut question = Purpose::Echo { request: args.request as u32, response: args.response as u32 }.encode().to_vec();
    debug_assert_eq!(question.len(), PREAMBLE);
    question.resize(PREAMBLE + args.request, 7);
    let mut turn = 0;
    let mut connections = Vec::new();
    for place in 0..args.connections {
        connections.push(start(args.target(turn), &poll, place, args.response)?);
        turn += 1;
    }
    let mut buffer = vec![0; args.response.max(4096)];
    let mut play = |latency: &mut Histogram, until: Instant| -> io::Result<u64> {
        let mut failed = 0;
        while Instant::now() < until {
            let ready: Vec<u64> = poll.wait(Some(until))?.collect();
            for number in ready {
                let place = number as usize;
                let connection = &mut connections[place];
                if !connection.asked {
                    match would_block(connection.stream.write(&question)) {
                        Ok(Some(_)) => connection.asked = true,
                        Ok(None) => continue,
                        Err(error) if error.kind() == io::ErrorKind::NotConnected => continue,
                        Err(_) => {
                            failed += 1;
                            connections[place] = start(args.target(turn), &poll, place, args.response)?;
                            turn += 1;
                        }
                    }
                    continue;
                }
                let over = match would_block(connection.stream.read(&mut buffer)) {
                    Ok(None) => continue,
                    Ok(Some(0)) | Err(_) => {
                        failed += 1;
                        true
                    }
                    Ok(Some(n)) => {
                        connection.missing -= n;
                        if connection.missing == 0 {
                            latency.record(connection.started.elapsed().as_nanos() as u64);
                        }
                        connection.missing == 0
                    }
                };
                if over {
                    connections[place] = start(args.target(turn), &poll, place, args.response)?;
                    turn += 1;
                }
            }
        }
        Ok(failed)
    };
    play(&mut Histogram::new(), Instant::now() + args.warmup)?;
    let mut latency = Histogram::new();
    let window = Window::open(args);
    let failed = play(&mut latency, Instant::now() + args.time)?;
    let mut report = Report::default();
    let time = window.close(&mut report);
    report.put("operations", latency.total() as f64);
    report.put("failed", failed as f64);
    report.put("per_second", latency.total() as f64 / time.as_secs_f64());
    report.put_latency(&latency);
    Ok(report)
}
