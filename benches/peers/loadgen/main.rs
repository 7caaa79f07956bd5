//! Plays both ends of a connection through a relay: the client and the server of the peers' benchmark.
//!
//! `loadgen serve ADDRESS` serves; every other command is one sample, printed as one line of JSON. The first bytes that
//! a client sends say what its connection is for ([`wire`]), so a relay needs one front address alone. One thread and
//! one edge-triggered epoll a process: what is measured is the relay, so the ends are kept cheap.

#![allow(clippy::disallowed_methods, reason = "no tokio here: there is no clock to pause")]

mod args;
mod bulk;
mod check;
mod connect;
mod cpu;
mod histogram;
mod http;
mod idle;
mod ping_pong;
mod poll;
mod rate;
mod report;
mod server;
mod tls;
mod web;
mod wire;

use std::process::ExitCode;

const HELP: &str = "\
loadgen serve ADDRESS                      play the server
loadgen pp --target A [--connections N] [--request N] [--response N]
                                           ping-pong: one message outstanding on every connection
loadgen turns --target A --pid P… --target B --pid P… [--connections N] [--request N] [--pairs N]
                                           ping-pong through two relays in turn, --time each: CPU per message of A in B's
loadgen rate --target A [--connections N] [--request N] [--per-second N] [--serve ADDRESS]
                                           messages at fixed times, latency from the time each was due; --serve:
                                           the server at ADDRESS too, in one thread that never sleeps
loadgen up|down --target A [--connections N]
                                           bulk from, to the client
loadgen connect --target A [--connections N]
                                           connect, one echo, close; N at a time. --target may be repeated
loadgen idle --target A --connections N [--request N]
                                           one echo each, then hold them until stdin ends
loadgen check --target A [--connections N] [--bytes N]
                                           byte exactness both ways with half-close and a slow reader
loadgen requests|echoes --target A --host H --path P [--connections N] [--request N]
                                           over TLS: GETs on kept connections, WebSocket messages (up to 125 bytes)
loadgen handshakes --target A --host H [--connections N]
                                           connect, a full TLS 1.3 handshake, close; N at a time
loadgen idle-requests|idle-echoes --target A --host H --path P --connections N
                                           one request or message each, then hold them until stdin ends
every sample: [--warmup SECONDS] [--time SECONDS] [--pid PID]… [--end PID]…
--pid, behind its --target: whose CPU time is the relay's; --end: whose is, like this process' own, the ends'";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(command) = words.next() else {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    };
    // `cargo bench` and `cargo test` pass their own flags to every target.
    if command.starts_with("--") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match run(&command, words.collect()) {
        Ok(Some(report)) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadgen {command}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, words: Vec<String>) -> Result<Option<String>, Box<dyn std::error::Error>> {
    if command == "serve" {
        let address = words.first().ok_or("`serve` wants an address")?;
        server::serve(address.parse()?)?;
        return Ok(None);
    }
    let args = args::Args::parse(words)?;
    let report = match command {
        "pp" => ping_pong::run(&args)?,
        "turns" => ping_pong::take_turns(&args)?,
        "rate" => rate::run(&args)?,
        "up" => bulk::run(&args, bulk::Direction::Up)?,
        "down" => bulk::run(&args, bulk::Direction::Down)?,
        "connect" => connect::run(&args)?,
        "idle" => idle::run(&args)?,
        "requests" => web::run(&args, web::Kind::Request)?,
        "echoes" => web::run(&args, web::Kind::Echo)?,
        "handshakes" => web::handshakes(&args)?,
        "idle-requests" => web::idle(&args, web::Kind::Request)?,
        "idle-echoes" => web::idle(&args, web::Kind::Echo)?,
        "check" => check::run(&args)?,
        other => return Err(format!("`{other}` is no command\n{HELP}").into()),
    };
    Ok(Some(report.to_string()))
}
