//! The command line of a sample.

use std::net::SocketAddr;
use std::time::Duration;

/// The options of a sample.
#[derive(Debug)]
pub(crate) struct Args {
    /// Where to connect: the relay's front, or the server itself. In turn, where there are several.
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) connections: usize,
    /// Bytes of a request.
    pub(crate) request: usize,
    /// Bytes of an answer; by default as many as the request.
    pub(crate) response: usize,
    pub(crate) per_second: u64,
    /// Where `rate` plays the server too.
    pub(crate) serve: Option<SocketAddr>,
    /// Host and path of HTTP requests.
    pub(crate) host: String,
    pub(crate) path: String,
    /// Bytes that each connection of `check` sends each way.
    pub(crate) bytes: usize,
    pub(crate) warmup: Duration,
    pub(crate) time: Duration,
    /// The processes with a CPU time to report, by the target that precedes their `--pid`.
    pub(crate) relays: Vec<Vec<u32>>,
    /// How often the two relays of `turns` take turns.
    pub(crate) pairs: usize,
    /// The process at the other end; its CPU time and this process' own are reported together.
    pub(crate) ends: Vec<u32>,
}

impl Args {
    /// Reads `--name value` pairs.
    pub(crate) fn parse(words: Vec<String>) -> Result<Self, Box<dyn std::error::Error>> {
        let mut args = Self {
            targets: Vec::new(),
            connections: 64,
            request: 64,
            response: 0,
            per_second: 20_000,
            serve: None,
            host: "localhost".to_owned(),
            path: "/".to_owned(),
            bytes: 16 << 20,
            warmup: Duration::from_millis(150),
            time: Duration::from_millis(500),
            relays: Vec::new(),
            pairs: 50,
            ends: vec![std::process::id()],
        };
        let mut words = words.into_iter();
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("`{name}` wants a value"))?;
            match name.as_str() {
                "--target" => {
                    args.targets.push(value.parse()?);
                    args.relays.push(Vec::new());
                }
                "--pairs" => args.pairs = value.parse()?,
                "--connections" => args.connections = value.parse()?,
                "--request" => args.request = value.parse()?,
                "--response" => args.response = value.parse()?,
                "--per-second" => args.per_second = value.parse()?,
                "--serve" => args.serve = Some(value.parse()?),
                "--host" => args.host = value,
                "--path" => args.path = value,
                "--bytes" => args.bytes = value.parse()?,
                "--warmup" => args.warmup = Duration::from_secs_f64(value.parse()?),
                "--time" => args.time = Duration::from_secs_f64(value.parse()?),
                "--pid" => args.relays.last_mut().ok_or("`--pid` follows a --target")?.push(value.parse()?),
                "--end" => args.ends.push(value.parse()?),
                _ => return Err(format!("`{name}` is no option").into()),
            }
        }
        if args.targets.is_empty() || args.connections == 0 || args.request == 0 {
            return Err("wants --target, and at least one connection and one byte".into());
        }
        if args.response == 0 {
            args.response = args.request;
        }
        Ok(args)
    }

    /// The target of connection `nth`.
    pub(crate) fn target(&self, nth: usize) -> SocketAddr {
        self.targets[nth % self.targets.len()]
    }
}
