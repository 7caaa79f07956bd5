//! Ping-pong: every connection has one message outstanding, so the rate is what the path's round trip allows.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::cpu::{self, Window};
use crate::histogram::Histogram;
use crate::poll::{Poll, would_block};
use crate::report::Report;
use crate::wire::{self, Purpose};

/// Messages that are outstanding for so long are lost.
const PATIENCE: Duration = Duration::from_secs(5);

struct Connection {
    stream: TcpStream,
    missing: usize,
    sent: Instant,
}

/// Connections that play.
struct Game {
    poll: Poll,
    connections: Vec<Connection>,
    request: Vec<u8>,
    response: usize,
    buffer: Vec<u8>,
}

impl Game {
    fn open(args: &Args, target: impl Fn(usize) -> SocketAddr) -> io::Result<Self> {
        let (poll, mut connections) = (Poll::new()?, Vec::new());
        let purpose = Purpose::Echo { request: args.request as u32, response: args.response as u32 };
        for nth in 0..args.connections {
            let stream = wire::open(target(nth), purpose)?;
            stream.set_nonblocking(true)?;
            poll.watch(&stream, nth as u64, false)?;
            connections.push(Connection { stream, missing: args.response, sent: Instant::now() });
        }
        let (request, response) = (vec![7; args.request], args.response);
        Ok(Self { poll, connections, request, response, buffer: vec![0; response.max(4096)] })
    }

    /// Every connection sends its first message.
    fn serve(&mut self) -> io::Result<()> {
        for connection in &mut self.connections {
            connection.sent = Instant::now();
            (&connection.stream).write_all(&self.request)?;
        }
        Ok(())
    }

    /// Answers every answer with the next message, until then.
    fn play(&mut self, latency: &mut Histogram, until: Instant) -> io::Result<()> {
        while Instant::now() < until {
            self.turn(latency, until, true)?;
        }
        Ok(())
    }

    /// Reads the outstanding answers, and sends no more.
    fn rest(&mut self, latency: &mut Histogram) -> io::Result<()> {
        let (until, mut outstanding) = (Instant::now() + PATIENCE, self.connections.len());
        while outstanding > 0 {
            if Instant::now() > until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            outstanding -= self.turn(latency, until, false)?;
        }
        Ok(())
    }

    /// Reads the available answers, and returns their number.
    fn turn(&mut self, latency: &mut Histogram, until: Instant, go_on: bool) -> io::Result<usize> {
        let mut answers = 0;
        for number in self.poll.wait(Some(until))? {
            let connection = &mut self.connections[number as usize];
            match would_block(connection.stream.read(&mut self.buffer))? {
                None => continue,
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(n) => connection.missing -= n,
            }
            if connection.missing == 0 {
                let now = Instant::now();
                latency.record(now.duration_since(connection.sent).as_nanos() as u64);
                (connection.missing, connection.sent) = (self.response, now);
                answers += 1;
                if go_on {
                    // A request is small and the socket empty, so it fits.
                    (&connection.stream).write_all(&self.request)?;
                }
            }
        }
        Ok(answers)
    }
}

pub(crate) fn run(args: &Args) -> io::Result<Report> {
    let mut game = Game::open(args, |nth| args.target(nth))?;
    game.serve()?;
    game.play(&mut Histogram::new(), Instant::now() + args.warmup)?;
    let mut latency = Histogram::new();
    let window = Window::open(args);
    game.play(&mut latency, Instant::now() + args.time)?;
    let mut report = Report::default();
    let time = window.close(&mut report);
    report.put("operations", latency.total() as f64);
    report.put("per_second", latency.total() as f64 / time.as_secs_f64());
    report.put_latency(&latency);
    Ok(report)
}

/// Two relays take turns, each of `--time`, with the connections of both held open: whatever the machine does to one it does
/// to the other a moment later. Who is first changes from pair to pair; the ratio is taken within a pair.
pub(crate) fn take_turns(args: &Args) -> io::Result<Report> {
    let [first, second] = args.targets[..] else {
        return Err(io::Error::other("`turns` wants two --target, each followed by the --pid of its relay"));
    };
    let mut games = [Game::open(args, |_| first)?, Game::open(args, |_| second)?];
    let mut turn = |which: usize, time: Duration| -> io::Result<f64> {
        let mut latency = Histogram::new();
        let before = cpu::spent(&args.relays[which]);
        games[which].serve()?;
        games[which].play(&mut latency, Instant::now() + time)?;
        games[which].rest(&mut latency)?;
        let spent = cpu::spent(&args.relays[which]).saturating_sub(before);
        if spent == 0 || latency.total() == 0 {
            return Err(io::Error::other("a relay used no CPU, or carried nothing: is its --pid right?"));
        }
        Ok(spent as f64 / latency.total() as f64)
    };
    for which in [0, 1] {
        turn(which, args.warmup)?;
    }
    let (mut ratios, mut each) = (Vec::new(), [Vec::new(), Vec::new()]);
    for nth in 0..args.pairs {
        let order = if nth % 2 == 0 { [0, 1] } else { [1, 0] };
        let mut took = [0.0; 2];
        for which in order {
            took[which] = turn(which, args.time)?;
            each[which].push(took[which] / 1e3);
        }
        ratios.push(took[0] / took[1]);
    }
    let mut report = Report::default();
    report.put("pairs", args.pairs as f64);
    report.put("seconds", args.time.as_secs_f64());
    for (name, share) in [("ratio", 0.5), ("ratio_lower_quartile", 0.25), ("ratio_upper_quartile", 0.75)] {
        report.put(name, quantile(&mut ratios, share));
    }
    report.put("first_us", quantile(&mut each[0], 0.5));
    report.put("second_us", quantile(&mut each[1], 0.5));
    Ok(report)
}

/// The value that `share` of all are at or below.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1) as f64 * share).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}
