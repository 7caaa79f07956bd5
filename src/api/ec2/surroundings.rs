//! Resources around VPCs: regions, zones, the account, and the defaults of every VPC: a network ACL and a route table.
//! The latter can't be changed here, so they are those that AWS creates with a VPC.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::errors::not_found;
use super::items::{Listing, PAGES, empty, no_tags, none, one};
use super::params::{ACL, ENDPOINT, PREFIX_LIST, ROUTE_TABLE};
use super::tags::tag_set;
use super::vpcs::{ipv6_networks, networks};
use super::xml::next;
use super::{Ec2Error, Ec2Request, Ec2Result, OWNER, Xml};
use crate::api::text::object_id;
use crate::control::draft::ResourceKind;
use crate::control::inventory::{Tags, VpcRecord};
use crate::model::{Region, Zone};

fn zone_group(zone: &Zone) -> String {
    format!("{}-zg-1", zone.region())
}

pub(super) fn describe_zones(request: &Ec2Request<'_>) -> Ec2Result {
    let params = &request.params;
    // All zones are opted in.
    params.flag("AllAvailabilityZones")?;
    let region = request.own_region()?;
    let ids = params.list("ZoneId");
    if let Some(lost) = ids.iter().find(|id| !region.zones().any(|zone| zone.id() == **id)) {
        return Err(no_zone(lost));
    }
    let listing = Listing {
        ids: Some(("ZoneName", None)),
        pages: None,
        id: ToString::to_string,
        tags: no_tags,
        filters: &[
            ("group-long-name", none),
            ("group-name", |zone| one(zone_group(zone))),
            ("message", none),
            ("opt-in-status", |_| one("opt-in-not-required")),
            ("parent-zone-id", none),
            ("parent-zone-name", none),
            ("region-name", |zone: &Zone| one(zone.region())),
            ("state", |_| one("available")),
            ("zone-id", |zone| one(zone.id())),
            ("zone-name", |zone| one(zone)),
            ("zone-type", |_| one("availability-zone")),
        ],
        missing: no_zone,
    };
    let zones = region.zones().filter(|zone| ids.is_empty() || ids.contains(&zone.id().as_str()));
    let page = listing.select(params, zones)?;
    let mut xml = Xml::new();
    xml.set("availabilityZoneInfo", page.items, |xml, zone| {
        xml.leaf("zoneName", &zone);
        xml.leaf("zoneId", zone.id());
        xml.leaf("zoneState", "available");
        xml.leaf("regionName", zone.region());
        xml.leaf("zoneType", "availability-zone");
        xml.leaf("groupName", zone_group(&zone));
        xml.leaf("networkBorderGroup", zone.region());
        xml.leaf("optInStatus", "opt-in-not-required");
        xml.set("messageSet", Vec::<()>::new(), |_, ()| {});
    });
    Ok(xml)
}

fn no_zone(zone: &str) -> Ec2Error {
    Ec2Error::new("InvalidParameterValue", format!("Invalid availability zone: [{zone}]"))
}

fn endpoint(region: &str) -> String {
    format!("ec2.{region}.amazonaws.com")
}

pub(super) fn describe_regions(request: &Ec2Request<'_>) -> Ec2Result {
    request.params.flag("AllRegions")?;
    let listing = Listing {
        ids: Some(("RegionName", None)),
        pages: None,
        id: |region: &&str| (*region).to_owned(),
        tags: no_tags,
        filters: &[
            ("endpoint", |region| one(endpoint(region))),
            ("opt-in-status", |_| one("opt-in-not-required")),
            ("region-name", |region| one(region)),
        ],
        missing: |region| Ec2Error::new("InvalidParameterValue", format!("Invalid region: [{region}]")),
    };
    let page = listing.select(&request.params, Region::known().iter().copied())?;
    let mut xml = Xml::new();
    xml.set("regionInfo", page.items, |xml, region| {
        xml.leaf("regionName", region);
        xml.leaf("regionEndpoint", endpoint(region));
        xml.leaf("optInStatus", "opt-in-not-required");
    });
    Ok(xml)
}

/// Attributes of an account without a default VPC. Source: Amazon EC2 API Reference, *DescribeAccountAttributes*.
const ACCOUNT: [(&str, &str); 6] = [
    ("default-vpc", "none"),
    ("max-elastic-ips", "5"),
    ("max-instances", "20"),
    ("supported-platforms", "VPC"),
    ("vpc-max-elastic-ips", "5"),
    ("vpc-max-security-groups-per-interface", "5"),
];

