//! The records as files for other servers: `plgw dns export`.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::Serialize;

use super::answer::{HOSTMASTER, NAME_SERVERS, NS_TTL, OutsideZones, SOA_NUMBERS, resolve, seconds};
use super::view::{ViewZone, ViewZones};
use super::{DnsError, QueryType, Question, RecordData};
use crate::config::DnsSettings;
use crate::model::{DnsName, VpcId};
use crate::plan::{DnsView, RecordSets};

/// The format of an export.
// `plgw dns export --help` shows the texts of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// Zone files, as BIND, NSD, Knot and CoreDNS load them
    // RFC 1035 §5.
    Bind,
    /// Change batches for `aws route53 change-resource-record-sets`
    Route53,
    /// Lines for /etc/hosts
    // Names with an address, each with its first one. The file has no SRV and TXT, so only standard connection strings work
    // with it.
    Hosts,
}

/// An exported zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneExport {
    /// The zone's name.
    pub apex: DnsName,
    /// Whether it is a private hosted zone.
    pub private: bool,
    /// The file.
    pub text: String,
}

/// Every zone visible in `vpc`, or every public zone, in one text.
///
/// Zones follow one another: zone files each below its own `$ORIGIN`, change batches as a sequence of JSON values.
/// Servers and API calls need them separately: see [`export_zones`].
///
/// # Errors
///
/// [`DnsError::UnknownVpc`].
pub fn export(
    view: &DnsView,
    vpc: Option<&VpcId>,
    format: ExportFormat,
    options: &DnsSettings,
) -> Result<String, DnsError> {
    let zones = export_zones(view, vpc, format, options)?;
    Ok(zones.into_iter().map(|zone| zone.text).collect::<Vec<_>>().join("\n"))
}

/// Every zone visible in `vpc`, or every public zone, by apex. A VPC without `enableDnsSupport` has none. Zones without
/// records to export are omitted.
///
/// # Errors
///
/// [`DnsError::UnknownVpc`].
pub fn export_zones(
    view: &DnsView,
    vpc: Option<&VpcId>,
    format: ExportFormat,
    options: &DnsSettings,
) -> Result<Vec<ZoneExport>, DnsError> {
    let Some(zones) = seen_by(view, vpc)? else { return Ok(Vec::new()) };
    let text = |found: ViewZone<'_>| match format {
        ExportFormat::Bind => Some(zone_file(found, options)),
        ExportFormat::Route53 => change_batch(found, options),
        ExportFormat::Hosts => hosts(found, zones, options),
    };
    let export =
        |found: ViewZone<'_>| Some(ZoneExport { apex: found.apex.clone(), private: found.private, text: text(found)? });
    Ok(zones.all().into_iter().filter_map(export).collect())
}

fn seen_by<'v>(view: &'v DnsView, vpc: Option<&VpcId>) -> Result<Option<ViewZones<'v>>, DnsError> {
    let Some(wanted) = vpc else { return Ok(Some(ViewZones::new(None, &view.public))) };
    let Some(vpc) = view.vpcs.iter().find(|vpc| vpc.vpc == *wanted) else {
        let known: Vec<_> = view.vpcs.iter().map(|vpc| format!("`{}`", vpc.vpc)).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(DnsError::UnknownVpc { wanted: wanted.clone(), known });
    };
    Ok(vpc.enabled.then(|| ViewZones::new(Some(&vpc.private), &view.public)))
}

/// A zone file. Names are absolute, with the final dot.
fn zone_file(found: ViewZone<'_>, options: &DnsSettings) -> String {
    let ViewZone { apex, zone, private } = found;
    let kind = if private { "private" } else { "public" };
    let mut text = format!("; {apex} ({kind})\n$ORIGIN {apex}.\n$TTL {}\n", seconds(options.ttl));
    let [serial, refresh, retry, expire, minimum] = SOA_NUMBERS;
    line(
        &mut text,
        "@",
        "SOA",
        seconds(options.negative_ttl),
        &format_args!("{}. {HOSTMASTER}. {serial} {refresh} {retry} {expire} {minimum}", NAME_SERVERS[0]),
    );
    for server in NAME_SERVERS {
        line(&mut text, "@", "NS", NS_TTL, &format_args!("{server}."));
    }
    for (owner, sets) in &zone.records {
        for (kind, values) in typed(sets, decimal) {
            for value in values {
                line(&mut text, &format!("{owner}."), kind, seconds(options.ttl), &value);
            }
        }
    }
    text
}

