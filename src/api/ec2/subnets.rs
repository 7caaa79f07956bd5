//! Subnets and their attributes.

use ipnet::Ipv6Net;

use super::errors::not_found;
use super::items::{Listing, PAGES, none, one};
use super::params::{Params, SUBNET};
use super::tags::{tag_set, tags_of};
use super::vpcs::{cidr_block, vpc_id};
use super::xml::next;
use super::{Ec2Error, Ec2Request, Ec2Result, OWNER, Xml};
use crate::control::draft::ResourceKind;
use crate::control::inventory::{Inventory, SubnetAttributes, VpcRecord, ipv6_association_of};
use crate::model::{EndpointState, IpAddressType, IpFamily, Region, Subnet, SubnetId, Zone};

/// A subnet with its context.
#[derive(Clone, Copy)]
struct SubnetView<'a> {
    inventory: &'a Inventory,
    record: &'a VpcRecord,
    subnet: &'a Subnet,
}

impl SubnetView<'_> {
    fn attributes(&self) -> SubnetAttributes {
        self.record.subnet_attributes.get(&self.subnet.id).cloned().unwrap_or_default()
    }

    fn arn(&self) -> String {
        format!("arn:aws:ec2:{}:{OWNER}:subnet/{}", self.record.vpc.region, self.subnet.id)
    }

    /// Number of IPv4 addresses that are used neither by AWS (five) nor by an endpoint.
    fn free(&self) -> usize {
        let size = match self.subnet.cidr {
            ipnet::IpNet::V4(net) => 1usize << (32 - usize::from(net.prefix_len())),
            ipnet::IpNet::V6(_) => 0,
        };
        let endpoints = self.inventory.endpoints.values().map(|record| &record.endpoint);
        let present = endpoints.filter(|endpoint| endpoint.state != EndpointState::Deleted);
        let used = present.flat_map(|endpoint| &endpoint.addresses).filter(|a| a.subnet == self.subnet.id);
        size.saturating_sub(5).saturating_sub(used.filter(|address| address.ip.is_ipv4()).count())
    }

    /// Its IPv4 network; an IPv6-only subnet has none.
    fn ipv4(&self) -> Option<String> {
        self.subnet.cidr_of(IpFamily::Ipv4).map(|net| net.to_string())
    }

    fn is_native(&self) -> bool {
        self.subnet.ip_address_type() == IpAddressType::Ipv6
    }

    /// Interfaces in an IPv6-only subnet always have an IPv6 address.
    fn assigns_ipv6(&self) -> bool {
        self.is_native() || self.attributes().assign_ipv6_address_on_creation
    }

    fn host_names(&self) -> &'static str {
        if self.attributes().resource_names { "resource-name" } else { "ip-name" }
    }

    fn body(&self, xml: &mut Xml) {
        let (subnet, attributes) = (self.subnet, self.attributes());
        xml.leaf("subnetId", &subnet.id);
        xml.leaf("subnetArn", self.arn());
        xml.leaf("state", "available");
        xml.leaf("ownerId", OWNER);
        xml.leaf("vpcId", &self.record.vpc.id);
        if let Some(net) = self.ipv4() {
            xml.leaf("cidrBlock", net);
        }
        xml.set("ipv6CidrBlockAssociationSet", ipv6_association_of(subnet), |xml, own| {
            ipv6_association(xml, own, "associated");
        });
        xml.leaf("assignIpv6AddressOnCreation", self.assigns_ipv6());
        xml.leaf("ipv6Native", self.is_native());
        xml.leaf("availableIpAddressCount", self.free());
        xml.leaf("availabilityZone", &subnet.zone);
        xml.leaf("availabilityZoneId", subnet.zone.id());
        xml.leaf("defaultForAz", false);
        xml.leaf("enableDns64", attributes.enable_dns64);
        xml.leaf("mapCustomerOwnedIpOnLaunch", false);
        xml.leaf("mapPublicIpOnLaunch", attributes.map_public_ip_on_launch);
        xml.nest("privateDnsNameOptionsOnLaunch", |xml| {
            xml.leaf("hostnameType", self.host_names());
            xml.leaf("enableResourceNameDnsARecord", attributes.resource_name_a_record);
            xml.leaf("enableResourceNameDnsAAAARecord", attributes.resource_name_aaaa_record);
        });
        tag_set(xml, &tags_of(self.record, subnet.id.as_str()));
    }
}

