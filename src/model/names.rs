//! Names: regions, zones, clusters, labels, service names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::ids::derived_digits;
use super::text::{text_schema, text_serde, text_traits, text_type};
use super::{Cloud, ParseTextError, VpceServiceId};

/// Every commercial AWS region that Atlas offers, with AWS's names.
///
/// Source: Atlas' list of AWS regions. Another region is refused, as by Atlas (`INVALID_REGION`).
const REGIONS: &[&str] = &[
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

/// A region. Parses AWS's (`us-east-1`), Atlas' (`US_EAST_1`) and App Services' (`aws-us-east-1`) names of AWS's
/// regions, and Azure's (`eastus2`) and Google's (`us-east1`) own names; shown by its cloud's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(Arc<str>);

impl Region {
    /// Parses the region of a cloud (`None`: AWS), by that cloud's or Atlas' name: the same name in Atlas can mean
    /// different regions of different clouds.
    ///
    /// # Errors
    ///
    /// [`ParseTextError`] for an unknown region.
    pub fn of(cloud: Option<Cloud>, text: &str) -> Result<Self, ParseTextError> {
        match cloud {
            None => {
                let region: Self = text.parse()?;
                if region.cloud().is_none() { Ok(region) } else { Err(not_aws(text, text)) }
            }
            Some(cloud) => cloud
                .region(text)
                .map(|name| Self(Arc::from(name)))
                .ok_or_else(|| ParseTextError::not(text, &format!("a region of {} that Atlas offers", cloud.label()))),
        }
    }

    /// Its cloud; `None`: AWS.
    #[must_use]
    pub fn cloud(&self) -> Option<Cloud> {
        Cloud::of_region(&self.0)
    }

    /// Atlas' name of its provider: `AWS`, `AZURE`, `GCP`.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        self.cloud().map_or("AWS", Cloud::label)
    }

    /// Atlas' name: `US_EAST_1`.
    #[must_use]
    pub fn atlas(&self) -> String {
        match self.cloud() {
            None => self.0.to_uppercase().replace('-', "_"),
            Some(cloud) => cloud.region_in_atlas(&self.0),
        }
    }

    /// The zone of an address without one, as of Azure's and Google's endpoints: the region as a whole.
    #[must_use]
    pub fn zone_of_whole(&self) -> Zone {
        Zone(Arc::clone(&self.0))
    }

    /// App Services' name: `aws-us-east-1`.
    #[must_use]
    pub fn app_services(&self) -> String {
        format!("aws-{}", self.0)
    }

    /// Its availability zones.
    pub fn zones(&self) -> impl Iterator<Item = Zone> + '_ {
        let (dash, letters) = match self.cloud() {
            Some(cloud) => ("-", cloud.zones()),
            None => {
                let more = MORE_ZONES.iter().find(|(region, _)| *region == self.as_str());
                ("", more.map_or("abc", |(_, letters)| *letters))
            }
        };
        letters.chars().map(move |letter| Zone(Arc::from(format!("{self}{dash}{letter}"))))
    }

    /// Every known region, with AWS's names.
    #[must_use]
    pub fn known() -> &'static [&'static str] {
        REGIONS
    }
}

impl FromStr for Region {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, ParseTextError> {
        let atlas =
            text.contains('_') && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let aws = if atlas { text.to_lowercase().replace('_', "-") } else { text.to_owned() };
        let aws = aws.strip_prefix("aws-").unwrap_or(&aws);
        if REGIONS.contains(&aws) {
            return Ok(Self(Arc::from(aws)));
        }
        if Cloud::of_region(text).is_some() {
            return Ok(Self(Arc::from(text)));
        }
        Err(not_aws(aws, text))
    }
}

/// The error about `text`, which is `aws` in AWS's form.
fn not_aws(aws: &str, text: &str) -> ParseTextError {
    let nearest = nearest(aws, REGIONS);
    ParseTextError::new(format!("`{text}` is not an AWS region that Atlas offers; did you mean `{nearest}`?"))
}

text_traits!(Region);

/// The entry of `words` with the smallest edit distance to `text`.
fn nearest<'a>(text: &str, words: &[&'a str]) -> &'a str {
    words.iter().copied().min_by_key(|word| edits(text, word)).unwrap_or("")
}

/// The Levenshtein distance between two short texts.
pub(crate) fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

