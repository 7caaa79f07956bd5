//! Interface endpoints.

use std::net::IpAddr;

use super::errors::not_found;
use super::groups::group_set;
use super::items::{ENDPOINT_PAGES, Listing, one};
use super::params::{ENDPOINT, GROUP, Params, SUBNET};
use super::services::{private_name, service_region};
use super::tags::tag_set;
use super::vpcs::vpc_id;
use super::xml::next;
use super::{Ec2Error, Ec2Request, Ec2Result, OWNER, Xml};
use crate::api::text::{iso8601, object_id};
use crate::control::draft::ec2::{EndpointChange, NewInterfaceEndpoint};
use crate::control::draft::{Draft, EditError, ResourceKind};
use crate::control::inventory::{EndpointRecord, Inventory, Timestamp};
use crate::model::{DnsRecordIpType, EndpointState, IpAddressType, Region, ServiceName, SubnetId, VpceId};

/// The default policy of an endpoint.
const FULL_ACCESS: &str = r#"{"Statement":[{"Action":"*","Effect":"Allow","Principal":"*","Resource":"*"}]}"#;

/// Route 53's zones for the `vpce` names of a region. Source: AWS, responses of DescribeVpcEndpoints.
const VPCE_ZONES: &[(&str, &str)] = &[
    ("ap-southeast-1", "Z18LLCSTV4NVNL"),
    ("ap-southeast-2", "ZDK2GCRPAFKGO"),
    ("ap-southeast-3", "Z03881013RZ9BYYZO8N5W"),
    ("ap-southeast-4", "Z07508191CO1RNBX3X3AU"),
    ("ca-central-1", "ZRCXCF510Y6P9"),
    ("eu-central-1", "Z273ZU8SZ5RJPC"),
    ("eu-central-2", "Z045369019J4FUQ4S272E"),
    ("eu-north-1", "Z3OWWK6JFDEDGC"),
    ("eu-south-1", "Z2A5FDNRLY7KZG"),
    ("eu-south-2", "Z014396544HENR57XQCJ"),
    ("eu-west-1", "Z38GZ743OKFT7T"),
    ("eu-west-3", "Z1DWHTMFP0WECP"),
    ("me-central-1", "Z07122992YCEUCB9A9570"),
    ("me-south-1", "Z3B95P3VBGEQGY"),
    ("sa-east-1", "Z2LXUWEVLCVZIB"),
    ("us-east-1", "Z7HUB22UULQXV"),
    ("us-west-1", "Z12I86A8N7VCZO"),
    ("us-west-2", "Z1YSA3EXCYUU9Z"),
];

/// The zone of a region's `vpce` names; a derived one if AWS's is unknown.
fn vpce_zone(region: &Region) -> String {
    let known = VPCE_ZONES.iter().find(|(known, _)| *known == region.as_str());
    known.map_or_else(|| derived_zone(region.as_str()), |(_, zone)| (*zone).to_owned())
}

/// A hosted zone's id derived from `what`.
fn derived_zone(what: &str) -> String {
    format!("Z{}", object_id("hosted-zone", what)[..20].to_uppercase())
}

fn endpoint_id(params: &Params) -> Result<VpceId, Ec2Error> {
    params.id("VpcEndpointId", ENDPOINT)
}

/// The consumer's resources that describe actions return: those of the caller's region that are not deleted.
pub(super) fn seen<'a>(
    request: &'a Ec2Request<'_>,
    inventory: &'a Inventory,
) -> impl Iterator<Item = &'a EndpointRecord> {
    existing(inventory).filter(|record| inventory.region_of(&record.endpoint).is_none_or(|own| request.is_visible(own)))
}

/// Every endpoint that is not deleted.
pub(super) fn existing(inventory: &Inventory) -> impl Iterator<Item = &EndpointRecord> {
    inventory.endpoints.values().filter(|record| record.endpoint.state != EndpointState::Deleted)
}

/// The state in EC2: an accepted endpoint without a subnet has failed.
pub(super) fn state(record: &EndpointRecord) -> EndpointState {
    match record.endpoint.state {
        EndpointState::Available if record.endpoint.addresses.is_empty() => EndpointState::Failed,
        state => state,
    }
}

pub(super) fn created(record: &EndpointRecord) -> Timestamp {
    // Unknown for the config's endpoints; tools require a date, and 1970 is recognizably not a real one.
    record.created.unwrap_or_default()
}

