//! Connections of interface endpoints to a service, for the service's owner.

use super::endpoints::{change_each, created, dns_entries, existing, state, unsuccessful};
use super::errors::not_found;
use super::items::{ENDPOINT_PAGES, Listing, none, one};
use super::params::SERVICE;
use super::services::offers;
use super::tags::tag_set;
use super::xml::next;
use super::{Ec2Request, Ec2Result, OWNER, Xml};
use crate::api::text::iso8601;
use crate::control::draft::{Draft, ResourceKind};
use crate::control::inventory::EndpointRecord;
use crate::model::{Region, VpceId, VpceServiceId};

/// A connection, with the region that it comes from.
struct Connection<'a> {
    record: &'a EndpointRecord,
    region: &'a Region,
}

pub(super) fn describe(request: &Ec2Request<'_>) -> Ec2Result {
    let inventory = request.shared.control.inventory();
    // The owner's side: the services of the caller's region, wherever their endpoints are.
    let own = existing(&inventory).filter(|record| request.is_visible(record.endpoint.service.region()));
    let connections =
        own.filter_map(|record| Some(Connection { record, region: inventory.region_of(&record.endpoint)? }));
    let listing = Listing {
        ids: None,
        pages: Some(ENDPOINT_PAGES),
        id: |of: &Connection<'_>| of.record.endpoint.id.to_string(),
        tags: |of| of.record.tags.clone(),
        filters: &[
            ("ip-address-type", |of| one(of.record.endpoint.ip_address_type.label())),
            ("service-id", |of| one(of.record.endpoint.service.service())),
            ("transit-gateway-attachment-id", none),
            ("vpc-endpoint-id", |of| one(&of.record.endpoint.id)),
            ("vpc-endpoint-owner", |_| one(OWNER)),
            ("vpc-endpoint-region", |of| one(of.region)),
            ("vpc-endpoint-state", |of| one(state(of.record).label())),
        ],
        missing: |id| not_found(ResourceKind::Endpoint, id),
    };
    let page = listing.select(&request.params, connections)?;
    let mut xml = Xml::new();
    xml.set("vpcEndpointConnectionSet", page.items, |xml, Connection { record, region }| {
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
        xml.leaf("ipAddressType", endpoint.ip_address_type.label());
        let digits = endpoint.id.as_str().trim_start_matches("vpce-");
        xml.leaf("vpcEndpointConnectionId", format!("vpce-svc-conn-{digits}"));
        tag_set(xml, &record.tags);
        xml.leaf("vpcEndpointRegion", region);
    });
    next(&mut xml, page.next);
    Ok(xml)
}

pub(super) async fn decide(request: &Ec2Request<'_>, accept: bool) -> Ec2Result {
    let params = &request.params;
    params.unsupported(&["TransitGatewayAttachmentId"])?;
    let service: VpceServiceId = params.id("ServiceId", SERVICE)?;
    let inventory = request.shared.control.inventory();
    let is_it = |offer: &super::services::VisibleService| {
        *offer.name.service() == service && request.is_visible(offer.name.region())
    };
    if !offers(&inventory).iter().any(is_it) {
        return Err(not_found(ResourceKind::Service, service.as_str()));
    }
    let leads_there = |id: &VpceId| {
        let endpoint = inventory.endpoints.get(id).filter(|record| *record.endpoint.service.service() == service);
        endpoint.map(|_| ()).ok_or_else(|| not_found(ResourceKind::Endpoint, id.as_str()))
    };
    let change = if accept { Draft::accept_endpoint } else { Draft::reject_endpoint };
    Ok(unsuccessful(&change_each(request, leads_there, change).await?))
}
