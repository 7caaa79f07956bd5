//! A request's host and port, which its head must give once and unambiguously.

use hyper::header::{self, HeaderValue};
use hyper::{Method, Request};

/// Why a CONNECT that does not open a WebSocket is refused.
pub(crate) const NO_TUNNEL: &str = "there is nothing to connect to";

/// The host and port of a request.
#[derive(Debug)]
pub(crate) struct RequestTarget {
    /// As written by the client.
    pub(crate) authority: HeaderValue,
    /// Lower case, without the port.
    pub(crate) host: String,
}

impl RequestTarget {
    /// Reads the target from the request's head.
    ///
    /// # Errors
    ///
    /// The problem of the head.
    pub(crate) fn read<B>(request: &Request<B>) -> Result<Self, &'static str> {
        if matches!(request.method().as_str(), "TRACE" | "TRACK") {
            return Err("requests are not sent back");
        }
        if *request.method() == Method::CONNECT && request.extensions().get::<hyper::ext::Protocol>().is_none() {
            return Err(NO_TUNNEL);
        }
        let chunked_or_none = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
        if !codings.next().is_none_or(chunked_or_none) || codings.next().is_some() {
            return Err("the only transfer coding is `chunked`, once");
        }
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let value = hosts.next();
        if hosts.next().is_some() {
            return Err("the host is given more than once");
        }
        let header = value.map(HeaderValue::to_str).transpose().map_err(|_| "the host is no name")?;
        let uri = request.uri();
        let text = match (uri.authority(), header) {
            (Some(authority), header) => {
                if uri.scheme_str() != Some("https") {
                    return Err("the scheme is not https");
                }
                if header.is_some_and(|header| !header.eq_ignore_ascii_case(authority.as_str())) {
                    return Err("the host is given twice, differently");
                }
                authority.as_str()
            }
            (None, Some(header)) => header,
            (None, None) => return Err("the host is missing"),
        };
        let (host, port) = split_port(text);
        let fits = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'[' | b']' | b':'))
            && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        if !fits {
            return Err("the host is no name");
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let authority = match (uri.authority(), value) {
            (None, Some(value)) => value.clone(),
            _ => HeaderValue::from_str(text).map_err(|_| "the host is no name")?,
        };
        Ok(Self { authority, host })
    }

    /// The host as written by the client, without the port; an IPv6 address keeps its brackets.
    pub(crate) fn written_host(&self) -> &str {
        split_port(self.authority.to_str().unwrap_or_default()).0
    }
}

/// Splits `HOST:PORT`; an IPv6 address keeps its brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(host: &str) -> Result<RequestTarget, &'static str> {
        RequestTarget::read(&Request::builder().uri("/").header("host", host).body(()).expect("a request"))
    }

    #[test]
    fn the_host_is_read_without_case_port_and_last_dot() {
        for (written, host) in [
            ("a.example", "a.example"),
            ("A.Example:8443", "a.example"),
            ("a.example.", "a.example"),
            ("[::1]:1", "[::1]"),
        ] {
            let target = read(written).expect("a host");
            assert_eq!((target.authority.as_bytes(), target.host.as_str()), (written.as_bytes(), host));
        }
        for wrong in ["", ":1", "a:", "a:b", "a b", "a/b", "a@b"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