fn base_name(record: &EndpointRecord, zone: Option<&str>) -> String {
    let (endpoint, service) = (&record.endpoint, &record.endpoint.service);
    let zone = zone.map(|zone| format!("-{zone}")).unwrap_or_default();
    format!(
        "{}-{}{zone}.{}.{}.vpce.amazonaws.com",
        endpoint.id,
        endpoint.dns_suffix,
        service.service(),
        service.region()
    )
}

pub(super) fn dns_entries(xml: &mut Xml, inventory: &Inventory, record: &EndpointRecord) {
    let mut names: Vec<(String, String)> = Vec::new();
    if !record.endpoint.addresses.is_empty() {
        let public = vpce_zone(record.endpoint.service.region());
        names.push((base_name(record, None), public.clone()));
        let zones = record.endpoint.interfaces();
        names.extend(zones.map(|a| (base_name(record, Some(a.zone.as_str())), public.clone())));
        let private = private_name(inventory, record.endpoint.service.service());
        let zone = derived_zone(record.endpoint.id.as_str());
        names.extend(private.filter(|_| record.private_dns).map(|name| (name, zone)));
    }
    xml.set("dnsEntrySet", names, |xml, (name, zone)| {
        xml.leaf("dnsName", name);
        xml.leaf("hostedZoneId", zone);
    });
}

fn body(xml: &mut Xml, inventory: &Inventory, record: &EndpointRecord) {
    let endpoint = &record.endpoint;
    xml.leaf("vpcEndpointId", &endpoint.id);
    xml.leaf("vpcEndpointType", "Interface");
    xml.leaf("vpcId", &endpoint.vpc);
    xml.leaf("serviceName", &endpoint.service);
    xml.leaf("state", state(record).label());
    xml.leaf("policyDocument", record.policy.as_deref().unwrap_or(FULL_ACCESS));
    xml.set("routeTableIdSet", Vec::<()>::new(), |_, ()| {});
    xml.nest("subnetIdSet", |xml| endpoint.interfaces().for_each(|interface| xml.leaf("item", &interface.subnet)));
    group_set(xml, inventory, &endpoint.vpc, &endpoint.security_groups);
    xml.leaf("ipAddressType", endpoint.ip_address_type.label());
    xml.nest("dnsOptions", |xml| xml.leaf("dnsRecordIpType", endpoint.dns_record_ip_type.label()));
    xml.leaf("privateDnsEnabled", record.private_dns);
    xml.leaf("requesterManaged", false);
    xml.nest("networkInterfaceIdSet", |xml| endpoint.interfaces().for_each(|own| xml.leaf("item", &own.eni)));
    dns_entries(xml, inventory, record);
    xml.leaf("creationTimestamp", iso8601(created(record), true));
    tag_set(xml, &record.tags);
    xml.leaf("ownerId", OWNER);
    if let Some(error) = &record.error {
        xml.nest("lastError", |xml| {
            xml.leaf("code", if record.endpoint.addresses.is_empty() { "InvalidParameter" } else { "InternalError" });
            xml.leaf("message", error);
        });
        xml.leaf("failureReason", error);
    }
    xml.leaf("serviceRegion", endpoint.service.region());
}

pub(super) async fn create(request: &Ec2Request<'_>) -> Ec2Result {
    let params = &request.params;
    let vpc = vpc_id(params)?;
    let name = params.required("ServiceName")?;
    match params.text("VpcEndpointType").unwrap_or("Gateway") {
        "Interface" => {}
        kind @ ("Gateway" | "GatewayLoadBalancer") => {
            return Err(Ec2Error::new(
                "InvalidParameter",
                format!("Endpoint type ({kind}) does not match available service types ([Interface])."),
            ));
        }
        other => return Err(Ec2Error::invalid("vpcEndpointType", other)),
    }
    let unknown = || Ec2Error::new("InvalidServiceName", format!("The Vpc Endpoint Service '{name}' does not exist"));
    let service: ServiceName = name.parse().map_err(|_| unknown())?;
    let home = request.shared.control.inventory().vpcs.get(&vpc).map(|record| record.vpc.region.clone());
    let home =
        home.filter(|region| request.is_visible(region)).ok_or_else(|| not_found(ResourceKind::Vpc, vpc.as_str()))?;
    let service_region = params.text("ServiceRegion").map(service_region).transpose()?;
    if service_region.unwrap_or(home) != *service.region() {
        return Err(unknown());
    }
    check_options(params)?;
    let new = NewInterfaceEndpoint {
        vpc,
        service,
        subnets: subnets(params, "SubnetId")?,
        ip_address_type: ip_address_type(params)?.unwrap_or_default(),
        dns_record_ip_type: dns_record_ip_type(params)?,
        groups: params.ids("SecurityGroupId", GROUP)?,
        tags: params.tags("vpc-endpoint")?,
        policy: policy(params)?,
        private_dns: params.flag("PrivateDnsEnabled")?.unwrap_or(false),
        token: params.text("ClientToken").map(|token| (token.to_owned(), params.fingerprint())),
    };
    let (id, _) = request.edit(move |draft| draft.create_endpoint(new)).await?;
    let inventory = request.shared.control.inventory();
    let mut xml = Xml::new();
    if let Some(record) = inventory.endpoints.get(&id) {
        xml.nest("vpcEndpoint", |xml| body(xml, &inventory, record));
    }
    if let Some(token) = params.text("ClientToken") {
        xml.leaf("clientToken", token);
    }
    Ok(xml)
}