fn line(text: &mut String, owner: &str, kind: &str, ttl: u32, value: &dyn std::fmt::Display) {
    writeln!(text, "{owner} {ttl} IN {kind} {value}").expect("a String takes every text");
}

/// The record sets of one name, by type, in the presentation format that zone files and Route 53 share, except for how
/// they `escape` bytes in texts.
fn typed(sets: &RecordSets, escape: fn(u8) -> String) -> Vec<(&'static str, Vec<String>)> {
    let of_family = |v4: bool| sets.addresses.iter().filter(move |ip| ip.is_ipv4() == v4).map(IpAddr::to_string);
    let all = [
        ("A", of_family(true).collect()),
        ("AAAA", of_family(false).collect()),
        ("CNAME", sets.cname.iter().map(|target| format!("{target}.")).collect()),
        ("SRV", sets.srv.iter().map(|(port, target)| format!("0 0 {port} {target}.")).collect()),
        ("TXT", sets.txt.iter().map(|text| quoted(text, escape)).collect::<Vec<_>>()),
    ];
    all.into_iter().filter(|(_, values): &(_, Vec<_>)| !values.is_empty()).collect()
}

/// A text as quoted strings of at most 255 bytes.
fn quoted(text: &str, escape: fn(u8) -> String) -> String {
    let string = |bytes: &[u8]| {
        let mut quoted = String::from("\"");
        for &byte in bytes {
            match byte {
                b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
                b' '..=b'~' => quoted.push(char::from(byte)),
                _ => quoted.push_str(&escape(byte)),
            }
        }
        quoted + "\""
    };
    if text.is_empty() {
        return string(b"");
    }
    text.as_bytes().chunks(255).map(string).collect::<Vec<_>>().join(" ")
}

/// The escape of zone files: decimal (RFC 1035 §5.1).
fn decimal(byte: u8) -> String {
    format!("\\{byte:03}")
}

