//! Ping-pong: every connection has one message outstanding, so the rate is what the path's round trip allows.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use crate::args::Args;
use crate::cpu::Window;
use crate::histogram::Histogram;
use crate::poll::{Poll, would_block};
use crate::report::Report;
use crate::wire::{self, Purpose};

struct Connection {
    stream: TcpStream,
    missing: usize,
    sent: Instant,
}

pub(crate) fn run(args: &Args) -> io::Result<Report> {
    let mut poll = Poll::new()?;
    let mut connections = Vec::new();
    let purpose = Purpose::Echo { request: args.request as u32, response: args.response as u32 };
    let request = vec![7; args.request];
    for nth in 0..args.connections {
        let stream = wire::open(args.target(nth), purpose)?;
        stream.set_nonblocking(true)?;
        poll.watch(&stream, nth as u64, false)?;
        connections.push(Connection { stream, missing: args.response, sent: Instant::now() });
    }
    for connection in &mut connections {
        connection.sent = Instant::now();
        (&connection.stream).write_all(&request)?;
    }
    let mut buffer = vec![0; args.response.max(4096)];
    let mut play = |latency: &mut Histogram, until: Instant| -> io::Result<()> {
        let mut now = Instant::now();
        while now < until {
            let ready = poll.wait(Some(until))?;
            now = Instant::now();
            for number in ready {
                let connection = &mut connections[number as usize];
                match would_block(connection.stream.read(&mut buffer))? {
                    None => continue,
                    Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Some(n) => connection.missing -= n,
                }
                if connection.missing == 0 {
                    now = Instant::now();
                    latency.record(now.duration_since(connection.sent).as_nanos() as u64);
                    connection.missing = args.response;
                    connection.sent = now;
                    // A request is small and the socket empty, so it fits.
                    (&connection.stream).write_all(&request)?;
                }
            }
        }
        Ok(())
    };
    play(&mut Histogram::new(), Instant::now() + args.warmup)?;
    let mut latency = Histogram::new();
    let window = Window::open(args);
    play(&mut latency, Instant::now() + args.time)?;
    let mut report = Report::default();
    let time = window.close(&mut report);
    report.put("operations", latency.total() as f64);
    report.put("per_second", latency.total() as f64 / time.as_secs_f64());
    report.put_latency(&latency);
    Ok(report)
}
