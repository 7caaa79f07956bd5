//! Open-loop load: messages at fixed times, independent of earlier replies. Latency counts from the scheduled time, so
//! that a stall of the relay affects every message that it delays. With `--serve`, client and server are one thread
//! that polls without sleeping. So the ends add no latency: neither waits for the other to leave the core, and no
//! virtual core has to be woken up for them.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::cpu::Window;
use crate::histogram::Histogram;
use crate::poll::{Poll, would_block};
use crate::report::Report;
use crate::server::Server;
use crate::wire::{self, Purpose};

struct Connection {
    stream: TcpStream,
    /// When the outstanding messages were due.
    due: VecDeque<Instant>,
    missing: usize,
}

pub(crate) fn run(args: &Args) -> io::Result<Report> {
    // A sleeper is else woken up to 50 µs late, which is a whole interval. Refused, the figures are only coarser.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    let mut server = args.serve.map(Server::bind).transpose()?;
    let mut poll = Poll::new()?;
    let mut connections = Vec::new();
    let purpose = Purpose::Echo { request: args.request as u32, response: args.response as u32 };
    let request = vec![7; args.request];
    for nth in 0..args.connections {
        let stream = wire::open(args.target(nth), purpose)?;
        stream.set_nonblocking(true)?;
        poll.watch(&stream, nth as u64, false)?;
        connections.push(Connection { stream, due: VecDeque::new(), missing: args.response });
    }
    let interval = Duration::from_nanos(1_000_000_000 / args.per_second.max(1));
    let mut buffer = vec![0; 64 << 10];
    let mut turn = 0;
    let mut play = |latency: &mut Histogram, until: Instant| -> io::Result<u64> {
        let mut sent = 0;
        let mut next = Instant::now();
        while next < until {
            let now = Instant::now();
            while next <= now && next < until {
                let nth = turn % connections.len();
                let connection = &mut connections[nth];
                turn += 1;
                (&connection.stream).write_all(&request)?;
                connection.due.push_back(next);
                sent += 1;
                next += interval;
            }
            if let Some(server) = &mut server {
                server.turn(Some(now))?;
            }
            for number in poll.wait(Some(if server.is_some() { now } else { next }))? {
                let connection = &mut connections[number as usize];
                let mut n = match would_block(connection.stream.read(&mut buffer))? {
                    None => continue,
                    Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Some(n) => n,
                };
                let now = Instant::now();
                while n >= connection.missing {
                    n -= connection.missing;
                    connection.missing = args.response;
                    if let Some(due) = connection.due.pop_front() {
                        latency.record(now.duration_since(due).as_nanos() as u64);
                    }
                }
                connection.missing -= n;
            }
        }
        Ok(sent)
    };
    play(&mut Histogram::new(), Instant::now() + args.warmup)?;
    let mut latency = Histogram::new();
    let window = Window::open(args);
    let sent = play(&mut latency, Instant::now() + args.time)?;
    if server.is_some_and(|server| server.accepted < args.connections) {
        return Err(io::Error::other("what was relayed did not come to the server at --serve"));
    }
    let mut report = Report::default();
    let time = window.close(&mut report);
    report.put("operations", latency.total() as f64);
    report.put("sent", sent as f64);
    report.put("per_second", latency.total() as f64 / time.as_secs_f64());
    report.put_latency(&latency);
    Ok(report)
}
