//! Security groups.

use super::errors::not_found;
use super::items::{Listing, PAGES, one};
use super::params::{GROUP, Params};
use super::rules::permissions;
use super::tags::{tag_set, tags_of};
use super::vpcs::vpc_id;
use super::xml::next;
use super::{Ec2Error, Ec2Request, Ec2Result, OWNER, Xml};
use crate::control::draft::ResourceKind;
use crate::control::inventory::{Inventory, RulePeer, VpcRecord};
use crate::model::Direction::{self, Egress, Ingress};
use crate::model::{Region, SecurityGroup, SecurityGroupId};

/// `GroupId`; a name alone would refer to a group of the default VPC, which no account here has.
pub(super) fn group_id(params: &Params) -> Result<SecurityGroupId, Ec2Error> {
    match (params.text("GroupId"), params.text("GroupName")) {
        (None, Some(name)) => Err(no_default_group(name)),
        (Some(_), Some(_)) => Err(Ec2Error::new(
            "InvalidParameterCombination",
            "The parameter groupName cannot be used with the parameter groupId",
        )),
        _ => params.id("GroupId", GROUP),
    }
}

pub(super) fn no_default_group(name: &str) -> Ec2Error {
    Ec2Error::new("InvalidGroup.NotFound", format!("The security group '{name}' does not exist in default VPC 'none'"))
}

pub(super) fn arn(region: &Region, group: &SecurityGroupId) -> String {
    format!("arn:aws:ec2:{region}:{OWNER}:security-group/{group}")
}

/// `groupSet`: groups by id and name.
pub(super) fn group_set(xml: &mut Xml, inventory: &Inventory, vpc: &crate::model::VpcId, groups: &[SecurityGroupId]) {
    let record = inventory.vpcs.get(vpc);
    xml.set("groupSet", groups, |xml, id| {
        xml.leaf("groupId", id);
        let group = record.and_then(|record| record.vpc.security_groups.get(id));
        xml.leaf("groupName", group.map(|group| group.name.as_str()).unwrap_or_default());
    });
}

pub(super) async fn create(request: &Ec2Request<'_>) -> Ec2Result {
    let params = &request.params;
    let name = params.required("GroupName")?.to_owned();
    let description = params.required("GroupDescription")?.to_owned();
    if name.to_ascii_lowercase().starts_with("sg-") || name.len() > 255 || !name.is_ascii() {
        return Err(Ec2Error::invalid("groupName", &name));
    }
    if name.eq_ignore_ascii_case("default") {
        return Err(Ec2Error::new("InvalidParameterValue", format!("Cannot use reserved security group name: {name}")));
    }
    if description.len() > 255 || !description.is_ascii() {
        return Err(Ec2Error::invalid("GroupDescription", &description));
    }
    if params.text("VpcId").is_none() {
        return Err(Ec2Error::new("VPCIdNotSpecified", "No default VPC for this user"));
    }
    let (vpc, tags) = (vpc_id(params)?, params.tags("security-group")?);
    let region = request.shared.control.inventory().vpcs.get(&vpc).map(|record| record.vpc.region.clone());
    let region = region.ok_or_else(|| not_found(ResourceKind::Vpc, vpc.as_str()))?;
    let set = tags.clone();
    let id = request.edit(move |draft| draft.create_group(&vpc, name, description, set)).await?;
    let mut xml = Xml::done();
    xml.leaf("groupId", &id);
    xml.leaf("securityGroupArn", arn(&region, &id));
    tag_set(&mut xml, &tags);
    Ok(xml)
}

pub(super) async fn delete(request: &Ec2Request<'_>) -> Ec2Result {
    let id = group_id(&request.params)?;
    let gone = id.clone();
    request.edit(move |draft| draft.delete_group(&gone)).await?;
    let mut xml = Xml::done();
    xml.leaf("groupId", id);
    Ok(xml)
}

/// A group with the VPC that it belongs to.
type GroupView<'a> = (&'a VpcRecord, &'a SecurityGroup);

fn body(xml: &mut Xml, (record, group): GroupView<'_>) {
    xml.leaf("ownerId", OWNER);
    xml.leaf("groupId", &group.id);
    xml.leaf("securityGroupArn", arn(&record.vpc.region, &group.id));
    xml.leaf("groupName", &group.name);
    xml.leaf("groupDescription", description(&(record, group)));
    xml.leaf("vpcId", &record.vpc.id);
    permissions(xml, "ipPermissions", record.rules_of(&group.id), Ingress);
    permissions(xml, "ipPermissionsEgress", record.rules_of(&group.id), Egress);
    tag_set(xml, &tags_of(record, group.id.as_str()));
}

