//! Network interfaces of interface endpoints; there are no others here.

use std::net::IpAddr;

use super::endpoints::seen;
use super::groups::group_set;
use super::items::{Listing, PAGES, no_tags, none, one};
use super::params::INTERFACE;
use super::tags::tag_set;
use super::xml::next;
use super::{Ec2Error, Ec2Request, Ec2Result, OWNER, Xml};
use crate::api::text::object_id;
use crate::control::inventory::{EndpointRecord, Inventory, Tags};
use crate::model::{EndpointAddress, IpFamily};

/// The owner of the requests that created the interfaces.
const REQUESTER: &str = "amazon-aws";

/// An endpoint's interface with its context.
struct InterfaceView<'a> {
    inventory: &'a Inventory,
    record: &'a EndpointRecord,
    /// The first of its addresses.
    address: &'a EndpointAddress,
}

impl InterfaceView<'_> {
    /// A locally administered address derived from the interface's id.
    fn mac(&self) -> String {
        let digits = object_id("mac", self.address.eni.as_str());
        let pairs = (0..5).map(|n| format!(":{}", &digits[2 * n..2 * n + 2]));
        format!("02{}", pairs.collect::<String>())
    }

    fn ip(&self, family: IpFamily) -> Option<IpAddr> {
        self.record.endpoint.address_of(&self.address.eni, family)
    }

    /// Its IPv6 address, for a filter.
    fn ipv6(&self) -> Vec<String> {
        self.ip(IpFamily::Ipv6).iter().map(ToString::to_string).collect()
    }

    /// Its IPv4 address, for a filter.
    fn ipv4(&self) -> Vec<String> {
        self.ip(IpFamily::Ipv4).iter().map(ToString::to_string).collect()
    }

    /// `ip-10-0-30-194.ec2.internal`, in VPCs with DNS host names. Source: Amazon VPC User Guide, *DNS attributes*.
    fn private_name(&self) -> Option<String> {
        let vpc = &self.inventory.vpcs.get(&self.record.endpoint.vpc)?.vpc;
        let domain = match vpc.region.as_str() {
            "us-east-1" => "ec2.internal".to_owned(),
            region => format!("{region}.compute.internal"),
        };
        let digits = self.ip(IpFamily::Ipv4)?.to_string().replace('.', "-");
        vpc.private_zones_work().then(|| format!("ip-{digits}.{domain}"))
    }

    fn description(&self) -> String {
        format!("VPC Endpoint Interface {}", self.record.endpoint.id)
    }

    fn attachment(&self) -> String {
        format!("ela-attach-0{}", &object_id("attachment", self.address.eni.as_str())[..16])
    }

    fn body(&self, xml: &mut Xml) {
        let (endpoint, address) = (&self.record.endpoint, self.address);
        let name = self.private_name();
        xml.leaf("networkInterfaceId", &address.eni);
        xml.leaf("subnetId", &address.subnet);
        xml.leaf("vpcId", &endpoint.vpc);
        xml.leaf("availabilityZone", &address.zone);
        xml.leaf("availabilityZoneId", address.zone.id());
        xml.leaf("description", self.description());
        xml.leaf("ownerId", OWNER);
        xml.leaf("requesterId", REQUESTER);
        xml.leaf("requesterManaged", true);
        xml.leaf("status", "in-use");
        xml.leaf("macAddress", self.mac());
        if let Some(ip) = self.ip(IpFamily::Ipv4) {
            xml.leaf("privateIpAddress", ip);
        }
        if let Some(name) = &name {
            xml.leaf("privateDnsName", name);
        }
        xml.leaf("sourceDestCheck", true);
        group_set(xml, self.inventory, &endpoint.vpc, &endpoint.security_groups);
        xml.nest("attachment", |xml| {
            xml.leaf("attachmentId", self.attachment());
            xml.leaf("instanceOwnerId", REQUESTER);
            xml.leaf("deviceIndex", 1);
            xml.leaf("status", "attached");
            xml.leaf("deleteOnTermination", false);
        });
        tag_set(xml, &Tags::new());
        xml.set("privateIpAddressesSet", self.ip(IpFamily::Ipv4), |xml, ip| {
            xml.leaf("privateIpAddress", ip);
            if let Some(name) = &name {
                xml.leaf("privateDnsName", name);
            }
            xml.leaf("primary", true);
        });
        if let Some(ip) = self.ip(IpFamily::Ipv6) {
            xml.leaf("ipv6Address", ip);
            // Source: AWS PrivateLink, *Share your services*, IPv6 support.
            xml.leaf("denyAllIgwTraffic", true);
        }
        xml.set("ipv6AddressesSet", self.ip(IpFamily::Ipv6), |xml, ip| {
            xml.leaf("ipv6Address", ip);
            xml.leaf("isPrimaryIpv6", false);
        });
        xml.leaf("interfaceType", "vpc_endpoint");
    }
}

