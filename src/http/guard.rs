//! Refuses requests that a browser sends on behalf of a foreign page: by DNS rebinding to this address, or cross-site.
//! Pure functions.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, ORIGIN};

use crate::model::DnsName;

/// The allowed Host headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// `localhost`, a loopback address, or the listener's address.
    Own,
    /// These, any IP address, and a name without a dot: scrapers use published ports and container names. Neither can
    /// be rebound.
    OwnAddressOrShortName,
}

/// Why a request is refused before it is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RejectedRequest {
    /// No Host header, or several.
    #[error("a request needs one Host header")]
    NoHost,
    /// The Host header is a name that may have been rebound to this address.
    #[error(
        "the Host header must be `localhost`, a loopback address, the address that is listened on or one of `admin.names`"
    )]
    Rebound,
    /// A page of another site sent the request.
    #[error("requests from pages of other sites are refused")]
    CrossSite,
}

/// Checks the head of a request to the address `local` by `scheme`, `http://` or `https://`. `names` are further
/// allowed hosts.
///
/// A browser sends the page's host name as Host, which reveals a rebound name, and Origin with cross-site requests.
/// Other clients send neither a foreign Host nor an Origin.
///
/// # Errors
///
/// [`RejectedRequest`].
pub(super) fn check(
    headers: &HeaderMap,
    local: IpAddr,
    hosts: Hosts,
    names: &BTreeSet<DnsName>,
    scheme: &str,
) -> Result<(), RejectedRequest> {
    let mut all = headers.get_all(HOST).iter();
    let (Some(host), None) = (all.next(), all.next()) else { return Err(RejectedRequest::NoHost) };
    let host = host.to_str().map_err(|_| RejectedRequest::NoHost)?;
    let name = host_part(host);
    let is_named = name.parse::<DnsName>().is_ok_and(|name| names.contains(&name));
    if !is_named && !is_allowed(name, local, hosts) {
        return Err(RejectedRequest::Rebound);
    }
    for origin in headers.get_all(ORIGIN) {
        let same = origin.to_str().ok().and_then(|origin| origin.strip_prefix(scheme)).is_some_and(|o| o == host);
        if !same {
            return Err(RejectedRequest::CrossSite);
        }
    }
    match headers.get("sec-fetch-site").map(|value| value.as_bytes()) {
        Some(b"cross-site" | b"same-site") => Err(RejectedRequest::CrossSite),
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

fn is_allowed(host: &str, local: IpAddr, hosts: Hosts) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) => {
            address.is_loopback() || address == local.to_canonical() || hosts == Hosts::OwnAddressOrShortName
        }
        Err(_) => hosts == Hosts::OwnAddressOrShortName && !host.is_empty() && !host.contains('.'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(pairs: &[(&'static str, &str)], local: &str) -> Result<(), RejectedRequest> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header value"));
        }
        check(&headers, local.parse().expect("an address"), Hosts::Own, &BTreeSet::new(), "http://")
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
            assert_eq!(verdict(&[("host", host)], "10.0.0.7"), Err(RejectedRequest::Rebound), "{host}");
        }
        assert_eq!(verdict(&[], "127.0.0.1"), Err(RejectedRequest::NoHost));
        let twice = [("host", "localhost"), ("host", "attacker.example")];
        assert_eq!(verdict(&twice, "127.0.0.1"), Err(RejectedRequest::NoHost));
    }

    #[test]
    fn a_scraper_may_use_any_address_and_the_name_of_a_container() {
        let scrape = |host: &str| {
            let headers = HeaderMap::from_iter([(HOST, host.parse().expect("a header value"))]);
            check(&headers, IpAddr::from([172, 17, 0, 2]), Hosts::OwnAddressOrShortName, &BTreeSet::new(), "http://")
        };
        for host in ["localhost:9464", "10.0.0.8:9464", "[2001:db8::1]:9464", "gateway:9464", "gateway"] {
            assert_eq!(scrape(host), Ok(()), "{host}");
        }
        for host in ["attacker.example:9464", "localhost.attacker.example", "127.0.0.1.nip.io", "gateway.", ""] {
            assert_eq!(scrape(host), Err(RejectedRequest::Rebound), "{host}");
        }
    }

    #[test]
    fn the_listeners_names_are_hosts_and_no_name_around_them_is() {
        let names = BTreeSet::from(["cloud.mongodb.com".parse().expect("a name")]);
        let named = |host: &str| {
            let headers = HeaderMap::from_iter([(HOST, host.parse().expect("a header value"))]);
            check(&headers, IpAddr::from([10, 0, 0, 7]), Hosts::Own, &names, "https://")
        };
        for host in ["cloud.mongodb.com", "Cloud.MongoDB.com:443", "cloud.mongodb.com.", "10.0.0.7", "localhost"] {
            assert_eq!(named(host), Ok(()), "{host}");
        }
        for host in ["mongodb.com", "a.cloud.mongodb.com", "cloud.mongodb.com.attacker.example", "*.mongodb.com"] {
            assert_eq!(named(host), Err(RejectedRequest::Rebound), "{host}");
        }
    }

    #[test]
    fn requests_from_pages_of_other_sites_are_refused_and_same_origin_ones_are_not() {
        let with = |name: &'static str, value: &str| verdict(&[("host", "localhost:8474"), (name, value)], "127.0.0.1");
        assert_eq!(with("origin", "http://localhost:8474"), Ok(()));
        assert_eq!(with("sec-fetch-site", "same-origin"), Ok(()));
        for origin in ["null", "https://localhost:8474", "http://localhost:8475", "http://attacker.example"] {
            assert_eq!(with("origin", origin), Err(RejectedRequest::CrossSite), "{origin}");
        }
        assert_eq!(with("sec-fetch-site", "cross-site"), Err(RejectedRequest::CrossSite));
    }
}