/// Options of both create and modify that have a single supported value here.
fn check_options(params: &Params) -> Result<(), Ec2Error> {
    params.unsupported(&[
        "ResourceConfigurationArn",
        "ServiceNetworkArn",
        "DnsOptions.PrivateDnsPreference",
        "DnsOptions.PrivateDnsSpecifiedDomain",
    ])?;
    let unsupported = |message: String| Ec2Error::new("InvalidParameter", message);
    params.only("DnsOptions.PrivateDnsOnlyForInboundResolverEndpoint", &["false"])?;
    let tables = ["RouteTableId", "AddRouteTableId", "RemoveRouteTableId"];
    if tables.iter().any(|name| !params.list(name).is_empty()) {
        return Err(unsupported("Route table IDs are only supported for Gateway type VPC Endpoint.".to_owned()));
    }
    Ok(())
}

fn ip_address_type(params: &Params) -> Result<Option<IpAddressType>, Ec2Error> {
    let kind = |text| IpAddressType::from_label(text).ok_or_else(|| Ec2Error::invalid("IpAddressType", text));
    params.text("IpAddressType").map(kind).transpose()
}

fn dns_record_ip_type(params: &Params) -> Result<Option<DnsRecordIpType>, Ec2Error> {
    let name = "DnsOptions.DnsRecordIpType";
    let kind = |text| DnsRecordIpType::from_label(text).ok_or_else(|| Ec2Error::invalid(name, text));
    params.text(name).map(kind).transpose()
}

fn policy(params: &Params) -> Result<Option<String>, Ec2Error> {
    let policy = params.text("PolicyDocument").filter(|policy| !policy.is_empty());
    if policy.is_some_and(|policy| serde_json::from_str::<serde_json::Value>(policy).is_err()) {
        return Err(Ec2Error::new("InvalidPolicyDocument", "The policy document is not valid JSON."));
    }
    Ok(policy.map(str::to_owned))
}

/// `SubnetId.N` or `AddSubnetId.N`, with the addresses of `SubnetConfiguration.N`.
fn subnets(params: &Params, list: &str) -> Result<Vec<(SubnetId, Vec<IpAddr>)>, Ec2Error> {
    let plain: Vec<SubnetId> = params.ids(list, SUBNET)?;
    let mut subnets: Vec<(SubnetId, Vec<IpAddr>)> = Vec::new();
    for id in plain {
        if !subnets.iter().any(|(known, _)| *known == id) {
            subnets.push((id, Vec::new()));
        }
    }
    for n in params.indexes("SubnetConfiguration") {
        let at = |name: &str| params.text(&format!("SubnetConfiguration.{n}.{name}"));
        let id = at("SubnetId").ok_or_else(|| Ec2Error::missing("SubnetConfiguration.SubnetId"))?;
        let id: SubnetId = SUBNET.parse(id)?;
        let v4 = |ip: &str| ip.parse::<std::net::Ipv4Addr>().map_err(|_| Ec2Error::invalid("Ipv4", ip));
        let v6 = |ip: &str| ip.parse::<std::net::Ipv6Addr>().map_err(|_| Ec2Error::invalid("Ipv6", ip));
        let ipv4 = at("Ipv4").map(v4).transpose()?.map(IpAddr::V4);
        let ips = ipv4.into_iter().chain(at("Ipv6").map(v6).transpose()?.map(IpAddr::V6)).collect();
        match subnets.iter_mut().find(|(known, _)| *known == id) {
            Some((_, wishes)) => *wishes = ips,
            None => subnets.push((id, ips)),
        }
    }
    Ok(subnets)
}

