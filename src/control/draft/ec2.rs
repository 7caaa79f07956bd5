//! The consumer's side: VPCs, subnets, security groups, interface endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::inventory::{
    EndpointRecord, Pair, Protocol, Registration, RulePeer, RuleRecord, RuleTerms, SubnetAttributes, Tags, VpcRecord,
    ipv6_association_of,
};
use super::{Draft, EditError, ResourceKind, new_id, random, random_hex};
use crate::model::{
    CidrSet, Direction, DnsRecordIpType, EndpointAddress, EndpointState, InterfaceEndpoint, IpAddressType, IpFamily,
    Region, SecurityGroup, SecurityGroupId, SecurityRuleId, ServiceName, Subnet, SubnetId, Vpc, VpcId, VpceId, Zone,
    is_reserved,
};
use crate::plan::RuleError;

/// Number of addresses at the start and at the end of a subnet that AWS reserves.
const RESERVED: (u32, u32) = (4, 1);

/// Maximum number of rules of a security group, for each direction, and separately for IPv4 and IPv6. Source: AWS,
/// *Amazon VPC quotas*.
const MAX_RULES: usize = 60;

/// Maximum number of VPCs and security groups per Region, of subnets and interface endpoints per VPC, and of groups per
/// network interface. Objects of a config count, but are not limited. Source: AWS, *Amazon VPC quotas* and *AWS
/// PrivateLink quotas*, the defaults.
const MAX_VPCS: usize = 5;
const MAX_GROUPS: usize = 2500;
const MAX_SUBNETS: usize = 200;
const MAX_ENDPOINTS: usize = 50;
const MAX_INTERFACE_GROUPS: usize = 5;

/// Maximum number of IPv6 networks of a VPC. Source: AWS, *Amazon VPC quotas*.
const MAX_IPV6_NETWORKS: usize = 5;

/// The pool from which VPCs get a /56, as from Amazon's pool. Amazon's addresses are reachable from the internet; these
/// are for documentation (RFC 3849) and not routed.
const IPV6_POOL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32);

/// How many randomly chosen networks of the pool are tried.
const IPV6_ATTEMPTS: usize = 64;

/// Maximum number of tags of a resource. Source: AWS, *Tag restrictions*.
const MAX_TAGS: usize = 50;

/// Parameters of a new interface endpoint.
#[derive(Debug, Clone)]
pub struct NewInterfaceEndpoint {
    /// Its VPC.
    pub vpc: VpcId,
    /// The service to connect to.
    pub service: ServiceName,
    /// The subnets, one interface in each, with requested addresses.
    pub subnets: Vec<(SubnetId, Vec<IpAddr>)>,
    /// The address families.
    pub ip_address_type: IpAddressType,
    /// The records of its names; `None`: those of its addresses.
    pub dns_record_ip_type: Option<DnsRecordIpType>,
    /// The security groups of its interfaces; none: the VPC's `default`.
    pub groups: Vec<SecurityGroupId>,
    /// Its tags.
    pub tags: Tags,
    /// Its policy document.
    pub policy: Option<String>,
    /// Whether private DNS names are enabled.
    pub private_dns: bool,
    /// The client token, and the request's fingerprint.
    pub token: Option<(String, String)>,
}

/// Changes of an interface endpoint.
#[derive(Debug, Clone, Default)]
pub struct EndpointChange {
    /// Subnets to add, with requested addresses.
    pub add_subnets: Vec<(SubnetId, Vec<IpAddr>)>,
    /// The address families.
    pub ip_address_type: Option<IpAddressType>,
    /// The records of its names; `None`: unchanged, or those of its addresses if these change.
    pub dns_record_ip_type: Option<DnsRecordIpType>,
    /// Subnets to remove.
    pub remove_subnets: Vec<SubnetId>,
    /// Groups to add.
    pub add_groups: Vec<SecurityGroupId>,
    /// Groups to remove.
    pub remove_groups: Vec<SecurityGroupId>,
    /// The new policy document; `Some(None)`: the default, which allows everything.
    pub policy: Option<Option<String>>,
    /// Whether private DNS names are enabled.
    pub private_dns: Option<bool>,
}