text_type!(
    /// An availability zone by name: a region and one letter, `us-east-1a`; Google's `us-east1-b`, Azure's `eastus2-1`.
    /// Also a region of these two as a whole ([`Region::zone_of_whole`]).
    Zone, "an availability zone (a region and one letter, as `us-east-1a`)",
    |text| {
        let fits = text.len() > 1
            && text.is_ascii()
            && text.as_bytes()[text.len() - 1].is_ascii_lowercase()
            && REGIONS.contains(&&text[..text.len() - 1]);
        let in_cloud = |(region, zone): (&str, &str)| {
            let cloud = Cloud::of_region(region);
            zone.len() == 1 && cloud.is_some_and(|cloud| cloud.zones().contains(zone))
        };
        fits || Cloud::of_region(text).is_some() || text.rsplit_once('-').is_some_and(in_cloud)
    }
);

/// The zone letters of regions with more than `a` to `c`. Source: AWS, *Regions and Availability Zones*; which of them
/// an account has depends on the account.
const MORE_ZONES: &[(&str, &str)] = &[("us-east-1", "abcdef"), ("us-west-2", "abcd"), ("ap-northeast-2", "abcd")];

/// Ids of the zones without cross-region access.
const NO_CROSS_REGION_ACCESS: &[&str] = &["use1-az3", "usw1-az2", "apne1-az3", "apne2-az2", "apne2-az4"];

impl Zone {
    /// The zone's region.
    #[must_use]
    pub fn region(&self) -> Region {
        match self.0.rsplit_once('-') {
            Some((region, zone)) if zone.len() == 1 => Region(Arc::from(region)),
            _ if Cloud::of_region(&self.0).is_some() => Region(Arc::clone(&self.0)),
            _ => Region(Arc::from(&self.0[..self.0.len() - 1])),
        }
    }

    /// Whether another zone is in the same region.
    #[must_use]
    pub fn is_in_region_of(&self, other: &Self) -> bool {
        self.0[..self.0.len() - 1] == other.0[..other.0.len() - 1]
    }

    /// Whether an interface endpoint to a service of another region may have an address here. Source: AWS PrivateLink,
    /// *Share your services*, cross-Region access, which lists the zones that may not.
    #[must_use]
    pub fn has_cross_region_access(&self) -> bool {
        !NO_CROSS_REGION_ACCESS.contains(&self.id().as_str())
    }

    /// `use1-az1` for `us-east-1a`. In AWS the mapping of letters to ids depends on the account; here it is
    /// alphabetical.
    #[must_use]
    pub fn id(&self) -> String {
        let region = self.region();
        let mut parts = region.as_str().split('-');
        let area = parts.next().unwrap_or_default();
        let number = parts.next_back().unwrap_or_default();
        let short: String = parts
            .map(|part| match part {
                "northeast" => "ne",
                "northwest" => "nw",
                "southeast" => "se",
                "southwest" => "sw",
                other => other.get(..1).unwrap_or_default(),
            })
            .collect();
        let letter = self.0.bytes().last().unwrap_or(b'a');
        format!("{area}{short}{number}-az{}", letter.saturating_sub(b'a') + 1)
    }
}

text_type!(
    /// A cluster's name: 1 to 64 letters, digits and dashes, starting and ending with a letter or digit (Atlas' rule).
    ClusterName, "a cluster name (1 to 64 letters, digits and inner dashes)",
    |text| {
        let inner = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (1..=64).contains(&text.len()) && inner && !text.starts_with('-') && !text.ends_with('-')
    }
);

impl ClusterName {
    /// The name in host names: lower case.
    #[must_use]
    pub fn host_label(&self) -> String {
        self.0.to_lowercase()
    }
}

text_type!(
    /// The label that Atlas gives a project's host names: `k45tj`; 1 to 20 lower-case letters and digits.
    Label, "a label (1 to 20 lower-case letters and digits, as `k45tj`)",
    |text| (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
);

/// An endpoint service's full name: `com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c`; on Azure its alias, on
/// Google Cloud its service attachment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    region: Region,
    service: VpceServiceId,
}

impl ServiceName {
    /// The name of `service` in `region`.
    #[must_use]
    pub fn new(region: Region, service: VpceServiceId) -> Self {
        Self { region, service }
    }

    /// The region in the name.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The service's id in the name.
    #[must_use]
    pub fn service(&self) -> &VpceServiceId {
        &self.service
    }

