//! How the front works, and how much it puts up with.

use std::path::PathBuf;
use std::time::Duration;

/// How the front works.
#[derive(Debug, Clone)]
pub struct AppOptions {
    /// Threads; each has its own listening sockets, clients and connections to backends.
    pub workers: usize,
    /// Length of a listening socket's queue.
    pub backlog: i32,
    /// Connections that a listener accepts before others have their turn.
    pub accepts_per_wake: u32,
    /// Probe silent peers after this long.
    pub keepalive: Option<Duration>,
    /// Refused clients that a worker holds unanswered at once; more are reset.
    pub held_refusals: usize,
    /// How long a refused client is held.
    pub hold_time: Duration,
    /// Put a PROXY protocol v2 header with the endpoint's id in front of every connection to a backend. Connections are
    /// then no longer shared by clients.
    pub proxy_protocol: bool,
    /// A file with the CA certificates, in PEM form, that `https` backends are checked against, besides the lab's own.
    pub backend_ca: Option<PathBuf>,
    /// How long WebSockets last once their address is given up: the load balancer's deregistration delay, 300 s.
    pub drain: Duration,
    /// Longest silence both ways on a WebSocket: the load balancer's idle timeout, 350 s.
    pub websocket_idle: Duration,
    /// What clients and backends may take.
    pub limits: AppLimits,
    /// What time limits on connections are rounded up to. 1 s; tests take less.
    pub tick: Duration,
}

impl Default for AppOptions {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            backlog: 4096,
            accepts_per_wake: 32,
            keepalive: Some(Duration::from_secs(120)),
            held_refusals: 1024,
            hold_time: Duration::from_secs(127),
            proxy_protocol: false,
            backend_ca: None,
            drain: Duration::from_secs(300),
            websocket_idle: Duration::from_secs(350),
            limits: AppLimits::default(),
            tick: Duration::from_secs(1),
        }
    }
}

/// Limits against clients that take too much or too long, and against backends that don't answer.
#[derive(Debug, Clone)]
pub struct AppLimits {
    /// Connections that one worker holds at once; more are reset. 10,000: descriptors are the scarcer thing.
    pub connections: usize,
    /// A TLS handshake: 10 s.
    pub handshake: Duration,
    /// From a request's first byte to the end of its head: 10 s, as slow clients on bad networks need a second or two.
    pub header_time: Duration,
    /// Silence between two requests: 75 s, nginx's and most others' default.
    pub idle: Duration,
    /// Silence within a request's body, and within what a client takes of an answer: 60 s.
    pub body_idle: Duration,
    /// Bytes of a request's head: 32 KiB holds the longest cookies and tokens in use.
    pub header_size: usize,
    /// Fields of a request's head.
    pub headers: usize,
    /// Requests at once on one HTTP/2 connection: 100, the least that RFC 9113 §6.5.2 recommends.
    pub streams: u32,
    /// Requests that one HTTP/2 connection may take back before they were answered, beyond those that it let be
    /// answered (rapid reset, CVE-2023-44487).
    pub resets: u32,
    /// Connecting to a backend: 5 s.
    pub connect: Duration,
    /// A backend's answer, to the end of its head, and silence within its body: 300 s, as long as App Services lets a
    /// function run.
    pub answer: Duration,
    /// Silence after which an unused connection to a backend is closed: 55 s, below what servers allow.
    pub backend_idle: Duration,
}

impl Default for AppLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshake: Duration::from_secs(10),
            header_time: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body_idle: Duration::from_secs(60),
            header_size: 32 << 10,
            headers: 100,
            streams: 100,
            resets: 100,
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(300),
            backend_idle: Duration::from_secs(55),
        }
    }
}
