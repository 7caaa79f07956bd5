//! Endpoint services for consumers.

use super::errors::not_found;
use super::items::{ENDPOINT_PAGES, Filter, Listing, empty, no_tags, none, one};
use super::params::SERVICE;
use super::xml::next;
use super::{Ec2Error, Ec2Request, Ec2Result, OWNER, Xml};
use crate::control::draft::ResourceKind;
use crate::control::inventory::{ARCHIVE_SERVICES, Inventory, Reservation};
use crate::model::{AppEndpointKind, IpFamily, Region, ServiceName, VpceServiceId};

/// The private DNS name of App Services; Atlas' services have none.
pub(super) fn private_name(inventory: &Inventory, id: &VpceServiceId) -> Option<String> {
    let service = inventory.fixed.app_services.iter().find(|service| service.id == *id)?;
    Some(match service.kind {
        AppEndpointKind::General => format!("{}.aws.services.cloud.mongodb.com", service.region),
        AppEndpointKind::Sync => format!("ws.{}.aws.services.cloud.mongodb.com", service.region),
    })
}

/// An endpoint service as the consumer sees it.
pub(super) struct VisibleService {
    pub(super) name: ServiceName,
    /// The address families that it supports.
    families: Vec<&'static str>,
    private: Option<String>,
}

pub(super) fn offers(inventory: &Inventory) -> Vec<VisibleService> {
    let atlas = inventory.services.values().filter(|record| record.state.is_connectable());
    let families = |id: &VpceServiceId| inventory.ip_address_types(id).families().map(IpFamily::label).collect();
    let offer = |name: ServiceName, private| VisibleService { families: families(name.service()), name, private };
    let atlas = atlas.map(|record| offer(record.service.name(), None));
    let apps =
        inventory.fixed.app_services.iter().map(|service| offer(service.name(), private_name(inventory, &service.id)));
    let named = |region: &Region, id: &VpceServiceId| offer(ServiceName::new(region.clone(), id.clone()), None);
    let instances = inventory.serverless.values().filter_map(|record| record.endpoint.as_ref());
    let instances = instances.filter(|own| own.state == Reservation::Reserved);
    let instances = instances.map(|own| named(&own.service.region, &own.service.id));
    let archives =
        ARCHIVE_SERVICES.iter().filter_map(|(region, id)| Some(named(&region.parse().ok()?, &id.parse().ok()?)));
    atlas.chain(apps).chain(instances).chain(archives).collect()
}

/// `ServiceRegion`, or one of `ServiceRegion.N`.
pub(super) fn service_region(text: &str) -> Result<Region, Ec2Error> {
    Region::of(None, text).map_err(|_| Ec2Error::invalid("ServiceRegion", text))
}

/// The services visible to a caller: those of the caller's region, or with `ServiceRegion.N` those of these regions
/// that support it. Source: AWS PrivateLink, *Cross-Region enabled services*: the list has the services to which an
/// endpoint can be created.
fn seen(request: &Ec2Request<'_>, inventory: &Inventory) -> Result<Vec<VisibleService>, Ec2Error> {
    let regions = request.params.list("ServiceRegion").into_iter().map(service_region);
    let regions = regions.collect::<Result<Vec<_>, _>>()?;
    let is_meant =
        |region: &Region| if regions.is_empty() { request.is_visible(region) } else { regions.contains(region) };
    let supports = |offer: &VisibleService| {
        request.region.as_ref().is_none_or(|own| inventory.supports(offer.name.service(), own))
    };
    Ok(offers(inventory).into_iter().filter(|offer| is_meant(offer.name.region()) && supports(offer)).collect())
}

pub(super) fn describe(request: &Ec2Request<'_>) -> Ec2Result {
    let inventory = request.shared.control.inventory();
    let listing = Listing {
        ids: Some(("ServiceName", None)),
        pages: Some(ENDPOINT_PAGES),
        id: |offer: &VisibleService| offer.name.to_string(),
        tags: no_tags,
        filters: &[
            ("owner", |_| one(OWNER)),
            ("service-name", |offer| one(&offer.name)),
            ("service-region", |offer| one(offer.name.region())),
            ("service-type", |_| one("Interface")),
            ("supported-ip-address-types", |offer| offer.families.iter().map(ToString::to_string).collect()),
        ],
        missing: |name| {
            Ec2Error::new("InvalidServiceName", format!("The Vpc Endpoint Service '{name}' does not exist"))
        },
    };
    let page = listing.select(&request.params, seen(request, &inventory)?.into_iter())?;
    let mut xml = Xml::new();
    xml.nest("serviceNameSet", |xml| page.items.iter().for_each(|offer| xml.leaf("item", &offer.name)));
    xml.set("serviceDetailSet", &page.items, |xml, offer| {
        let (id, region) = (offer.name.service(), offer.name.region());
        xml.leaf("serviceName", &offer.name);
        xml.leaf("serviceId", id);
        xml.set("serviceType", ["Interface"], |xml, kind| xml.leaf("serviceType", kind));
        xml.leaf("serviceRegion", region);
        xml.nest("availabilityZoneSet", |xml| inventory.service_zones(id).iter().for_each(|z| xml.leaf("item", z)));
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
        xml.nest("supportedIpAddressTypeSet", |xml| offer.families.iter().for_each(|family| xml.leaf("item", family)));
    });
    next(&mut xml, page.next);
    Ok(xml)
}

/// Services of the caller's own account: none, as Atlas' services belong to MongoDB.
pub(super) fn describe_configurations(request: &Ec2Request<'_>) -> Ec2Result {
    let filters: [Filter<()>; 4] =
        [("service-name", none), ("service-id", none), ("service-state", none), ("supported-ip-address-types", none)];
    let ids = Some(("ServiceId", Some(SERVICE)));
    empty(request, "serviceConfigurationSet", ids, ENDPOINT_PAGES, &filters, |id| not_found(ResourceKind::Service, id))
}

/// Permissions for a service of the caller's own account, which has none.
pub(super) fn describe_permissions(request: &Ec2Request<'_>) -> Ec2Result {
    let id: VpceServiceId = request.params.id("ServiceId", SERVICE)?;
    Err(not_found(ResourceKind::Service, id.as_str()))
}