/// The association of an IPv6 network with a subnet.
fn ipv6_association(xml: &mut Xml, (id, net): (String, Ipv6Net), state: &str) {
    xml.leaf("associationId", id);
    xml.leaf("ipv6CidrBlock", net);
    xml.nest("ipv6CidrBlockState", |xml| xml.leaf("state", state));
    xml.leaf("ipv6AddressAttribute", "public");
    xml.leaf("ipSource", "amazon");
}

/// `Ipv6CidrBlock`, whose prefix has 44 to 64 bits in steps of four. Source: Amazon VPC User Guide, *Subnet CIDR
/// blocks*.
///
/// # Errors
///
/// `InvalidParameterValue` for a value that is not an IPv6 network, `InvalidSubnet.Range` for a prefix of another
/// length.
fn ipv6_cidr_block(params: &Params) -> Result<Option<Ipv6Net>, Ec2Error> {
    params.unsupported(&["Ipv6IpamPoolId", "Ipv6NetmaskLength"])?;
    let Some(text) = params.text("Ipv6CidrBlock") else { return Ok(None) };
    let net = text.parse::<Ipv6Net>().map_err(|_| {
        let message = format!("Value ({text}) for parameter ipv6CidrBlock is invalid. This is not a valid CIDR block.");
        Ec2Error::new("InvalidParameterValue", message)
    })?;
    if !(44..=64).contains(&net.prefix_len()) || net.prefix_len() % 4 != 0 {
        return Err(Ec2Error::new("InvalidSubnet.Range", format!("The CIDR '{text}' is invalid.")));
    }
    Ok(Some(net.trunc()))
}

pub(super) async fn associate(request: &Ec2Request<'_>) -> Ec2Result {
    let params = &request.params;
    let id = subnet_id(request)?;
    let net = ipv6_cidr_block(params)?.ok_or_else(|| Ec2Error::missing("Ipv6CidrBlock"))?;
    let subnet = id.clone();
    request.edit(move |draft| draft.associate_subnet_network(&subnet, net)).await?;
    let inventory = request.shared.control.inventory();
    let subnet = inventory.vpcs.values().find_map(|record| record.vpc.subnets.get(&id));
    let mut xml = Xml::new();
    xml.leaf("subnetId", &id);
    subnet.and_then(ipv6_association_of).into_iter().for_each(|own| {
        xml.nest("ipv6CidrBlockAssociation", |xml| ipv6_association(xml, own, "associating"));
    });
    Ok(xml)
}

pub(super) async fn disassociate(request: &Ec2Request<'_>) -> Ec2Result {
    let association = request.params.required("AssociationId")?.to_owned();
    let asked = association.clone();
    let (subnet, net) = request.edit(move |draft| draft.disassociate_subnet_network(&asked)).await?;
    let mut xml = Xml::new();
    xml.leaf("subnetId", &subnet);
    xml.nest("ipv6CidrBlockAssociation", |xml| ipv6_association(xml, (association, net), "disassociating"));
    Ok(xml)
}

/// `AvailabilityZone` or `AvailabilityZoneId`, one of the region's zones.
fn zone(request: &Ec2Request<'_>, region: &Region) -> Result<Option<Zone>, Ec2Error> {
    let (name, id) = (request.params.text("AvailabilityZone"), request.params.text("AvailabilityZoneId"));
    let find = |parameter: &str, text: &str, is_it: &dyn Fn(&Zone) -> bool| {
        region.zones().find(is_it).ok_or_else(|| {
            let zones: Vec<String> = region.zones().map(|zone| zone.to_string()).collect();
            let message = format!(
                "Value ({text}) for parameter {parameter} is invalid. Subnets can currently only be created in the \
                 following availability zones: {}.",
                zones.join(", ")
            );
            Ec2Error::new("InvalidParameterValue", message)
        })
    };
    match (name, id) {
        (Some(_), Some(_)) => Err(Ec2Error::new(
            "InvalidParameterCombination",
            "Only one of AvailabilityZone and AvailabilityZoneId may be specified.",
        )),
        (Some(name), None) => find("availabilityZone", name, &|zone| zone.as_str() == name).map(Some),
        (None, Some(id)) => find("availabilityZoneId", id, &|zone| zone.id() == id).map(Some),
        (None, None) => Ok(None),
    }
}

