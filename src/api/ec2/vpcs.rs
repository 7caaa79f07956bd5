//! VPCs and their attributes.

use ipnet::{IpNet, Ipv6Net};

use super::errors::not_found;
use super::items::{Listing, PAGES, one};
use super::params::{Params, VPC};
use super::tags::{tag_set, tags_of};
use super::xml::next;
use super::{Ec2Error, Ec2Request, Ec2Result, OWNER, Xml};
use crate::control::draft::ResourceKind;
use crate::control::draft::ec2::VpcChange;
use crate::control::inventory::VpcRecord;
use crate::model::{Region, VpcId};

/// EC2's name for Amazon's pool of IPv6 networks.
const IPV6_POOL: &str = "Amazon";

pub(super) fn vpc_id(params: &Params) -> Result<VpcId, Ec2Error> {
    params.id("VpcId", VPC)
}

/// `CidrBlock`, whose prefix has 16 to 28 bits; host bits are ignored, as by AWS.
///
/// # Errors
///
/// `InvalidParameterValue` for a value that is not an IPv4 network, `range` for a prefix of another length.
pub(super) fn cidr_block(params: &Params, range: &'static str) -> Result<IpNet, Ec2Error> {
    let text = params.required("CidrBlock")?;
    let net = text.parse::<ipnet::Ipv4Net>().map_err(|_| {
        let message = format!("Value ({text}) for parameter cidrBlock is invalid. This is not a valid CIDR block.");
        Ec2Error::new("InvalidParameterValue", message)
    })?;
    if !(16..=28).contains(&net.prefix_len()) {
        return Err(Ec2Error::new(range, format!("The CIDR '{text}' is invalid.")));
    }
    Ok(net.trunc().into())
}

fn association(record: &VpcRecord, n: usize) -> String {
    format!("vpc-cidr-assoc-{}{n}", record.vpc.id.as_str().trim_start_matches("vpc-"))
}

/// Its IPv4 networks.
pub(super) fn networks(record: &VpcRecord) -> Vec<String> {
    record.vpc.cidrs.iter().filter(|net| net.addr().is_ipv4()).map(ToString::to_string).collect()
}

/// Its IPv6 networks.
pub(super) fn ipv6_networks(record: &VpcRecord) -> Vec<String> {
    record.ipv6_associations().into_iter().map(|(_, net)| net.to_string()).collect()
}

/// One association of an IPv6 network with the VPC.
fn ipv6_association(xml: &mut Xml, region: &Region, (id, net): (String, Ipv6Net), state: &str) {
    xml.leaf("associationId", id);
    xml.leaf("ipv6CidrBlock", net);
    xml.nest("ipv6CidrBlockState", |xml| xml.leaf("state", state));
    xml.leaf("networkBorderGroup", region);
    xml.leaf("ipv6Pool", IPV6_POOL);
    xml.leaf("ipv6AddressAttribute", "public");
    xml.leaf("ipSource", "amazon");
}

fn body(xml: &mut Xml, record: &VpcRecord) {
    let vpc = &record.vpc;
    xml.leaf("vpcId", &vpc.id);
    xml.leaf("ownerId", OWNER);
    xml.leaf("state", "available");
    xml.leaf("cidrBlock", networks(record).into_iter().next().unwrap_or_default());
    xml.set("cidrBlockAssociationSet", networks(record).into_iter().enumerate(), |xml, (n, net)| {
        xml.leaf("cidrBlock", net);
        xml.leaf("associationId", association(record, n));
        xml.nest("cidrBlockState", |xml| xml.leaf("state", "associated"));
    });
    xml.set("ipv6CidrBlockAssociationSet", record.ipv6_associations(), |xml, own| {
        ipv6_association(xml, &vpc.region, own, "associated");
    });
    xml.leaf("dhcpOptionsId", "default");
    xml.leaf("instanceTenancy", "default");
    xml.leaf("isDefault", false);
    tag_set(xml, &tags_of(record, vpc.id.as_str()));
}

