//! Parses and checks a single TOML value; an error is a sentence.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use toml::de::DeValue;

use super::raw::shown;
use crate::model::{
    CidrSet, HumanDuration, HumanSize, LogLevels, NodeAddress, Region, Share, TargetPort, Zone, not_a_port,
};

type ReadResult<T> = Result<T, String>;

/// A text.
pub(super) fn text(value: &DeValue<'_>) -> ReadResult<String> {
    quoted(value, "a text in quotes").map(str::to_owned)
}

/// A text that is not empty.
pub(super) fn non_empty_text(value: &DeValue<'_>) -> ReadResult<String> {
    let text = text(value)?;
    if text.trim().is_empty() { Err("empty; write something or leave it out".to_owned()) } else { Ok(text) }
}

/// Log levels: `info,data=debug`.
pub(super) fn log_levels(value: &DeValue<'_>) -> ReadResult<LogLevels> {
    quoted(value, "log levels in quotes, as \"info,data=debug\"")?.parse().map_err(sentence)
}

/// A share: 0 to 1.
pub(super) fn share(value: &DeValue<'_>) -> ReadResult<Share> {
    let number = match value {
        DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
        DeValue::Integer(number) => number.as_str().parse::<f64>().ok(),
        _ => None,
    };
    number.and_then(Share::new).ok_or_else(|| format!("{} is no share (0.0 to 1.0)", shown(value)))
}

/// `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>) -> ReadResult<bool> {
    value.as_bool().ok_or_else(|| format!("{} is neither `true` nor `false`", shown(value)))
}

/// A whole number in `range`.
pub(super) fn whole<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> ReadResult<T>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    move |value| {
        let Some(number) = value.as_integer() else {
            return Err(format!("{} is not a whole number ({} to {})", shown(value), range.start(), range.end()));
        };
        i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("{number} is out of range ({} to {})", range.start(), range.end()))
    }
}

/// A duration in `seconds`; `whose` is the origin of the limits, if they are not the gateway's own.
pub(super) fn duration(
    seconds: RangeInclusive<u64>,
    whose: &'static str,
) -> impl Fn(&DeValue<'_>) -> ReadResult<Duration> {
    move |value| {
        let text = quoted(value, "a duration in quotes, as \"350s\"")?;
        let HumanDuration(duration) = text.parse().map_err(sentence)?;
        let range = Duration::from_secs(*seconds.start())..=Duration::from_secs(*seconds.end());
        if range.contains(&duration) {
            Ok(duration)
        } else {
            let comma = if whose.is_empty() { "" } else { ", " };
            Err(format!("`{text}` is out of range ({}s to {}s{comma}{whose})", seconds.start(), seconds.end()))
        }
    }
}

/// A TTL: whole seconds, at most the 2^31 - 1 of RFC 2181.
pub(super) fn ttl(value: &DeValue<'_>) -> ReadResult<Duration> {
    let ttl = duration(0..=2_147_483_647, "RFC 2181")(value)?;
    if ttl.subsec_nanos() == 0 { Ok(ttl) } else { Err(format!("`{}` is not in whole seconds", HumanDuration(ttl))) }
}

/// A size in `range`, in bytes.
pub(super) fn size(range: RangeInclusive<usize>) -> impl Fn(&DeValue<'_>) -> ReadResult<usize> {
    move |value| {
        let text = quoted(value, "a size in quotes, as \"64KiB\"")?;
        let HumanSize(bytes) = text.parse().map_err(sentence)?;
        if range.contains(&bytes) {
            Ok(bytes)
        } else {
            Err(format!("`{text}` is out of range ({} to {})", HumanSize(*range.start()), HumanSize(*range.end())))
        }
    }
}

