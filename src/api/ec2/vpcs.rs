//! VPCs, subnets, zones, tags.

use super::errors::not_found;
use super::items::{Item, select};
use super::params::{Params, parse_id};
use super::{OWNER, Outcome, Refusal, Request, Xml};
use crate::control::draft::Kind;
use crate::control::inventory::{Tags, VpcRecord};
use crate::model::{CidrSet, Region, Subnet, SubnetId, VpcId, Zone};

pub(super) fn vpc_id(params: &Params) -> Result<VpcId, Refusal> {
    params.id("VpcId", "InvalidVpcID.Malformed", "vpc-")
}

fn cidr(params: &Params) -> Result<ipnet::IpNet, Refusal> {
    let text = params.required("CidrBlock")?;
    match CidrSet::parse_one(text) {
        Ok(net @ ipnet::IpNet::V4(_)) if text.contains('/') => Ok(net),
        Ok(_) | Err(_) => Err(Refusal::new(
            "InvalidParameterValue",
            format!("Value ({text}) for parameter cidrBlock is invalid. This is not a valid CIDR block."),
        )),
    }
}

pub(super) fn tags(xml: &mut Xml, tags: &Tags) {
    xml.set("tagSet", tags, |xml, (key, value)| {
        xml.leaf("key", key);
        xml.leaf("value", value);
    });
}

pub(super) fn tags_of(record: &VpcRecord, id: &str) -> Tags {
    record.tags.get(id).cloned().unwrap_or_default()
}

fn vpc_body(xml: &mut Xml, record: &VpcRecord) {
    let vpc = &record.vpc;
    xml.leaf("vpcId", &vpc.id);
    xml.leaf("ownerId", OWNER);
    xml.leaf("state", "available");
    xml.leaf("cidrBlock", vpc.cidrs.iter().next().map(ToString::to_string).unwrap_or_default());
    xml.set("cidrBlockAssociationSet", vpc.cidrs.iter().enumerate(), |xml, (n, net)| {
        xml.leaf("cidrBlock", net);
        xml.leaf("associationId", format!("vpc-cidr-assoc-{}{n}", vpc.id.as_str().trim_start_matches("vpc-")));
        xml.nest("cidrBlockState", |xml| xml.leaf("state", "associated"));
    });
    xml.leaf("dhcpOptionsId", "default");
    xml.leaf("instanceTenancy", "default");
    xml.leaf("isDefault", false);
    tags(xml, &tags_of(record, vpc.id.as_str()));
}

pub(super) async fn create(request: &Request<'_>) -> Outcome {
    let (net, tags) = (cidr(&request.params)?, request.params.tags("vpc"));
    request.check_dry_run()?;
    let inventory = request.shared.control.inventory();
    let region = request.region.clone().or_else(|| inventory.vpcs.values().next().map(|r| r.vpc.region.clone()));
    let region =
        region.ok_or_else(|| Refusal::new("MissingAuthenticationToken", "Sign the request: its region is there."))?;
    let id = request.shared.control.edit(move |draft| draft.create_vpc(region, net, tags)).await?;
    let inventory = request.shared.control.inventory();
    let mut xml = Xml::new();
    if let Some(record) = inventory.vpcs.get(&id) {
        xml.nest("vpc", |xml| vpc_body(xml, record));
    }
    Ok(xml)
}

pub(super) async fn delete(request: &Request<'_>) -> Outcome {
    let id = vpc_id(&request.params)?;
    request.check_dry_run()?;
    request.shared.control.edit(move |draft| draft.delete_vpc(&id)).await?;
    Ok(done())
}

pub(super) fn done() -> Xml {
    let mut xml = Xml::new();
    xml.leaf("return", true);
    xml
}

pub(super) fn describe(request: &Request<'_>) -> Outcome {
    let inventory = request.shared.control.inventory();
    let items = inventory.vpcs.values().filter(|record| request.sees(&record.vpc.region)).map(|record| Item {
        value: record,
        id: record.vpc.id.to_string(),
        fields: vec![
            ("vpc-id", vec![record.vpc.id.to_string()]),
            ("state", vec!["available".to_owned()]),
            ("cidr", record.vpc.cidrs.iter().map(ToString::to_string).collect()),
            ("cidr-block-association.cidr-block", record.vpc.cidrs.iter().map(ToString::to_string).collect()),
            ("owner-id", vec![OWNER.to_owned()]),
            ("is-default", vec!["false".to_owned()]),
            ("isDefault", vec!["false".to_owned()]),
        ],
        tags: tags_of(record, record.vpc.id.as_str()),
    });
    let known = ["vpc-id", "state", "cidr", "cidr-block-association.cidr-block", "owner-id", "is-default", "isDefault"];
    let page = select(&request.params, "VpcId", items.collect(), &known, |id| not_found(Kind::Vpc, id))?;
    let mut xml = Xml::new();
    xml.set("vpcSet", page.items, vpc_body);
    next(&mut xml, page.next);
    Ok(xml)
}

