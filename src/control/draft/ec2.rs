//! The consumer's side: VPCs, subnets, security groups, interface endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::inventory::{
    EndpointRecord, Pair, Protocol, Registration, RulePeer, RuleRecord, RuleTerms, SubnetAttributes, Tags, VpcRecord,
};
use super::{Draft, EditError, Kind, new_id, random};
use crate::model::{
    CidrSet, Direction, EndpointAddress, EndpointState, InterfaceEndpoint, Region, SecurityGroup, SecurityGroupId,
    SecurityRuleId, ServiceName, Subnet, SubnetId, Vpc, VpcId, VpceId, Zone,
};
use crate::plan::RuleError;

/// Addresses at the start and at the end of a subnet that AWS keeps for itself.
const RESERVED: (u32, u32) = (4, 1);

/// Rules that a security group has at most, for each direction and for IPv4 and IPv6 apart. Source: AWS, *Amazon VPC
/// quotas*.
const MOST_RULES: usize = 60;

/// VPCs and security groups of a Region, subnets and interface endpoints of a VPC, and groups of a network interface, at
/// most. What a config declares is not limited, and counts. Source: AWS, *Amazon VPC quotas* and *AWS PrivateLink quotas*,
/// the defaults.
const MOST_VPCS: usize = 5;
const MOST_GROUPS: usize = 2500;
const MOST_SUBNETS: usize = 200;
const MOST_ENDPOINTS: usize = 50;
const MOST_INTERFACE_GROUPS: usize = 5;

/// Tags that a resource has at most. Source: AWS, *Tag restrictions*.
const MOST_TAGS: usize = 50;

/// What an interface endpoint is made from.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// Where it is to lie.
    pub vpc: VpcId,
    /// Where it is to lead.
    pub service: ServiceName,
    /// One address in each; with a wish for the address.
    pub subnets: Vec<(SubnetId, Option<IpAddr>)>,
    /// The groups on its interfaces; none: the VPC's `default`.
    pub groups: Vec<SecurityGroupId>,
    /// Its tags.
    pub tags: Tags,
    /// Its policy document.
    pub policy: Option<String>,
    /// Whether the service's private DNS name is asked for.
    pub private_dns: bool,
    /// The client token, and the request's fingerprint.
    pub token: Option<(String, String)>,
}

/// What is to change about an interface endpoint.
#[derive(Debug, Clone, Default)]
pub struct EndpointChange {
    /// Subnets to add; with a wish for the address.
    pub add_subnets: Vec<(SubnetId, Option<IpAddr>)>,
    /// Subnets to leave.
    pub remove_subnets: Vec<SubnetId>,
    /// Groups to add.
    pub add_groups: Vec<SecurityGroupId>,
    /// Groups to take off.
    pub remove_groups: Vec<SecurityGroupId>,
    /// The new policy document; `Some(None)` allows everything again.
    pub policy: Option<Option<String>>,
    /// Whether the service's private DNS name is asked for.
    pub private_dns: Option<bool>,
}

/// What is to change about a VPC.
#[derive(Debug, Clone, Copy)]
pub enum VpcChange {
    /// Its resolver answers.
    DnsSupport(bool),
    /// Private hosted zones work, together with support.
    DnsHostnames(bool),
    /// `enableNetworkAddressUsageMetrics`.
    UsageMetrics(bool),
}

/// A rule to be added to a security group.
#[derive(Debug, Clone)]
pub struct NewRule {
    /// What it says.
    pub terms: RuleTerms,
    /// What it is for.
    pub description: Option<String>,
}

impl Draft {
    fn vpc_mut(&mut self, id: &VpcId) -> Result<&mut VpcRecord, EditError> {
        let missing = || EditError::Missing { what: Kind::Vpc, id: id.to_string() };
        self.inventory.vpcs.get_mut(id).ok_or_else(missing)
    }

