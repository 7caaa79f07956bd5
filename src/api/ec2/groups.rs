//! Security groups. Rules for protocols other than TCP are accepted and say nothing here: only TCP flows pass.

use super::errors::not_found;
use super::items::{Item, select};
use super::params::Params;
use super::vpcs::{done, next, tags, tags_of, vpc_id};
use super::{OWNER, Outcome, Refusal, Request, Xml};
use crate::control::draft::Kind;
use crate::control::draft::ec2::Rules;
use crate::control::inventory::VpcRecord;
use crate::model::{CidrSet, Direction, PortRange, PortRule, SecurityGroup, SecurityGroupId};

/// What is done with rules.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    AuthorizeIngress,
    AuthorizeEgress,
    RevokeIngress,
    RevokeEgress,
}

fn group_id(params: &Params) -> Result<SecurityGroupId, Refusal> {
    params.id("GroupId", "InvalidGroupId.Malformed", "sg-")
}

pub(super) async fn create(request: &Request<'_>) -> Outcome {
    let params = &request.params;
    let vpc = vpc_id(params)?;
    let name = params.required("GroupName")?.to_owned();
    let description = params.required("GroupDescription")?.to_owned();
    if name.starts_with("sg-") || name.len() > 255 {
        return Err(Refusal::invalid("groupName", &name));
    }
    let tags_wanted = params.tags("security-group");
    request.check_dry_run()?;
    let set = tags_wanted.clone();
    let id = request.shared.control.edit(move |draft| draft.create_group(&vpc, name, description, set)).await?;
    let mut xml = done();
    xml.leaf("groupId", id);
    tags(&mut xml, &tags_wanted);
    Ok(xml)
}

pub(super) async fn delete(request: &Request<'_>) -> Outcome {
    let id = group_id(&request.params)?;
    request.check_dry_run()?;
    let gone = id.clone();
    request.shared.control.edit(move |draft| draft.delete_group(&gone)).await?;
    let mut xml = done();
    xml.leaf("groupId", id);
    Ok(xml)
}

fn permissions(xml: &mut Xml, tag: &str, rules: &[PortRule]) {
    xml.set(tag, rules, |xml, rule| {
        xml.leaf("ipProtocol", if is_everything(rule) { "-1" } else { "tcp" });
        if !is_everything(rule) {
            xml.leaf("fromPort", rule.ports.first());
            xml.leaf("toPort", rule.ports.last());
        }
        xml.set("groups", &rule.groups, |xml, group| {
            xml.leaf("userId", OWNER);
            xml.leaf("groupId", group);
        });
        let (v4, v6): (Vec<&ipnet::IpNet>, Vec<&ipnet::IpNet>) =
            rule.cidrs.iter().partition(|net| net.network().is_ipv4());
        xml.set("ipRanges", v4, |xml, net| xml.leaf("cidrIp", net));
        xml.set("ipv6Ranges", v6, |xml, net| xml.leaf("cidrIpv6", net));
        xml.set("prefixListIds", Vec::<()>::new(), |_, ()| {});
    });
}

/// All protocols in AWS's words: here, every port.
fn is_everything(rule: &PortRule) -> bool {
    (rule.ports.first().get(), rule.ports.last().get()) == (1, 65535)
}

fn body(xml: &mut Xml, record: &VpcRecord, group: &SecurityGroup) {
    xml.leaf("ownerId", OWNER);
    xml.leaf("groupId", &group.id);
    xml.leaf("groupName", &group.name);
    let description = record.descriptions.get(&group.id).cloned();
    xml.leaf("groupDescription", description.unwrap_or_else(|| group.name.clone()));
    xml.leaf("vpcId", &record.vpc.id);
    permissions(xml, "ipPermissions", &group.ingress);
    permissions(xml, "ipPermissionsEgress", &group.egress);
    tags(xml, &tags_of(record, group.id.as_str()));
}

pub(super) fn describe(request: &Request<'_>) -> Outcome {
    let inventory = request.shared.control.inventory();
    let seen = inventory.vpcs.values().filter(|record| request.sees(&record.vpc.region));
    let items = seen.flat_map(|record| record.vpc.security_groups.values().map(move |group| (record, group)));
    let items = items.map(|(record, group)| Item {
        value: (record, group),
        id: group.id.to_string(),
        fields: vec![
            ("group-id", vec![group.id.to_string()]),
            ("group-name", vec![group.name.clone()]),
            ("vpc-id", vec![record.vpc.id.to_string()]),
            ("description", record.descriptions.get(&group.id).cloned().into_iter().collect()),
            ("owner-id", vec![OWNER.to_owned()]),
        ],
        tags: tags_of(record, group.id.as_str()),
    });
    let known = ["group-id", "group-name", "vpc-id", "description", "owner-id"];
    let missing = |id: &str| not_found(Kind::SecurityGroup, id);
    let mut items: Vec<_> = items.collect();
    let names = request.params.list("GroupName");
    if !names.is_empty() {
        if let Some(lost) = names.iter().find(|name| !items.iter().any(|item| item.value.1.name == **name)) {
            return Err(not_found(Kind::SecurityGroup, lost));
        }
        items.retain(|item| names.contains(&item.value.1.name.as_str()));
    }
    let page = select(&request.params, "GroupId", items, &known, missing)?;
    let mut xml = Xml::new();
    xml.set("securityGroupInfo", page.items, |xml, (record, group)| body(xml, record, group));
    next(&mut xml, page.next);
    Ok(xml)
}

