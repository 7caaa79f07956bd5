//! Bulk transfer in one direction over several connections. The receiver lets the kernel discard the data, so that the
//! relay dominates.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Instant;

use rustix::net::RecvFlags;

use crate::args::Args;
use crate::cpu::Window;
use crate::poll::{Poll, would_block};
use crate::report::Report;
use crate::wire::{self, Purpose};

/// Bytes of a call.
pub(crate) const CHUNK: usize = 256 << 10;
/// Calls on one connection before others have their turn.
const CALLS_A_TURN: usize = 4;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// Takes up to a buffer's length without copying it out of the kernel (`MSG_TRUNC`, see tcp(7)).
pub(crate) fn discard(stream: &TcpStream, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    Ok(rustix::net::recv(stream, buffer, flags | RecvFlags::TRUNC)?.1)
}

pub(crate) fn run(args: &Args, direction: Direction) -> io::Result<Report> {
    let mut poll = Poll::new()?;
    let purpose = if direction == Direction::Up { Purpose::Sink } else { Purpose::Source };
    let mut streams = Vec::new();
    for nth in 0..args.connections {
        let stream = wire::open(args.target(nth), purpose)?;
        stream.set_nonblocking(true)?;
        poll.watch(&stream, nth as u64, direction == Direction::Up)?;
        streams.push(stream);
    }
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0_u64;
    let mut again: Vec<u64> = Vec::new();
    let mut pump = |bytes: &mut u64, until: Instant| -> io::Result<()> {
        while Instant::now() < until {
            let wait_until = if again.is_empty() { until } else { Instant::now() };
            let mut ready: Vec<u64> = poll.wait(Some(wait_until))?.collect();
            ready.append(&mut again);
            for number in ready {
                let mut stream = &streams[number as usize];
                let mut calls = 0;
                loop {
                    let moved = match direction {
                        Direction::Up => would_block(stream.write(&buffer))?,
                        Direction::Down => would_block(discard(stream, &mut buffer, RecvFlags::empty()))?,
                    };
                    match moved {
                        None => break,
                        Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Some(n) => *bytes += n as u64,
                    }
                    calls += 1;
                    if calls == CALLS_A_TURN {
                        again.push(number);
                        break;
                    }
                }
            }
        }
        Ok(())
    };
    pump(&mut bytes, Instant::now() + args.warmup)?;
    bytes = 0;
    let window = Window::open(args);
    pump(&mut bytes, Instant::now() + args.time)?;
    let mut report = Report::default();
    let time = window.close(&mut report);
    report.put("gigabytes", bytes as f64 / 1e9);
    report.put("per_second", bytes as f64 / 1e9 / time.as_secs_f64());
    Ok(report)
}