pub(super) async fn create(request: &Ec2Request<'_>) -> Ec2Result {
    let params = &request.params;
    params.unsupported(&["Ipv4IpamPoolId", "Ipv4NetmaskLength", "OutpostArn"])?;
    let is_native = params.flag("Ipv6Native")?.unwrap_or(false);
    if is_native && params.text("CidrBlock").is_some() && params.text("Ipv6CidrBlock").is_some() {
        let message =
            "When specifying ipv4 parameters, cidrBlock or ipv4IpamPoolId, you cannot set ipv6Native to true.";
        return Err(Ec2Error::new("InvalidParameterCombination", message));
    }
    let (vpc, tags, ipv6) = (vpc_id(params)?, params.tags("subnet")?, ipv6_cidr_block(params)?);
    let (net, ipv6) = match (is_native, ipv6) {
        (false, ipv6) => (cidr_block(params, "InvalidSubnet.Range")?, ipv6),
        (true, None) => {
            let message = "Either 'ipv6CidrBlock' or 'ipv6IpamPoolId' should be provided.";
            return Err(Ec2Error::new("MissingParameter", message));
        }
        (true, Some(net)) => (net.into(), None),
    };
    let inventory = request.shared.control.inventory();
    let record = inventory.vpcs.get(&vpc).ok_or_else(|| not_found(ResourceKind::Vpc, vpc.as_str()))?;
    let zone = zone(request, &record.vpc.region)?;
    let home = vpc.clone();
    let id = request.edit(move |draft| draft.create_subnet(&home, net, ipv6, zone, tags)).await?;
    let inventory = request.shared.control.inventory();
    let mut xml = Xml::new();
    if let Some((record, subnet)) = inventory.vpcs.get(&vpc).and_then(|r| Some((r, r.vpc.subnets.get(&id)?))) {
        xml.nest("subnet", |xml| SubnetView { inventory: &inventory, record, subnet }.body(xml));
    }
    Ok(xml)
}

fn subnet_id(request: &Ec2Request<'_>) -> Result<SubnetId, Ec2Error> {
    request.params.id("SubnetId", SUBNET)
}

pub(super) async fn delete(request: &Ec2Request<'_>) -> Ec2Result {
    let id = subnet_id(request)?;
    request.edit(move |draft| draft.delete_subnet(&id)).await?;
    Ok(Xml::done())
}

pub(super) async fn modify_attribute(request: &Ec2Request<'_>) -> Ec2Result {
    type Field = fn(&mut SubnetAttributes) -> &mut bool;
    let params = &request.params;
    let id = subnet_id(request)?;
    params.only("MapCustomerOwnedIpOnLaunch.Value", &["false"])?;
    params.only("DisableLniAtDeviceIndex.Value", &["true"])?;
    params.unsupported(&["CustomerOwnedIpv4Pool", "EnableLniAtDeviceIndex"])?;
    let flags: [(&str, Field); 5] = [
        ("AssignIpv6AddressOnCreation.Value", |own| &mut own.assign_ipv6_address_on_creation),
        ("MapPublicIpOnLaunch.Value", |own| &mut own.map_public_ip_on_launch),
        ("EnableDns64.Value", |own| &mut own.enable_dns64),
        ("EnableResourceNameDnsARecordOnLaunch.Value", |own| &mut own.resource_name_a_record),
        ("EnableResourceNameDnsAAAARecordOnLaunch.Value", |own| &mut own.resource_name_aaaa_record),
    ];
    let mut changes: Vec<(Field, bool)> = Vec::new();
    for (name, field) in flags {
        changes.extend(params.flag(name)?.map(|on| (field, on)));
    }
    match params.text("PrivateDnsHostnameTypeOnLaunch") {
        None => {}
        Some(kind @ ("ip-name" | "resource-name")) => {
            changes.push((|own| &mut own.resource_names, kind == "resource-name"));
        }
        Some(other) => return Err(Ec2Error::invalid("privateDnsHostnameTypeOnLaunch", other)),
    }
    if changes.len() > 1 {
        let message = "Fields for multiple attribute types specified: only one attribute may be modified at a time";
        return Err(Ec2Error::new("InvalidParameterCombination", message));
    }
    let inventory = request.shared.control.inventory();
    let subnet = inventory.vpcs.values().find_map(|record| record.vpc.subnets.get(&id));
    // Fixed to true for an IPv6-only subnet, and to false for an IPv4-only one.
    let fixed = subnet.map(Subnet::ip_address_type).filter(|kind| *kind != IpAddressType::Dualstack);
    if let (Some(on), Some(kind)) = (params.flag("AssignIpv6AddressOnCreation.Value")?, fixed)
        && on != (kind == IpAddressType::Ipv6)
    {
        let message = format!("Invalid value '{on}' for assignIpv6AddressOnCreation. The subnet is {}.", kind.label());
        return Err(Ec2Error::new("InvalidParameterValue", message));
    }
    let change = move |own: &mut SubnetAttributes| changes.iter().for_each(|(field, on)| *field(own) = *on);
    request.edit(move |draft| draft.change_subnet(&id, &change)).await?;
    Ok(Xml::done())
}