    /// Parses Azure's alias of a private link service, or Google's name of a service attachment.
    fn of_cloud(text: &str) -> Option<Self> {
        let (region, service) = match text.strip_prefix("pls_") {
            Some(rest) => {
                let mut parts = rest.strip_suffix(AZURE_SUFFIX)?.split('.');
                let (service, _, region) = (parts.next()?, parts.next()?, parts.next()?);
                (region, service)
            }
            None => {
                let (_, rest) = text.strip_prefix("projects/")?.split_once("/regions/")?;
                let (region, attachment) = rest.split_once("/serviceAttachments/")?;
                (region, attachment.strip_suffix("-0")?.rsplit_once('-')?.1)
            }
        };
        let name = Self { region: region.parse().ok()?, service: service.parse().ok()? };
        (name.to_string() == text).then_some(name)
    }
}

/// The suffix of every private link service's alias. Source: Azure, *What is Azure Private Link service?*, alias.
const AZURE_SUFFIX: &str = ".azure.privatelinkservice";

impl FromStr for ServiceName {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, ParseTextError> {
        let expected = "a service name (`com.amazonaws.vpce.REGION.vpce-svc-` and 17 lower-case hex digits)";
        text.strip_prefix("com.amazonaws.vpce.")
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(region, service)| Some(Self { region: region.parse().ok()?, service: service.parse().ok()? }))
            .or_else(|| Self::of_cloud(text))
            .ok_or_else(|| ParseTextError::not(text, expected))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (region, id) = (&self.region, &self.service);
        let digits = || derived_digits(&format!("service/{id}"));
        match region.cloud() {
            None => write!(f, "com.amazonaws.vpce.{region}.{id}"),
            Some(Cloud::Azure) => {
                let guid = digits();
                let (a, b) = (&guid[..8], &guid[8..20]);
                write!(f, "pls_{id}.{a}-0000-4000-8000-{b}.{region}{AZURE_SUFFIX}")
            }
            Some(Cloud::Gcp) => {
                let project = &digits()[..24];
                write!(f, "projects/p-{project}/regions/{region}/serviceAttachments/sa-{region}-{id}-0")
            }
        }
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceName({self})")
    }
}

text_serde!(ServiceName);
text_schema!(ServiceName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zones_id_abbreviates_its_region() {
        for (zone, id) in [("us-east-1a", "use1-az1"), ("ap-northeast-1c", "apne1-az3"), ("eu-central-1b", "euc1-az2")]
        {
            assert_eq!(zone.parse::<Zone>().expect(zone).id(), id);
        }
    }

    #[test]
    fn a_region_parses_in_three_spellings() {
        for text in ["us-east-1", "US_EAST_1", "aws-us-east-1"] {
            assert_eq!(text.parse::<Region>().expect(text).as_str(), "us-east-1");
        }
        let region: Region = "eu-west-1".parse().expect("known");
        assert_eq!((region.atlas().as_str(), region.app_services().as_str()), ("EU_WEST_1", "aws-eu-west-1"));
    }

    #[test]
    fn an_unknown_region_is_refused_with_the_nearest_name() {
        let error = "us-esat-1".parse::<Region>().expect_err("unknown");
        assert_eq!(error.to_string(), "`us-esat-1` is not an AWS region that Atlas offers; did you mean `us-east-1`?");
        assert!("us_east_1".parse::<Region>().is_err(), "neither AWS nor Atlas uses lower case with underscores");
    }

    #[test]
    fn a_zone_lies_in_its_region() {
        let zone: Zone = "us-east-1b".parse().expect("a zone");
        assert_eq!(zone.region().as_str(), "us-east-1");
        assert!("us-east-1".parse::<Zone>().is_err());
    }

    #[test]
    fn a_service_name_round_trips() {
        let text = "com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c";
        assert_eq!(text.parse::<ServiceName>().expect("a service name").to_string(), text);
        let id: VpceServiceId = "65f0000000000000000000a1".parse().expect("an id");
        for (region, start, end) in [
            ("eastus2", "pls_65f0000000000000000000a1.", ".eastus2.azure.privatelinkservice"),
            ("us-central1", "projects/p-", "/serviceAttachments/sa-us-central1-65f0000000000000000000a1-0"),
        ] {
            let name = ServiceName::new(region.parse().expect("a region"), id.clone());
            let text = name.to_string();
            assert!(text.starts_with(start) && text.ends_with(end), "{text}");
            assert_eq!(text.parse::<ServiceName>(), Ok(name));
        }
    }
}
