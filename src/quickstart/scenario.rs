//! The quickstart's config, whose addresses can be shifted as a whole.

use ipnet::{IpNet, Ipv4Net};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};

use crate::config::{self, CLOUDS, Config, DnsSettings, QUICKSTART};
use crate::model::CidrSet;

/// An offset that is added to the second octet of every address of the quickstart.
///
/// The quickstart uses addresses in 127.0.x.x to 127.9.x.x, so two instances can run side by side if their shifts
/// differ by at least ten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkShift(u8);

/// The second octets that the quickstart uses: 0 (the VPC) to 9 (the internet).
const OCTETS: u8 = 10;

impl NetworkShift {
    /// The largest shift: the last network is then 127.254.0.0/16; 127.255.0.0/16 contains the broadcast address.
    pub const GREATEST: u8 = 254 - (OCTETS - 1);

    /// The shift by `n`; `None` if it is too large.
    #[must_use]
    pub fn new(n: u8) -> Option<Self> {
        (n <= Self::GREATEST).then_some(Self(n))
    }

    /// The next shift at which the scenario shares no address with this one.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::new(self.0.checked_add(OCTETS)?)
    }

    /// Claims the networks of this shift for this process, so that two quickstarts that start at the same moment do not both
    /// find them free. The claim is a name of the network namespace, which the kernel releases with the listener.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if another process has the claim.
    pub(super) fn claim(self) -> io::Result<UnixListener> {
        UnixListener::bind_addr(&UnixAddress::from_abstract_name(format!("plgw-quickstart-{}", self.0))?)
    }

    /// The shift as a number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }

    /// Shifts `ip` if it is a loopback address.
    fn ip(self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) if v4.is_loopback() => {
                let [a, b, c, d] = v4.octets();
                Ipv4Addr::new(a, b + self.0, c, d).into()
            }
            other => other,
        }
    }

    fn socket(self, address: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.ip(address.ip()), address.port())
    }

    /// Shifts every loopback address in `text`.
    fn text(self, text: &str) -> String {
        let mut moved = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("127.") {
            let (before, address) = rest.split_at(at);
            let inner = moved.ends_with(|c: char| c.is_ascii_digit() || c == '.') && before.is_empty();
            let inner = inner || before.ends_with(|c: char| c.is_ascii_digit() || c == '.');
            let second = &address[4..];
            let digits = second.bytes().take_while(u8::is_ascii_digit).count();
            moved.push_str(before);
            match second[..digits].parse::<u8>() {
                Ok(octet) if !inner => moved.push_str(&format!("127.{}", octet + self.0)),
                _ => moved.push_str(&address[..4 + digits]),
            }
            rest = &second[digits..];
        }
        moved + rest
    }
}

/// The quickstart's config, shifted by `shift`; `clouds` includes Azure and Google Cloud.
///
/// 127.0.0.0/16 remains a network of the VPC at any shift, as the source address of a client that binds none is
/// 127.0.0.1. It is also connected to the other clouds' networks, as by a VPN, so that such a client reaches their
/// endpoints.
///
/// # Panics
///
/// Never: the file is compiled in, and tests parse it at every shift.
#[must_use]
pub fn scenario(shift: NetworkShift, clouds: bool) -> Config {
    let text = shift.text(&[QUICKSTART, if clouds { CLOUDS } else { "" }].join("\n"));
    let mut config =
        config::parse(&text, "config/scenarios/quickstart.toml").expect("tests read the embedded file at every shift");
    let settings = &mut config.settings;
    settings.dns.get_or_insert_with(DnsSettings::default).listen.iter_mut().for_each(|at| *at = shift.socket(*at));
    for address in [&mut settings.metrics, &mut settings.admin].into_iter().flatten() {
        *address = shift.socket(*address);
    }
    for network in config.desired.vpcs.values_mut().filter(|vpc| vpc.id.cloud().is_some()) {
        network.on_premises = with_unbound(&network.on_premises);
    }
    if shift.0 > 0 {
        for vpc in config.desired.vpcs.values_mut().filter(|vpc| vpc.id.cloud().is_none()) {
            let own = vpc.cidrs.clone();
            vpc.cidrs = with_unbound(&own);
            for rule in vpc.security_groups.values_mut().flat_map(|group| &mut group.ingress) {
                if rule.cidrs.overlap(&own).is_some() {
                    rule.cidrs = with_unbound(&rule.cidrs);
                }
            }
        }
    }
    config
}

/// `cidrs` and the network of clients that bind no address.
fn with_unbound(cidrs: &CidrSet) -> CidrSet {
    let unbound = Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 16).expect("16 is a prefix length");
    cidrs.iter().copied().chain([IpNet::V4(unbound)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Generation, PortAllocations, compile};

    #[test]
    fn without_a_shift_it_is_the_documented_quickstart() {
        assert_eq!(scenario(NetworkShift::default(), false), config::quickstart());
    }

    #[test]
    fn a_shift_moves_every_address_and_keeps_unbound_clients_in_the_vpc() {
        let config = scenario(NetworkShift::new(20).expect("a shift"), false);
        let vpc = config.desired.vpcs.values().next().expect("a VPC");
        assert_eq!(vpc.cidrs.to_string(), "127.20.0.0/16, 127.0.0.0/16");
        assert_eq!(vpc.peered.to_string(), "127.23.0.0/16");
        let group = vpc.security_groups.values().next().expect("a group");
        assert!(group.ingress[0].cidrs.contains("127.0.0.1".parse().expect("an address")));
        let node = &config.desired.projects[0].clusters[0].nodes[0];
        assert_eq!(node.address.to_string(), "127.21.0.11:27017");
        assert_eq!(node.public_address.expect("one").to_string(), "127.29.0.11:27017");
        assert_eq!(config.desired.apps[0].backend, "http://127.21.0.31:9080");
        let settings = config.settings;
        assert_eq!(settings.dns.expect("DNS").listen[0].to_string(), "127.20.0.1:5335");
        assert_eq!(settings.metrics.expect("metrics").to_string(), "127.20.0.1:9464");
        assert_eq!(settings.admin.expect("admin").to_string(), "127.20.0.1:8474");
    }

    #[test]
    fn the_scenario_can_be_planned_at_every_shift() {
        for n in 0..=NetworkShift::GREATEST {
            for (clouds, listeners) in [(false, 13), (true, 13 + 6)] {
                let config = scenario(NetworkShift::new(n).expect("not too great"), clouds);
                let planned = compile(&config.desired, &PortAllocations::default(), Generation(1));
                let (snapshot, _) = planned.unwrap_or_else(|errors| panic!("{n}: {errors}"));
                assert_eq!(snapshot.listeners.len(), listeners, "{n}");
            }
        }
        assert_eq!(NetworkShift::new(NetworkShift::GREATEST + 1), None);
    }

    #[test]
    fn only_whole_loopback_addresses_are_moved() {
        let shift = NetworkShift::new(3).expect("a shift");
        assert_eq!(shift.text("127.0.0.1 10.127.0.1 1127.0.0.1 127.9."), "127.3.0.1 10.127.0.1 1127.0.0.1 127.12.");
    }
}