pub(super) fn describe(request: &Ec2Request<'_>) -> Ec2Result {
    let inventory = request.shared.control.inventory();
    let seen = inventory.vpcs.values().filter(|record| request.is_visible(&record.vpc.region));
    let inventory = &*inventory;
    let subnets =
        seen.flat_map(|record| record.vpc.subnets.values().map(move |subnet| SubnetView { inventory, record, subnet }));
    let listing = Listing {
        ids: Some(("SubnetId", Some(SUBNET))),
        pages: Some(PAGES),
        id: |view: &SubnetView<'_>| view.subnet.id.to_string(),
        tags: |view| tags_of(view.record, view.subnet.id.as_str()),
        filters: &[
            ("availability-zone", |view| one(&view.subnet.zone)),
            ("availabilityZone", |view| one(&view.subnet.zone)),
            ("availability-zone-id", |view| one(view.subnet.zone.id())),
            ("availabilityZoneId", |view| one(view.subnet.zone.id())),
            ("available-ip-address-count", |view| one(view.free())),
            ("cidr", |view| view.ipv4().into_iter().collect()),
            ("cidr-block", |view| view.ipv4().into_iter().collect()),
            ("cidrBlock", |view| view.ipv4().into_iter().collect()),
            ("customer-owned-ipv4-pool", none),
            ("default-for-az", |_| one(false)),
            ("defaultForAz", |_| one(false)),
            ("enable-dns64", |view| one(view.attributes().enable_dns64)),
            ("enable-lni-at-device-index", none),
            ("ipv6-cidr-block-association.association-id", |view| {
                ipv6_association_of(view.subnet).into_iter().map(|(id, _)| id).collect()
            }),
            ("ipv6-cidr-block-association.ipv6-cidr-block", |view| {
                view.subnet.cidr_of(IpFamily::Ipv6).into_iter().map(|net| net.to_string()).collect()
            }),
            ("ipv6-cidr-block-association.state", |view| {
                view.subnet.cidr_of(IpFamily::Ipv6).into_iter().map(|_| "associated".to_owned()).collect()
            }),
            ("ipv6-native", |view| one(view.is_native())),
            ("map-customer-owned-ip-on-launch", |_| one(false)),
            ("map-public-ip-on-launch", |view| one(view.attributes().map_public_ip_on_launch)),
            ("outpost-arn", none),
            ("owner-id", |_| one(OWNER)),
            ("private-dns-name-options-on-launch.hostname-type", |view| one(view.host_names())),
            ("private-dns-name-options-on-launch.enable-resource-name-dns-a-record", |view| {
                one(view.attributes().resource_name_a_record)
            }),
            ("private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record", |view| {
                one(view.attributes().resource_name_aaaa_record)
            }),
            ("state", |_| one("available")),
            ("subnet-arn", |view| one(view.arn())),
            ("subnet-id", |view| one(&view.subnet.id)),
            ("vpc-id", |view| one(&view.record.vpc.id)),
        ],
        missing: |id| not_found(ResourceKind::Subnet, id),
    };
    let page = listing.select(&request.params, subnets)?;
    let mut xml = Xml::new();
    xml.set("subnetSet", page.items, |xml, view| view.body(xml));
    next(&mut xml, page.next);
    Ok(xml)
}