pub(super) fn describe(request: &Ec2Request<'_>) -> Ec2Result {
    request.params.only("IncludeManagedResources", &["false"])?;
    let inventory = request.shared.control.inventory();
    let inventory = &*inventory;
    let interfaces = seen(request, inventory).flat_map(|record| {
        record.endpoint.interfaces().map(move |address| InterfaceView { inventory, record, address })
    });
    let listing = Listing {
        ids: Some(("NetworkInterfaceId", Some(INTERFACE))),
        pages: Some(PAGES),
        id: |view: &InterfaceView<'_>| view.address.eni.to_string(),
        tags: no_tags,
        filters: &[
            ("addresses.association.owner-id", none),
            ("addresses.association.public-ip", none),
            ("addresses.primary", |_| one(true)),
            ("addresses.private-ip-address", InterfaceView::ipv4),
            ("association.allocation-id", none),
            ("association.association-id", none),
            ("association.ip-owner-id", none),
            ("association.public-dns-name", none),
            ("association.public-ip", none),
            ("attachment.attach-time", none),
            ("attachment.attachment-id", |view| one(view.attachment())),
            ("attachment.delete-on-termination", |_| one(false)),
            ("attachment.device-index", |_| one(1)),
            ("attachment.instance-id", none),
            ("attachment.instance-owner-id", |_| one(REQUESTER)),
            ("attachment.status", |_| one("attached")),
            ("availability-zone", |view| one(&view.address.zone)),
            ("availability-zone-id", |view| one(view.address.zone.id())),
            ("description", |view| one(view.description())),
            ("group-id", |view| view.record.endpoint.security_groups.iter().map(ToString::to_string).collect()),
            ("interface-type", |_| one("vpc_endpoint")),
            ("ipv6-addresses.ipv6-address", InterfaceView::ipv6),
            ("mac-address", |view| one(view.mac())),
            ("network-interface-id", |view| one(&view.address.eni)),
            ("operator.managed", |_| one(false)),
            ("operator.principal", none),
            ("owner-id", |_| one(OWNER)),
            ("private-dns-name", |view| view.private_name().into_iter().collect()),
            ("private-ip-address", InterfaceView::ipv4),
            ("requester-id", |_| one(REQUESTER)),
            ("requester-managed", |_| one(true)),
            ("source-dest-check", |_| one(true)),
            ("status", |_| one("in-use")),
            ("subnet-id", |view| one(&view.address.subnet)),
            ("vpc-id", |view| one(&view.record.endpoint.vpc)),
        ],
        missing: |id| {
            let message = format!("The networkInterface ID '{id}' does not exist");
            Ec2Error::new("InvalidNetworkInterfaceID.NotFound", message)
        },
    };
    let page = listing.select(&request.params, interfaces)?;
    let mut xml = Xml::new();
    xml.set("networkInterfaceSet", page.items, |xml, view| view.body(xml));
    next(&mut xml, page.next);
    Ok(xml)
}