/// A change of a VPC.
#[derive(Debug, Clone, Copy)]
pub enum VpcChange {
    /// `enableDnsSupport`: whether its resolver answers.
    DnsSupport(bool),
    /// `enableDnsHostnames`: whether private hosted zones work, together with DNS support.
    DnsHostnames(bool),
    /// `enableNetworkAddressUsageMetrics`.
    UsageMetrics(bool),
}

/// A new rule of a security group.
#[derive(Debug, Clone)]
pub struct NewRule {
    /// Its content.
    pub terms: RuleTerms,
    /// Its description.
    pub description: Option<String>,
}

impl Draft {
    fn vpc_mut(&mut self, id: &VpcId) -> Result<&mut VpcRecord, EditError> {
        self.inventory.vpcs.get_mut(id).ok_or_else(|| ResourceKind::Vpc.missing(id))
    }

    /// Creates a VPC with a `default` group that admits its own members and allows all egress, and optionally with an
    /// IPv6 network. The plan checks its network.
    ///
    /// # Errors
    ///
    /// [`EditError::Limit`] for too many VPCs or tags.
    pub fn create_vpc(&mut self, region: Region, cidr: IpNet, with_ipv6: bool, tags: Tags) -> Result<VpcId, EditError> {
        let id: VpcId = new_id("vpc-", |id| self.inventory.vpcs.contains_key(id));
        let ipv6 = with_ipv6.then(|| self.free_ipv6_network()).transpose()?.map(IpNet::from);
        let vpc = Vpc {
            id: id.clone(),
            region,
            cidrs: std::iter::once(cidr).chain(ipv6).collect(),
            peered: CidrSet::default(),
            on_premises: CidrSet::default(),
            enable_dns_support: true,
            enable_dns_hostnames: false,
            subnets: BTreeMap::new(),
            security_groups: BTreeMap::new(),
        };
        let in_region = self.inventory.vpcs.values().filter(|record| record.vpc.region == vpc.region).count();
        check_limit(ResourceKind::Vpc, in_region + 1, MAX_VPCS)?;
        self.inventory.vpcs.insert(id.clone(), VpcRecord::new(vpc));
        self.tag(id.as_str(), tags)?;
        let group =
            self.create_group(&id, "default".to_owned(), "default VPC security group".to_owned(), Tags::new())?;
        let terms = RuleTerms { protocol: Protocol::All, ports: None, peer: RulePeer::Group(group.clone()) };
        self.authorize(&group, Direction::Ingress, vec![NewRule { terms, description: None }], &Tags::new())?;
        Ok(id)
    }

