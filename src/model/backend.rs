//! Backends of App Services apps.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{DnsName, ParseTextError, TargetPort};

/// The protocol of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BackendScheme {
    /// `http`: HTTP/1.1 without TLS.
    Http,
    /// `https`: TLS; HTTP/2 or HTTP/1.1, chosen by ALPN.
    Https,
    /// `h2c`: HTTP/2 without TLS, with prior knowledge (RFC 9113 §3.3).
    H2c,
}

impl BackendScheme {
    /// The scheme in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
        }
    }
}

/// A backend: `http://127.1.0.31:9080`. Scheme, host and port only, as paths are forwarded unchanged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendUrl {
    /// The protocol.
    pub scheme: BackendScheme,
    /// A name or an address, without the brackets of an IPv6 address.
    pub host: String,
    /// Its port.
    pub port: TargetPort,
}

impl FromStr for BackendUrl {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, ParseTextError> {
        let parse = || {
            let (scheme, authority) = text.split_once("://")?;
            let scheme = match scheme {
                "http" => BackendScheme::Http,
                "https" => BackendScheme::Https,
                "h2c" => BackendScheme::H2c,
                _ => return None,
            };
            let (host, port) = authority.rsplit_once(':')?;
            let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
                Some(inner) => inner.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
                None => host.parse::<DnsName>().ok().filter(|name| !name.as_str().starts_with('*'))?.to_string(),
            };
            Some(Self { scheme, host, port: TargetPort::try_from(port.parse::<u16>().ok()?).ok()? })
        };
        parse().ok_or_else(|| {
            let expected = "a backend (http://HOST:PORT, https://HOST:PORT, or h2c://HOST:PORT for HTTP/2 without TLS, with \
                            nothing behind it, as `http://127.1.0.31:9080`)";
            ParseTextError::not(text, expected)
        })
    }
}

impl BackendUrl {
    /// `HOST:PORT`, as in a URL.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Its address, if the host is one (or `localhost`) rather than a name to resolve.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let host = if self.host == "localhost" { "127.0.0.1" } else { self.host.trim_matches(['[', ']']) };
        Some(SocketAddr::new(host.parse().ok()?, self.port.get()))
    }
}

impl fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_scheme_host_and_port_and_nothing_else() {
        for text in ["http://127.1.0.31:9080", "https://backend.lab:443", "h2c://[::1]:9080"] {
            assert_eq!(text.parse::<BackendUrl>().expect(text).to_string(), text);
        }
        for text in [
            "127.1.0.31:9080",
            "http://127.1.0.31",
            "http://127.1.0.31:0",
            "http://a:9080/path",
            "http://user@a:9080",
            "ws://a:9080",
            "http://[zz]:9080",
            "http://*.lab:9080",
        ] {
            assert!(text.parse::<BackendUrl>().is_err(), "{text}");
        }
    }
}
