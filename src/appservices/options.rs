//! The options and limits of the HTTP front end.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Settings;

/// Options of the HTTP front end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppOptions {
    /// Threads; each has its own listening sockets, clients and backend connections.
    pub workers: usize,
    /// Backlog of a listening socket.
    pub backlog: i32,
    /// Connections that a listener accepts before the worker's other tasks run.
    pub accepts_per_wake: u32,
    /// Idle time before keepalive probes.
    pub keepalive: Option<Duration>,
    /// How long a refused client is held.
    pub hold_time: Duration,
    /// Start every backend connection with a PROXY protocol v2 header that has the endpoint's id. Clients then no
    /// longer share connections.
    pub proxy_protocol: bool,
    /// A PEM file with CA certificates for `https` backends, in addition to the lab's own.
    pub backend_ca: Option<PathBuf>,
    /// How long WebSockets stay open after their address is removed: the load balancer's deregistration delay, 300 s.
    pub drain: Duration,
    /// Idle time-out of a WebSocket: the load balancer's, 350 s.
    pub websocket_idle: Duration,
    /// Limits of clients and backends.
    pub limits: AppLimits,
}

impl Default for AppOptions {
    fn default() -> Self {
        Self::from(&Settings::default())
    }
}

impl From<&Settings> for AppOptions {
    /// What a config file says.
    fn from(settings: &Settings) -> Self {
        let apps = &settings.app_services;
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            workers: if settings.workers == 0 { cores() } else { settings.workers },
            backlog: i32::try_from(settings.limits.backlog).unwrap_or(i32::MAX),
            accepts_per_wake: u32::try_from(settings.limits.accepts_per_wake).unwrap_or(u32::MAX),
            keepalive: settings.keepalive,
            hold_time: settings.limits.hold_time,
            proxy_protocol: apps.proxy_protocol,
            backend_ca: apps.backend_ca.clone(),
            drain: apps.deregistration_delay,
            websocket_idle: apps.websocket_idle,
            limits: AppLimits {
                connections: apps.connections,
                handshake: Duration::from_secs(10),
                header_time: apps.header_time,
                idle: apps.idle,
                body_idle: apps.body_idle,
                header_size: apps.header_size,
                headers: 100,
                streams: apps.streams,
                resets: 100,
                connect: apps.connect_timeout,
                answer: apps.answer_timeout,
                backend_idle: Duration::from_secs(55),
            },
        }
    }
}

/// Limits that protect against greedy or slow clients and against unresponsive backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppLimits {
    /// Maximum number of connections of one worker; more are reset. 10,000: descriptors run out earlier.
    pub connections: usize,
    /// Time for a TLS handshake: 10 s.
    pub handshake: Duration,
    /// Time from a request's first byte to the end of its head: 10 s, as clients on slow networks need a second or two.
    pub header_time: Duration,
    /// Idle time between two requests: 75 s, the default of nginx and most others.
    pub idle: Duration,
    /// Idle time within a request's body, and while a client does not read its response: 60 s.
    pub body_idle: Duration,
    /// Size of a request's head: 32 KiB holds the longest cookies and tokens in use.
    pub header_size: usize,
    /// Number of fields in a request's head.
    pub headers: usize,
    /// Concurrent requests of one HTTP/2 connection: 100, the minimum that RFC 9113 §6.5.2 recommends.
    pub streams: u32,
    /// Number of requests that one HTTP/2 connection may cancel before they are answered, in addition to the number
    /// that were answered (rapid reset, CVE-2023-44487).
    pub resets: u32,
    /// Time to connect to a backend: 5 s.
    pub connect: Duration,
    /// Time for a backend's response head, and idle time within the response's body: 300 s, as long as App Services
    /// lets a function run.
    pub answer: Duration,
    /// Idle time after which a pooled backend connection is closed: 55 s, below the servers' defaults.
    pub backend_idle: Duration,
}

impl Default for AppLimits {
    fn default() -> Self {
        AppOptions::default().limits
    }
}