    /// A /56 that overlaps no existing network.
    ///
    /// # Errors
    ///
    /// [`EditError::Conflict`] when none was found, possibly because the pool is exhausted.
    fn free_ipv6_network(&self) -> Result<Ipv6Net, EditError> {
        let vpcs = self.inventory.vpcs.values().map(|record| &record.vpc).chain(self.inventory.fixed.networks.values());
        let nets = vpcs.flat_map(|vpc| [&vpc.cidrs, &vpc.peered, &vpc.on_premises]).flat_map(CidrSet::iter);
        let taken: CidrSet = nets.chain(self.inventory.service_networks().iter()).copied().collect();
        for _ in 0..IPV6_ATTEMPTS {
            let digits = u128::from_str_radix(&random_hex(6), 16).expect("hex digits are a number");
            let bits = IPV6_POOL.network().to_bits() | digits << 72;
            let net = Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), 56);
            if taken.overlap(&std::iter::once(IpNet::from(net)).collect()).is_none() {
                return Ok(net);
            }
        }
        Err(EditError::Conflict(format!("there is no free /56 in {IPV6_POOL}: networks of the inventory overlap it")))
    }

    /// Adds an IPv6 network to a VPC. Groups with unrestricted IPv4 egress, as new ones have, get the same for IPv6.
    /// Source: AWS, *Add IPv6 support for your VPC*, security group rules.
    ///
    /// # Errors
    ///
    /// [`EditError::Limit`] for too many.
    pub fn associate_vpc_network(&mut self, id: &VpcId) -> Result<Ipv6Net, EditError> {
        let net = self.free_ipv6_network()?;
        let record = self.vpc_mut(id)?;
        record.vpc.cidrs = record.vpc.cidrs.iter().copied().chain([net.into()]).collect();
        check_limit(ResourceKind::VpcNetwork, record.ipv6_associations().len(), MAX_IPV6_NETWORKS)?;
        let out = |net: IpNet| RuleTerms { protocol: Protocol::All, ports: None, peer: RulePeer::Network(net) };
        let is_new = |group: &&SecurityGroupId| {
            let mut egress = record.rules_of(group).iter().filter(|rule| rule.direction == Direction::Egress);
            egress.next().is_some_and(|rule| rule.terms == out(Ipv4Net::default().into())) && egress.next().is_none()
        };
        let groups: Vec<SecurityGroupId> = record.vpc.security_groups.keys().filter(is_new).cloned().collect();
        for group in groups {
            let rule = NewRule { terms: out(Ipv6Net::default().into()), description: None };
            self.authorize(&group, Direction::Egress, vec![rule], &Tags::new())?;
        }
        Ok(net)
    }

    /// Removes an IPv6 network from its VPC, by its association's id.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for an unknown id; [`EditError::InUse`] while a subnet has a network in it.
    pub fn disassociate_vpc_network(&mut self, association: &str) -> Result<(VpcId, Ipv6Net), EditError> {
        let mut records = self.inventory.vpcs.values_mut();
        let found = records.find_map(|record| {
            let own = record.ipv6_associations().into_iter().find(|(id, _)| id == association);
            own.map(|(_, net)| (record, net))
        });
        let (record, net) = found.ok_or_else(|| ResourceKind::VpcNetwork.missing(association))?;
        let is_in = |subnet: &&Subnet| subnet.cidrs().any(|cidr| IpNet::V6(net).contains(&cidr));
        if let Some(subnet) = record.vpc.subnets.values().find(is_in) {
            return Err(ResourceKind::VpcNetwork.in_use(association, &subnet.id));
        }
        record.vpc.cidrs = record.vpc.cidrs.iter().copied().filter(|own| *own != IpNet::V6(net)).collect();
        Ok((record.vpc.id.clone(), net))
    }

    /// Removes a VPC.
    ///
    /// # Errors
    ///
    /// [`EditError::InUse`] while it has subnets, groups other than the default, or endpoints.
    pub fn delete_vpc(&mut self, id: &VpcId) -> Result<(), EditError> {
        let record = self.vpc_mut(id)?;
        let subnet = record.vpc.subnets.keys().next().map(ToString::to_string);
        let group = record.vpc.security_groups.values().find(|g| g.name != "default").map(|g| g.id.to_string());
        let endpoint = self.inventory.endpoints.values().find(|e| e.endpoint.vpc == *id);
        if let Some(by) = subnet.or(group).or_else(|| endpoint.map(|e| e.endpoint.id.to_string())) {
            return Err(ResourceKind::Vpc.in_use(id, by));
        }
        self.inventory.vpcs.remove(id);
        Ok(())
    }

    /// Changes an attribute of a VPC.
    ///
    /// # Errors
    ///
    /// [`EditError::Invalid`] for DNS host names without DNS support.
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

    /// Creates a subnet. The plan checks its networks.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for an unknown VPC.
    pub fn create_subnet(
        &mut self,
        vpc: &VpcId,
        cidr: IpNet,
        ipv6_cidr: Option<Ipv6Net>,
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
        record.vpc.subnets.insert(id.clone(), Subnet { id: id.clone(), zone, cidr, ipv6_cidr });
        check_limit(ResourceKind::Subnet, record.vpc.subnets.len(), MAX_SUBNETS)?;
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
        let record = record.ok_or_else(|| ResourceKind::Subnet.missing(id))?;
        change(record.subnet_attributes.entry(id.clone()).or_default());
        Ok(())
    }

    /// Adds an IPv6 network to a subnet. The plan checks it.
    ///
    /// # Errors
    ///
    /// [`EditError::Conflict`] if the subnet already has one.
    pub fn associate_subnet_network(&mut self, id: &SubnetId, net: Ipv6Net) -> Result<(), EditError> {
        let subnet = self.inventory.vpcs.values_mut().find_map(|record| record.vpc.subnets.get_mut(id));
        let subnet = subnet.ok_or_else(|| ResourceKind::Subnet.missing(id))?;
        if let Some(own) = subnet.cidr_of(IpFamily::Ipv6) {
            return Err(EditError::Conflict(format!("subnet {id} has the IPv6 CIDR block {own}; it can have one")));
        }
        subnet.ipv6_cidr = Some(net);
        Ok(())
    }

    /// Removes the IPv6 network of a subnet, by its association's id.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for an unknown id; [`EditError::InUse`] while an endpoint has an address in it;
    /// [`EditError::Conflict`] for an IPv6-only subnet.
    pub fn disassociate_subnet_network(&mut self, association: &str) -> Result<(SubnetId, Ipv6Net), EditError> {
        let subnets = self.inventory.vpcs.values().flat_map(|record| record.vpc.subnets.values());
        let mut found = subnets.filter_map(|subnet| Some((subnet.id.clone(), ipv6_association_of(subnet)?)));
        let found = found.find_map(|(subnet, (id, net))| (id == association).then_some((subnet, net)));
        let (id, net) = found.ok_or_else(|| ResourceKind::SubnetNetwork.missing(association))?;
        let uses = |address: &EndpointAddress| address.subnet == id && address.ip.is_ipv6();
        let user = self.inventory.endpoints.values().find(|record| record.endpoint.addresses.iter().any(uses));
        if let Some(user) = user {
            return Err(ResourceKind::SubnetNetwork.in_use(association, &user.endpoint.id));
        }
        for record in self.inventory.vpcs.values_mut() {
            let Some(subnet) = record.vpc.subnets.get_mut(&id) else { continue };
            if subnet.ipv6_cidr.take().is_none() {
                return Err(EditError::Conflict(format!("subnet {id} is IPv6-only and keeps its IPv6 CIDR block")));
            }
            if let Some(attributes) = record.subnet_attributes.get_mut(&id) {
                attributes.assign_ipv6_address_on_creation = false;
            }
        }
        Ok((id, net))
    }

    /// Removes a subnet.
    ///
    /// # Errors
    ///
    /// [`EditError::InUse`] while an endpoint has an address in it.
    pub fn delete_subnet(&mut self, id: &SubnetId) -> Result<(), EditError> {
        let user = self.inventory.endpoints.values().find(|e| e.endpoint.addresses.iter().any(|a| a.subnet == *id));
        if let Some(user) = user {
            return Err(ResourceKind::Subnet.in_use(id, &user.endpoint.id));
        }
        let record = self.inventory.vpcs.values_mut().find(|record| record.vpc.subnets.contains_key(id));
        let record = record.ok_or_else(|| ResourceKind::Subnet.missing(id))?;
        record.vpc.subnets.remove(id);
        record.subnet_attributes.remove(id);
        record.tags.remove(id.as_str());
        Ok(())
    }

    /// Creates a security group without ingress rules and with unrestricted egress, as AWS does.
    ///
    /// # Errors
    ///
    /// [`EditError::Exists`] for a name that is in use in the VPC.
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
        check_limit(ResourceKind::SecurityGroup, in_region + 1, MAX_GROUPS)?;
        let record = self.vpc_mut(vpc)?;
        if record.vpc.security_groups.values().any(|group| group.name.eq_ignore_ascii_case(&name)) {
            return Err(ResourceKind::SecurityGroup.exists(&name));
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
    /// [`EditError::InUse`] while an endpoint or a rule uses it; [`EditError::Invalid`] for `default`.
    pub fn delete_group(&mut self, id: &SecurityGroupId) -> Result<(), EditError> {
        let carrier = self.inventory.endpoints.values().find(|e| e.endpoint.security_groups.contains(id));
        let carrier = carrier.map(|e| e.endpoint.id.to_string());
        let record = self.group_home(id)?;
        if record.vpc.security_groups.get(id).is_some_and(|group| group.name == "default") {
            return Err(EditError::DefaultGroup(id.to_string()));
        }
        let peer = RulePeer::Group(id.clone());
        let named =
            record.rules.iter().find(|(group, rules)| *group != id && rules.iter().any(|r| r.terms.peer == peer));
        if let Some(by) = carrier.or_else(|| named.map(|(group, _)| group.to_string())) {
            return Err(ResourceKind::SecurityGroup.in_use(id, by));
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
        record.ok_or_else(|| ResourceKind::SecurityGroup.missing(id))
    }

    fn rules_mut(&mut self, id: &SecurityGroupId) -> Result<&mut Vec<RuleRecord>, EditError> {
        Ok(self.group_home(id)?.rules.entry(id.clone()).or_default())
    }

    /// Adds rules to a security group, each with these tags.
    ///
    /// # Errors
    ///
    /// [`EditError::Exists`] for a duplicate rule, [`EditError::Limit`] for too many rules.
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
                return Err(ResourceKind::SecurityRule.exists(terms));
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

    /// Removes rules from a security group.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for an unknown rule; then no rule is removed.
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
            revoked.push(own.remove(at.ok_or_else(|| ResourceKind::SecurityRule.missing(terms))?));
        }
        for id in ids {
            let at = own.iter().position(|known| known.direction == direction && known.id == *id);
            revoked.push(own.remove(at.ok_or_else(|| ResourceKind::SecurityRuleId.missing(id))?));
        }
        let home = self.group_home(group)?;
        for rule in &revoked {
            home.tags.remove(rule.id.as_str());
        }
        Ok(revoked)
    }

    /// Replaces the content and descriptions of rules; their ids stay.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for an unknown id, [`EditError::Exists`] when two rules would be the same.
    pub fn change_rules(
        &mut self,
        group: &SecurityGroupId,
        changes: Vec<(SecurityRuleId, NewRule)>,
    ) -> Result<(), EditError> {
        let own = self.rules_mut(group)?;
        for (id, rule) in changes {
            let at =
                own.iter().position(|known| known.id == id).ok_or_else(|| ResourceKind::SecurityRuleId.missing(&id))?;
            let direction = own[at].direction;
            let is_other =
                |known: &RuleRecord| known.id != id && known.direction == direction && known.terms == rule.terms;
            if own.iter().any(is_other) {
                return Err(ResourceKind::SecurityRule.exists(&rule.terms));
            }
            (own[at].terms, own[at].description) = (rule.terms, rule.description);
        }
        check_rule_limit(own)
    }

    /// Sets descriptions of rules.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for an unknown rule.
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
            known.ok_or_else(|| ResourceKind::SecurityRule.missing(terms))?.description = description;
        }
        for (id, description) in by_id {
            let known = own.iter_mut().find(|known| known.direction == direction && known.id == id);
            known.ok_or_else(|| ResourceKind::SecurityRuleId.missing(id))?.description = description;
        }
        Ok(())
    }

    fn tags_mut(&mut self, id: &str) -> Result<&mut Tags, EditError> {
        let inventory = &mut self.inventory;
        if let Some(record) = id.parse::<VpceId>().ok().and_then(|id| inventory.endpoints.get_mut(&id)) {
            return Ok(&mut record.tags);
        }
        let home = inventory.vpcs.values_mut().find(|record| record.has_resource(id));
        let home = home.ok_or_else(|| ResourceKind::of_id(id).missing(id))?;
        Ok(home.tags.entry(id.to_owned()).or_default())
    }

    /// Sets tags of a resource.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for an unknown resource, [`EditError::Limit`] for too many tags.
    pub fn tag(&mut self, id: &str, set: Tags) -> Result<(), EditError> {
        if set.is_empty() {
            return Ok(());
        }
        let tags = self.tags_mut(id)?;
        tags.extend(set);
        check_limit(ResourceKind::Tag, tags.len(), MAX_TAGS)
    }

    /// Removes tags of a resource: those with these keys and, if given, these values; without keys, all of them.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for an unknown resource.
    pub fn untag(&mut self, id: &str, tags: &[(String, Option<String>)]) -> Result<(), EditError> {
        let is_named = |key: &String, value: &String| {
            tags.is_empty() || tags.iter().any(|(k, v)| k == key && v.as_ref().is_none_or(|wanted| wanted == value))
        };
        self.tags_mut(id)?.retain(|key, value| !is_named(key, value));
        Ok(())
    }

    /// Creates an interface endpoint; `false` when it was already created with the same client token.
    ///
    /// # Errors
    ///
    /// [`EditError`] for missing resources, and for a client token that was used with other parameters.
    pub fn create_endpoint(&mut self, new: NewInterfaceEndpoint) -> Result<(VpceId, bool), EditError> {
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
        let mut groups: Vec<SecurityGroupId> = Vec::new();
        for group in new.groups {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        check_limit(ResourceKind::InterfaceGroup, groups.len(), MAX_INTERFACE_GROUPS)?;
        let in_vpc = self.inventory.endpoints.values().map(|record| &record.endpoint);
        let in_vpc = in_vpc.filter(|e| e.vpc == new.vpc && e.state != EndpointState::Deleted).count();
        check_limit(ResourceKind::Endpoint, in_vpc + 1, MAX_ENDPOINTS)?;
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
            ip_address_type: new.ip_address_type,
            dns_record_ip_type: new
                .dns_record_ip_type
                .unwrap_or_else(|| DnsRecordIpType::default_of(new.ip_address_type)),
            addresses: Vec::new(),
            security_groups: groups,
            state: EndpointState::PendingAcceptance,
            registered: false,
        };
        if !self.inventory.has_available_service(&endpoint) {
            return Err(RuleError::NoSuchService(endpoint.service).into());
        }
        let region = self.vpc_mut(&new.vpc)?.vpc.region.clone();
        if !self.inventory.supports(endpoint.service.service(), &region) {
            return Err(RuleError::UnsupportedRegion { vpc: region, service: endpoint.service }.into());
        }
        self.check_ip_address_type(&endpoint)?;
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
        for (subnet, wishes) in &new.subnets {
            self.give_addresses(&id, subnet, wishes)?;
        }
        Ok((id, true))
    }

    /// The service must support the endpoint's families, whatever its subnets are.
    fn check_ip_address_type(&self, endpoint: &InterfaceEndpoint) -> Result<(), EditError> {
        let supported = self.inventory.ip_address_types(endpoint.service.service());
        let (wanted, service) = (endpoint.ip_address_type, endpoint.service.clone());
        match supported.includes(wanted) {
            true => Ok(()),
            false => Err(RuleError::UnsupportedIpAddressType { wanted, service, supported }.into()),
        }
    }

    /// Atlas' services have no private DNS names; those of App Services require both DNS attributes of the VPC.
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

    /// Adds the missing addresses of an endpoint in a subnet: an interface, or an address of another family. If
    /// addresses are requested, one of each family must be. Source: Amazon EC2 API Reference, *SubnetConfiguration*.
    fn give_addresses(&mut self, id: &VpceId, subnet: &SubnetId, wishes: &[IpAddr]) -> Result<(), EditError> {
        let vpc = self.endpoint(id)?.endpoint.vpc.clone();
        let details =
            self.vpc_mut(&vpc)?.vpc.subnets.get(subnet).cloned().ok_or_else(|| ResourceKind::Subnet.missing(subnet))?;
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
        let wanted = self.endpoint(id)?.endpoint.ip_address_type;
        if !details.supports_endpoint(wanted) {
            let (subnet, has) = (subnet.clone(), details.ip_address_type());
            return Err(RuleError::SubnetIpAddressType { subnet, wanted, has }.into());
        }
        let wish = |family| wishes.iter().copied().find(|ip| IpFamily::of(*ip) == family);
        if !wishes.is_empty() && IpFamily::ALL.into_iter().any(|family| wish(family).is_some() != wanted.has(family)) {
            let families = wanted.families().map(IpFamily::name).collect::<Vec<_>>().join(" and an ");
            return Err(EditError::Conflict(format!(
                "SubnetConfiguration of an endpoint of IP address type {} names an {families} address for {subnet}",
                wanted.label()
            )));
        }
        let there = self.endpoint(id)?.endpoint.addresses.iter().find(|address| address.subnet == *subnet);
        let eni = there.map(|address| address.eni.clone()).unwrap_or_else(|| {
            new_id("eni-", |eni| {
                self.inventory.endpoints.values().flat_map(|e| &e.endpoint.addresses).any(|address| address.eni == *eni)
            })
        });
        for family in wanted.families() {
            let Some(net) = details.cidr_of(family) else { continue };
            if self.endpoint(id)?.endpoint.address_of(&eni, family).is_some() {
                continue;
            }
            let ip = match wish(family) {
                Some(ip) if is_reserved(ip, net) => return Err(EditError::ReservedAddress(ip)),
                Some(ip) => ip,
                None => self.free_address(net).ok_or_else(|| EditError::SubnetFull(subnet.to_string()))?,
            };
            let address = EndpointAddress { eni: eni.clone(), subnet: subnet.clone(), zone: details.zone.clone(), ip };
            self.endpoint_mut(id)?.endpoint.addresses.push(address);
        }
        Ok(())
    }

    /// The lowest free address of a subnet's network that AWS does not reserve.
    fn free_address(&self, net: IpNet) -> Option<IpAddr> {
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
        let is_free = |ip: &IpAddr| !taken.contains(ip);
        match net {
            IpNet::V4(net) => hosts(net).map(IpAddr::V4).find(is_free),
            IpNet::V6(net) => {
                let first = net.network().to_bits();
                let all = (0..).map_while(|n| first.checked_add(n)).map(Ipv6Addr::from_bits);
                let own = all.take_while(|ip| net.contains(ip)).map(IpAddr::V6);
                own.filter(|ip| !is_reserved(*ip, net.into())).find(is_free)
            }
        }
    }

    fn endpoint(&self, id: &VpceId) -> Result<&EndpointRecord, EditError> {
        let record = self.inventory.endpoints.get(id).filter(|e| e.endpoint.state != EndpointState::Deleted);
        record.ok_or_else(|| ResourceKind::Endpoint.missing(id))
    }

    fn endpoint_mut(&mut self, id: &VpceId) -> Result<&mut EndpointRecord, EditError> {
        let record = self.inventory.endpoints.get_mut(id).filter(|e| e.endpoint.state != EndpointState::Deleted);
        record.ok_or_else(|| ResourceKind::Endpoint.missing(id))
    }

    /// Changes an interface endpoint. One that failed for lack of a subnet is retried when it gets its first.
    ///
    /// # Errors
    ///
    /// [`EditError::Missing`] for unknown subnets or groups, [`EditError::WrongState`] while it is being deleted.
    pub fn change_endpoint(&mut self, id: &VpceId, change: EndpointChange) -> Result<(), EditError> {
        if self.endpoint(id)?.endpoint.state == EndpointState::Deleting {
            return Err(ResourceKind::Endpoint.in_state(id, EndpointState::Deleting.label(), "available"));
        }
        for subnet in &change.remove_subnets {
            let addresses = &mut self.endpoint_mut(id)?.endpoint.addresses;
            let before = addresses.len();
            addresses.retain(|address| address.subnet != *subnet);
            if addresses.len() == before {
                return Err(ResourceKind::Subnet.missing(subnet));
            }
        }
        let endpoint = &mut self.endpoint_mut(id)?.endpoint;
        if let Some(kind) = change.ip_address_type.filter(|kind| *kind != endpoint.ip_address_type) {
            endpoint.ip_address_type = kind;
            endpoint.dns_record_ip_type = DnsRecordIpType::default_of(kind);
            let endpoint = endpoint.clone();
            self.check_ip_address_type(&endpoint)?;
            self.endpoint_mut(id)?.endpoint.addresses.retain(|address| kind.has(IpFamily::of(address.ip)));
            for interface in endpoint.interfaces() {
                self.give_addresses(id, &interface.subnet, &[])?;
            }
        }
        if let Some(records) = change.dns_record_ip_type {
            self.endpoint_mut(id)?.endpoint.dns_record_ip_type = records;
        }
        for (subnet, wishes) in &change.add_subnets {
            // An interface whose addresses change is replaced.
            let addresses = &mut self.endpoint_mut(id)?.endpoint.addresses;
            let is_other = |address: &EndpointAddress| address.subnet == *subnet && !wishes.contains(&address.ip);
            if !wishes.is_empty() && addresses.iter().any(is_other) {
                addresses.retain(|address| address.subnet != *subnet);
            }
            self.give_addresses(id, subnet, wishes)?;
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
                return Err(ResourceKind::SecurityGroup.missing(group));
            }
            groups.retain(|own| own != group);
        }
        for group in change.add_groups {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        check_limit(ResourceKind::InterfaceGroup, groups.len(), MAX_INTERFACE_GROUPS)?;
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

    /// Starts the removal of an interface endpoint; from now on it admits no connection.
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

    /// Accepts an endpoint on behalf of the service's owner; a project's service then lists it as a private endpoint.
    ///
    /// # Errors
    ///
    /// [`EditError::WrongState`] unless it is pending acceptance.
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
            state => Err(ResourceKind::Endpoint.in_state(id, state.label(), "pendingAcceptance")),
        }
    }

    /// Rejects an endpoint on behalf of the service's owner.
    ///
    /// # Errors
    ///
    /// [`EditError::WrongState`] when it is already being removed.
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
            state => Err(ResourceKind::Endpoint.in_state(id, state.label(), "pendingAcceptance or available")),
        }
    }
}

/// The usable addresses of a subnet.
pub(super) fn hosts(net: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
    (first.saturating_add(RESERVED.0)..=last.saturating_sub(RESERVED.1)).map(Ipv4Addr::from)
}

/// # Errors
///
/// [`EditError::Limit`] where `count` is more than `most`.
fn check_limit(what: ResourceKind, count: usize, most: usize) -> Result<(), EditError> {
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
    if sides.into_iter().any(|side| count(side, true) > MAX_RULES || count(side, false) > MAX_RULES) {
        return Err(EditError::Limit { what: ResourceKind::SecurityRule, most: MAX_RULES });
    }
    Ok(())
}