pub(super) fn next(xml: &mut Xml, token: Option<String>) {
    if let Some(token) = token {
        xml.leaf("nextToken", token);
    }
}

pub(super) async fn modify_attribute(request: &Request<'_>) -> Outcome {
    let id = vpc_id(&request.params)?;
    let support = request.params.flag("EnableDnsSupport.Value")?;
    let hostnames = request.params.flag("EnableDnsHostnames.Value")?;
    if support.is_some() && hostnames.is_some() {
        let message = "Fields for multiple attribute types specified: only one attribute may be modified at a time";
        return Err(Refusal::new("InvalidParameterCombination", message));
    }
    if support.is_none() && hostnames.is_none() {
        return Err(Refusal::missing("EnableDnsSupport or EnableDnsHostnames"));
    }
    request.shared.control.edit(move |draft| draft.set_dns(&id, support, hostnames)).await?;
    Ok(done())
}

pub(super) fn describe_attribute(request: &Request<'_>) -> Outcome {
    let id = vpc_id(&request.params)?;
    let inventory = request.shared.control.inventory();
    let record = inventory.vpcs.get(&id).ok_or_else(|| not_found(Kind::Vpc, id.as_str()))?;
    let attribute = request.params.required("Attribute")?;
    let on = match attribute {
        "enableDnsSupport" => record.vpc.enable_dns_support,
        "enableDnsHostnames" => record.vpc.enable_dns_hostnames,
        "enableNetworkAddressUsageMetrics" => false,
        other => return Err(Refusal::invalid("attribute", other)),
    };
    let mut xml = Xml::new();
    xml.leaf("vpcId", &id);
    xml.nest(attribute, |xml| xml.leaf("value", on));
    Ok(xml)
}

fn subnet_body(xml: &mut Xml, record: &VpcRecord, subnet: &Subnet, used: usize) {
    let size = match subnet.cidr {
        ipnet::IpNet::V4(net) => 1usize << (32 - usize::from(net.prefix_len())),
        ipnet::IpNet::V6(_) => 0,
    };
    xml.leaf("subnetId", &subnet.id);
    let region = &record.vpc.region;
    xml.leaf("subnetArn", format!("arn:aws:ec2:{region}:{OWNER}:subnet/{}", subnet.id));
    xml.leaf("state", "available");
    xml.leaf("ownerId", OWNER);
    xml.leaf("vpcId", &record.vpc.id);
    xml.leaf("cidrBlock", subnet.cidr);
    xml.leaf("availableIpAddressCount", size.saturating_sub(5).saturating_sub(used));
    xml.leaf("availabilityZone", &subnet.zone);
    xml.leaf("availabilityZoneId", zone_id(&subnet.zone));
    xml.leaf("defaultForAz", false);
    xml.leaf("mapPublicIpOnLaunch", false);
    tags(xml, &tags_of(record, subnet.id.as_str()));
}

/// `use1-az1` for `us-east-1a`.
pub(super) fn zone_id(zone: &Zone) -> String {
    zone.id()
}

fn used(request: &Request<'_>, id: &SubnetId) -> usize {
    let inventory = request.shared.control.inventory();
    inventory.endpoints.values().flat_map(|record| &record.endpoint.addresses).filter(|a| a.subnet == *id).count()
}

pub(super) async fn create_subnet(request: &Request<'_>) -> Outcome {
    let params = &request.params;
    let (vpc, net, tags) = (vpc_id(params)?, cidr(params)?, params.tags("subnet"));
    let zone: Option<Zone> = params
        .text("AvailabilityZone")
        .map(|text| text.parse().map_err(|_| Refusal::invalid("availabilityZone", text)))
        .transpose()?;
    request.check_dry_run()?;
    let home = vpc.clone();
    let id = request.shared.control.edit(move |draft| draft.create_subnet(&home, net, zone, tags)).await?;
    let inventory = request.shared.control.inventory();
    let mut xml = Xml::new();
    if let Some((record, subnet)) = inventory.vpcs.get(&vpc).and_then(|r| Some((r, r.vpc.subnets.get(&id)?))) {
        xml.nest("subnet", |xml| subnet_body(xml, record, subnet, 0));
    }
    Ok(xml)
}

