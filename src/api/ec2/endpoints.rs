//! Interface endpoints, the services that they lead to, and their network interfaces.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::errors::not_found;
use super::items::{Item, select};
use super::params::{Params, parse_id};
use super::vpcs::{done, ids, next, tags, vpc_id};
use super::{OWNER, Outcome, Refusal, Request, Xml};
use crate::api::text::{iso8601, object_id};
use crate::control::draft::Kind;
use crate::control::draft::ec2::{EndpointChange, NewEndpoint};
use crate::control::inventory::{
    ARCHIVE_SERVICES, EndpointRecord, Inventory, Reservation, ServiceState, Tags, Timestamp,
};
use crate::model::{AppEndpointKind, EndpointState, Region, ServiceName, SubnetId, VpceId, VpceServiceId};

/// What an endpoint without a policy of its own allows.
const FULL_ACCESS: &str = r#"{"Statement":[{"Action":"*","Effect":"Allow","Principal":"*","Resource":"*"}]}"#;

/// Route 53's zones for the `vpce` names of a region. Source: AWS, by what DescribeVpcEndpoints answers there.
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

/// The zone of a region's `vpce` names; one that is always the same where AWS's isn't known.
fn vpce_zone(region: &Region) -> String {
    let known = VPCE_ZONES.iter().find(|(known, _)| *known == region.as_str());
    known.map_or_else(|| own_zone(region.as_str()), |(_, zone)| (*zone).to_owned())
}

/// A hosted zone's id that follows from what it is for.
fn own_zone(what: &str) -> String {
    format!("Z{}", object_id("hosted-zone", what)[..20].to_uppercase())
}

fn endpoint_id(params: &Params) -> Result<VpceId, Refusal> {
    params.id("VpcEndpointId", "InvalidVpcEndpointId.Malformed", "vpce-")
}

/// What describes see: everything but what is gone.
fn seen<'a>(request: &'a Request<'_>, inventory: &'a Inventory) -> impl Iterator<Item = &'a EndpointRecord> {
    inventory.endpoints.values().filter(|record| {
        record.endpoint.state != EndpointState::Deleted && request.sees(record.endpoint.service.region())
    })
}

/// The state that EC2 shows: an accepted endpoint without a subnet has failed.
fn state(record: &EndpointRecord) -> EndpointState {
    match record.endpoint.state {
        EndpointState::Available if record.endpoint.addresses.is_empty() => EndpointState::Failed,
        state => state,
    }
}

