//! Many connections that each carried one message, held open until stdin ends.

use std::io::{self, Read, Write};

use crate::args::Args;
use crate::report::Report;
use crate::wire::{self, Purpose};

pub(crate) fn run(args: &Args) -> io::Result<Report> {
    let purpose = Purpose::Echo { request: args.request as u32, response: args.response as u32 };
    let request = vec![7; args.request];
    let mut response = vec![0; args.response];
    let mut held = Vec::with_capacity(args.connections);
    for nth in 0..args.connections {
        let mut stream = wire::open(args.target(nth), purpose)?;
        stream.write_all(&request)?;
        stream.read_exact(&mut response)?;
        held.push(stream);
    }
    println!("holding");
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    let mut report = Report::default();
    report.put("operations", held.len() as f64);
    Ok(report)
}
