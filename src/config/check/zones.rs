//! The consumer's private hosted zones.

use std::collections::HashSet;

use super::declared::Declared;
use super::values;
use crate::config::raw::{Located, Section};
use crate::config::value::{address, one_of, parsed};
use crate::model::{DnsName, PrivateZone, VpcId, VpceId, ZoneRecord};

/// Types of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordType {
    A,
    Cname,
    Alias,
}

impl RecordType {
    /// The key with the record's value.
    fn key(self) -> &'static str {
        match self {
            Self::A => "values",
            Self::Cname => "target",
            Self::Alias => "endpoint",
        }
    }
}

/// Names that have a record.
type RecordNames = HashSet<DnsName>;

/// One `[[private_hosted_zone]]`.
pub(super) fn private_zone(section: &Section<'_>, declared: &mut Declared) -> Option<PrivateZone> {
    let problems = section.problems;
    let name = section.required("name", parsed::<DnsName>);
    let vpcs = section.required_list("vpcs", parsed::<VpcId>);
    if section.is_empty_array("vpcs") {
        section.report("vpcs", "empty; a private hosted zone is associated with one VPC at least");
    }
    if let Some(name) = &name {
        declared.positions.entry(name.value.to_string()).or_insert(name.location.offset);
    }
    for vpc in &vpcs {
        declared.expect_vpc(problems, vpc);
        if let Some(name) = &name {
            // Route 53 refuses a second zone of one name in a VPC (ConflictingDomainExists).
            let both = format!("{}/{}", vpc.value, name.value);
            declared.unique(problems, "private hosted zone", &both, &vpc.location);
        }
    }
    let mut owners = RecordNames::new();
    let records =
        section.tables("record", |found| record(found, name.as_ref().map(|name| &name.value), &mut owners, declared));
    Some(PrivateZone { name: name?.value, vpcs: values(vpcs), records: records.into_iter().flatten().collect() })
}

fn record(
    section: &Section<'_>,
    zone: Option<&DnsName>,
    owners: &mut RecordNames,
    declared: &Declared,
) -> Option<ZoneRecord> {
    let problems = section.problems;
    let name = section.required("name", parsed::<DnsName>);
    let types = [("A", RecordType::A), ("CNAME", RecordType::Cname), ("ALIAS", RecordType::Alias)];
    let kind = section.required("type", one_of(&types));
    let addresses = section.list("values", address);
    let target = section.get("target", parsed::<DnsName>);
    let endpoint = section.get("endpoint", parsed::<VpceId>);

    if let Some(endpoint) = &endpoint {
        declared.expect_endpoint(problems, endpoint);
    }
    if let (Some(name), Some(zone)) = (&name, zone)
        && !name.value.is_within(zone)
    {
        problems.report(&name.location, format!("`{}` is outside the zone `{zone}`", name.value));
    }
    if section.is_empty_array("values") {
        section.report("values", "empty; name one address at least");
    }
    let kind = kind?.value;
    check_keys(section, kind);
    if let Some(name) = &name {
        check_owner(section, name, kind, zone, owners);
    }
    let name = name?.value;
    Some(match kind {
        RecordType::A => ZoneRecord::Address { name, ips: values(addresses?) },
        RecordType::Cname => ZoneRecord::Cname { name, target: target?.value },
        RecordType::Alias => ZoneRecord::Alias { name, endpoint: endpoint?.value },
    })
}

/// Reports keys of other record types, and missing keys of this one.
fn check_keys(section: &Section<'_>, kind: RecordType) {
    let own = kind.key();
    for other in [RecordType::A, RecordType::Cname, RecordType::Alias] {
        let key = other.key();
        if other != kind && section.is_present(key) {
            section.report(key, format!("belongs to records of another type; this one has `{own}`"));
        }
    }
    if !section.is_present(own) {
        section.report(own, "missing; records of this type lead there");
    }
}

/// Reports a second record of one name, and a CNAME at the apex, which has SOA and NS.
fn check_owner(
    section: &Section<'_>,
    name: &Located<DnsName>,
    kind: RecordType,
    zone: Option<&DnsName>,
    owners: &mut RecordNames,
) {
    if kind == RecordType::Cname && zone == Some(&name.value) {
        section.problems.report(&name.location, "a CNAME is not allowed at the zone apex; use ALIAS");
    }
    if !owners.insert(name.value.clone()) {
        let message =
            format!("`{}` has a record already; give a name one record, with all of its addresses", name.value);
        section.problems.report(&name.location, message);
    }
}
