//! Cloud providers besides AWS: Azure with Private Link, Google Cloud with port-mapped Private Service Connect.
//!
//! AWS is `None` in every `Option<Cloud>`. docs/fidelity-azure.md and docs/fidelity-gcp.md list the sources.

use std::net::IpAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::provider::{DEFAULT_TARGET_LIMIT, MAXIMUM_TARGET_LIMIT, Minimum};
use super::{
    Attributes, DnsRecordIpType, EndpointAddress, EndpointState, InterfaceEndpoint, IpAddressType, ServiceName, Vpc,
    VpceId,
};

/// A cloud provider other than AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Cloud {
    /// Azure Private Link.
    Azure,
    /// Google Cloud's Private Service Connect.
    Gcp,
}

/// Maximum of the limit of addressable targets. Source: Atlas, limitations of Google Cloud. For Azure no number is
/// documented, only that MongoDB Support can raise it, so Google's applies.
pub const MAXIMUM_CLOUD_TARGET_LIMIT: usize = 200;

/// Azure's regions with Atlas' names for them. Source: Atlas, *Microsoft Azure*, cloud provider regions.
const AZURE: &[(&str, &str)] = &[
    ("australiacentral", "AUSTRALIA_CENTRAL"),
    ("australiacentral2", "AUSTRALIA_CENTRAL_2"),
    ("australiaeast", "AUSTRALIA_EAST"),
    ("australiasoutheast", "AUSTRALIA_SOUTH_EAST"),
    ("brazilsouth", "BRAZIL_SOUTH"),
    ("brazilsoutheast", "BRAZIL_SOUTHEAST"),
    ("canadacentral", "CANADA_CENTRAL"),
    ("canadaeast", "CANADA_EAST"),
    ("centralindia", "INDIA_CENTRAL"),
    ("centralus", "US_CENTRAL"),
    ("chilecentral", "CHILE_CENTRAL"),
    ("eastasia", "ASIA_EAST"),
    ("eastus", "US_EAST"),
    ("eastus2", "US_EAST_2"),
    ("francecentral", "FRANCE_CENTRAL"),
    ("francesouth", "FRANCE_SOUTH"),
    ("germanynorth", "GERMANY_NORTH"),
    ("germanywestcentral", "GERMANY_WEST_CENTRAL"),
    ("indonesiacentral", "INDONESIA_CENTRAL"),
    ("israelcentral", "ISRAEL_CENTRAL"),
    ("italynorth", "ITALY_NORTH"),
    ("japaneast", "JAPAN_EAST"),
    ("japanwest", "JAPAN_WEST"),
    ("koreacentral", "KOREA_CENTRAL"),
    ("koreasouth", "KOREA_SOUTH"),
    ("malaysiawest", "MALAYSIA_WEST"),
    ("mexicocentral", "MEXICO_CENTRAL"),
    ("newzealandnorth", "NEWZEALAND_NORTH"),
    ("northcentralus", "US_NORTH_CENTRAL"),
    ("northeurope", "EUROPE_NORTH"),
    ("norwayeast", "NORWAY_EAST"),
    ("norwaywest", "NORWAY_WEST"),
    ("polandcentral", "POLAND_CENTRAL"),
    ("qatarcentral", "QATAR_CENTRAL"),
    ("southafricanorth", "SOUTH_AFRICA_NORTH"),
    ("southafricawest", "SOUTH_AFRICA_WEST"),
    ("southcentralus", "US_SOUTH_CENTRAL"),
    ("southeastasia", "ASIA_SOUTH_EAST"),
    ("southindia", "INDIA_SOUTH"),
    ("spaincentral", "SPAIN_CENTRAL"),
    ("swedencentral", "SWEDEN_CENTRAL"),
    ("swedensouth", "SWEDEN_SOUTH"),
    ("switzerlandnorth", "SWITZERLAND_NORTH"),
    ("switzerlandwest", "SWITZERLAND_WEST"),
    ("uaecentral", "UAE_CENTRAL"),
    ("uaenorth", "UAE_NORTH"),
    ("uksouth", "UK_SOUTH"),
    ("ukwest", "UK_WEST"),
    ("westcentralus", "US_WEST_CENTRAL"),
    ("westeurope", "EUROPE_WEST"),
    ("westindia", "INDIA_WEST"),
    ("westus", "US_WEST"),
    ("westus2", "US_WEST_2"),
    ("westus3", "US_WEST_3"),
];