/// A text that parses as `T`, for example an id, a name, or a range of ports.
pub(super) fn parsed<T>(value: &DeValue<'_>) -> ReadResult<T>
where
    T: FromStr,
    T::Err: Display,
{
    quoted(value, "a text in quotes")?.parse().map_err(sentence)
}

/// A region of AWS.
pub(super) fn aws_region(value: &DeValue<'_>) -> ReadResult<Region> {
    Region::of(None, quoted(value, "a region in quotes, as \"us-east-1\"")?).map_err(sentence)
}

/// A zone; for an unknown region, the error names the nearest one.
pub(super) fn zone(value: &DeValue<'_>) -> ReadResult<Zone> {
    let text = quoted(value, "a zone in quotes, as \"us-east-1a\"")?;
    text.parse().map_err(|error| match text.strip_suffix(|c: char| c.is_ascii_lowercase()).map(Region::from_str) {
        Some(Err(unknown)) => format!("in zone `{text}`, {unknown}"),
        Some(Ok(_)) | None => sentence(error),
    })
}

/// A network: `10.0.0.0/16`, or a plain address.
pub(super) fn network(value: &DeValue<'_>) -> ReadResult<IpNet> {
    CidrSet::parse_one(quoted(value, "a network in quotes, as \"10.0.0.0/16\"")?).map_err(sentence)
}

/// An IPv6 network.
pub(super) fn ipv6_network(value: &DeValue<'_>) -> ReadResult<Ipv6Net> {
    match network(value)? {
        IpNet::V6(net) => Ok(net),
        IpNet::V4(net) => Err(format!("`{net}` is IPv4; write an IPv6 network, as `2001:db8:0:30::/64`")),
    }
}

/// An IPv4 address.
pub(super) fn ipv4_address(value: &DeValue<'_>) -> ReadResult<Ipv4Addr> {
    match address(value)? {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(ip) => Err(format!("`{ip}` is IPv6; write it as `ipv6`")),
    }
}

/// An IPv6 address.
pub(super) fn ipv6_address(value: &DeValue<'_>) -> ReadResult<Ipv6Addr> {
    match address(value)? {
        IpAddr::V6(ip) => Ok(ip),
        IpAddr::V4(ip) => Err(format!("`{ip}` is IPv4; write an IPv6 address, as `2001:db8:0:30::c2`")),
    }
}

/// An address.
pub(super) fn address(value: &DeValue<'_>) -> ReadResult<IpAddr> {
    let text = quoted(value, "an address in quotes, as \"10.0.30.194\"")?;
    let ip: IpAddr = text.parse().map_err(|_| format!("`{text}` is not an address; write one as `10.0.30.194`"))?;
    plain(ip, text)?;
    Ok(ip)
}

/// Refuses IPv4-mapped IPv6 addresses: conflicts between two notations of one address would not be detected.
fn plain(ip: IpAddr, text: &str) -> ReadResult<()> {
    match ip {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Err(format!("`{text}` is IPv4 mapped into IPv6; write it as `{v4}`")),
            None => Ok(()),
        },
        IpAddr::V4(_) => Ok(()),
    }
}

/// An address and a port to bind; port 0 lets the kernel choose.
pub(super) fn bindable(value: &DeValue<'_>) -> ReadResult<SocketAddr> {
    let text = quoted(value, "an address and a port in quotes, as \"127.0.0.1:5335\"")?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        plain(address.ip(), text)?;
        return Ok(address);
    }
    // If only the port is invalid, the error is about the port.
    let port = text.rsplit_once(':').filter(|(host, _)| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok());
    Err(match port {
        Some((_, port)) => not_a_port(format_args!("`{port}`")).to_string(),
        None => format!("`{text}` is not ADDRESS:PORT, as `127.0.0.1:27017`"),
    })
}

/// An address and a port to which others connect, so not 0.
pub(super) fn socket(value: &DeValue<'_>) -> ReadResult<SocketAddr> {
    let address = bindable(value)?;
    TargetPort::try_from(address.port()).map_err(sentence)?;
    Ok(address)
}

/// A node's address and port. A host name has a separate key, so that a mistyped address is not resolved.
pub(super) fn node_address(value: &DeValue<'_>) -> ReadResult<NodeAddress> {
    let named = |text: &&str| text.parse::<NodeAddress>().is_ok_and(|address| address.host().is_some());
    match value.as_str().filter(named) {
        Some(text) => Err(format!("`{text}` is a host name; write it as `host`")),
        None => socket(value).map(NodeAddress::Fixed),
    }
}

/// A node's host name and port.
pub(super) fn node_host(value: &DeValue<'_>) -> ReadResult<NodeAddress> {
    let text = quoted(value, "a host name and a port in quotes, as \"mongo1.internal:27017\"")?;
    match text.parse() {
        Ok(NodeAddress::Fixed(_)) => Err(format!("`{text}` is an address; write it as `address`")),
        Ok(named @ NodeAddress::Named { .. }) => Ok(named),
        Err(_) => Err(format!("`{text}` is not HOST:PORT, as `mongo1.internal:27017`")),
    }
}

/// The URL of a server, without a path: `http://` or `https://`, a host and a port.
pub(super) fn url(value: &DeValue<'_>) -> ReadResult<String> {
    let text = quoted(value, r#"a URL in quotes, as "http://127.0.0.1:2379""#)?;
    let is_server = |uri: hyper::Uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.port().is_some()
            && uri.path() == "/"
            && uri.query().is_none()
    };
    match text.parse::<hyper::Uri>().is_ok_and(is_server) {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(format!("`{text}` is not a server's URL, as `http://127.0.0.1:2379`")),
    }
}

/// One of `words`, each mapped to its value.
pub(super) fn one_of<T: Clone>(words: &[(&str, T)]) -> impl Fn(&DeValue<'_>) -> ReadResult<T> {
    move |value| {
        let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let known = known.join(", ");
        let text = quoted(value, &format!("one of {known}"))?;
        words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, meaning)| meaning.clone())
            .ok_or_else(|| format!("`{text}` is none of {known}"))
    }
}

/// A string; the error says that `wanted` is expected.
fn quoted<'v>(value: &'v DeValue<'_>, wanted: &str) -> ReadResult<&'v str> {
    value.as_str().ok_or_else(|| format!("{} is not {wanted}", shown(value)))
}

/// An error as text.
fn sentence(error: impl Display) -> String {
    error.to_string()
}
