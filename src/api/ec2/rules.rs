//! Rules of security groups: individually with ids, and in the merged form of `IpPermissions`.
//!
//! Rules for protocols other than TCP are stored and shown without effect, as only TCP flows exist here.

use ipnet::IpNet;

use super::errors::not_found;
use super::groups::{group_id, no_default_group};
use super::items::{Listing, PAGES, one};
use super::params::{GROUP, PREFIX_LIST, Params, RULE};
use super::tags::{tag_set, tags_of};
use super::xml::next;
use super::{Ec2Error, Ec2Request, Ec2Result, OWNER, Xml};
use crate::control::draft::ResourceKind;
use crate::control::draft::ec2::NewRule;
use crate::control::inventory::{Protocol, RulePeer, RuleRecord, RuleTerms, Tags, VpcRecord};
use crate::model::{Direction, Region, SecurityGroupId, SecurityRuleId};

/// A group's rules of one direction as `IpPermissions`: merged by protocol and ports.
pub(super) fn permissions(xml: &mut Xml, tag: &str, rules: &[RuleRecord], direction: Direction) {
    type RulePorts = Option<(i32, i32)>;
    let mut merged: Vec<((Protocol, RulePorts), Vec<&RuleRecord>)> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.direction == direction) {
        let key = (rule.terms.protocol, rule.terms.ports);
        match merged.iter_mut().find(|(known, _)| *known == key) {
            Some((_, rules)) => rules.push(rule),
            None => merged.push((key, vec![rule])),
        }
    }
    xml.set(tag, merged, |xml, ((protocol, ports), rules)| {
        xml.leaf("ipProtocol", protocol);
        if let Some((from, to)) = ports {
            xml.leaf("fromPort", from);
            xml.leaf("toPort", to);
        }
        let peers = |xml: &mut Xml, tag: &str, leaf: &dyn Fn(&RulePeer) -> Option<(&'static str, String)>| {
            let own = rules.iter().filter_map(|rule| Some((leaf(&rule.terms.peer)?, &rule.description)));
            xml.set(tag, own, |xml, ((name, text), description)| {
                xml.leaf(name, text);
                if name == "groupId" {
                    xml.leaf("userId", OWNER);
                }
                if let Some(description) = description {
                    xml.leaf("description", description);
                }
            });
        };
        peers(xml, "groups", &|peer| match peer {
            RulePeer::Group(id) => Some(("groupId", id.to_string())),
            _ => None,
        });
        peers(xml, "ipRanges", &|peer| match peer {
            RulePeer::Network(IpNet::V4(net)) => Some(("cidrIp", net.to_string())),
            _ => None,
        });
        peers(xml, "ipv6Ranges", &|peer| match peer {
            RulePeer::Network(IpNet::V6(net)) => Some(("cidrIpv6", net.to_string())),
            _ => None,
        });
        peers(xml, "prefixListIds", &|peer| match peer {
            RulePeer::PrefixList(id) => Some(("prefixListId", id.clone())),
            _ => None,
        });
    });
}

/// A rule with the group that it belongs to.
struct RuleView<'a> {
    region: &'a Region,
    group: &'a SecurityGroupId,
    rule: &'a RuleRecord,
    tags: Tags,
}

fn views(record: &VpcRecord) -> impl Iterator<Item = RuleView<'_>> {
    record.rules.iter().flat_map(move |(group, rules)| {
        let view = move |rule| RuleView { region: &record.vpc.region, group, rule, tags: tags_of(record, id_of(rule)) };
        rules.iter().map(view)
    })
}

fn id_of(rule: &RuleRecord) -> &str {
    rule.id.as_str()
}

fn body(xml: &mut Xml, RuleView { region, group, rule, tags }: RuleView<'_>) {
    xml.leaf("securityGroupRuleArn", format!("arn:aws:ec2:{region}:{OWNER}:security-group-rule/{}", rule.id));
    xml.leaf("groupOwnerId", OWNER);
    fields(xml, group, rule, |xml, id| {
        xml.nest("referencedGroupInfo", |xml| {
            xml.leaf("groupId", id);
            xml.leaf("userId", OWNER);
        });
    });
    tag_set(xml, &tags);
}

