//! Source addresses of the checks' clients, one in every kind of network.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{CidrSet, Desired};

/// Third and fourth octet of a client's address, unused in the scenario.
const CLIENT: [u8; 2] = [200, 9];

/// Source addresses of clients. A client that binds no address is in the VPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientAddresses {
    pub(super) peered: IpAddr,
    pub(super) on_premises: IpAddr,
    pub(super) service: IpAddr,
    /// On the project's IP access list.
    pub(super) listed: IpAddr,
    /// On the internet, not on the list.
    pub(super) unlisted: IpAddr,
}

impl ClientAddresses {
    /// Chooses an address of each kind from the scenario's networks.
    pub(super) fn of(desired: &Desired) -> Result<Self, String> {
        let mut vpcs = desired.vpcs.values().filter(|vpc| vpc.id.cloud().is_none());
        let vpc = vpcs.next().ok_or("the scenario has no VPC")?;
        let project = desired.projects.first().ok_or("the scenario has no project")?;
        let service = project.services.first().ok_or("the scenario has no endpoint service")?;
        let listed = client_of(&project.access_list, "IP access list")?;
        Ok(Self {
            peered: client_of(&vpc.peered, "peered VPC")?,
            on_premises: client_of(&vpc.on_premises, "on-premises network")?,
            service: client_of(&service.cidrs, "service network")?,
            unlisted: beside(listed, &project.access_list)?,
            listed,
        })
    }
}

/// A client's address in the first network of a set.
pub(super) fn client_of(cidrs: &CidrSet, what: &str) -> Result<IpAddr, String> {
    let net = cidrs.iter().next().ok_or_else(|| format!("the scenario has no {what}"))?;
    let IpNet::V4(v4) = net else { return Err(format!("the scenario's {what} is no IPv4 network")) };
    let [a, b, c, d] = v4.network().octets();
    let wide = IpAddr::from([a, b, CLIENT[0], CLIENT[1]]);
    let narrow = IpAddr::from([a, b, c, d | CLIENT[1]]);
    [wide, narrow].into_iter().find(|ip| net.contains(ip)).ok_or_else(|| format!("the scenario's {what} is too small"))
}

/// An address near `listed` that is not on the list.
fn beside(listed: IpAddr, list: &CidrSet) -> Result<IpAddr, String> {
    let IpAddr::V4(v4) = listed else { return Err("the scenario's IP access list has no IPv4 network".to_owned()) };
    let [a, b, _, d] = v4.octets();
    let candidates = (1..=254).map(|c| IpAddr::from([a, b, c, d]));
    candidates.into_iter().find(|ip| !list.contains(*ip)).ok_or_else(|| "everybody is on the IP access list".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::super::{NetworkShift, scenario};
    use super::*;

    #[test]
    fn every_network_of_the_scenario_has_a_client_address() {
        let places = ClientAddresses::of(&scenario(NetworkShift::new(10).unwrap(), false).desired).expect("places");
        let text = |ip: IpAddr| ip.to_string();
        assert_eq!(text(places.peered), "127.13.200.9");
        assert_eq!(text(places.on_premises), "127.12.200.9");
        assert_eq!(text(places.service), "127.11.200.9");
        assert_eq!(text(places.listed), "127.19.0.9");
        assert_eq!(text(places.unlisted), "127.19.1.9");
    }
}
