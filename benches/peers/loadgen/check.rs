//! Byte exactness: both ways at once, bulk and small pieces, a slow reader, and an answer after the half-close.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use crate::args::Args;
use crate::report::Report;
use crate::wire::{self, Purpose, pattern};

/// Small pieces in the middle, so that a relay that changes its strategy is seen doing it.
const SMALL_PIECES: usize = 64;
/// The server's last message when all its input was right.
const RIGHT: u8 = b'+';
/// A connection that is silent for this long has lost data.
const PATIENCE: Duration = Duration::from_secs(20);

/// The pattern's bytes from `from` on.
fn piece(seed: u32, from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| pattern(seed, at)).collect()
}

/// Sends `bytes` of the pattern: bulk, then small pieces with pauses, then bulk.
fn send(mut stream: &TcpStream, seed: u32, bytes: usize) -> io::Result<()> {
    let half = bytes / 2;
    let mut at = 0;
    while at < bytes {
        let small = at >= half && at < half + SMALL_PIECES * 5;
        let length = if small { 5 } else { 128 << 10 }.min(bytes - at);
        stream.write_all(&piece(seed, at, length))?;
        at += length;
        if small {
            thread::sleep(Duration::from_micros(100));
        }
    }
    Ok(())
}

/// Reads `bytes` of the pattern, slowly at first; true when every one was right.
fn receive(mut stream: &TcpStream, seed: u32, bytes: usize) -> io::Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    let mut at = 0;
    let mut right = true;
    while at < bytes {
        let room = buffer.len().min(bytes - at);
        let n = stream.read(&mut buffer[..room])?;
        if n == 0 {
            return Ok(false);
        }
        right &= buffer[..n].iter().enumerate().all(|(i, byte)| *byte == pattern(seed, at + i));
        if at < 2 << 20 {
            thread::sleep(Duration::from_micros(500));
        }
        at += n;
    }
    Ok(right)
}

/// The server's part, in threads of its own: half of its bytes while the client sends, half after the client's FIN.
pub(crate) fn answer(stream: TcpStream, purpose: Purpose) {
    let Purpose::Check { seed, bytes } = purpose else { return };
    thread::spawn(move || -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let bytes = bytes as usize;
        let right = thread::scope(|scope| -> io::Result<bool> {
            let sending = scope.spawn(|| send(&stream, !seed, bytes / 2));
            let right = receive(&stream, seed, bytes)? && (&stream).read(&mut [0; 1])? == 0;
            sending.join().map_err(|_| io::Error::other("the sending thread panicked"))??;
            Ok(right)
        })?;
        (&stream).write_all(&piece(!seed, bytes / 2, bytes - bytes / 2))?;
        (&stream).write_all(&[if right { RIGHT } else { b'-' }])?;
        stream.shutdown(Shutdown::Write)
    });
}

/// The client's part on one connection.
fn one(args: &Args, nth: usize) -> io::Result<bool> {
    let seed = 0x5eed_0000 + nth as u32;
    let stream = wire::open(args.target(nth), Purpose::Check { seed, bytes: args.bytes as u32 })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            send(&stream, seed, args.bytes)?;
            stream.shutdown(Shutdown::Write)
        });
        let mut right = receive(&stream, !seed, args.bytes)?;
        let mut verdict = Vec::new();
        (&stream).read_to_end(&mut verdict)?;
        right &= verdict == [RIGHT];
        sending.join().map_err(|_| io::Error::other("the sending thread panicked"))??;
        Ok(right)
    })
}

pub(crate) fn run(args: &Args) -> io::Result<Report> {
    let exact = thread::scope(|scope| {
        let all: Vec<_> = (0..args.connections).map(|nth| scope.spawn(move || one(args, nth))).collect();
        all.into_iter().map(|one| one.join()).filter(|one| matches!(one, Ok(Ok(true)))).count()
    });
    let mut report = Report::default();
    report.put("operations", args.connections as f64);
    report.put("exact", exact as f64);
    Ok(report)
}