pub(super) fn describe_account(request: &Ec2Request<'_>) -> Ec2Result {
    let wanted = request.params.list("AttributeName");
    if let Some(unknown) = wanted.iter().find(|name| !ACCOUNT.iter().any(|(known, _)| known == *name)) {
        return Err(Ec2Error::invalid("attributeName", unknown));
    }
    let attributes = ACCOUNT.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name));
    let mut xml = Xml::new();
    xml.set("accountAttributeSet", attributes, |xml, (name, value)| {
        xml.leaf("attributeName", name);
        xml.set("attributeValueSet", [value], |xml, value| xml.leaf("attributeValue", value));
    });
    Ok(xml)
}

/// Prefix lists of gateway endpoints' services; there are none.
pub(super) fn describe_prefix_lists(request: &Ec2Request<'_>) -> Ec2Result {
    let filters = [("prefix-list-id", none as fn(&()) -> _), ("prefix-list-name", none)];
    let ids = Some(("PrefixListId", Some(PREFIX_LIST)));
    empty(request, "prefixListSet", ids, 1..=1000, &filters, |id| {
        Ec2Error::new("InvalidPrefixListId.NotFound", format!("The prefix list ID '{id}' does not exist"))
    })
}

/// Associations of resource and service network endpoints; there are none.
pub(super) fn describe_associations(request: &Ec2Request<'_>) -> Ec2Result {
    let filters = [
        ("vpc-endpoint-id", none as fn(&()) -> _),
        ("associated-resource-accessibility", none),
        ("association-id", none),
        ("associated-resource-id", none),
        ("service-network-arn", none),
        ("resource-configuration-group-arn", none),
    ];
    // The ids may be of existing endpoints, which have no associations.
    for id in request.params.list("VpcEndpointId") {
        ENDPOINT.check(id)?;
    }
    empty(request, "vpcEndpointAssociationSet", None, 1..=100, &filters, |id| not_found(ResourceKind::Endpoint, id))
}

/// An id derived from that of the VPC.
fn derived_id(prefix: &str, record: &VpcRecord) -> String {
    format!("{prefix}-0{}", &object_id(prefix, record.vpc.id.as_str())[..16])
}

fn acl(record: &VpcRecord) -> String {
    derived_id("acl", record)
}

/// Ids of subnets' associations with the VPC's ACL.
fn acl_associations(record: &VpcRecord) -> Vec<String> {
    let digits = |subnet: &crate::model::SubnetId| object_id("aclassoc", subnet.as_str())[..16].to_owned();
    record.vpc.subnets.keys().map(|subnet| format!("aclassoc-0{}", digits(subnet))).collect()
}

fn subnet_ids(record: &VpcRecord) -> Vec<String> {
    record.vpc.subnets.keys().map(ToString::to_string).collect()
}

/// The entries of the default ACL: whether it is egress, its number, its action, and its network. Those for IPv6 exist
/// in a VPC with IPv6. Source: Amazon VPC User Guide, *Default network ACL*.
fn entries(record: &VpcRecord) -> Vec<(bool, u16, &'static str, IpNet)> {
    let nets = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let nets = nets.into_iter().zip(0..).filter(|(net, _)| net.addr().is_ipv4() || !ipv6_networks(record).is_empty());
    let of_net = |(net, n): (IpNet, u16)| [(100 + n, "allow", net), (32_767 + n, "deny", net)];
    let rules: Vec<(u16, &str, IpNet)> = nets.flat_map(of_net).collect();
    let sides = [true, false].into_iter();
    sides.flat_map(|egress| rules.iter().map(move |(number, action, net)| (egress, *number, *action, *net))).collect()
}

