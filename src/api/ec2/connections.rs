//! Connections of interface endpoints to a service, as the service's owner sees and decides them.

use super::endpoints::{change_each, created, dns_entries, seen, state, unsuccessful};
use super::errors::not_found;
use super::items::{Listing, none, one};
use super::services::offers;
use super::tags::tag_set;
use super::xml::next;
use super::{OWNER, Outcome, Request, Xml};
use crate::api::text::iso8601;
use crate::control::draft::{Draft, Kind};
use crate::control::inventory::EndpointRecord;
use crate::model::{VpceId, VpceServiceId};

pub(super) fn describe(request: &Request<'_>) -> Outcome {
    let inventory = request.shared.control.inventory();
    let listing = Listing {
        ids: None,
        id: |record: &&EndpointRecord| record.endpoint.id.to_string(),
        tags: |record| record.tags.clone(),
        filters: &[
            ("ip-address-type", |_| one("ipv4")),
            ("service-id", |record| one(record.endpoint.service.service())),
            ("transit-gateway-attachment-id", none),
            ("vpc-endpoint-id", |record| one(&record.endpoint.id)),
            ("vpc-endpoint-owner", |_| one(OWNER)),
            ("vpc-endpoint-region", |record| one(record.endpoint.service.region())),
            ("vpc-endpoint-state", |record| one(state(record).label())),
        ],
        missing: |id| not_found(Kind::Endpoint, id),
    };
    let page = listing.select(&request.params, seen(request, &inventory))?;
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
        tag_set(xml, &record.tags);
        xml.leaf("vpcEndpointRegion", endpoint.service.region());
    });
    next(&mut xml, page.next);
    Ok(xml)
}

pub(super) async fn decide(request: &Request<'_>, accept: bool) -> Outcome {
    let params = &request.params;
    params.unsupported(&["TransitGatewayAttachmentId"])?;
    let service: VpceServiceId = params.id("ServiceId", "InvalidVpcEndpointServiceId.Malformed", "vpce-svc-")?;
    let inventory = request.shared.control.inventory();
    if !offers(&inventory).iter().any(|offer| *offer.name.service() == service) {
        return Err(not_found(Kind::Service, service.as_str()));
    }
    let leads_there = |id: &VpceId| {
        let endpoint = inventory.endpoints.get(id).filter(|record| *record.endpoint.service.service() == service);
        endpoint.map(|_| ()).ok_or_else(|| not_found(Kind::Endpoint, id.as_str()))
    };
    let change = if accept { Draft::accept_endpoint } else { Draft::reject_endpoint };
    Ok(unsuccessful(&change_each(request, leads_there, change).await?))
}