    /// Makes a VPC with a `default` group that lets its own members in and everything out. Whether its network fits is the
    /// plan's to say.
    ///
    /// # Errors
    ///
    /// [`EditError::Limit`] for too many VPCs or tags.
    pub fn create_vpc(&mut self, region: Region, cidr: IpNet, tags: Tags) -> Result<VpcId, EditError> {
        let id: VpcId = new_id("vpc-", |id| self.inventory.vpcs.contains_key(id));
        let vpc = Vpc {
            id: id.clone(),
            region,
            cidrs: [cidr].into_iter().collect(),
            peered: CidrSet::default(),
            on_premises: CidrSet::default(),
            enable_dns_support: true,
            enable_dns_hostnames: false,
            subnets: BTreeMap::new(),
            security_groups: BTreeMap::new(),
        };
        let in_region = self.inventory.vpcs.values().filter(|record| record.vpc.region == vpc.region).count();
        check_limit(Kind::Vpc, in_region + 1, MOST_VPCS)?;
        self.inventory.vpcs.insert(id.clone(), VpcRecord::new(vpc));
        self.tag(id.as_str(), tags)?;
        let group =
            self.create_group(&id, "default".to_owned(), "default VPC security group".to_owned(), Tags::new())?;
        let terms = RuleTerms { protocol: Protocol::All, ports: None, peer: RulePeer::Group(group.clone()) };
        self.authorize(&group, Direction::Ingress, vec![NewRule { terms, description: None }], &Tags::new())?;
        Ok(id)
    }

    /// Removes a VPC.
    ///
    /// # Errors
    ///
    /// [`EditError::InUse`] while it has subnets, groups of its own or endpoints.
    pub fn delete_vpc(&mut self, id: &VpcId) -> Result<(), EditError> {
        let record = self.vpc_mut(id)?;
        let subnet = record.vpc.subnets.keys().next().map(ToString::to_string);
        let group = record.vpc.security_groups.values().find(|g| g.name != "default").map(|g| g.id.to_string());
        let endpoint = self.inventory.endpoints.values().find(|e| e.endpoint.vpc == *id);
        if let Some(by) = subnet.or(group).or_else(|| endpoint.map(|e| e.endpoint.id.to_string())) {
            return Err(EditError::InUse { what: Kind::Vpc, id: id.to_string(), by });
        }
        self.inventory.vpcs.remove(id);
        Ok(())
    }

    /// Switches attributes of a VPC.
    ///
    /// # Errors
    ///
    /// [`EditError::Invalid`] for host names without support.
    pub fn change_vpc(&mut self, id: &VpcId, change: VpcChange) -> Result<(), EditError> {
        let record = self.vpc_mut(id)?;
        let vpc = &mut record.vpc;
        match change {
            VpcChange::DnsSupport(on) => vpc.enable_dns_support = on,
            VpcChange::DnsHostnames(on) => {
                if on && !vpc.enable_dns_support {
                    return Err(EditError::Invalid(
                        "enableDnsHostnames can be switched on only while enableDnsSupport is on".to_owned(),
                    ));
                }
                vpc.enable_dns_hostnames = on;
            }
            VpcChange::UsageMetrics(on) => record.usage_metrics = on,
        }
        Ok(())
    }

    /// Makes a subnet. Whether its network fits is the plan's to say.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] without the VPC.
    pub fn create_subnet(
        &mut self,
        vpc: &VpcId,
        cidr: IpNet,
        zone: Option<Zone>,
        tags: Tags,
    ) -> Result<SubnetId, EditError> {
        let taken: BTreeSet<SubnetId> =
            self.inventory.vpcs.values().flat_map(|record| record.vpc.subnets.keys().cloned()).collect();
        let record = self.vpc_mut(vpc)?;
        let id: SubnetId = new_id("subnet-", |id| taken.contains(id));
        let zone = match zone {
            Some(zone) => zone,
            None => record.vpc.region.zones().next().expect("every region has a zone"),
        };
        record.vpc.subnets.insert(id.clone(), Subnet { id: id.clone(), zone, cidr });
        check_limit(Kind::Subnet, record.vpc.subnets.len(), MOST_SUBNETS)?;
        self.tag(id.as_str(), tags)?;
        Ok(id)
    }