/// The escape of Route 53: octal (*supported DNS record types*, TXT).
fn octal(byte: u8) -> String {
    format!("\\{byte:03o}")
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ChangeBatch {
    comment: String,
    changes: Vec<RecordChange>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RecordChange {
    action: &'static str,
    resource_record_set: ResourceRecordSet,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ResourceRecordSet {
    name: String,
    r#type: &'static str,
    #[serde(rename = "TTL")]
    ttl: u32,
    resource_records: Vec<ResourceRecord>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ResourceRecord {
    value: String,
}

/// A change batch of `UPSERT`s, so that it can be repeated. Without SOA and NS, which the hosted zone already has;
/// `None` without records, as Route 53 refuses an empty batch.
fn change_batch(found: ViewZone<'_>, options: &DnsSettings) -> Option<String> {
    let mut changes = Vec::new();
    for (owner, sets) in &found.zone.records {
        for (kind, values) in typed(sets, octal) {
            let resource_records = values.into_iter().map(|value| ResourceRecord { value }).collect();
            let name = format!("{owner}.");
            let set = ResourceRecordSet { name, r#type: kind, ttl: seconds(options.ttl), resource_records };
            changes.push(RecordChange { action: "UPSERT", resource_record_set: set });
        }
    }
    if changes.is_empty() {
        return None;
    }
    let batch = ChangeBatch { comment: format!("{} by privatelink-gateway", found.apex), changes };
    let text = serde_json::to_string_pretty(&batch).expect("plain strings and numbers become JSON");
    Some(text + "\n")
}

/// Lines for `/etc/hosts`: names of this zone that have an address.
fn hosts(found: ViewZone<'_>, zones: ViewZones<'_>, options: &DnsSettings) -> Option<String> {
    let first = |name: &str, kind| {
        let answer = resolve(&Question { name, kind }, zones, OutsideZones::Refused, options, 0);
        answer.records.iter().find_map(|record| match record.data {
            RecordData::A(address) => Some(IpAddr::V4(address)),
            RecordData::Aaaa(address) => Some(IpAddr::V6(address)),
            _ => None,
        })
    };
    let mut text = String::new();
    for owner in found.zone.records.keys().map(DnsName::as_str).filter(|owner| !owner.starts_with('*')) {
        let is_looked_up_here = zones.zone_of(owner).is_some_and(|zone| zone.apex == found.apex);
        if is_looked_up_here && let Some(address) = first(owner, QueryType::A).or_else(|| first(owner, QueryType::Aaaa))
        {
            writeln!(text, "{address} {owner}").expect("a String takes every text");
        }
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, vpc_id};
    use super::*;

    fn text_of(vpc: Option<&VpcId>, format: ExportFormat) -> String {
        export(&fixture::view(), vpc, format, &DnsSettings::default()).expect("a known VPC")
    }

    #[test]
    fn a_zone_file_has_everything_that_the_zone_answers() {
        let zones =
            export_zones(&fixture::view(), None, ExportFormat::Bind, &DnsSettings::default()).expect("public zones");
        let apexes: Vec<_> = zones.iter().map(|zone| zone.apex.as_str()).collect();
        assert_eq!(apexes, ["mongodb.net", "services.cloud.mongodb.com", "us-east-1.vpce.amazonaws.com"]);
        let lines: Vec<_> = zones[0].text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "; mongodb.net (public)",
                "$ORIGIN mongodb.net.",
                "$TTL 60",
                "@ 900 IN SOA ns-1536.awsdns-00.co.uk. awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400",
            ]
        );
        for line in [
            "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net. 60 IN SRV 0 0 1025 pl-0-us-east-1-k45tj.mongodb.net.",
            "cluster0-pl-0-k45tj.mongodb.net. 60 IN TXT \"authSource=admin&replicaSet=Cluster0-shard-0-shard-0\"",
            "pl-0-us-east-1-k45tj.mongodb.net. 60 IN CNAME \
             vpce-024f5b57108c8d3ed-ypwbxwll.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com.",
        ] {
            assert!(lines.contains(&line), "{line} is not in\n{}", zones[0].text);
        }
    }

    #[test]
    fn a_change_batch_has_the_shape_that_the_aws_command_takes() {
        let zones =
            export_zones(&fixture::view(), None, ExportFormat::Route53, &DnsSettings::default()).expect("public zones");
        let batch: serde_json::Value = serde_json::from_str(&zones[0].text).expect("one JSON value");
        let changes = batch["Changes"].as_array().expect("a list");
        let srv = changes
            .iter()
            .find(|change| change["ResourceRecordSet"]["Name"] == "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net.")
            .expect("the seed list");
        assert_eq!(
            *srv,
            serde_json::json!({
                "Action": "UPSERT",
                "ResourceRecordSet": {
                    "Name": "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net.",
                    "Type": "SRV",
                    "TTL": 60,
                    "ResourceRecords": [
                        { "Value": "0 0 1024 pl-0-us-east-1-k45tj.mongodb.net." },
                        { "Value": "0 0 1025 pl-0-us-east-1-k45tj.mongodb.net." },
                        { "Value": "0 0 1026 pl-0-us-east-1-k45tj.mongodb.net." },
                    ],
                },
            })
        );
    }

    #[test]
    fn hosts_lines_follow_aliases_and_omit_names_without_an_address() {
        let text = text_of(None, ExportFormat::Hosts);
        assert!(text.lines().any(|line| line == "10.0.20.54 pl-0-us-east-1-k45tj.mongodb.net"), "{text}");
        assert!(!text.contains("_mongodb._tcp"), "{text}");
        assert!(!text.contains('*'), "{text}");
    }

    #[test]
    fn a_vpc_gets_its_private_zones_over_the_public_ones() {
        let name = "us-east-1.aws.services.cloud.mongodb.com";
        assert!(text_of(None, ExportFormat::Hosts).contains(&format!("127.9.0.10 {name}\n")));
        let seen = text_of(Some(&vpc_id()), ExportFormat::Hosts);
        assert!(seen.contains(&format!("10.0.20.55 {name}\n")), "{seen}");
        assert!(!seen.contains("127.9.0.10"), "the public address is hidden: {seen}");
        assert!(text_of(Some(&fixture::mute_vpc_id()), ExportFormat::Bind).is_empty(), "it has no resolver");
    }

    #[test]
    fn an_unknown_vpc_is_refused_with_those_that_there_are() {
        let wanted = "vpc-00000000".parse().expect("an id");
        let error = export(&fixture::view(), Some(&wanted), ExportFormat::Bind, &DnsSettings::default());
        assert_eq!(
            error.expect_err("unknown").to_string(),
            "cannot export names as `vpc-00000000` sees them: there is no such VPC; \
             there is `vpc-0a1b2c3d`, `vpc-0badbad0`"
        );
    }

    #[test]
    fn texts_are_quoted_in_pieces_of_255_bytes() {
        let long = "a".repeat(300);
        assert_eq!(quoted(&long, decimal), format!("\"{}\" \"{}\"", "a".repeat(255), "a".repeat(45)));
        assert_eq!(quoted("a\"\\\n", decimal), r#""a\"\\\010""#);
        assert_eq!(quoted("\n", octal), r#""\012""#);
    }
}