fn description((record, group): &GroupView<'_>) -> String {
    record.descriptions.get(&group.id).unwrap_or(&group.name).clone()
}

/// The values of a field of a group's permissions.
fn of_permissions((record, group): &GroupView<'_>, direction: Direction, field: &str) -> Vec<String> {
    let rules = record.rules_of(&group.id).iter().filter(|rule| rule.direction == direction);
    let value = |rule: &crate::control::inventory::RuleRecord| match (field, &rule.terms.peer) {
        ("cidr", RulePeer::Network(net)) if net.addr().is_ipv4() => Some(net.to_string()),
        ("ipv6-cidr", RulePeer::Network(net)) if net.addr().is_ipv6() => Some(net.to_string()),
        ("group-id", RulePeer::Group(id)) => Some(id.to_string()),
        ("group-name", RulePeer::Group(id)) => record.vpc.security_groups.get(id).map(|group| group.name.clone()),
        ("user-id", RulePeer::Group(_)) => Some(OWNER.to_owned()),
        ("prefix-list-id", RulePeer::PrefixList(id)) => Some(id.clone()),
        ("protocol", _) => Some(rule.terms.protocol.to_string()),
        ("from-port", _) => rule.terms.ports.map(|(from, _)| from.to_string()),
        ("to-port", _) => rule.terms.ports.map(|(_, to)| to.to_string()),
        _ => None,
    };
    rules.filter_map(value).collect()
}

pub(super) fn describe(request: &Ec2Request<'_>) -> Ec2Result {
    let inventory = request.shared.control.inventory();
    let seen = inventory.vpcs.values().filter(|record| request.is_visible(&record.vpc.region));
    let groups = seen.flat_map(|record| record.vpc.security_groups.values().map(move |group| (record, group)));
    if let [name, ..] = request.params.list("GroupName").as_slice() {
        return Err(no_default_group(name));
    }
    let listing = Listing {
        ids: Some(("GroupId", Some(GROUP))),
        pages: Some(PAGES),
        id: |(_, group): &GroupView<'_>| group.id.to_string(),
        tags: |(record, group)| tags_of(record, group.id.as_str()),
        filters: &[
            ("description", |view| one(description(view))),
            ("egress.ip-permission.cidr", |view| of_permissions(view, Egress, "cidr")),
            ("egress.ip-permission.from-port", |view| of_permissions(view, Egress, "from-port")),
            ("egress.ip-permission.group-id", |view| of_permissions(view, Egress, "group-id")),
            ("egress.ip-permission.group-name", |view| of_permissions(view, Egress, "group-name")),
            ("egress.ip-permission.ipv6-cidr", |view| of_permissions(view, Egress, "ipv6-cidr")),
            ("egress.ip-permission.prefix-list-id", |view| of_permissions(view, Egress, "prefix-list-id")),
            ("egress.ip-permission.protocol", |view| of_permissions(view, Egress, "protocol")),
            ("egress.ip-permission.to-port", |view| of_permissions(view, Egress, "to-port")),
            ("egress.ip-permission.user-id", |view| of_permissions(view, Egress, "user-id")),
            ("group-id", |(_, group)| one(&group.id)),
            ("group-name", |(_, group)| one(&group.name)),
            ("ip-permission.cidr", |view| of_permissions(view, Ingress, "cidr")),
            ("ip-permission.from-port", |view| of_permissions(view, Ingress, "from-port")),
            ("ip-permission.group-id", |view| of_permissions(view, Ingress, "group-id")),
            ("ip-permission.group-name", |view| of_permissions(view, Ingress, "group-name")),
            ("ip-permission.ipv6-cidr", |view| of_permissions(view, Ingress, "ipv6-cidr")),
            ("ip-permission.prefix-list-id", |view| of_permissions(view, Ingress, "prefix-list-id")),
            ("ip-permission.protocol", |view| of_permissions(view, Ingress, "protocol")),
            ("ip-permission.to-port", |view| of_permissions(view, Ingress, "to-port")),
            ("ip-permission.user-id", |view| of_permissions(view, Ingress, "user-id")),
            ("owner-id", |_| one(OWNER)),
            ("vpc-id", |(record, _)| one(&record.vpc.id)),
        ],
        missing: |id| not_found(ResourceKind::SecurityGroup, id),
    };
    let page = listing.select(&request.params, groups)?;
    let mut xml = Xml::new();
    xml.set("securityGroupInfo", page.items, body);
    next(&mut xml, page.next);
    Ok(xml)
}