    /// Changes attributes of a subnet.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn change_subnet(
        &mut self,
        id: &SubnetId,
        change: impl FnOnce(&mut SubnetAttributes),
    ) -> Result<(), EditError> {
        let record = self.inventory.vpcs.values_mut().find(|record| record.vpc.subnets.contains_key(id));
        let record = record.ok_or_else(|| EditError::Missing { what: Kind::Subnet, id: id.to_string() })?;
        change(record.subnet_attributes.entry(id.clone()).or_default());
        Ok(())
    }

    /// Removes a subnet.
    ///
    /// # Errors
    ///
    /// [`EditError::InUse`] while an endpoint has an address in it.
    pub fn delete_subnet(&mut self, id: &SubnetId) -> Result<(), EditError> {
        let user = self.inventory.endpoints.values().find(|e| e.endpoint.addresses.iter().any(|a| a.subnet == *id));
        if let Some(user) = user {
            let by = user.endpoint.id.to_string();
            return Err(EditError::InUse { what: Kind::Subnet, id: id.to_string(), by });
        }
        let record = self.inventory.vpcs.values_mut().find(|record| record.vpc.subnets.contains_key(id));
        let missing = || EditError::Missing { what: Kind::Subnet, id: id.to_string() };
        let record = record.ok_or_else(missing)?;
        record.vpc.subnets.remove(id);
        record.subnet_attributes.remove(id);
        record.tags.remove(id.as_str());
        Ok(())
    }

    /// Makes a security group that lets nothing in and everything out, as AWS does.
    ///
    /// # Errors
    ///
    /// [`EditError::Exists`] for a name that the VPC has already.
    pub fn create_group(
        &mut self,
        vpc: &VpcId,
        name: String,
        description: String,
        tags: Tags,
    ) -> Result<SecurityGroupId, EditError> {
        let taken: BTreeSet<SecurityGroupId> =
            self.inventory.vpcs.values().flat_map(|record| record.vpc.security_groups.keys().cloned()).collect();
        let region = self.vpc_mut(vpc)?.vpc.region.clone();
        let in_region = self.inventory.vpcs.values().filter(|record| record.vpc.region == region);
        let in_region = in_region.map(|record| record.vpc.security_groups.len()).sum::<usize>();
        check_limit(Kind::SecurityGroup, in_region + 1, MOST_GROUPS)?;
        let record = self.vpc_mut(vpc)?;
        if record.vpc.security_groups.values().any(|group| group.name.eq_ignore_ascii_case(&name)) {
            return Err(EditError::Exists { what: Kind::SecurityGroup, id: name });
        }
        let id: SecurityGroupId = new_id("sg-", |id| taken.contains(id));
        let mut everywhere = vec![IpNet::from(Ipv4Net::default())];
        if record.vpc.cidrs.iter().any(|net| net.addr().is_ipv6()) {
            everywhere.push(Ipv6Net::default().into());
        }
        let group = SecurityGroup {
            id: id.clone(),
            name,
            ingress: Vec::new(),
            egress: Vec::new(),
            members: CidrSet::default(),
        };
        record.vpc.security_groups.insert(id.clone(), group);
        record.descriptions.insert(id.clone(), description);
        let everything = everywhere.into_iter().map(|net| NewRule {
            terms: RuleTerms { protocol: Protocol::All, ports: None, peer: RulePeer::Network(net) },
            description: None,
        });
        self.authorize(&id, Direction::Egress, everything.collect(), &Tags::new())?;
        self.tag(id.as_str(), tags)?;
        Ok(id)
    }

    /// Removes a security group.
    ///
    /// # Errors
    ///
    /// [`EditError::InUse`] while an endpoint carries it or a rule names it; [`EditError::Invalid`] for `default`.
    pub fn delete_group(&mut self, id: &SecurityGroupId) -> Result<(), EditError> {
        let carrier = self.inventory.endpoints.values().find(|e| e.endpoint.security_groups.contains(id));
        let carrier = carrier.map(|e| e.endpoint.id.to_string());
        let record = self.group_home(id)?;
        let peer = RulePeer::Group(id.clone());
        let named =
            record.rules.iter().find(|(group, rules)| *group != id && rules.iter().any(|r| r.terms.peer == peer));
        if let Some(by) = carrier.or_else(|| named.map(|(group, _)| group.to_string())) {
            return Err(EditError::InUse { what: Kind::SecurityGroup, id: id.to_string(), by });
        }
        if record.vpc.security_groups.get(id).is_some_and(|group| group.name == "default") {
            return Err(EditError::DefaultGroup(id.to_string()));
        }
        record.vpc.security_groups.remove(id);
        record.descriptions.remove(id);
        record.tags.remove(id.as_str());
        for rule in record.rules.remove(id).unwrap_or_default() {
            record.tags.remove(rule.id.as_str());
        }
        Ok(())
    }

    fn group_home(&mut self, id: &SecurityGroupId) -> Result<&mut VpcRecord, EditError> {
        let record = self.inventory.vpcs.values_mut().find(|record| record.vpc.security_groups.contains_key(id));
        record.ok_or_else(|| EditError::Missing { what: Kind::SecurityGroup, id: id.to_string() })
    }

    fn rules_mut(&mut self, id: &SecurityGroupId) -> Result<&mut Vec<RuleRecord>, EditError> {
        Ok(self.group_home(id)?.rules.entry(id.clone()).or_default())
    }

    /// Adds rules to a security group, each with these tags.
    ///
    /// # Errors
    ///
    /// [`EditError::Exists`] for a rule that it has, [`EditError::Limit`] for one too many.
    pub fn authorize(
        &mut self,
        group: &SecurityGroupId,
        direction: Direction,
        rules: Vec<NewRule>,
        tags: &Tags,
    ) -> Result<Vec<RuleRecord>, EditError> {
        let taken: BTreeSet<SecurityRuleId> = self
            .inventory
            .vpcs
            .values()
            .flat_map(|vpc| vpc.rules.values().flatten())
            .map(|rule| rule.id.clone())
            .collect();
        let own = self.rules_mut(group)?;
        let mut added = Vec::new();
        for rule in rules {
            let NewRule { terms, description } = rule;
            if own.iter().any(|known| known.direction == direction && known.terms == terms) {
                return Err(EditError::Exists { what: Kind::SecurityRule, id: terms.to_string() });
            }
            let id = new_id("sgr-", |id| taken.contains(id));
            let record = RuleRecord { id, direction, terms, description };
            own.push(record.clone());
            added.push(record);
        }
        check_rule_limit(own)?;
        for rule in &added {
            self.tag(rule.id.as_str(), tags.clone())?;
        }
        Ok(added)
    }

    /// Takes rules from a security group.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for a rule that it doesn't have; then none is taken.
    pub fn revoke(
        &mut self,
        group: &SecurityGroupId,
        direction: Direction,
        terms: &[RuleTerms],
        ids: &[SecurityRuleId],
    ) -> Result<Vec<RuleRecord>, EditError> {
        let own = self.rules_mut(group)?;
        let mut revoked = Vec::new();
        for terms in terms {
            let at = own.iter().position(|known| known.direction == direction && known.terms == *terms);
            let missing = || EditError::Missing { what: Kind::SecurityRule, id: terms.to_string() };
            revoked.push(own.remove(at.ok_or_else(missing)?));
        }
        for id in ids {
            let at = own.iter().position(|known| known.direction == direction && known.id == *id);
            let missing = || EditError::Missing { what: Kind::SecurityRuleId, id: id.to_string() };
            revoked.push(own.remove(at.ok_or_else(missing)?));
        }
        let home = self.group_home(group)?;
        for rule in &revoked {
            home.tags.remove(rule.id.as_str());
        }
        Ok(revoked)
    }

    /// Gives rules of a security group other terms and descriptions; their ids stay.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for an id that none of its rules has, [`EditError::Exists`] when two rules would say the same.
    pub fn change_rules(
        &mut self,
        group: &SecurityGroupId,
        changes: Vec<(SecurityRuleId, NewRule)>,
    ) -> Result<(), EditError> {
        let own = self.rules_mut(group)?;
        for (id, rule) in changes {
            let missing = || EditError::Missing { what: Kind::SecurityRuleId, id: id.to_string() };
            let at = own.iter().position(|known| known.id == id).ok_or_else(missing)?;
            let direction = own[at].direction;
            let is_other =
                |known: &RuleRecord| known.id != id && known.direction == direction && known.terms == rule.terms;
            if own.iter().any(is_other) {
                return Err(EditError::Exists { what: Kind::SecurityRule, id: rule.terms.to_string() });
            }
            (own[at].terms, own[at].description) = (rule.terms, rule.description);
        }
        check_rule_limit(own)
    }

    /// Gives rules other descriptions.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for a rule that the group doesn't have.
    pub fn describe_rules(
        &mut self,
        group: &SecurityGroupId,
        direction: Direction,
        rules: Vec<NewRule>,
        by_id: Vec<(SecurityRuleId, Option<String>)>,
    ) -> Result<(), EditError> {
        let own = self.rules_mut(group)?;
        for NewRule { terms, description } in rules {
            let known = own.iter_mut().find(|known| known.direction == direction && known.terms == terms);
            let missing = || EditError::Missing { what: Kind::SecurityRule, id: terms.to_string() };
            known.ok_or_else(missing)?.description = description;
        }
        for (id, description) in by_id {
            let known = own.iter_mut().find(|known| known.direction == direction && known.id == id);
            let missing = || EditError::Missing { what: Kind::SecurityRuleId, id: id.to_string() };
            known.ok_or_else(missing)?.description = description;
        }
        Ok(())
    }

    fn tags_mut(&mut self, id: &str) -> Result<&mut Tags, EditError> {
        let inventory = &mut self.inventory;
        if let Some(record) = id.parse::<VpceId>().ok().and_then(|id| inventory.endpoints.get_mut(&id)) {
            return Ok(&mut record.tags);
        }
        let home = inventory.vpcs.values_mut().find(|record| record.has_resource(id));
        let home = home.ok_or_else(|| EditError::Missing { what: Kind::of_id(id), id: id.to_owned() })?;
        Ok(home.tags.entry(id.to_owned()).or_default())
    }

    /// Sets tags of a resource.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for an id that nothing has, [`EditError::Limit`] for too many.
    pub fn tag(&mut self, id: &str, set: Tags) -> Result<(), EditError> {
        if set.is_empty() {
            return Ok(());
        }
        let tags = self.tags_mut(id)?;
        tags.extend(set);
        check_limit(Kind::Tag, tags.len(), MOST_TAGS)
    }

    /// Removes tags of a resource: those with these keys and, where one is given, this value; all without any key.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for an id that nothing has.
    pub fn untag(&mut self, id: &str, tags: &[(String, Option<String>)]) -> Result<(), EditError> {
        let is_named = |key: &String, value: &String| {
            tags.is_empty() || tags.iter().any(|(k, v)| k == key && v.as_ref().is_none_or(|wanted| wanted == value))
        };
        self.tags_mut(id)?.retain(|key, value| !is_named(key, value));
        Ok(())
    }

    /// Makes an interface endpoint; `false` when the token says that it was made before.
    ///
    /// # Errors
    ///
    /// [`EditError`] for what does not exist and for a token that was used otherwise.
    pub fn create_endpoint(&mut self, new: NewEndpoint) -> Result<(VpceId, bool), EditError> {
        if let Some((token, print)) = &new.token {
            let earlier = self.inventory.endpoints.values().find_map(|record| {
                record.token.as_ref().filter(|(known, _)| known == token).map(|(_, print)| (&record.endpoint.id, print))
            });
            match earlier {
                Some((id, known)) if known == print => return Ok((id.clone(), false)),
                Some(_) => return Err(EditError::TokenReused(token.clone())),
                None => {}
            }
        }
        let mut groups = new.groups;
        check_limit(Kind::InterfaceGroup, groups.len(), MOST_INTERFACE_GROUPS)?;
        let in_vpc = self.inventory.endpoints.values().map(|record| &record.endpoint);
        let in_vpc = in_vpc.filter(|e| e.vpc == new.vpc && e.state != EndpointState::Deleted).count();
        check_limit(Kind::Endpoint, in_vpc + 1, MOST_ENDPOINTS)?;
        let vpc = &self.vpc_mut(&new.vpc)?.vpc;
        if groups.is_empty() {
            groups.extend(vpc.security_groups.values().find(|group| group.name == "default").map(|g| g.id.clone()));
        }
        let id: VpceId = new_id("vpce-", |id| {
            self.inventory.endpoints.contains_key(id) || self.inventory.registrations.keys().any(|key| key.1 == *id)
        });
        let endpoint = InterfaceEndpoint {
            id: id.clone(),
            vpc: new.vpc.clone(),
            service: new.service,
            dns_suffix: random(8, b"abcdefghijklmnopqrstuvwxyz0123456789"),
            addresses: Vec::new(),
            security_groups: groups,
            state: EndpointState::PendingAcceptance,
            registered: false,
        };
        if !self.inventory.leads_somewhere(&endpoint) {
            return Err(RuleError::NoSuchService(endpoint.service).into());
        }
        let region = self.vpc_mut(&new.vpc)?.vpc.region.clone();
        if !self.inventory.supports(endpoint.service.service(), &region) {
            return Err(RuleError::UnsupportedRegion { vpc: region, service: endpoint.service }.into());
        }
        if new.private_dns {
            self.check_private_dns(&endpoint)?;
        }
        let record = EndpointRecord {
            endpoint,
            created: Some(self.now),
            since: self.now,
            accepted: false,
            tags: new.tags,
            policy: new.policy,
            private_dns: new.private_dns,
            token: new.token,
            error: None,
        };
        self.inventory.endpoints.insert(id.clone(), record);
        for (subnet, wish) in &new.subnets {
            self.give_address(&id, subnet, *wish)?;
        }
        Ok((id, true))
    }

    /// Atlas' services have no private DNS name; App Services' need both DNS attributes of the VPC.
    fn check_private_dns(&self, endpoint: &InterfaceEndpoint) -> Result<(), EditError> {
        let service = &endpoint.service;
        if !self.inventory.fixed.app_services.iter().any(|known| known.id == *service.service()) {
            return Err(EditError::Conflict(format!(
                "Private DNS can't be enabled because the service {service} does not provide a private DNS name."
            )));
        }
        if self.inventory.vpcs.get(&endpoint.vpc).is_some_and(|record| !record.vpc.private_zones_work()) {
            return Err(EditError::Conflict(
                "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true."
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Gives an endpoint an address in a subnet of its VPC.
    fn give_address(&mut self, id: &VpceId, subnet: &SubnetId, wish: Option<IpAddr>) -> Result<(), EditError> {
        let vpc = self.endpoint(id)?.endpoint.vpc.clone();
        let missing = || EditError::Missing { what: Kind::Subnet, id: subnet.to_string() };
        let details = self.vpc_mut(&vpc)?.vpc.subnets.get(subnet).cloned().ok_or_else(missing)?;
        let service = self.endpoint(id)?.endpoint.service.clone();
        // Zones of two regions need not match.
        let is_supported = if details.zone.region() == *service.region() {
            self.inventory.service_zones(service.service()).contains(&details.zone)
        } else {
            details.zone.has_cross_region_access()
        };
        if !is_supported {
            return Err(EditError::UnsupportedZone { service: service.to_string(), subnet: subnet.to_string() });
        }
        let ip = match wish {
            Some(ip) if is_reserved(details.cidr, ip) => return Err(EditError::ReservedAddress(ip)),
            Some(ip) => ip,
            None => self.free_address(&details).ok_or_else(|| EditError::SubnetFull(subnet.to_string()))?,
        };
        let eni = new_id("eni-", |eni| {
            self.inventory.endpoints.values().flat_map(|e| &e.endpoint.addresses).any(|address| address.eni == *eni)
        });
        let address = EndpointAddress { eni, subnet: subnet.clone(), zone: details.zone, ip };
        self.endpoint_mut(id)?.endpoint.addresses.push(address);
        Ok(())
    }

    /// The lowest address of a subnet that AWS doesn't keep and nobody has.
    fn free_address(&self, subnet: &Subnet) -> Option<IpAddr> {
        let IpNet::V4(net) = subnet.cidr else { return None };
        let nodes = self.inventory.clusters.values().flat_map(|record| &record.cluster.nodes);
        let mut taken: BTreeSet<IpAddr> = self
            .inventory
            .endpoints
            .values()
            .filter(|e| e.endpoint.state != EndpointState::Deleted)
            .flat_map(|e| e.endpoint.addresses.iter().map(|address| address.ip))
            .collect();
        taken.extend(
            nodes
                .flat_map(|node| node.address.fixed().into_iter().chain(node.public_address))
                .map(|a: SocketAddr| a.ip()),
        );
        taken.extend(self.inventory.apps.values().map(|app| app.public_address.ip()));
        hosts(net).map(IpAddr::V4).find(|ip| !taken.contains(ip))
    }

    fn endpoint(&self, id: &VpceId) -> Result<&EndpointRecord, EditError> {
        let record = self.inventory.endpoints.get(id).filter(|e| e.endpoint.state != EndpointState::Deleted);
        record.ok_or_else(|| EditError::Missing { what: Kind::Endpoint, id: id.to_string() })
    }

    fn endpoint_mut(&mut self, id: &VpceId) -> Result<&mut EndpointRecord, EditError> {
        let record = self.inventory.endpoints.get_mut(id).filter(|e| e.endpoint.state != EndpointState::Deleted);
        record.ok_or_else(|| EditError::Missing { what: Kind::Endpoint, id: id.to_string() })
    }

    /// Changes an interface endpoint. One that failed for want of a subnet tries again with its first.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for what it doesn't have.
    pub fn change_endpoint(&mut self, id: &VpceId, change: EndpointChange) -> Result<(), EditError> {
        for subnet in &change.remove_subnets {
            let addresses = &mut self.endpoint_mut(id)?.endpoint.addresses;
            let before = addresses.len();
            addresses.retain(|address| address.subnet != *subnet);
            if addresses.len() == before {
                return Err(EditError::Missing { what: Kind::Subnet, id: subnet.to_string() });
            }
        }
        for (subnet, wish) in &change.add_subnets {
            let addresses = &self.endpoint(id)?.endpoint.addresses;
            match (addresses.iter().position(|address| address.subnet == *subnet), wish) {
                (None, wish) => self.give_address(id, subnet, *wish)?,
                (Some(at), Some(ip)) if addresses[at].ip != *ip => {
                    self.endpoint_mut(id)?.endpoint.addresses.remove(at);
                    self.give_address(id, subnet, Some(*ip))?;
                }
                (Some(_), _) => {}
            }
        }
        if change.private_dns == Some(true) {
            let endpoint = self.endpoint(id)?.endpoint.clone();
            self.check_private_dns(&endpoint)?;
        }
        let now = self.now;
        let record = self.endpoint_mut(id)?;
        record.private_dns = change.private_dns.unwrap_or(record.private_dns);
        let groups = &mut record.endpoint.security_groups;
        for group in &change.remove_groups {
            if !groups.contains(group) {
                return Err(EditError::Missing { what: Kind::SecurityGroup, id: group.to_string() });
            }
            groups.retain(|own| own != group);
        }
        for group in change.add_groups {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        check_limit(Kind::InterfaceGroup, groups.len(), MOST_INTERFACE_GROUPS)?;
        if groups.is_empty() {
            return Err(EditError::Invalid("an interface endpoint needs a security group".to_owned()));
        }
        if let Some(policy) = change.policy {
            record.policy = policy;
        }
        if record.endpoint.state == EndpointState::Failed && !change.add_subnets.is_empty() {
            record.endpoint.state = EndpointState::PendingAcceptance;
            (record.since, record.error) = (now, None);
        }
        Ok(())
    }

    /// Begins to remove an interface endpoint: it admits nothing from now on.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`].
    pub fn delete_endpoint(&mut self, id: &VpceId) -> Result<(), EditError> {
        let now = self.now;
        let record = self.endpoint_mut(id)?;
        if record.endpoint.state != EndpointState::Deleting {
            (record.endpoint.state, record.since) = (EndpointState::Deleting, now);
        }
        Ok(())
    }

    /// Lets an endpoint in, as the service's owner: a project's service has it as a private endpoint from now on.
    ///
    /// # Errors
    ///
    /// [`EditError::WrongState`] unless it waits for that.
    pub fn accept_endpoint(&mut self, id: &VpceId) -> Result<(), EditError> {
        let now = self.now;
        let record = self.endpoint_mut(id)?;
        match record.endpoint.state {
            EndpointState::PendingAcceptance => {
                record.endpoint.state = EndpointState::Pending;
                (record.since, record.accepted) = (now, true);
                let service = record.endpoint.service.service().clone();
                if self.inventory.services.contains_key(&service) {
                    let registration = Registration { since: now, deleting: false, error: None };
                    self.inventory.registrations.entry(Pair(service, id.clone())).or_insert(registration);
                }
                Ok(())
            }
            EndpointState::Pending | EndpointState::Available => Ok(()),
            state => Err(EditError::WrongState {
                what: Kind::Endpoint,
                id: id.to_string(),
                state: state.label().to_owned(),
                wanted: "pendingAcceptance",
            }),
        }
    }

    /// Keeps an endpoint out, as the service's owner.
    ///
    /// # Errors
    ///
    /// [`EditError::WrongState`] when it is on its way out already.
    pub fn reject_endpoint(&mut self, id: &VpceId) -> Result<(), EditError> {
        let now = self.now;
        let record = self.endpoint_mut(id)?;
        match record.endpoint.state {
            EndpointState::PendingAcceptance | EndpointState::Pending | EndpointState::Available => {
                record.endpoint.state = EndpointState::Rejected;
                (record.since, record.accepted) = (now, false);
                record.error = Some("the owner of the endpoint service rejected the connection".to_owned());
                Ok(())
            }
            EndpointState::Rejected => Ok(()),
            state => Err(EditError::WrongState {
                what: Kind::Endpoint,
                id: id.to_string(),
                state: state.label().to_owned(),
                wanted: "pendingAcceptance or available",
            }),
        }
    }
}

/// Whether AWS keeps this address of a subnet for itself.
fn is_reserved(net: IpNet, ip: IpAddr) -> bool {
    let (IpNet::V4(net), IpAddr::V4(ip)) = (net, ip) else { return false };
    net.contains(&ip) && !hosts(net).any(|host| host == ip)
}

/// The usable addresses of a subnet.
pub(super) fn hosts(net: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
    (first.saturating_add(RESERVED.0)..=last.saturating_sub(RESERVED.1)).map(Ipv4Addr::from)
}

/// # Errors
///
/// [`EditError::Limit`] where `count` is more than `most`.
fn check_limit(what: Kind, count: usize, most: usize) -> Result<(), EditError> {
    if count > most { Err(EditError::Limit { what, most }) } else { Ok(()) }
}

/// IPv4 and IPv6 rules have a limit each; groups and prefix lists count as both.
fn check_rule_limit(rules: &[RuleRecord]) -> Result<(), EditError> {
    let count = |direction, is_v4: bool| {
        let counts = |rule: &&RuleRecord| {
            rule.direction == direction
                && match &rule.terms.peer {
                    RulePeer::Network(net) => net.addr().is_ipv4() == is_v4,
                    RulePeer::Group(_) | RulePeer::PrefixList(_) => true,
                }
        };
        rules.iter().filter(counts).count()
    };
    let sides = [Direction::Ingress, Direction::Egress];
    if sides.into_iter().any(|side| count(side, true) > MOST_RULES || count(side, false) > MOST_RULES) {
        return Err(EditError::Limit { what: Kind::SecurityRule, most: MOST_RULES });
    }
    Ok(())
}
