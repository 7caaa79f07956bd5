//! The consumers' private hosted zones. Source of the rules: Route 53, "Considerations when working with a private
//! hosted zone" and "Supported DNS record types".

use std::collections::{BTreeMap, BTreeSet};

use super::super::error::{Findings, Location, RuleError};
use super::super::survey::Survey;
use crate::model::{DnsName, PrivateZone, ZoneRecord};

pub(super) fn check(survey: &Survey<'_>, findings: &mut Findings) {
    let mut associated = BTreeSet::new();
    for zone in &survey.desired.private_zones {
        let at = Location::PrivateZone(zone.name.clone());
        for id in &zone.vpcs {
            match survey.desired.vpcs.get(id) {
                None => findings.refuse(at.clone(), RuleError::Unknown { what: "VPC", id: id.to_string() }),
                Some(vpc) if !vpc.private_zones_work() => findings.note(
                    &at,
                    format_args!(
                        "it does not work in {id}: a private hosted zone needs both enableDnsSupport and \
                         enableDnsHostnames"
                    ),
                ),
                Some(_) => {}
            }
            if !associated.insert((&zone.name, id)) {
                let rule = format!("ConflictingDomainExists: another zone of this name is associated with {id}");
                findings.refuse(at.clone(), rule);
            }
        }
        check_records(survey, zone, &at, findings);
    }
}

fn check_records(survey: &Survey<'_>, zone: &PrivateZone, at: &Location, findings: &mut Findings) {
    let mut records: BTreeMap<&DnsName, usize> = BTreeMap::new();
    for record in &zone.records {
        let name = owner(record);
        *records.entry(name).or_default() += 1;
        if !name.is_within(&zone.name) {
            findings.refuse(at.clone(), format!("record `{name}` is outside the zone"));
        }
        match record {
            ZoneRecord::Address { ips, .. } if ips.is_empty() => {
                findings.refuse(at.clone(), format!("record `{name}` has no address; give it one at least"));
            }
            ZoneRecord::Alias { endpoint, .. } if !survey.desired.endpoints.contains_key(endpoint) => {
                let rule = RuleError::Unknown { what: "interface endpoint", id: endpoint.to_string() };
                findings.refuse(at.clone(), rule);
            }
            ZoneRecord::Address { .. } | ZoneRecord::Alias { .. } | ZoneRecord::Cname { .. } => {}
        }
    }
    for record in &zone.records {
        let name = owner(record);
        let alone = records.get(name) == Some(&1) && *name != zone.name;
        if matches!(record, ZoneRecord::Cname { .. }) && !alone {
            let rule = format!(
                "record `{name}` cannot be a CNAME: it is the zone's own name, or has other records; use an alias"
            );
            findings.refuse(at.clone(), rule);
        }
    }
}

/// The name of a record.
pub(in super::super) fn owner(record: &ZoneRecord) -> &DnsName {
    match record {
        ZoneRecord::Address { name, .. } | ZoneRecord::Cname { name, .. } | ZoneRecord::Alias { name, .. } => name,
    }
}
