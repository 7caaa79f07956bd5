//! Addresses of nodes: fixed, or by host name.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::text::text_serde;
use super::{DnsName, ParseTextError, TargetPort};

/// The address of a `mongod`, a `mongos` or a BI Connector. As text: `10.1.0.11:27017` or `mongo1.internal:27017`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeAddress {
    /// A fixed address.
    Fixed(SocketAddr),
    /// A port at the address of a host name.
    Named {
        /// The name.
        host: DnsName,
        /// The port.
        port: TargetPort,
    },
}

impl NodeAddress {
    /// The address, if it is fixed.
    #[must_use]
    pub fn fixed(&self) -> Option<SocketAddr> {
        match self {
            Self::Fixed(address) => Some(*address),
            Self::Named { .. } => None,
        }
    }

    /// The host name, if there is one.
    #[must_use]
    pub fn host(&self) -> Option<&DnsName> {
        match self {
            Self::Fixed(_) => None,
            Self::Named { host, .. } => Some(host),
        }
    }

    /// The address, using the `resolved` host names; `None` for a name that is not among them.
    #[must_use]
    pub fn at(&self, resolved: &BTreeMap<DnsName, IpAddr>) -> Option<SocketAddr> {
        match self {
            Self::Fixed(address) => Some(*address),
            Self::Named { host, port } => Some(SocketAddr::new(*resolved.get(host)?, port.get())),
        }
    }
}

impl From<SocketAddr> for NodeAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Fixed(address)
    }
}

impl FromStr for NodeAddress {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, ParseTextError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Fixed(address));
        }
        let named = || {
            let (host, port) = text.rsplit_once(':')?;
            let port = TargetPort::try_from(port.parse::<u16>().ok()?).ok()?;
            // A last label of digits only is a mistyped address, not a name (RFC 3696, section 2).
            let is_name = |name: &DnsName| {
                let last = name.as_str().rsplit('.').next().unwrap_or_default();
                !name.as_str().starts_with('*') && !last.bytes().all(|byte| byte.is_ascii_digit())
            };
            Some(Self::Named { host: host.parse().ok().filter(is_name)?, port })
        };
        named().ok_or_else(|| {
            ParseTextError::new(format!(
                "`{text}` is neither ADDRESS:PORT nor HOST:PORT, as `10.1.0.11:27017` or `mongo1.internal:27017`"
            ))
        })
    }
}

text_serde!(NodeAddress);

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(address) => write!(f, "{address}"),
            Self::Named { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_a_name_with_a_port_is_where_a_node_listens() {
        for text in ["10.1.0.11:27017", "[fd00::11]:27017", "mongo1.internal:27017", "mongo1:27017", "a.10b:1"] {
            assert_eq!(text.parse::<NodeAddress>().expect(text).to_string(), text);
        }
        for text in ["mongo1.internal", "mongo1:0", "mongo1:99999", "10.1.0.300:27017", "*.internal:27017", ":27017"] {
            assert!(text.parse::<NodeAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_has_the_address_that_it_was_resolved_to() {
        let named: NodeAddress = "Mongo1.internal:27017".parse().expect("a name");
        assert_eq!(named.at(&BTreeMap::new()), None);
        let resolved = BTreeMap::from([("mongo1.internal".parse().expect("a name"), IpAddr::from([10, 1, 0, 11]))]);
        assert_eq!(named.at(&resolved), Some(SocketAddr::from(([10, 1, 0, 11], 27017))));
        assert_eq!(NodeAddress::from(SocketAddr::from(([10, 1, 0, 12], 1))).at(&resolved).map(|at| at.port()), Some(1));
    }
}