pub(super) async fn change(request: &Request<'_>, change: Change) -> Outcome {
    let id = group_id(&request.params)?;
    let rules = rules(&request.params)?;
    request.check_dry_run()?;
    let direction = match change {
        Change::AuthorizeIngress | Change::RevokeIngress => Direction::Ingress,
        Change::AuthorizeEgress | Change::RevokeEgress => Direction::Egress,
    };
    let rules = Rules { direction, rules };
    let edit = request.shared.control.edit(move |draft| match change {
        Change::AuthorizeIngress | Change::AuthorizeEgress => draft.authorize(&id, &rules),
        Change::RevokeIngress | Change::RevokeEgress => draft.revoke(&id, &rules),
    });
    edit.await?;
    Ok(done())
}

/// The rules of a request: `IpPermissions.N.…`, or the short form for one.
fn rules(params: &Params) -> Result<Vec<PortRule>, Refusal> {
    let mut rules = Vec::new();
    for n in params.indexes("IpPermissions") {
        let at = |name: &str| format!("IpPermissions.{n}.{name}");
        let mut nets = Vec::new();
        for (list, field) in [("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6")] {
            let list = at(list);
            nets.extend(params.indexes(&list).into_iter().filter_map(|m| params.text(&format!("{list}.{m}.{field}"))));
        }
        // `Groups` is what the wire says; `UserIdGroupPairs` is what the SDKs call it.
        let mut groups = Vec::new();
        for list in [at("Groups"), at("UserIdGroupPairs")] {
            groups
                .extend(params.indexes(&list).into_iter().filter_map(|m| params.text(&format!("{list}.{m}.GroupId"))));
        }
        let ports = (params.number(&at("FromPort"))?, params.number(&at("ToPort"))?);
        rules.extend(rule(params.text(&at("IpProtocol")), ports, &nets, &groups)?);
    }
    if rules.is_empty() && params.indexes("IpPermissions").is_empty() {
        let ports = (params.number("FromPort")?, params.number("ToPort")?);
        let nets: Vec<&str> = params.text("CidrIp").into_iter().collect();
        let groups: Vec<&str> = params.text("SourceSecurityGroupId").into_iter().collect();
        if nets.is_empty() && groups.is_empty() {
            return Err(Refusal::missing("IpPermissions"));
        }
        rules.extend(rule(params.text("IpProtocol"), ports, &nets, &groups)?);
    }
    Ok(rules)
}

/// One rule; `None` for a protocol that no flow here has.
fn rule(
    protocol: Option<&str>,
    (from, to): (Option<i64>, Option<i64>),
    nets: &[&str],
    groups: &[&str],
) -> Result<Option<PortRule>, Refusal> {
    let ports = match protocol {
        None => return Err(Refusal::missing("IpProtocol")),
        Some("-1" | "all") => PortRange::new(1, 65535),
        Some("tcp" | "6") => {
            let number = |port: Option<i64>, name| {
                let port = port.ok_or_else(|| Refusal::missing(name))?;
                u16::try_from(port).map_err(|_| Refusal::new("InvalidParameterValue", format!("Invalid port {port}")))
            };
            PortRange::new(number(from, "FromPort")?.max(1), number(to, "ToPort")?)
        }
        Some("udp" | "17" | "icmp" | "1" | "icmpv6" | "58") => return Ok(None),
        Some(other) => return Err(Refusal::invalid("protocol", other)),
    };
    let ports = ports.ok_or_else(|| Refusal::new("InvalidParameterValue", "Invalid TCP/UDP port range"))?;
    let cidrs = nets.iter().map(|net| {
        CidrSet::parse_one(net)
            .map_err(|_| Refusal::new("InvalidParameterValue", format!("CIDR block {net} is malformed")))
    });
    let groups = groups.iter().map(|id| super::params::parse_id(id, "InvalidGroupId.Malformed", "sg-"));
    let rule = PortRule { ports, cidrs: cidrs.collect::<Result<_, _>>()?, groups: groups.collect::<Result<_, _>>()? };
    if rule.cidrs.is_empty() && rule.groups.is_empty() {
        return Err(Refusal::missing("CidrIp or GroupId"));
    }
    Ok(Some(rule))
}