/// The common fields of an existing and a revoked rule; they refer to a peer group in different ways.
fn fields(xml: &mut Xml, group: &SecurityGroupId, rule: &RuleRecord, referenced: fn(&mut Xml, &SecurityGroupId)) {
    let (from, to) = rule.terms.ports.unwrap_or((-1, -1));
    xml.leaf("securityGroupRuleId", &rule.id);
    xml.leaf("groupId", group);
    xml.leaf("isEgress", rule.direction == Direction::Egress);
    xml.leaf("ipProtocol", rule.terms.protocol);
    xml.leaf("fromPort", from);
    xml.leaf("toPort", to);
    match &rule.terms.peer {
        RulePeer::Network(net @ IpNet::V4(_)) => xml.leaf("cidrIpv4", net),
        RulePeer::Network(net @ IpNet::V6(_)) => xml.leaf("cidrIpv6", net),
        RulePeer::PrefixList(id) => xml.leaf("prefixListId", id),
        RulePeer::Group(id) => referenced(xml, id),
    }
    if let Some(description) = &rule.description {
        xml.leaf("description", description);
    }
}

pub(super) fn describe(request: &Ec2Request<'_>) -> Ec2Result {
    let groups = request.params.filters()?.into_iter().filter(|(name, _)| *name == "group-id");
    if let Some(wrong) = groups.flat_map(|(_, ids)| ids).find(|id| !GROUP.fits(id)) {
        // Here AWS's message differs (moto's test, which was verified against AWS).
        let message = format!("The security group ID '{wrong}' is malformed");
        return Err(Ec2Error::new("InvalidGroupId.Malformed", message));
    }
    let inventory = request.shared.control.inventory();
    let listing = Listing {
        ids: Some(("SecurityGroupRuleId", Some(RULE))),
        pages: Some(PAGES),
        id: |view: &RuleView<'_>| view.rule.id.to_string(),
        tags: |view| view.tags.clone(),
        filters: &[("group-id", |view| one(view.group)), ("security-group-rule-id", |view| one(&view.rule.id))],
        missing: |id| not_found(ResourceKind::SecurityRuleId, id),
    };
    let seen = inventory.vpcs.values().filter(|record| request.is_visible(&record.vpc.region));
    let page = listing.select(&request.params, seen.flat_map(views))?;
    let mut xml = Xml::new();
    xml.set("securityGroupRuleSet", page.items, body);
    next(&mut xml, page.next);
    Ok(xml)
}

pub(super) async fn authorize(request: &Ec2Request<'_>, direction: Direction) -> Ec2Result {
    let (group, rules) = (group_id(&request.params)?, new_rules(&request.params)?);
    if rules.is_empty() {
        return Err(Ec2Error::missing("IpPermissions"));
    }
    let tags = request.params.tags("security-group-rule")?;
    let home = group.clone();
    let added = request.edit(move |draft| draft.authorize(&home, direction, rules, &tags)).await?;
    let mut xml = Xml::done();
    let inventory = request.shared.control.inventory();
    let is_added = |view: &RuleView<'_>| added.iter().any(|rule| rule.id == view.rule.id);
    xml.set("securityGroupRuleSet", inventory.vpcs.values().flat_map(views).filter(is_added), body);
    Ok(xml)
}

pub(super) async fn revoke(request: &Ec2Request<'_>, direction: Direction) -> Ec2Result {
    let params = &request.params;
    let group = group_id(params)?;
    let terms: Vec<RuleTerms> = new_rules(params)?.into_iter().map(|rule| rule.terms).collect();
    let ids = params.ids::<SecurityRuleId>("SecurityGroupRuleId", RULE)?;
    if terms.is_empty() && ids.is_empty() {
        return Err(Ec2Error::missing("IpPermissions or SecurityGroupRuleId"));
    }
    let home = group.clone();
    let revoked = request.edit(move |draft| draft.revoke(&home, direction, &terms, &ids)).await?;
    let mut xml = Xml::done();
    xml.set("unknownIpPermissionSet", Vec::<()>::new(), |_, ()| {});
    xml.set("revokedSecurityGroupRuleSet", &revoked, |xml, rule| {
        fields(xml, &group, rule, |xml, id| xml.leaf("referencedGroupId", id));
    });
    Ok(xml)
}