fn created(record: &EndpointRecord) -> Timestamp {
    // The config doesn't say when; a date that says so is better than none, which tools don't take.
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

fn dns_entries(xml: &mut Xml, inventory: &Inventory, record: &EndpointRecord) {
    let mut names: Vec<(String, String)> = Vec::new();
    if !record.endpoint.addresses.is_empty() {
        let public = vpce_zone(record.endpoint.service.region());
        names.push((base_name(record, None), public.clone()));
        let zones = record.endpoint.addresses.iter();
        names.extend(zones.map(|a| (base_name(record, Some(a.zone.as_str())), public.clone())));
        let private = private_name(inventory, record.endpoint.service.service());
        let zone = own_zone(record.endpoint.id.as_str());
        names.extend(private.filter(|_| record.private_dns).map(|name| (name, zone)));
    }
    xml.set("dnsEntrySet", names, |xml, (name, zone)| {
        xml.leaf("dnsName", name);
        xml.leaf("hostedZoneId", zone);
    });
}

/// App Services' private names; Atlas' services have none.
fn private_name(inventory: &Inventory, id: &VpceServiceId) -> Option<String> {
    let service = inventory.fixed.app_services.iter().find(|service| service.id == *id)?;
    Some(match service.kind {
        AppEndpointKind::General => format!("{}.aws.services.cloud.mongodb.com", service.region),
        AppEndpointKind::Sync => format!("ws.{}.aws.services.cloud.mongodb.com", service.region),
    })
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
    xml.nest("subnetIdSet", |xml| endpoint.addresses.iter().for_each(|address| xml.leaf("item", &address.subnet)));
    let group_names = inventory.vpcs.get(&endpoint.vpc);
    xml.set("groupSet", &endpoint.security_groups, |xml, id| {
        xml.leaf("groupId", id);
        let group = group_names.and_then(|record| record.vpc.security_groups.get(id));
        xml.leaf("groupName", group.map(|group| group.name.as_str()).unwrap_or_default());
    });
    xml.leaf("ipAddressType", "ipv4");
    xml.nest("dnsOptions", |xml| xml.leaf("dnsRecordIpType", "ipv4"));
    xml.leaf("privateDnsEnabled", record.private_dns);
    xml.leaf("requesterManaged", false);
    xml.nest("networkInterfaceIdSet", |xml| endpoint.addresses.iter().for_each(|a| xml.leaf("item", &a.eni)));
    dns_entries(xml, inventory, record);
    xml.leaf("creationTimestamp", iso8601(created(record), true));
    tags(xml, &record.tags);
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

pub(super) async fn create(request: &Request<'_>) -> Outcome {
    let params = &request.params;
    let vpc = vpc_id(params)?;
    let name = params.required("ServiceName")?;
    match params.text("VpcEndpointType").unwrap_or("Gateway") {
        "Interface" => {}
        kind @ ("Gateway" | "GatewayLoadBalancer") => {
            return Err(Refusal::new(
                "InvalidParameter",
                format!("Endpoint type ({kind}) does not match available service types ([Interface])."),
            ));
        }
        other => return Err(Refusal::invalid("vpcEndpointType", other)),
    }
    let unknown = || Refusal::new("InvalidServiceName", format!("The Vpc Endpoint Service '{name}' does not exist"));
    let service: ServiceName = name.parse().map_err(|_| unknown())?;
    match params.text("IpAddressType") {
        None | Some("ipv4") => {}
        Some(other) => {
            return Err(Refusal::new(
                "InvalidParameter",
                format!("IP address type {other} is not supported by the service."),
            ));
        }
    }
    let new = NewEndpoint {
        vpc,
        service,
        subnets: subnets(params)?,
        groups: ids(params, "SecurityGroupId", "InvalidGroupId.Malformed", "sg-")?,
        tags: params.tags("vpc-endpoint"),
        policy: policy(params)?,
        private_dns: params.flag("PrivateDnsEnabled")?.unwrap_or(false),
        token: params.text("ClientToken").map(|token| (token.to_owned(), params.fingerprint())),
    };
    request.check_dry_run()?;
    let (id, _) = request.shared.control.edit(move |draft| draft.create_endpoint(new)).await?;
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

fn policy(params: &Params) -> Result<Option<String>, Refusal> {
    let policy = params.text("PolicyDocument").filter(|policy| !policy.is_empty());
    if policy.is_some_and(|policy| serde_json::from_str::<serde_json::Value>(policy).is_err()) {
        return Err(Refusal::new("InvalidPolicyDocument", "The policy document is not valid JSON."));
    }
    Ok(policy.map(str::to_owned))
}

/// `SubnetId.N`, with the addresses of `SubnetConfiguration.N`.
fn subnets(params: &Params) -> Result<Vec<(SubnetId, Option<IpAddr>)>, Refusal> {
    let plain: Vec<SubnetId> = ids(params, "SubnetId", "InvalidSubnetID.Malformed", "subnet-")?;
    let mut subnets: Vec<(SubnetId, Option<IpAddr>)> = Vec::new();
    for id in plain {
        if !subnets.iter().any(|(known, _)| *known == id) {
            subnets.push((id, None));
        }
    }
    for n in params.indexes("SubnetConfiguration") {
        let at = |name: &str| params.text(&format!("SubnetConfiguration.{n}.{name}"));
        let Some(id) = at("SubnetId") else { continue };
        let id: SubnetId = parse_id(id, "InvalidSubnetID.Malformed", "subnet-")?;
        let ip = at("Ipv4").map(|ip| ip.parse().map_err(|_| Refusal::invalid("Ipv4", ip))).transpose()?;
        match subnets.iter_mut().find(|(known, _)| *known == id) {
            Some((_, wish)) => *wish = ip,
            None => subnets.push((id, ip)),
        }
    }
    Ok(subnets)
}

pub(super) fn describe(request: &Request<'_>) -> Outcome {
    for id in request.params.list("VpcEndpointId") {
        parse_id::<VpceId>(id, "InvalidVpcEndpointId.Malformed", "vpce-")?;
    }
    let inventory = request.shared.control.inventory();
    let items = seen(request, &inventory).map(|record| Item {
        value: record,
        id: record.endpoint.id.to_string(),
        fields: vec![
            ("vpc-endpoint-id", vec![record.endpoint.id.to_string()]),
            ("vpc-id", vec![record.endpoint.vpc.to_string()]),
            ("service-name", vec![record.endpoint.service.to_string()]),
            ("service-region", vec![record.endpoint.service.region().to_string()]),
            ("vpc-endpoint-state", vec![state(record).label().to_owned()]),
            ("vpc-endpoint-type", vec!["Interface".to_owned()]),
            ("ip-address-type", vec!["ipv4".to_owned()]),
        ],
        tags: record.tags.clone(),
    });
    let known = [
        "vpc-endpoint-id",
        "vpc-id",
        "service-name",
        "service-region",
        "vpc-endpoint-state",
        "vpc-endpoint-type",
        "ip-address-type",
    ];
    let missing = |id: &str| not_found(Kind::Endpoint, id);
    let page = select(&request.params, "VpcEndpointId", items.collect(), &known, missing)?;
    let mut xml = Xml::new();
    xml.set("vpcEndpointSet", page.items, |xml, record| body(xml, &inventory, record));
    next(&mut xml, page.next);
    Ok(xml)
}

pub(super) async fn modify(request: &Request<'_>) -> Outcome {
    let params = &request.params;
    let id = endpoint_id(params)?;
    let change = EndpointChange {
        add_subnets: ids(params, "AddSubnetId", "InvalidSubnetID.Malformed", "subnet-")?,
        remove_subnets: ids(params, "RemoveSubnetId", "InvalidSubnetID.Malformed", "subnet-")?,
        add_groups: ids(params, "AddSecurityGroupId", "InvalidGroupId.Malformed", "sg-")?,
        remove_groups: ids(params, "RemoveSecurityGroupId", "InvalidGroupId.Malformed", "sg-")?,
        policy: if params.flag("ResetPolicy")? == Some(true) { Some(None) } else { policy(params)?.map(Some) },
        private_dns: params.flag("PrivateDnsEnabled")?,
    };
    request.check_dry_run()?;
    request.shared.control.edit(move |draft| draft.change_endpoint(&id, change)).await?;
    Ok(done())
}

/// An element of `unsuccessful`.
fn failed(xml: &mut Xml, id: &str, refusal: &Refusal) {
    xml.leaf("resourceId", id);
    xml.nest("error", |xml| {
        xml.leaf("code", refusal.code);
        xml.leaf("message", &refusal.message);
    });
}

pub(super) async fn delete(request: &Request<'_>) -> Outcome {
    let wanted = request.params.list("VpcEndpointId");
    if wanted.is_empty() {
        return Err(Refusal::missing("VpcEndpointId"));
    }
    request.check_dry_run()?;
    let mut unsuccessful = Vec::new();
    for text in wanted {
        let outcome = match parse_id::<VpceId>(text, "InvalidVpcEndpointId.Malformed", "vpce-") {
            Ok(id) => request.shared.control.edit(move |draft| draft.delete_endpoint(&id)).await.map_err(Refusal::from),
            Err(refusal) => Err(refusal),
        };
        if let Err(mut refusal) = outcome {
            if refusal.code == "InvalidVpcEndpointId.NotFound" {
                refusal.code = "InvalidVpcEndpoint.NotFound";
            }
            unsuccessful.push((text, refusal));
        }
    }
    let mut xml = Xml::new();
    xml.set("unsuccessful", &unsuccessful, |xml, (id, refusal)| failed(xml, id, refusal));
    Ok(xml)
}

/// An endpoint service as the consumer sees it.
struct Offer {
    name: ServiceName,
    private: Option<String>,
}

fn offers(inventory: &Inventory) -> Vec<Offer> {
    let atlas = inventory.services.values().filter(|record| record.state == ServiceState::Available);
    let atlas = atlas.map(|record| Offer { name: record.service.name(), private: None });
    let apps = inventory
        .fixed
        .app_services
        .iter()
        .map(|service| Offer { name: service.name(), private: private_name(inventory, &service.id) });
    let named = |region: &Region, id: &VpceServiceId| Offer {
        name: ServiceName::new(region.clone(), id.clone()),
        private: None,
    };
    let instances = inventory.serverless.values().filter_map(|record| record.endpoint.as_ref());
    let instances = instances.filter(|own| own.state == Reservation::Reserved);
    let instances = instances.map(|own| named(&own.service.region, &own.service.id));
    let archives =
        ARCHIVE_SERVICES.iter().filter_map(|(region, id)| Some(named(&region.parse().ok()?, &id.parse().ok()?)));
    atlas.chain(apps).chain(instances).chain(archives).collect()
}

pub(super) fn describe_services(request: &Request<'_>) -> Outcome {
    let inventory = request.shared.control.inventory();
    let items = offers(&inventory).into_iter().filter(|offer| request.sees(offer.name.region())).map(|offer| Item {
        id: offer.name.to_string(),
        fields: vec![
            ("service-name", vec![offer.name.to_string()]),
            ("service-type", vec!["Interface".to_owned()]),
            ("service-region", vec![offer.name.region().to_string()]),
            ("owner", vec![OWNER.to_owned()]),
        ],
        tags: Tags::new(),
        value: offer,
    });
    let missing =
        |name: &str| Refusal::new("InvalidServiceName", format!("The Vpc Endpoint Service '{name}' does not exist"));
    let known = ["service-name", "service-type", "service-region", "owner"];
    let page = select(&request.params, "ServiceName", items.collect(), &known, missing)?;
    let mut xml = Xml::new();
    xml.nest("serviceNameSet", |xml| page.items.iter().for_each(|offer| xml.leaf("item", &offer.name)));
    xml.set("serviceDetailSet", &page.items, |xml, offer| {
        let (id, region) = (offer.name.service(), offer.name.region());
        xml.leaf("serviceName", &offer.name);
        xml.leaf("serviceId", id);
        xml.set("serviceType", ["Interface"], |xml, kind| xml.leaf("serviceType", kind));
        xml.leaf("serviceRegion", region);
        xml.nest("availabilityZoneSet", |xml| zones(&inventory, id, region).iter().for_each(|z| xml.leaf("item", z)));
        xml.leaf("owner", OWNER);
        xml.nest("baseEndpointDnsNameSet", |xml| xml.leaf("item", format!("{id}.{region}.vpce.amazonaws.com")));
        if let Some(name) = &offer.private {
            xml.leaf("privateDnsName", name);
            xml.set("privateDnsNameSet", [name], |xml, name| xml.leaf("privateDnsName", name));
            xml.leaf("privateDnsNameVerificationState", "verified");
        }
        xml.leaf("vpcEndpointPolicySupported", false);
        xml.leaf("acceptanceRequired", true);
        xml.leaf("managesVpcEndpoints", false);
        xml.set("tagSet", Vec::<()>::new(), |_, ()| {});
        xml.nest("supportedIpAddressTypeSet", |xml| xml.leaf("item", "ipv4"));
    });
    next(&mut xml, page.next);
    Ok(xml)
}

/// The zones that a service stands in: those of the region's subnets and nodes, and the first three.
fn zones(inventory: &Inventory, _: &VpceServiceId, region: &Region) -> BTreeSet<String> {
    let subnets = inventory.vpcs.values().flat_map(|record| record.vpc.subnets.values().map(|s| s.zone.clone()));
    let known = subnets.filter(|zone| zone.region() == *region).map(|zone| zone.to_string());
    known.chain(['a', 'b', 'c'].map(|letter| format!("{region}{letter}"))).collect()
}

pub(super) fn describe_connections(request: &Request<'_>) -> Outcome {
    let inventory = request.shared.control.inventory();
    let items = seen(request, &inventory).map(|record| Item {
        value: record,
        id: record.endpoint.id.to_string(),
        fields: vec![
            ("service-id", vec![record.endpoint.service.service().to_string()]),
            ("vpc-endpoint-id", vec![record.endpoint.id.to_string()]),
            ("vpc-endpoint-owner", vec![OWNER.to_owned()]),
            ("vpc-endpoint-state", vec![state(record).label().to_owned()]),
            ("ip-address-type", vec!["ipv4".to_owned()]),
        ],
        tags: record.tags.clone(),
    });
    let known = ["service-id", "vpc-endpoint-id", "vpc-endpoint-owner", "vpc-endpoint-state", "ip-address-type"];
    let missing = |id: &str| not_found(Kind::Endpoint, id);
    let page = select(&request.params, "VpcEndpointId", items.collect(), &known, missing)?;
    let mut xml = Xml::new();
    xml.set("vpcEndpointConnectionSet", page.items, |xml, record| {
        let endpoint = &record.endpoint;
        xml.leaf("serviceId", endpoint.service.service());
        xml.leaf("vpcEndpointId", &endpoint.id);
        xml.leaf("vpcEndpointOwner", OWNER);
        xml.leaf("vpcEndpointState", state(record).label());
        xml.leaf("creationTimestamp", iso8601(created(record), true));
        dns_entries(xml, &inventory, record);
        let balancer = format!(
            "arn:aws:elasticloadbalancing:{}:{OWNER}:loadbalancer/net/{}/0123456789abcdef",
            endpoint.service.region(),
            endpoint.service.service()
        );
        xml.nest("networkLoadBalancerArnSet", |xml| xml.leaf("item", balancer));
        xml.leaf("ipAddressType", "ipv4");
        let digits = endpoint.id.as_str().trim_start_matches("vpce-");
        xml.leaf("vpcEndpointConnectionId", format!("vpce-svc-conn-{digits}"));
        tags(xml, &record.tags);
        xml.leaf("vpcEndpointRegion", endpoint.service.region());
    });
    next(&mut xml, page.next);
    Ok(xml)
}

pub(super) async fn decide(request: &Request<'_>, accept: bool) -> Outcome {
    let params = &request.params;
    let service: VpceServiceId = params.id("ServiceId", "InvalidVpcEndpointServiceId.Malformed", "vpce-svc-")?;
    let inventory = request.shared.control.inventory();
    if !offers(&inventory).iter().any(|offer| *offer.name.service() == service) {
        return Err(not_found(Kind::Service, service.as_str()));
    }
    let wanted = params.list("VpcEndpointId");
    if wanted.is_empty() {
        return Err(Refusal::missing("VpcEndpointId"));
    }
    request.check_dry_run()?;
    let mut unsuccessful = Vec::new();
    for text in wanted {
        let outcome = match parse_id::<VpceId>(text, "InvalidVpcEndpointId.Malformed", "vpce-") {
            Ok(id) if inventory.endpoints.get(&id).is_none_or(|r| *r.endpoint.service.service() != service) => {
                Err(not_found(Kind::Endpoint, text))
            }
            Ok(id) => {
                let edit = request
                    .shared
                    .control
                    .edit(move |draft| if accept { draft.accept_endpoint(&id) } else { draft.reject_endpoint(&id) });
                edit.await.map_err(Refusal::from)
            }
            Err(refusal) => Err(refusal),
        };
        unsuccessful.extend(outcome.err().map(|refusal| (text, refusal)));
    }
    let mut xml = Xml::new();
    xml.set("unsuccessful", &unsuccessful, |xml, (id, refusal)| failed(xml, id, refusal));
    Ok(xml)
}

pub(super) fn describe_interfaces(request: &Request<'_>) -> Outcome {
    let inventory = request.shared.control.inventory();
    let addresses =
        seen(request, &inventory).flat_map(|record| record.endpoint.addresses.iter().map(move |a| (record, a)));
    let items = addresses.map(|(record, address)| Item {
        value: (record, address),
        id: address.eni.to_string(),
        fields: vec![
            ("network-interface-id", vec![address.eni.to_string()]),
            ("subnet-id", vec![address.subnet.to_string()]),
            ("vpc-id", vec![record.endpoint.vpc.to_string()]),
            ("availability-zone", vec![address.zone.to_string()]),
            ("private-ip-address", vec![address.ip.to_string()]),
            ("addresses.private-ip-address", vec![address.ip.to_string()]),
            ("group-id", record.endpoint.security_groups.iter().map(ToString::to_string).collect()),
            ("interface-type", vec!["vpc_endpoint".to_owned()]),
            ("status", vec!["in-use".to_owned()]),
            ("description", vec![format!("VPC Endpoint Interface {}", record.endpoint.id)]),
        ],
        tags: Tags::new(),
    });
    let known = [
        "network-interface-id",
        "subnet-id",
        "vpc-id",
        "availability-zone",
        "private-ip-address",
        "addresses.private-ip-address",
        "group-id",
        "interface-type",
        "status",
        "description",
    ];
    let missing = |id: &str| {
        Refusal::new("InvalidNetworkInterfaceID.NotFound", format!("The networkInterface ID '{id}' does not exist"))
    };
    let page = select(&request.params, "NetworkInterfaceId", items.collect(), &known, missing)?;
    let mut xml = Xml::new();
    xml.set("networkInterfaceSet", page.items, |xml, (record, address)| {
        xml.leaf("networkInterfaceId", &address.eni);
        xml.leaf("subnetId", &address.subnet);
        xml.leaf("vpcId", &record.endpoint.vpc);
        xml.leaf("availabilityZone", &address.zone);
        xml.leaf("description", format!("VPC Endpoint Interface {}", record.endpoint.id));
        xml.leaf("ownerId", OWNER);
        xml.leaf("requesterManaged", true);
        xml.leaf("status", "in-use");
        xml.leaf("privateIpAddress", address.ip);
        xml.leaf("sourceDestCheck", true);
        let groups = inventory.vpcs.get(&record.endpoint.vpc);
        xml.set("groupSet", &record.endpoint.security_groups, |xml, id| {
            xml.leaf("groupId", id);
            let group = groups.and_then(|record| record.vpc.security_groups.get(id));
            xml.leaf("groupName", group.map(|group| group.name.as_str()).unwrap_or_default());
        });
        xml.set("privateIpAddressesSet", [address.ip], |xml, ip| {
            xml.leaf("privateIpAddress", ip);
            xml.leaf("primary", true);
        });
        xml.leaf("interfaceType", "vpc_endpoint");
    });
    next(&mut xml, page.next);
    Ok(xml)
}
