//! Tags of VPCs, subnets, security groups and their rules, and interface endpoints.

use super::endpoints::seen;
use super::errors::not_found;
use super::items::{Listing, PAGES, one};
use super::params::{ACL, ENDPOINT, GROUP, INTERFACE, IdForm, ROUTE_TABLE, RULE, SERVICE, SUBNET, VPC};
use super::xml::next;
use super::{Ec2Error, Ec2Request, Ec2Result, Xml};
use crate::control::draft::ResourceKind;
use crate::control::inventory::{Inventory, Tags, VpcRecord};

/// Maximum number of resources of one request. Source: Amazon EC2 API Reference, *CreateTags*.
const MAX_RESOURCES: usize = 1000;

/// The tags of a VPC, or of a resource in it.
pub(super) fn tags_of(record: &VpcRecord, id: &str) -> Tags {
    record.tags.get(id).cloned().unwrap_or_default()
}

/// `tagSet`.
pub(super) fn tag_set(xml: &mut Xml, tags: &Tags) {
    xml.set("tagSet", tags, |xml, (key, value)| {
        xml.leaf("key", key);
        xml.leaf("value", value);
    });
}

fn resources(request: &Ec2Request<'_>) -> Result<Vec<String>, Ec2Error> {
    let resources: Vec<String> = request.params.list("ResourceId").into_iter().map(str::to_owned).collect();
    if resources.is_empty() {
        return Err(Ec2Error::missing("resourceIdSet"));
    }
    if resources.len() > MAX_RESOURCES {
        let message = format!("The request names {} resources; {MAX_RESOURCES} is the most.", resources.len());
        return Err(Ec2Error::new("InvalidParameterValue", message));
    }
    for id in &resources {
        match form_of(id) {
            Some((_, _, true)) => {}
            Some((_, kind, false)) => {
                return Err(Ec2Error::new(
                    "UnsupportedOperation",
                    format!("Tags of a {kind} are not kept here: {id}."),
                ));
            }
            None => return Err(Ec2Error::new("InvalidID", format!("The ID '{id}' is not valid"))),
        }
    }
    Ok(resources)
}

pub(super) async fn create(request: &Ec2Request<'_>) -> Ec2Result {
    let (resources, tags) = (resources(request)?, request.params.tag_list("Tag")?);
    if tags.is_empty() {
        return Err(Ec2Error::missing("tagSet"));
    }
    request.edit(move |draft| resources.iter().try_for_each(|id| draft.tag(id, tags.clone()))).await?;
    Ok(Xml::done())
}

pub(super) async fn delete(request: &Ec2Request<'_>) -> Ec2Result {
    let (resources, params) = (resources(request)?, &request.params);
    let tag = |n| {
        let key = params.required(&format!("Tag.{n}.Key"))?;
        Ok((key.to_owned(), params.text(&format!("Tag.{n}.Value")).map(str::to_owned)))
    };
    let tags = params.indexes("Tag").into_iter().map(tag).collect::<Result<Vec<_>, Ec2Error>>()?;
    request.edit(move |draft| resources.iter().try_for_each(|id| draft.untag(id, &tags))).await?;
    Ok(Xml::done())
}

/// Resources that have tags on AWS: the format of their ids, EC2's name for the type, and whether they have tags here.
const TAGGABLE: [(IdForm, &str, bool); 9] = [
    (VPC, "vpc", true),
    (SUBNET, "subnet", true),
    (GROUP, "security-group", true),
    (RULE, "security-group-rule", true),
    (ENDPOINT, "vpc-endpoint", true),
    (ACL, "network-acl", false),
    (INTERFACE, "network-interface", false),
    (ROUTE_TABLE, "route-table", false),
    (SERVICE, "vpc-endpoint-service", false),
];

fn form_of(id: &str) -> Option<&'static (IdForm, &'static str, bool)> {
    TAGGABLE.iter().find(|(form, ..)| form.fits(id))
}

/// EC2's name for the type of an id's resource.
fn resource_type(id: &str) -> Option<&'static str> {
    form_of(id).map(|(_, kind, _)| *kind)
}

/// One tag of one resource.
struct Tagged {
    resource: String,
    key: String,
    value: String,
}

fn all(request: &Ec2Request<'_>, inventory: &Inventory) -> Vec<Tagged> {
    let own =
        inventory.vpcs.values().filter(|record| request.is_visible(&record.vpc.region)).flat_map(|record| &record.tags);
    let endpoints = seen(request, inventory);
    let endpoints = endpoints.map(|record| (record.endpoint.id.to_string(), &record.tags));
    let of_resource = |(resource, tags): (String, &Tags)| {
        let tagged = |(key, value): (&String, &String)| Tagged {
            resource: resource.clone(),
            key: key.clone(),
            value: value.clone(),
        };
        tags.iter().map(tagged).collect::<Vec<_>>()
    };
    own.map(|(id, tags)| (id.clone(), tags)).chain(endpoints).flat_map(of_resource).collect()
}

pub(super) fn describe(request: &Ec2Request<'_>) -> Ec2Result {
    let inventory = request.shared.control.inventory();
    let listing = Listing {
        ids: None,
        pages: Some(PAGES),
        id: |tag: &Tagged| format!("{}/{}", tag.resource, tag.key),
        tags: |tag| Tags::from([(tag.key.clone(), tag.value.clone())]),
        filters: &[
            ("key", |tag| one(&tag.key)),
            ("resource-id", |tag| one(&tag.resource)),
            ("resource-type", |tag| one(resource_type(&tag.resource).unwrap_or_default())),
            ("value", |tag| one(&tag.value)),
        ],
        missing: |id| not_found(ResourceKind::Tag, id),
    };
    let page = listing.select(&request.params, all(request, &inventory).into_iter())?;
    let mut xml = Xml::new();
    xml.set("tagSet", page.items, |xml, tag| {
        xml.leaf("resourceId", &tag.resource);
        xml.leaf("resourceType", resource_type(&tag.resource).unwrap_or_default());
        xml.leaf("key", &tag.key);
        xml.leaf("value", &tag.value);
    });
    next(&mut xml, page.next);
    Ok(xml)
}