pub(super) async fn delete_subnet(request: &Request<'_>) -> Outcome {
    let id: SubnetId = request.params.id("SubnetId", "InvalidSubnetID.Malformed", "subnet-")?;
    request.check_dry_run()?;
    request.shared.control.edit(move |draft| draft.delete_subnet(&id)).await?;
    Ok(done())
}

pub(super) fn describe_subnets(request: &Request<'_>) -> Outcome {
    let inventory = request.shared.control.inventory();
    let seen = inventory.vpcs.values().filter(|record| request.sees(&record.vpc.region));
    let items = seen.flat_map(|record| record.vpc.subnets.values().map(move |subnet| (record, subnet)));
    let items = items.map(|(record, subnet)| Item {
        value: (record, subnet),
        id: subnet.id.to_string(),
        fields: vec![
            ("subnet-id", vec![subnet.id.to_string()]),
            ("vpc-id", vec![record.vpc.id.to_string()]),
            ("availability-zone", vec![subnet.zone.to_string()]),
            ("availabilityZone", vec![subnet.zone.to_string()]),
            ("availability-zone-id", vec![zone_id(&subnet.zone)]),
            ("cidr-block", vec![subnet.cidr.to_string()]),
            ("cidr", vec![subnet.cidr.to_string()]),
            ("state", vec!["available".to_owned()]),
        ],
        tags: tags_of(record, subnet.id.as_str()),
    });
    let known = [
        "subnet-id",
        "vpc-id",
        "availability-zone",
        "availabilityZone",
        "availability-zone-id",
        "cidr-block",
        "cidr",
        "state",
    ];
    let page = select(&request.params, "SubnetId", items.collect(), &known, |id| not_found(Kind::Subnet, id))?;
    let mut xml = Xml::new();
    xml.set("subnetSet", page.items, |xml, (record, subnet)| {
        subnet_body(xml, record, subnet, used(request, &subnet.id));
    });
    next(&mut xml, page.next);
    Ok(xml)
}

pub(super) fn describe_zones(request: &Request<'_>) -> Outcome {
    let region = match &request.region {
        Some(region) => region.clone(),
        None => request.params.required("RegionName")?.parse().map_err(|_| Refusal::missing("RegionName"))?,
    };
    let zones = ['a', 'b', 'c'].into_iter().filter_map(|letter| format!("{region}{letter}").parse::<Zone>().ok());
    let items = zones.map(|zone| Item {
        id: zone.to_string(),
        fields: vec![("zone-name", vec![zone.to_string()]), ("zone-id", vec![zone_id(&zone)])],
        value: zone,
        tags: Tags::new(),
    });
    let known = ["zone-name", "zone-id"];
    let page = select(&request.params, "ZoneName", items.collect(), &known, |id| Refusal::invalid("ZoneName", id))?;
    let mut xml = Xml::new();
    xml.set("availabilityZoneInfo", page.items, |xml, zone| {
        xml.leaf("zoneName", &zone);
        xml.leaf("zoneId", zone_id(&zone));
        xml.leaf("zoneState", "available");
        xml.leaf("regionName", &region);
        xml.leaf("zoneType", "availability-zone");
    });
    Ok(xml)
}

pub(super) fn describe_regions(_: &Request<'_>) -> Xml {
    let mut xml = Xml::new();
    xml.set("regionInfo", Region::known(), |xml, region| {
        xml.leaf("regionName", region);
        xml.leaf("regionEndpoint", format!("ec2.{region}.amazonaws.com"));
        xml.leaf("optInStatus", "opt-in-not-required");
    });
    xml
}

pub(super) async fn tag(request: &Request<'_>, set: bool) -> Outcome {
    let resources: Vec<String> = request.params.list("ResourceId").into_iter().map(str::to_owned).collect();
    if resources.is_empty() {
        return Err(Refusal::missing("ResourceId"));
    }
    let tags = request.params.tag_list("Tag");
    request.check_dry_run()?;
    let change = request.shared.control.edit(move |draft| {
        for id in &resources {
            if set {
                draft.tag(id, tags.clone(), &[])?;
            } else {
                draft.tag(id, Tags::new(), &tags.keys().cloned().collect::<Vec<_>>())?;
            }
        }
        Ok(())
    });
    change.await?;
    Ok(done())
}

/// The ids of a list, each of one form.
pub(super) fn ids<T: std::str::FromStr>(
    params: &Params,
    name: &str,
    code: &'static str,
    form: &str,
) -> Result<Vec<T>, Refusal> {
    params.list(name).into_iter().map(|text| parse_id(text, code, form)).collect()
}