pub(super) fn describe_network_acls(request: &Ec2Request<'_>) -> Ec2Result {
    let inventory = request.shared.control.inventory();
    let listing = Listing {
        ids: Some(("NetworkAclId", Some(ACL))),
        pages: Some(PAGES),
        id: |record: &&VpcRecord| acl(record),
        tags: no_tags,
        filters: &[
            ("association.association-id", |record| acl_associations(record)),
            ("association.network-acl-id", |record| one(acl(record))),
            ("association.subnet-id", |record| subnet_ids(record)),
            ("default", |_| one(true)),
            ("entry.cidr", |_| one(Ipv4Net::default())),
            ("entry.egress", |_| vec!["true".to_owned(), "false".to_owned()]),
            ("entry.icmp.code", none),
            ("entry.icmp.type", none),
            ("entry.ipv6-cidr", |record| {
                ipv6_networks(record).iter().take(1).map(|_| Ipv6Net::default().to_string()).collect()
            }),
            ("entry.port-range.from", none),
            ("entry.port-range.to", none),
            ("entry.protocol", |_| one(-1)),
            ("entry.rule-action", |_| vec!["allow".to_owned(), "deny".to_owned()]),
            ("entry.rule-number", |record| entries(record).iter().map(|(_, number, ..)| number.to_string()).collect()),
            ("network-acl-id", |record| one(acl(record))),
            ("owner-id", |_| one(OWNER)),
            ("vpc-id", |record| one(&record.vpc.id)),
        ],
        missing: |id| Ec2Error::new("InvalidNetworkAclID.NotFound", format!("The networkAcl ID '{id}' does not exist")),
    };
    let seen = inventory.vpcs.values().filter(|record| request.is_visible(&record.vpc.region));
    let page = listing.select(&request.params, seen)?;
    let mut xml = Xml::new();
    xml.set("networkAclSet", page.items, |xml, record| {
        xml.leaf("networkAclId", acl(record));
        xml.leaf("vpcId", &record.vpc.id);
        xml.leaf("ownerId", OWNER);
        xml.leaf("default", true);
        xml.set("entrySet", entries(record), |xml, (egress, number, action, net)| {
            xml.leaf("ruleNumber", number);
            xml.leaf("protocol", -1);
            xml.leaf("ruleAction", action);
            xml.leaf("egress", egress);
            xml.leaf(if net.addr().is_ipv4() { "cidrBlock" } else { "ipv6CidrBlock" }, net);
        });
        let associations = acl_associations(record).into_iter().zip(subnet_ids(record));
        xml.set("associationSet", associations, |xml, (id, subnet)| {
            xml.leaf("networkAclAssociationId", id);
            xml.leaf("networkAclId", acl(record));
            xml.leaf("subnetId", subnet);
        });
        tag_set(xml, &Tags::new());
    });
    next(&mut xml, page.next);
    Ok(xml)
}

fn table(record: &VpcRecord) -> String {
    derived_id("rtb", record)
}

pub(super) fn describe_route_tables(request: &Ec2Request<'_>) -> Ec2Result {
    let inventory = request.shared.control.inventory();
    let listing = Listing {
        ids: Some(("RouteTableId", Some(ROUTE_TABLE))),
        pages: Some(5..=100),
        id: |record: &&VpcRecord| table(record),
        tags: no_tags,
        filters: &[
            ("association.gateway-id", none),
            ("association.main", |_| one(true)),
            ("association.route-table-association-id", |record| one(derived_id("rtbassoc", record))),
            ("association.route-table-id", |record| one(table(record))),
            ("association.subnet-id", none),
            ("owner-id", |_| one(OWNER)),
            ("route-table-id", |record| one(table(record))),
            ("route.destination-cidr-block", |record| networks(record)),
            ("route.destination-ipv6-cidr-block", |record| ipv6_networks(record)),
            ("route.destination-prefix-list-id", none),
            ("route.egress-only-internet-gateway-id", none),
            ("route.gateway-id", |_| one("local")),
            ("route.instance-id", none),
            ("route.nat-gateway-id", none),
            ("route.origin", |_| one("CreateRouteTable")),
            ("route.state", |_| one("active")),
            ("route.transit-gateway-id", none),
            ("route.vpc-peering-connection-id", none),
            ("vpc-id", |record| one(&record.vpc.id)),
        ],
        missing: |id| Ec2Error::new("InvalidRouteTableID.NotFound", format!("The routeTable ID '{id}' does not exist")),
    };
    let seen = inventory.vpcs.values().filter(|record| request.is_visible(&record.vpc.region));
    let page = listing.select(&request.params, seen)?;
    let mut xml = Xml::new();
    xml.set("routeTableSet", page.items, |xml, record| {
        xml.leaf("routeTableId", table(record));
        xml.leaf("vpcId", &record.vpc.id);
        xml.leaf("ownerId", OWNER);
        let ipv4 = networks(record).into_iter().map(|net| ("destinationCidrBlock", net));
        let ipv6 = ipv6_networks(record).into_iter().map(|net| ("destinationIpv6CidrBlock", net));
        xml.set("routeSet", ipv4.chain(ipv6), |xml, (tag, net)| {
            xml.leaf(tag, net);
            xml.leaf("gatewayId", "local");
            xml.leaf("state", "active");
            xml.leaf("origin", "CreateRouteTable");
        });
        xml.set("associationSet", [()], |xml, ()| {
            xml.leaf("routeTableAssociationId", derived_id("rtbassoc", record));
            xml.leaf("routeTableId", table(record));
            xml.leaf("main", true);
            xml.nest("associationState", |xml| xml.leaf("state", "associated"));
        });
        xml.set("propagatingVgwSet", Vec::<()>::new(), |_, ()| {});
        tag_set(xml, &Tags::new());
    });
    next(&mut xml, page.next);
    Ok(xml)
}