pub(super) fn describe(request: &Ec2Request<'_>) -> Ec2Result {
    let inventory = request.shared.control.inventory();
    let listing = Listing {
        ids: Some(("VpcEndpointId", Some(ENDPOINT))),
        pages: Some(ENDPOINT_PAGES),
        id: |record: &&EndpointRecord| record.endpoint.id.to_string(),
        tags: |record| record.tags.clone(),
        filters: &[
            ("ip-address-type", |record| one(record.endpoint.ip_address_type.label())),
            ("service-name", |record| one(&record.endpoint.service)),
            ("service-region", |record| one(record.endpoint.service.region())),
            ("vpc-endpoint-id", |record| one(&record.endpoint.id)),
            ("vpc-endpoint-state", |record| one(state(record).label())),
            ("vpc-endpoint-type", |_| one("Interface")),
            ("vpc-id", |record| one(&record.endpoint.vpc)),
        ],
        missing: |id| not_found(ResourceKind::Endpoint, id),
    };
    let page = listing.select(&request.params, seen(request, &inventory))?;
    let mut xml = Xml::new();
    xml.set("vpcEndpointSet", page.items, |xml, record| body(xml, &inventory, record));
    next(&mut xml, page.next);
    Ok(xml)
}

pub(super) async fn modify(request: &Ec2Request<'_>) -> Ec2Result {
    let params = &request.params;
    let id = endpoint_id(params)?;
    check_options(params)?;
    let reset = params.flag("ResetPolicy")? == Some(true);
    let policy = policy(params)?;
    if reset && policy.is_some() {
        let message = "The parameter PolicyDocument cannot be used with the parameter ResetPolicy";
        return Err(Ec2Error::new("InvalidParameterCombination", message));
    }
    let change = EndpointChange {
        add_subnets: subnets(params, "AddSubnetId")?,
        ip_address_type: ip_address_type(params)?,
        dns_record_ip_type: dns_record_ip_type(params)?,
        remove_subnets: params.ids("RemoveSubnetId", SUBNET)?,
        add_groups: params.ids("AddSecurityGroupId", GROUP)?,
        remove_groups: params.ids("RemoveSecurityGroupId", GROUP)?,
        policy: if reset { Some(None) } else { policy.map(Some) },
        private_dns: params.flag("PrivateDnsEnabled")?,
    };
    request.edit(move |draft| draft.change_endpoint(&id, change)).await?;
    Ok(Xml::done())
}

/// Changes each endpoint of `VpcEndpointId.N` that passes `check`, independently; returns those that failed, and why.
pub(super) async fn change_each<'r>(
    request: &'r Ec2Request<'_>,
    check: impl Fn(&VpceId) -> Result<(), Ec2Error>,
    change: fn(&mut Draft, &VpceId) -> Result<(), EditError>,
) -> Result<Vec<(&'r str, Ec2Error)>, Ec2Error> {
    let wanted = request.params.list("VpcEndpointId");
    if wanted.is_empty() {
        return Err(Ec2Error::missing("VpcEndpointId"));
    }
    let parsed = |text: &'r str| Ok((text, ENDPOINT.parse::<VpceId>(text)?));
    let wanted = wanted.into_iter().map(parsed).collect::<Result<Vec<_>, Ec2Error>>()?;
    request.check_complete()?;
    let mut unsuccessful = Vec::new();
    for (text, id) in wanted {
        let outcome = match check(&id) {
            Ok(()) => request.edit(move |draft| change(draft, &id)).await,
            Err(refusal) => Err(refusal),
        };
        unsuccessful.extend(outcome.err().map(|refusal| (text, refusal)));
    }
    Ok(unsuccessful)
}

/// The response element that lists failures.
pub(super) fn unsuccessful(failed: &[(&str, Ec2Error)]) -> Xml {
    let mut xml = Xml::new();
    xml.set("unsuccessful", failed, |xml, (id, refusal)| {
        xml.leaf("resourceId", id);
        xml.nest("error", |xml| {
            xml.leaf("code", refusal.code);
            xml.leaf("message", &refusal.message);
        });
    });
    xml
}

pub(super) async fn delete(request: &Ec2Request<'_>) -> Ec2Result {
    let inventory = request.shared.control.inventory();
    let is_here = |id: &VpceId| {
        let is_seen = request.is_resource_visible(&inventory, id.as_str());
        is_seen.then_some(()).ok_or_else(|| not_found(ResourceKind::Endpoint, id.as_str()))
    };
    let mut failed = change_each(request, is_here, Draft::delete_endpoint).await?;
    for (_, refusal) in &mut failed {
        // Here AWS's code has another spelling.
        if refusal.code == "InvalidVpcEndpointId.NotFound" {
            refusal.code = "InvalidVpcEndpoint.NotFound";
        }
    }
    Ok(unsuccessful(&failed))
}