/// Whether an IPv6 network of Amazon's pool is requested; callers have no pools of their own here.
fn wants_ipv6(params: &Params) -> Result<bool, Ec2Error> {
    params.unsupported(&[
        "Ipv4IpamPoolId",
        "Ipv4NetmaskLength",
        "Ipv6CidrBlock",
        "Ipv6CidrBlockNetworkBorderGroup",
        "Ipv6IpamPoolId",
        "Ipv6NetmaskLength",
        "Ipv6Pool",
    ])?;
    Ok(params.flag("AmazonProvidedIpv6CidrBlock")?.unwrap_or(false))
}

pub(super) async fn associate(request: &Ec2Request<'_>) -> Ec2Result {
    let params = &request.params;
    let id = vpc_id(params)?;
    // A second IPv4 network.
    params.unsupported(&["CidrBlock"])?;
    if !wants_ipv6(params)? {
        return Err(Ec2Error::missing("AmazonProvidedIpv6CidrBlock"));
    }
    let home = id.clone();
    let net = request.edit(move |draft| draft.associate_vpc_network(&home)).await?;
    let inventory = request.shared.control.inventory();
    let mut xml = Xml::new();
    xml.leaf("vpcId", &id);
    if let Some(record) = inventory.vpcs.get(&id) {
        let own = record.ipv6_associations().into_iter().find(|(_, own)| *own == net);
        let region = &record.vpc.region;
        own.into_iter().for_each(|own| {
            xml.nest("ipv6CidrBlockAssociation", |xml| ipv6_association(xml, region, own, "associating"));
        });
    }
    Ok(xml)
}

pub(super) async fn disassociate(request: &Ec2Request<'_>) -> Ec2Result {
    let association = request.params.required("AssociationId")?.to_owned();
    let inventory = request.shared.control.inventory();
    let is_primary =
        |record: &VpcRecord| request.is_visible(&record.vpc.region) && association == self::association(record, 0);
    if inventory.vpcs.values().any(is_primary) {
        let message = format!(
            "The vpc CIDR block with association ID {association} may not be disassociated. It is the primary IPv4 CIDR \
             block of the VPC"
        );
        return Err(Ec2Error::new("OperationNotPermitted", message));
    }
    let asked = association.clone();
    let (vpc, net) = request.edit(move |draft| draft.disassociate_vpc_network(&asked)).await?;
    let mut xml = Xml::new();
    xml.leaf("vpcId", &vpc);
    if let Some(record) = inventory.vpcs.get(&vpc) {
        xml.nest("ipv6CidrBlockAssociation", |xml| {
            ipv6_association(xml, &record.vpc.region, (association, net), "disassociating");
        });
    }
    Ok(xml)
}

pub(super) async fn create(request: &Ec2Request<'_>) -> Ec2Result {
    let params = &request.params;
    params.only("InstanceTenancy", &["default"])?;
    params.unsupported(&["VpcEncryptionControl"])?;
    let with_ipv6 = wants_ipv6(params)?;
    let (net, tags) = (cidr_block(params, "InvalidVpc.Range")?, params.tags("vpc")?);
    let region = request.own_region()?;
    let id = request.edit(move |draft| draft.create_vpc(region, net, with_ipv6, tags)).await?;
    let inventory = request.shared.control.inventory();
    let mut xml = Xml::new();
    if let Some(record) = inventory.vpcs.get(&id) {
        xml.nest("vpc", |xml| body(xml, record));
    }
    Ok(xml)
}

pub(super) async fn delete(request: &Ec2Request<'_>) -> Ec2Result {
    let id = vpc_id(&request.params)?;
    request.edit(move |draft| draft.delete_vpc(&id)).await?;
    Ok(Xml::done())
}

