//! Address families, and the types of endpoints, services and DNS records, with AWS's names.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl IpFamily {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// Its name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }

    /// AWS's name.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// The address families of an endpoint, a subnet, or those that an endpoint service supports. Source: Amazon EC2 API
/// Reference, *CreateVpcEndpoint*, `IpAddressType`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpAddressType {
    /// IPv4 only.
    #[default]
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both.
    Dualstack,
}

impl IpAddressType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Ipv4, Self::Ipv6, Self::Dualstack];

    /// The type with only the family of `ip`.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match IpFamily::of(ip) {
            IpFamily::Ipv4 => Self::Ipv4,
            IpFamily::Ipv6 => Self::Ipv6,
        }
    }

    /// AWS's name.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Dualstack => "dualstack",
        }
    }

    /// Parses AWS's name.
    #[must_use]
    pub fn from_label(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label().eq_ignore_ascii_case(text))
    }

    /// Whether `family` is one of its families.
    #[must_use]
    pub fn has(self, family: IpFamily) -> bool {
        match self {
            Self::Ipv4 => family == IpFamily::Ipv4,
            Self::Ipv6 => family == IpFamily::Ipv6,
            Self::Dualstack => true,
        }
    }

    /// Its families.
    pub fn families(self) -> impl Iterator<Item = IpFamily> {
        IpFamily::ALL.into_iter().filter(move |family| self.has(*family))
    }

    /// Whether it has every family of `other`.
    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        other.families().all(|family| self.has(family))
    }
}

/// The DNS records of an endpoint's names. Source: AWS PrivateLink, *Create a service powered by AWS PrivateLink*, DNS
/// record IP types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DnsRecordIpType {
    /// A records.
    #[default]
    Ipv4,
    /// AAAA records.
    Ipv6,
    /// A and AAAA records.
    Dualstack,
    /// A and AAAA records at the regional and the zonal names, A records at a private DNS name.
    ServiceDefined,
}

impl DnsRecordIpType {
    /// Every type.
    pub const ALL: [Self; 4] = [Self::Ipv4, Self::Ipv6, Self::Dualstack, Self::ServiceDefined];

    /// The default for an endpoint of this type.
    #[must_use]
    pub fn default_of(address: IpAddressType) -> Self {
        match address {
            IpAddressType::Ipv4 => Self::Ipv4,
            IpAddressType::Ipv6 => Self::Ipv6,
            IpAddressType::Dualstack => Self::Dualstack,
        }
    }

    /// AWS's name.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Dualstack => "dualstack",
            Self::ServiceDefined => "service-defined",
        }
    }

    /// Parses AWS's name.
    #[must_use]
    pub fn from_label(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == text)
    }

    /// Whether an endpoint of this type can have such records: a dual-stack one any, others those of their family.
    #[must_use]
    pub fn fits(self, address: IpAddressType) -> bool {
        address == IpAddressType::Dualstack || self == Self::default_of(address)
    }

    /// Whether `ip` is in DNS at the endpoint's regional and zonal names.
    #[must_use]
    pub fn answers(self, ip: IpAddr) -> bool {
        match self {
            Self::Ipv4 => ip.is_ipv4(),
            Self::Ipv6 => ip.is_ipv6(),
            Self::Dualstack | Self::ServiceDefined => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dual_stack_endpoint_may_have_any_records_and_another_one_those_of_its_family() {
        for address in IpAddressType::ALL {
            let fitting: Vec<_> =
                DnsRecordIpType::ALL.into_iter().filter(|records| records.fits(address)).map(|r| r.label()).collect();
            let expected: &[&str] = match address {
                IpAddressType::Ipv4 => &["ipv4"],
                IpAddressType::Ipv6 => &["ipv6"],
                IpAddressType::Dualstack => &["ipv4", "ipv6", "dualstack", "service-defined"],
            };
            assert_eq!(fitting, expected, "{address:?}");
        }
    }

    #[test]
    fn a_service_of_both_families_takes_endpoints_of_each() {
        use IpAddressType::{Dualstack, Ipv4, Ipv6};
        assert!(IpAddressType::ALL.into_iter().all(|kind| Dualstack.includes(kind) && kind.includes(kind)));
        assert!(!Ipv4.includes(Dualstack) && !Ipv6.includes(Dualstack) && !Ipv4.includes(Ipv6));
    }
}