/// Google's regions. Source: Atlas, *Google Cloud*, cloud provider regions.
const GOOGLE: &[&str] = &[
    "africa-south1",
    "asia-east1",
    "asia-east2",
    "asia-northeast1",
    "asia-northeast2",
    "asia-northeast3",
    "asia-south1",
    "asia-south2",
    "asia-southeast1",
    "asia-southeast2",
    "australia-southeast1",
    "australia-southeast2",
    "europe-central2",
    "europe-north1",
    "europe-southwest1",
    "europe-west1",
    "europe-west10",
    "europe-west12",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west6",
    "europe-west8",
    "europe-west9",
    "me-central1",
    "me-central2",
    "me-west1",
    "northamerica-northeast1",
    "northamerica-northeast2",
    "northamerica-south1",
    "southamerica-east1",
    "southamerica-west1",
    "us-central1",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-south1",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
];

/// Atlas' names for Google's first regions; the others are derived from Google's.
const GOOGLE_FIRST: &[(&str, &str)] = &[
    ("us-central1", "CENTRAL_US"),
    ("us-east1", "EASTERN_US"),
    ("us-west1", "WESTERN_US"),
    ("europe-west1", "WESTERN_EUROPE"),
    ("asia-east1", "EASTERN_ASIA_PACIFIC"),
    ("asia-northeast1", "NORTHEASTERN_ASIA_PACIFIC"),
    ("asia-southeast1", "SOUTHEASTERN_ASIA_PACIFIC"),
];

impl Cloud {
    /// Atlas' name of it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Azure => "AZURE",
            Self::Gcp => "GCP",
        }
    }

    /// The product name of its private endpoints.
    #[must_use]
    pub fn product(self) -> &'static str {
        match self {
            Self::Azure => "Azure Private Link",
            Self::Gcp => "Google Cloud Private Service Connect",
        }
    }

    /// Parses Atlas' name.
    #[must_use]
    pub fn of_label(label: &str) -> Option<Self> {
        [Self::Azure, Self::Gcp].into_iter().find(|cloud| cloud.label() == label)
    }

    /// The cloud of a region, by the region's name in that cloud.
    pub(super) fn of_region(name: &str) -> Option<Self> {
        if AZURE.iter().any(|(own, _)| *own == name) {
            Some(Self::Azure)
        } else {
            GOOGLE.contains(&name).then_some(Self::Gcp)
        }
    }

    /// The region's name in this cloud, from that name or Atlas'.
    pub(super) fn region(self, text: &str) -> Option<&'static str> {
        match self {
            Self::Azure => AZURE.iter().find(|(own, atlas)| *own == text || *atlas == text).map(|(own, _)| *own),
            Self::Gcp => GOOGLE.iter().copied().find(|own| *own == text || google_in_atlas(own) == text),
        }
    }

    /// Atlas' name for one of this cloud's regions.
    pub(super) fn region_in_atlas(self, name: &str) -> String {
        match self {
            Self::Azure => {
                AZURE.iter().find(|(own, _)| *own == name).map_or_else(String::new, |(_, atlas)| (*atlas).to_owned())
            }
            Self::Gcp => google_in_atlas(name),
        }
    }

    /// The part of a zone's name after `REGION-`.
    pub(super) fn zones(self) -> &'static str {
        match self {
            Self::Azure => "123",
            Self::Gcp => "abc",
        }
    }

    /// Default limit of addressable targets per region and project. Source: Atlas, limitations of both.
    #[must_use]
    pub fn target_limit(of: Option<Self>) -> usize {
        if of.is_some() { 150 } else { DEFAULT_TARGET_LIMIT }
    }

    /// Maximum of that limit.
    #[must_use]
    pub fn maximum_target_limit(of: Option<Self>) -> usize {
        if of.is_some() { MAXIMUM_CLOUD_TARGET_LIMIT } else { MAXIMUM_TARGET_LIMIT }
    }

    /// The attributes of a service's listeners, as neither cloud has a network load balancer.
    ///
    /// A connection is dropped after 4 (Azure) or 20 (Google) minutes of inactivity; neither can be changed. There is
    /// one address, so nothing is removed from DNS, and no balancing, so the port of an unhealthy node does not answer.
    #[must_use]
    pub fn attributes(of: Option<Self>) -> Attributes {
        let Some(cloud) = of else { return Attributes::default() };
        let default = Attributes::default();
        Attributes {
            idle_timeout: Duration::from_secs(if cloud == Self::Azure { 240 } else { 1200 }),
            terminate_on_unhealthy: false,
            dns_minimum: Minimum { count: 0, ..default.dns_minimum },
            // Source: Azure, 64 k ports of each NAT address per target; Google, 64,512 connections per endpoint.
            flows_per_target: 64_512,
            ..default
        }
    }
}