pub(super) async fn modify(request: &Ec2Request<'_>) -> Ec2Result {
    let params = &request.params;
    let group = group_id(params)?;
    let change = |n| {
        let id: SecurityRuleId = params.id(&format!("SecurityGroupRule.{n}.SecurityGroupRuleId"), RULE)?;
        let at = |name: &str| format!("SecurityGroupRule.{n}.SecurityGroupRule.{name}");
        let mut peers = Vec::new();
        peers.extend(params.text(&at("CidrIpv4")).map(|text| network(text, true)).transpose()?);
        peers.extend(params.text(&at("CidrIpv6")).map(|text| network(text, false)).transpose()?);
        peers.extend(params.text(&at("PrefixListId")).map(prefix_list).transpose()?);
        peers.extend(params.text(&at("ReferencedGroupId")).map(group_peer).transpose()?);
        let [peer] = <[RulePeer; 1]>::try_from(peers).map_err(|_| {
            Ec2Error::new(
                "InvalidParameterCombination",
                "A rule has one of CidrIpv4, CidrIpv6, PrefixListId and ReferencedGroupId.",
            )
        })?;
        let (protocol, ports) = protocol_and_ports(params, &at)?;
        let description = description(params.text(&at("Description")))?;
        Ok((id, NewRule { terms: RuleTerms { protocol, ports, peer }, description }))
    };
    let changes = params.indexes("SecurityGroupRule").into_iter().map(change).collect::<Result<Vec<_>, Ec2Error>>()?;
    if changes.is_empty() {
        return Err(Ec2Error::missing("SecurityGroupRule"));
    }
    request.edit(move |draft| draft.change_rules(&group, changes)).await?;
    Ok(Xml::done())
}

pub(super) async fn update_descriptions(request: &Ec2Request<'_>, direction: Direction) -> Ec2Result {
    let params = &request.params;
    let (group, rules) = (group_id(params)?, new_rules(params)?);
    let by_id = |n| {
        let id: SecurityRuleId = params.id(&format!("SecurityGroupRuleDescription.{n}.SecurityGroupRuleId"), RULE)?;
        Ok((id, description(params.text(&format!("SecurityGroupRuleDescription.{n}.Description")))?))
    };
    let by_id =
        params.indexes("SecurityGroupRuleDescription").into_iter().map(by_id).collect::<Result<Vec<_>, Ec2Error>>()?;
    if rules.is_empty() && by_id.is_empty() {
        return Err(Ec2Error::missing("IpPermissions or SecurityGroupRuleDescription"));
    }
    request.edit(move |draft| draft.describe_rules(&group, direction, rules, by_id)).await?;
    Ok(Xml::done())
}

/// The rules of a request: `IpPermissions.N.…`, one for each peer, or the short form for one.
fn new_rules(params: &Params) -> Result<Vec<NewRule>, Ec2Error> {
    let mut rules = Vec::new();
    for n in params.indexes("IpPermissions") {
        let at = |name: &str| format!("IpPermissions.{n}.{name}");
        let (protocol, ports) = protocol_and_ports(params, &at)?;
        let before = rules.len();
        let mut add = |list: &str, field: &str, peer: &dyn Fn(&str) -> Result<RulePeer, Ec2Error>| {
            for m in params.indexes(&at(list)) {
                let of = |name: &str| params.text(&format!("{}.{m}.{name}", at(list)));
                let text = of(field)
                    .ok_or_else(|| of("GroupName").map_or_else(|| Ec2Error::missing(field), no_default_group))?;
                // Descriptions of groups have it, and callers send back what was described; the id alone identifies the
                // group.
                of("GroupName");
                // Rules for groups in peered VPCs have these; VPCs can't be peered by an API call here.
                let of_peers = ["PeeringStatus", "VpcId", "VpcPeeringConnectionId"];
                params.unsupported(&of_peers.map(|name| format!("{}.{m}.{name}", at(list))))?;
                if of("UserId").is_some_and(|owner| owner != OWNER) {
                    return Err(not_found(ResourceKind::SecurityGroup, text));
                }
                let terms = RuleTerms { protocol, ports, peer: peer(text)? };
                rules.push(NewRule { terms, description: description(of("Description"))? });
            }
            Ok(())
        };
        add("IpRanges", "CidrIp", &|text| network(text, true))?;
        add("Ipv6Ranges", "CidrIpv6", &|text| network(text, false))?;
        // `Groups` is the name on the wire; `UserIdGroupPairs` is that of the SDKs.
        add("Groups", "GroupId", &group_peer)?;
        add("UserIdGroupPairs", "GroupId", &group_peer)?;
        add("PrefixListIds", "PrefixListId", &prefix_list)?;
        if rules.len() == before {
            return Err(Ec2Error::missing("IpRanges, Ipv6Ranges, PrefixListIds or UserIdGroupPairs"));
        }
    }
    if let Some(name) = params.text("SourceSecurityGroupName") {
        return Err(no_default_group(name));
    }
    params.unsupported(&["SourceSecurityGroupOwnerId"])?;
    if params.text("CidrIp").is_none()
        && ["IpProtocol", "FromPort", "ToPort"].iter().any(|name| params.text(name).is_some())
    {
        return Err(Ec2Error::missing("CidrIp"));
    }
    if let Some(text) = params.text("CidrIp") {
        let (protocol, ports) = protocol_and_ports(params, &str::to_owned)?;
        let terms = RuleTerms { protocol, ports, peer: network(text, true)? };
        rules.push(NewRule { terms, description: None });
    }
    for (n, rule) in rules.iter().enumerate() {
        if rules[..n].iter().any(|other| other.terms == rule.terms) {
            let message = "The same permission must not appear multiple times";
            return Err(Ec2Error::new("InvalidParameterValue", message));
        }
    }
    Ok(rules)
}