pub(super) fn describe(request: &Ec2Request<'_>) -> Ec2Result {
    let inventory = request.shared.control.inventory();
    let listing = Listing {
        ids: Some(("VpcId", Some(VPC))),
        pages: Some(PAGES),
        id: |record: &&VpcRecord| record.vpc.id.to_string(),
        tags: |record| tags_of(record, record.vpc.id.as_str()),
        filters: &[
            ("cidr", |record| networks(record).into_iter().take(1).collect()),
            // Not documented, but accepted by AWS and sent by Ansible.
            ("cidr-block", |record| networks(record).into_iter().take(1).collect()),
            ("cidr-block-association.association-id", |record| {
                (0..networks(record).len()).map(|n| association(record, n)).collect()
            }),
            ("cidr-block-association.cidr-block", |record| networks(record)),
            ("cidr-block-association.state", |_| one("associated")),
            ("dhcp-options-id", |_| one("default")),
            ("ipv6-cidr-block-association.association-id", |record| {
                record.ipv6_associations().into_iter().map(|(id, _)| id).collect()
            }),
            ("ipv6-cidr-block-association.ipv6-cidr-block", |record| ipv6_networks(record)),
            ("ipv6-cidr-block-association.ipv6-pool", |record| of_each(record, IPV6_POOL)),
            ("ipv6-cidr-block-association.state", |record| of_each(record, "associated")),
            ("is-default", |_| one(false)),
            ("isDefault", |_| one(false)),
            ("owner-id", |_| one(OWNER)),
            ("state", |_| one("available")),
            ("vpc-id", |record| one(&record.vpc.id)),
        ],
        missing: |id| not_found(ResourceKind::Vpc, id),
    };
    let seen = inventory.vpcs.values().filter(|record| request.is_visible(&record.vpc.region));
    let page = listing.select(&request.params, seen)?;
    let mut xml = Xml::new();
    xml.set("vpcSet", page.items, body);
    next(&mut xml, page.next);
    Ok(xml)
}

/// One value for each IPv6 network of the VPC.
fn of_each(record: &VpcRecord, value: &str) -> Vec<String> {
    record.ipv6_associations().iter().map(|_| value.to_owned()).collect()
}

pub(super) async fn modify_attribute(request: &Ec2Request<'_>) -> Ec2Result {
    let id = vpc_id(&request.params)?;
    let flag = |name: &str| request.params.flag(&format!("{name}.Value"));
    let changes: Vec<VpcChange> = [
        flag("EnableDnsSupport")?.map(VpcChange::DnsSupport),
        flag("EnableDnsHostnames")?.map(VpcChange::DnsHostnames),
        flag("EnableNetworkAddressUsageMetrics")?.map(VpcChange::UsageMetrics),
    ]
    .into_iter()
    .flatten()
    .collect();
    let change = match changes.as_slice() {
        [change] => *change,
        [] => {
            return Err(Ec2Error::missing("EnableDnsSupport, EnableDnsHostnames or EnableNetworkAddressUsageMetrics"));
        }
        _ => {
            let message = "Fields for multiple attribute types specified: only one attribute may be modified at a time";
            return Err(Ec2Error::new("InvalidParameterCombination", message));
        }
    };
    request.edit(move |draft| draft.change_vpc(&id, change)).await?;
    Ok(Xml::done())
}

pub(super) fn describe_attribute(request: &Ec2Request<'_>) -> Ec2Result {
    let id = vpc_id(&request.params)?;
    let inventory = request.shared.control.inventory();
    let record = inventory.vpcs.get(&id).filter(|record| request.is_visible(&record.vpc.region));
    let record = record.ok_or_else(|| not_found(ResourceKind::Vpc, id.as_str()))?;
    let attribute = request.params.required("Attribute")?;
    let on = match attribute {
        "enableDnsSupport" => record.vpc.enable_dns_support,
        "enableDnsHostnames" => record.vpc.enable_dns_hostnames,
        "enableNetworkAddressUsageMetrics" => record.usage_metrics,
        other => return Err(Ec2Error::invalid("attribute", other)),
    };
    let mut xml = Xml::new();
    xml.leaf("vpcId", &id);
    xml.nest(attribute, |xml| xml.leaf("value", on));
    Ok(xml)
}