impl InterfaceEndpoint {
    /// A private endpoint outside AWS: one address in a subnet of `network`, without a zone; `None` if no subnet
    /// contains it.
    #[must_use]
    pub fn in_cloud(id: VpceId, network: &Vpc, service: ServiceName, ip: IpAddr, state: EndpointState) -> Option<Self> {
        let subnet = network.subnets.values().find(|subnet| subnet.cidr.contains(&ip))?;
        // Azure creates an interface besides the endpoint, Google uses a reserved address.
        let text = id.as_str();
        let eni = match network.region.cloud()? {
            Cloud::Azure => {
                format!("{}/networkInterfaces/{}.nic", text.rsplitn(3, '/').nth(2)?, text.rsplit('/').next()?)
            }
            Cloud::Gcp => text.replace("/forwardingRules/", "/addresses/"),
        };
        let zone = network.region.zone_of_whole();
        let address = EndpointAddress { eni: eni.parse().ok()?, subnet: subnet.id.clone(), zone, ip };
        Some(Self {
            id,
            vpc: network.id.clone(),
            service,
            dns_suffix: String::new(),
            ip_address_type: IpAddressType::of(ip),
            dns_record_ip_type: DnsRecordIpType::default_of(IpAddressType::of(ip)),
            addresses: vec![address],
            security_groups: Vec::new(),
            state,
            registered: true,
        })
    }
}

/// `US_EAST_4` for `us-east4`, `MIDDLE_EAST_WEST_1` for `me-west1`.
fn google_in_atlas(name: &str) -> String {
    if let Some((_, atlas)) = GOOGLE_FIRST.iter().find(|(own, _)| *own == name) {
        return (*atlas).to_owned();
    }
    let at = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let words = [&name[..at], "-", &name[at..]].concat().to_uppercase().replace('-', "_");
    let words = words.replace("NORTHAMERICA", "NORTH_AMERICA").replace("SOUTHAMERICA", "SOUTH_AMERICA");
    words.strip_prefix("ME_").map_or(words.clone(), |rest| format!("MIDDLE_EAST_{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Region, Zone};

    #[test]
    fn atlas_names_of_regions_lead_to_the_clouds_own_and_back() {
        for (cloud, own, atlas) in [
            (Cloud::Gcp, "us-central1", "CENTRAL_US"),
            (Cloud::Gcp, "us-east4", "US_EAST_4"),
            (Cloud::Gcp, "me-west1", "MIDDLE_EAST_WEST_1"),
            (Cloud::Gcp, "northamerica-northeast1", "NORTH_AMERICA_NORTHEAST_1"),
            (Cloud::Gcp, "northamerica-south1", "NORTH_AMERICA_SOUTH_1"),
            (Cloud::Azure, "eastus2", "US_EAST_2"),
            (Cloud::Azure, "southeastasia", "ASIA_SOUTH_EAST"),
            (Cloud::Azure, "newzealandnorth", "NEWZEALAND_NORTH"),
        ] {
            for text in [own, atlas] {
                let region = Region::of(Some(cloud), text).expect(text);
                assert_eq!((region.as_str(), region.atlas().as_str()), (own, atlas));
                assert_eq!(region.cloud(), Some(cloud));
            }
        }
        // The same name in three clouds.
        assert_eq!(Region::of(None, "US_EAST_2").expect("AWS's").as_str(), "us-east-2");
        assert!(Region::of(Some(Cloud::Azure), "us-east4").is_err());
        assert!(Region::of(None, "us-east4").is_err());
    }

    #[test]
    fn zones_lie_in_the_regions_of_their_clouds() {
        for (zone, region) in [("us-central1-a", "us-central1"), ("eastus2-1", "eastus2"), ("us-east-1a", "us-east-1")]
        {
            assert_eq!(zone.parse::<Zone>().expect(zone).region().as_str(), region);
        }
        for region in ["us-central1", "eastus2", "westeurope"] {
            let region: Region = region.parse().expect("known");
            assert_eq!(region.zone_of_whole().region(), region);
            assert_eq!(region.zones().count(), 3);
        }
        for wrong in ["us-central1-z", "eastus2-a", "us-central1a", "us-east-1"] {
            assert!(wrong.parse::<Zone>().is_err(), "{wrong}");
        }
    }
}
