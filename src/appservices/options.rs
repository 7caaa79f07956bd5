//! The options and limits of the HTTP front end.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Settings;

/// Options of the HTTP front end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppOptions {
    /// Threads; each has its own listening sockets, clients and connections to backends.
    pub workers: usize,
    /// Length of a listening socket's queue.
    pub backlog: i32,
    /// Connections that a listener accepts before others have their turn.
    pub accepts_per_wake: u32,
    /// Probe silent peers after this long.
    pub keepalive: Option<Duration>,
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
    /// Limits on clients and backends.
    pub limits: AppLimits,
}

impl Default for AppOptions {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            backlog: 4096,
            accepts_per_wake: 32,
            keepalive: Some(Duration::from_secs(120)),
            hold_time: Duration::from_secs(127),
            proxy_protocol: false,
            backend_ca: None,
            drain: Duration::from_secs(300),
            websocket_idle: Duration::from_secs(350),
            limits: AppLimits::default(),
        }
    }
}

impl From<&Settings> for AppOptions {
    /// What a config file says, with the rest as it is.
    fn from(settings: &Settings) -> Self {
        let apps = &settings.app_services;
        let defaults = Self::default();
        Self {
            workers: if settings.workers == 0 { defaults.workers } else { settings.workers },
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
                header_time: apps.header_time,
                idle: apps.idle,
                body_idle: apps.body_idle,
                header_size: apps.header_size,
                streams: apps.streams,
                connect: apps.connect_timeout,
                answer: apps.answer_timeout,
                ..defaults.limits
            },
        }
    }
}

/// Limits against clients that take too much or too long, and against backends that don't answer.
#[derive(Debug, Clone, PartialEq, Eq)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_config_file_gives_the_defaults() {
        assert_eq!(AppOptions::from(&Settings::default()), AppOptions::default());
    }
}