/// `IpProtocol`, `FromPort` and `ToPort`. Source: Amazon EC2 API Reference, *IpPermission*.
fn protocol_and_ports(
    params: &Params,
    at: &dyn Fn(&str) -> String,
) -> Result<(Protocol, Option<(i32, i32)>), Ec2Error> {
    let protocol: Protocol = match params.text(&at("IpProtocol")) {
        None => return Err(Ec2Error::missing("IpProtocol")),
        Some(text) => text.parse().map_err(|_| {
            Ec2Error::new("InvalidParameterValue", format!("Invalid value '{text}' for IP protocol. Unknown protocol."))
        })?,
    };
    let (from, to) = (params.number::<i32>(&at("FromPort"))?, params.number::<i32>(&at("ToPort"))?);
    let ports = match (protocol, from, to) {
        // These include all ports, whatever the request has.
        (Protocol::All | Protocol::Other(_), ..) => return Ok((protocol, None)),
        (Protocol::Icmp | Protocol::Icmpv6, from, to) => (from.unwrap_or(-1), to.unwrap_or(-1)),
        (_, Some(from), Some(to)) => (from, to),
        (_, None, _) => return Err(Ec2Error::missing("FromPort")),
        (_, _, None) => return Err(Ec2Error::missing("ToPort")),
    };
    let fits = match protocol {
        Protocol::Tcp | Protocol::Udp => 0 <= ports.0 && ports.0 <= ports.1 && ports.1 <= 65_535,
        // With all types, all codes are included.
        _ => (-1..=255).contains(&ports.0) && (-1..=255).contains(&ports.1) && (ports.0 != -1 || ports.1 == -1),
    };
    if fits {
        Ok((protocol, Some(ports)))
    } else {
        let kind =
            if matches!(protocol, Protocol::Tcp | Protocol::Udp) { "TCP/UDP port range" } else { "ICMP type and code" };
        Err(Ec2Error::new("InvalidParameterValue", format!("Invalid {kind} ({}, {})", ports.0, ports.1)))
    }
}

/// A network of one IP version, with its mask; AWS ignores host bits.
fn network(text: &str, is_v4: bool) -> Result<RulePeer, Ec2Error> {
    match text.parse::<IpNet>() {
        Ok(net) if net.addr().is_ipv4() == is_v4 => Ok(RulePeer::Network(net.trunc())),
        _ => Err(Ec2Error::new("InvalidParameterValue", format!("CIDR block {text} is malformed"))),
    }
}

fn group_peer(text: &str) -> Result<RulePeer, Ec2Error> {
    GROUP.parse(text).map(RulePeer::Group)
}

fn prefix_list(text: &str) -> Result<RulePeer, Ec2Error> {
    PREFIX_LIST.check(text).map(|()| RulePeer::PrefixList(text.to_owned()))
}

/// The description of a rule.
fn description(text: Option<&str>) -> Result<Option<String>, Ec2Error> {
    let fits = |text: &str| {
        text.len() <= 255 && text.chars().all(|c| c.is_ascii_alphanumeric() || ". _-:/()#,@[]+=&;{}!$*".contains(c))
    };
    match text {
        Some(text) if !fits(text) => Err(Ec2Error::new(
            "InvalidParameterValue",
            "Invalid rule description. Valid descriptions are strings less than 256 characters from the following set: \
             a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*",
        )),
        text => Ok(text.filter(|text| !text.is_empty()).map(str::to_owned)),
    }
}
