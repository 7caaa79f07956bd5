//! Sets of networks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ParseTextError;

/// Networks, in their original order; an address belongs to the set if one of them contains it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct CidrSet(#[schemars(with = "Vec<String>")] Vec<IpNet>);

impl CidrSet {
    /// All addresses: `0.0.0.0/0` and `::/0`.
    #[must_use]
    pub fn everywhere() -> Self {
        [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())].into_iter().collect()
    }

    /// Parses a network: `10.0.0.0/16`, or a plain address for a network with a single address.
    ///
    /// # Errors
    ///
    /// [`ParseTextError`] when the text is no network or has bits set behind its prefix.
    pub fn parse_one(text: &str) -> Result<IpNet, ParseTextError> {
        let net = IpNet::from_str(text)
            .or_else(|_| IpAddr::from_str(text).map(IpNet::from))
            .map_err(|_| ParseTextError::not(text, "a network; write ADDRESS/LENGTH, as `10.0.0.0/16`"))?;
        if let IpNet::V6(v6) = net
            && let Some(v4) = v6.addr().to_ipv4_mapped()
        {
            // Overlaps between two notations of one network would not be detected.
            let reason = format!("`{text}` is IPv4 mapped into IPv6; write the IPv4 network, as `{v4}/32`");
            return Err(ParseTextError::new(reason));
        }
        if net.trunc() == net {
            Ok(net)
        } else {
            let reason = format!("`{text}` has bits set behind its prefix; did you mean `{}`?", net.trunc());
            Err(ParseTextError::new(reason))
        }
    }

    /// Whether one of the networks contains `address`. An IPv4-mapped IPv6 address counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// The first pair of overlapping networks, one of each set.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> Option<(IpNet, IpNet)> {
        self.0.iter().find_map(|a| other.0.iter().find(|b| nets_overlap(a, b)).map(|b| (*a, *b)))
    }

    /// Whether one of the networks contains `net`.
    #[must_use]
    pub fn covers(&self, net: &IpNet) -> bool {
        self.0.iter().any(|own| own.contains(net))
    }

    /// Whether there is no network.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks, in order.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }
}

/// Whether AWS reserves `ip`: the first four addresses of a subnet and the last, of either family. Source: Amazon VPC
/// User Guide, *Subnet CIDR blocks*. A subnet that is too small for AWS has no reserved addresses.
#[must_use]
pub fn is_reserved(ip: IpAddr, subnet: IpNet) -> bool {
    let from_start = match (ip, subnet.network()) {
        (IpAddr::V4(ip), IpAddr::V4(first)) => u128::from(ip.to_bits().wrapping_sub(first.to_bits())),
        (IpAddr::V6(ip), IpAddr::V6(first)) => ip.to_bits().wrapping_sub(first.to_bits()),
        _ => return false,
    };
    subnet.max_prefix_len() - subnet.prefix_len() >= 4 && (from_start < 4 || ip == subnet.broadcast())
}

/// Whether two networks overlap: one contains the other.
fn nets_overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

impl FromIterator<IpNet> for CidrSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        Self(nets.into_iter().collect())
    }
}

impl fmt::Display for CidrSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, net) in self.0.iter().enumerate() {
            write!(f, "{}{net}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_with_host_bits_is_refused_with_the_network_that_contains_it() {
        let error = CidrSet::parse_one("10.0.1.0/16").expect_err("host bits");
        assert_eq!(error.to_string(), "`10.0.1.0/16` has bits set behind its prefix; did you mean `10.0.0.0/16`?");
    }

    #[test]
    fn a_network_mapped_into_ipv6_is_refused() {
        let error = CidrSet::parse_one("::ffff:127.1.0.0/112").expect_err("mapped");
        assert!(error.to_string().contains("write the IPv4 network"), "{error}");
    }

    #[test]
    fn the_first_four_addresses_of_a_subnet_and_the_last_are_awss() {
        let is_reserved = |ip: &str, net: &str| is_reserved(ip.parse().expect(ip), CidrSet::parse_one(net).expect(net));
        for (net, own, free) in [
            ("10.0.30.0/24", ["10.0.30.0", "10.0.30.3", "10.0.30.255"], ["10.0.30.4", "10.0.30.254"]),
            (
                "2001:db8:0:30::/64",
                ["2001:db8:0:30::", "2001:db8:0:30::3", "2001:db8:0:30:ffff:ffff:ffff:ffff"],
                ["2001:db8:0:30::4", "2001:db8:0:30:ffff:ffff:ffff:fffe"],
            ),
        ] {
            assert!(own.into_iter().all(|ip| is_reserved(ip, net)), "{net}");
            assert!(!free.into_iter().any(|ip| is_reserved(ip, net)), "{net}");
        }
        assert!(!is_reserved("10.0.30.1", "10.0.30.0/30") && !is_reserved("10.0.30.1", "2001:db8:0:30::/64"));
    }

    #[test]
    fn an_address_mapped_into_ipv6_counts_as_itself() {
        let set: CidrSet = [CidrSet::parse_one("10.0.0.0/16").expect("a network")].into_iter().collect();
        assert!(set.contains("::ffff:10.0.3.4".parse().expect("an address")));
        assert!(!set.contains("10.1.0.0".parse().expect("an address")));
    }
}
