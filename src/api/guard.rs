//! Who may not be asking, told from the request's head: a web page that a name was rebound under, or another site's page.
//! Pure.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, ORIGIN};

/// Why a request is refused before anything else is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Suspicion {
    /// No single Host header.
    #[error("a request needs one Host header")]
    NoHost,
    /// Host is a name that somebody may have rebound to this address.
    #[error("the Host header must be `localhost`, a loopback address or the address that is listened on")]
    Rebound,
    /// A page of another site asks.
    #[error("requests from pages of other sites are refused")]
    CrossSite,
}

/// Checks the head of a request that came to `local`.
///
/// A browser sends the page's own name as Host, so a name that was rebound to this address shows; it sends Origin with
/// whatever another page makes it do. Programs send neither a foreign Host nor an Origin.
///
/// # Errors
///
/// [`Suspicion`].
pub(super) fn check(headers: &HeaderMap, local: IpAddr) -> Result<(), Suspicion> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(Suspicion::NoHost) };
    let host = host.to_str().map_err(|_| Suspicion::NoHost)?;
    if !is_own(host_part(host), local) {
        return Err(Suspicion::Rebound);
    }
    for origin in headers.get_all(ORIGIN) {
        let same = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")).is_some_and(|o| o == host);
        if !same {
            return Err(Suspicion::CrossSite);
        }
    }
    match headers.get("sec-fetch-site").map(|value| value.as_bytes()) {
        Some(b"cross-site" | b"same-site") => Err(Suspicion::CrossSite),
        _ => Ok(()),
    }
}

/// A Host header without its port.
fn host_part(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_own(host: &str, local: IpAddr) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| {
            let address = address.to_canonical();
            address.is_loopback() || address == local.to_canonical()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(pairs: &[(&'static str, &str)], local: &str) -> Result<(), Suspicion> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header value"));
        }
        check(&headers, local.parse().expect("an address"))
    }

    #[test]
    fn localhost_loopback_and_the_listeners_own_address_are_hosts() {
        for host in ["localhost", "LocalHost:8474", "127.0.0.1:8474", "127.9.0.3", "[::1]:8474", "10.0.0.7:8474"] {
            assert_eq!(verdict(&[("host", host)], "10.0.0.7"), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_rebound_name_is_refused() {
        for host in ["attacker.example", "localhost.attacker.example", "127.0.0.1.nip.io", "10.0.0.8", ""] {
            assert_eq!(verdict(&[("host", host)], "10.0.0.7"), Err(Suspicion::Rebound), "{host}");
        }
        assert_eq!(verdict(&[], "127.0.0.1"), Err(Suspicion::NoHost));
        let twice = [("host", "localhost"), ("host", "attacker.example")];
        assert_eq!(verdict(&twice, "127.0.0.1"), Err(Suspicion::NoHost));
    }

    #[test]
    fn a_page_of_another_site_is_refused_and_an_own_page_is_not() {
        let with = |name: &'static str, value: &str| verdict(&[("host", "localhost:8474"), (name, value)], "127.0.0.1");
        assert_eq!(with("origin", "http://localhost:8474"), Ok(()));
        assert_eq!(with("sec-fetch-site", "same-origin"), Ok(()));
        for origin in ["null", "https://localhost:8474", "http://localhost:8475", "http://attacker.example"] {
            assert_eq!(with("origin", origin), Err(Suspicion::CrossSite), "{origin}");
        }
        assert_eq!(with("sec-fetch-site", "cross-site"), Err(Suspicion::CrossSite));
    }
}
