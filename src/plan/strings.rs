//! Connection strings, and the host names in them.
//!
//! Sources: Atlas, "Set Up a Private Endpoint" (the dash form, word for word), "Private Endpoint-Aware Connection
//! Strings" and the FAQ on connection string changes (the dot form, optimized strings, regionalized mode).

use super::error::RuleError;
use super::snapshot::{ClusterStrings, PrivateStrings};
use super::targets::is_optimized;
use crate::model::{
    Cloud, Cluster, ClusterKind, DnsName, ListenerPort, Naming, Node, Project, ProjectId, Region, VpceId,
};

/// The domain of every Atlas host name.
const DOMAIN: &str = "mongodb.net";

/// The port of a `mongod` on the standard path.
const MONGOD_PORT: u16 = 27017;

/// The port of a `mongos` on the standard path.
const MONGOS_PORT: u16 = 27016;

/// The host names of a cluster.
///
/// The older dash form puts the label after the first part of one DNS label, `cluster0-pl-0-k45tj.mongodb.net`; the
/// newer dot form makes it a domain, `cluster0-pl-0.k45tj.mongodb.net`. The suffix `-lb` ends the first DNS label in
/// both, so it follows the label in one form and precedes it in the other.
pub(super) struct ClusterHosts<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> ClusterHosts<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        Self { cluster, name: cluster.name.host_label() }
    }

    /// The DNS zone of the names: `mongodb.net` or `k45tj.mongodb.net`.
    pub(super) fn zone(&self) -> Result<DnsName, RuleError> {
        parse(match self.cluster.naming {
            Naming::Dash => DOMAIN.to_owned(),
            Naming::Dot => format!("{}.{DOMAIN}", self.cluster.label),
        })
    }

    /// `cluster0-k45tj.mongodb.net`: the seed list's name on the standard path.
    pub(super) fn standard(&self) -> Result<DnsName, RuleError> {
        self.join(&self.name, "")
    }

    /// `cluster0-shard-00-00-k45tj.mongodb.net`: a node's name on the standard path.
    pub(super) fn node(&self, node: &str) -> Result<DnsName, RuleError> {
        self.join(&[self.name.as_str(), "-", &node.to_ascii_lowercase()].concat(), "")
    }

    /// `cluster0-pl-0-k45tj.mongodb.net`: the seed list's name on the private path; with a region if each region has a
    /// separate one. A cluster in Google Cloud only has `psc` instead. Source: Atlas, *Private Endpoint-Aware
    /// Connection Strings*.
    pub(super) fn private(&self, index: u16, region: Option<&Region>, optimized: bool) -> Result<DnsName, RuleError> {
        let region = region.map(|region| format!("-{region}")).unwrap_or_default();
        let google = self.cluster.regions().iter().all(|region| region.cloud() == Some(Cloud::Gcp));
        let marker = if google { "psc" } else { "pl" };
        self.join(&format!("{}-{marker}-{index}{region}", self.name), if optimized { "-lb" } else { "" })
    }

    /// `pl-0-us-east-1-k45tj.mongodb.net`: the host of every process of a region; they differ by port. Other clouds'
    /// regions have a suffix: `pl-0-us-east1-gcp`, `pl-0-westeurope-azure`.
    pub(super) fn private_host(&self, index: u16, region: &Region) -> Result<DnsName, RuleError> {
        let cloud = match region.cloud() {
            None => "",
            Some(Cloud::Azure) => "-azure",
            Some(Cloud::Gcp) => "-gcp",
        };
        self.join(&format!("pl-{index}-{region}{cloud}"), "")
    }

    /// `cluster0-cs-1a2b3c4d-k45tj.mongodb.net`: the seed list's name of strings that were created by name. Atlas has
    /// not published the format; this one follows that of `pl`.
    pub(super) fn named(&self, slug: &str, optimized: bool) -> Result<DnsName, RuleError> {
        self.join(&format!("{}-cs-{slug}", self.name), if optimized { "-lb" } else { "" })
    }

    /// `cs-1a2b3c4d-us-east-1-k45tj.mongodb.net`: the host of a region's processes.
    pub(super) fn named_host(&self, slug: &str, region: &Region) -> Result<DnsName, RuleError> {
        self.join(&format!("cs-{slug}-{region}"), "")
    }

    /// Checks that all names are valid.
    pub(super) fn check(&self, project: &Project) -> Result<(), RuleError> {
        self.zone()?;
        self.standard()?.prefixed("_mongodb._tcp").map_err(|_| RuleError::HostName(self.name.clone()))?;
        for node in &self.cluster.nodes {
            if node.name.contains('.') {
                return Err(RuleError::HostName(node.name.clone()));
            }
            self.node(&node.name)?;
        }
        let optimized = is_optimized(project, self.cluster);
        for region in self.cluster.regions() {
            let name = self.private(u16::MAX, project.regionalized.then_some(&region), optimized)?;
            name.prefixed("_mongodb._tcp").map_err(|_| RuleError::HostName(name.to_string()))?;
        }
        Ok(())
    }

    fn join(&self, first: &str, marker: &str) -> Result<DnsName, RuleError> {
        let label = self.cluster.label.as_str();
        parse(match self.cluster.naming {
            Naming::Dash => [first, "-", label, marker, ".", DOMAIN].concat(),
            Naming::Dot => [first, marker, ".", label, ".", DOMAIN].concat(),
        })
    }
}

fn parse(text: String) -> Result<DnsName, RuleError> {
    text.parse().map_err(|_| RuleError::HostName(text))
}

/// The paths to a cluster, by name; connection strings and DNS records are two notations of them.
pub(super) struct Paths<'a> {
    pub(super) project: &'a ProjectId,
    pub(super) cluster: &'a Cluster,
    /// The zone of all names.
    pub(super) zone: DnsName,
    /// The seed list's name on the standard path.
    pub(super) standard: DnsName,
    /// The nodes' names on the standard path.
    pub(super) nodes: Vec<(DnsName, &'a Node)>,
    /// The private path, one for each group of endpoints that are used together.
    pub(super) private: Vec<PrivatePath<'a>>,
    /// Why there is no private path.
    pub(super) unavailable: Option<String>,
}

/// A group of endpoints that are used together.
pub(super) struct PrivatePath<'a> {
    /// For strings that were created by name: their unique part.
    pub(super) slug: Option<&'a str>,
    /// The seed list's name.
    pub(super) name: DnsName,
    /// Whether it is load-balanced.
    pub(super) optimized: bool,
    /// A host per region, with its endpoint and the targets' ports.
    pub(super) hosts: Vec<PrivateHost<'a>>,
}

/// A host for one region's targets.
pub(super) struct PrivateHost<'a> {
    pub(super) name: DnsName,
    pub(super) endpoint: &'a VpceId,
    pub(super) region: Region,
    pub(super) ports: Vec<ListenerPort>,
}

impl Paths<'_> {
    /// The options in a seed list's TXT record.
    ///
    /// Drivers allow only `authSource`, `replicaSet` and `loadBalanced` there (MongoDB specifications, *Initial DNS
    /// Seedlist Discovery*).
    pub(super) fn options(&self, optimized: bool) -> String {
        match &self.cluster.kind {
            ClusterKind::ReplicaSet { set_name } => format!("authSource=admin&replicaSet={set_name}"),
            ClusterKind::Sharded { .. } if optimized => "authSource=admin&loadBalanced=true".to_owned(),
            ClusterKind::Sharded { .. } => "authSource=admin".to_owned(),
        }
    }

    /// The port of a node on the standard path.
    pub(super) fn standard_port(&self, node: &Node) -> u16 {
        let usual = if self.cluster.is_sharded() { MONGOS_PORT } else { MONGOD_PORT };
        node.public_address.map_or(usual, |address| address.port())
    }

    /// The connection strings.
    ///
    /// A cluster with optimized strings has one port, so its seed list and its standard string use that too.
    pub(super) fn strings(&self) -> ClusterStrings {
        let is_public = self.nodes.iter().any(|(_, node)| node.public_address.is_some());
        let listed = self.nodes.iter().filter(|(_, node)| !is_public || node.public_address.is_some());
        let standard = listed.map(|(host, node)| format!("{host}:{}", self.standard_port(node)));
        ClusterStrings {
            project: self.project.clone(),
            cluster: self.cluster.name.clone(),
            standard_srv: seed_list(&self.standard),
            standard: self.listed(standard, false),
            is_public,
            private: self.private.iter().map(|path| self.private_strings(path)).collect(),
            unavailable: self.unavailable.clone(),
        }
    }

    fn private_strings(&self, path: &PrivatePath<'_>) -> PrivateStrings {
        let hosts = path.hosts.iter().flat_map(|host| host.ports.iter().map(|port| format!("{}:{port}", host.name)));
        PrivateStrings {
            slug: path.slug.map(str::to_owned),
            r#type: if self.cluster.is_sharded() { "MONGOS" } else { "MONGOD" },
            connection_string: self.listed(hosts, path.optimized),
            srv_connection_string: seed_list(&path.name),
            srv_shard_optimized_connection_string: path.optimized.then(|| seed_list(&path.name)),
            endpoints: path.hosts.iter().map(|host| (host.endpoint.clone(), host.region.clone())).collect(),
        }
    }

    fn listed(&self, hosts: impl Iterator<Item = String>, optimized: bool) -> String {
        let hosts = hosts.collect::<Vec<_>>().join(",");
        format!("mongodb://{hosts}/?ssl=true&{}", self.options(optimized))
    }
}

fn seed_list(name: &DnsName) -> String {
    format!("mongodb+srv://{name}")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        ENDPOINT, SERVICE, VPC, WEST_ENDPOINT, add_endpoint, documented, of, plan, plan_from, refusals, replica_set,
        sharded, two_regions,
    };
    use super::super::{ClusterStrings, PortAllocations};
    use super::*;
    use crate::model::{Desired, EndpointState};

    fn strings(desired: &Desired) -> Vec<ClusterStrings> {
        plan(desired).strings
    }

    fn sharded_in(zones: &[&str], optimized: bool) -> Desired {
        let mut desired = two_regions();
        desired.projects[0].clusters = vec![sharded("Cluster0", "ab123", optimized, zones, 21)];
        desired.projects[0].clusters[0].naming = Naming::Dot;
        desired
    }

    /// A9, A10, A12: the strings of MongoDB's documentation, verbatim.
    #[test]
    fn a_replica_set_in_the_dash_form_has_the_documented_strings() {
        let strings = &strings(&documented())[0];
        let private = &strings.private[0];
        assert_eq!(private.srv_connection_string, "mongodb+srv://cluster0-pl-0-k45tj.mongodb.net");
        assert_eq!(
            private.connection_string,
            "mongodb://pl-0-us-east-1-k45tj.mongodb.net:1024,pl-0-us-east-1-k45tj.mongodb.net:1025,\
             pl-0-us-east-1-k45tj.mongodb.net:1026/?ssl=true&authSource=admin&replicaSet=Cluster0-shard-0-shard-0"
        );
        assert_eq!(private.r#type, "MONGOD");
        assert_eq!(private.srv_shard_optimized_connection_string, None);
        assert_eq!(private.endpoints, [(of(ENDPOINT), of("us-east-1"))]);
        assert_eq!(strings.unavailable, None);
        assert_eq!(strings.private.len(), 1);
    }

    /// A15: clients on other paths use the standard strings.
    #[test]
    fn the_standard_strings_name_the_nodes() {
        let dash = &strings(&documented())[0];
        assert_eq!(dash.standard_srv, "mongodb+srv://cluster0-k45tj.mongodb.net");
        assert_eq!(
            dash.standard,
            "mongodb://cluster0-shard-00-00-k45tj.mongodb.net:27017,cluster0-shard-00-01-k45tj.mongodb.net:27017,\
             cluster0-shard-00-02-k45tj.mongodb.net:27017/?ssl=true&authSource=admin&replicaSet=Cluster0-shard-0-shard-0"
        );

        let dot = &strings(&sharded_in(&["us-east-1a"], false))[0];
        assert_eq!(dot.standard_srv, "mongodb+srv://cluster0.ab123.mongodb.net");
        assert_eq!(dot.standard, "mongodb://cluster0-shard-00-00.ab123.mongodb.net:27016/?ssl=true&authSource=admin");
    }

    #[test]
    fn a_public_address_brings_its_own_port_into_the_standard_string() {
        let mut desired = documented();
        desired.projects[0].clusters[0].nodes[1].public_address = Some(of("203.0.113.21:37017"));
        assert!(strings(&desired)[0].standard.starts_with("mongodb://cluster0-shard-00-01-k45tj.mongodb.net:37017/?"));
    }

    #[test]
    fn the_dot_form_makes_a_domain_of_the_label() {
        let mut desired = documented();
        desired.projects[0].clusters[0].naming = Naming::Dot;
        let private = &strings(&desired)[0].private[0];
        assert_eq!(private.srv_connection_string, "mongodb+srv://cluster0-pl-0.k45tj.mongodb.net");
        assert!(
            private.connection_string.starts_with("mongodb://pl-0-us-east-1.k45tj.mongodb.net:1024,pl-0-us-east-1.")
        );
    }

    #[test]
    fn a_sharded_cluster_lists_a_port_per_mongos_and_no_set() {
        let private = &strings(&sharded_in(&["us-east-1a", "us-east-1b"], false))[0].private[0];
        assert_eq!(private.srv_connection_string, "mongodb+srv://cluster0-pl-0.ab123.mongodb.net");
        assert_eq!(
            private.connection_string,
            "mongodb://pl-0-us-east-1.ab123.mongodb.net:1024,pl-0-us-east-1.ab123.mongodb.net:1025/\
             ?ssl=true&authSource=admin"
        );
        assert_eq!(private.r#type, "MONGOS");
        assert_eq!(private.srv_shard_optimized_connection_string, None);
    }

    /// A16. The suffix follows the label in one form, and precedes it in the other.
    #[test]
    fn an_optimized_sharded_cluster_has_one_port_behind_its_lb_name() {
        let mut desired = sharded_in(&["us-east-1a", "us-east-1b"], true);
        desired.projects[0].clusters[0].label = of("auylw");
        let dot = &strings(&desired)[0].private[0];
        let lb = |strings: &PrivateStrings| strings.srv_shard_optimized_connection_string.clone();
        assert_eq!(lb(dot).as_deref(), Some("mongodb+srv://cluster0-pl-0-lb.auylw.mongodb.net"));
        assert_eq!(dot.srv_connection_string, "mongodb+srv://cluster0-pl-0-lb.auylw.mongodb.net");
        assert_eq!(
            dot.connection_string,
            "mongodb://pl-0-us-east-1.auylw.mongodb.net:1024/?ssl=true&authSource=admin&loadBalanced=true"
        );
        desired.projects[0].clusters[0].naming = Naming::Dash;
        let dash = &strings(&desired)[0].private[0];
        assert_eq!(lb(dash).as_deref(), Some("mongodb+srv://cluster0-pl-0-auylw-lb.mongodb.net"));
    }

    #[test]
    fn a_multi_region_cluster_has_one_entry_over_all_of_its_regions() {
        let mut desired = two_regions();
        desired.projects[0].clusters[0] =
            replica_set("Cluster0", "k45tj", &["us-east-1a", "us-east-1b", "us-west-2a"], 11);
        let strings = &strings(&desired)[0];
        assert_eq!(strings.private.len(), 1);
        assert_eq!(
            strings.private[0].connection_string,
            "mongodb://pl-0-us-east-1-k45tj.mongodb.net:1024,pl-0-us-east-1-k45tj.mongodb.net:1025,\
             pl-0-us-west-2-k45tj.mongodb.net:1024/?ssl=true&authSource=admin&replicaSet=Cluster0-shard-0-shard-0"
        );
        let regions = [(of(ENDPOINT), of("us-east-1")), (of(WEST_ENDPOINT), of("us-west-2"))];
        assert_eq!(strings.private[0].endpoints, regions);
    }

    /// A18: connection strings change when regional mode is enabled.
    #[test]
    fn in_regional_mode_each_endpoint_has_strings_of_its_own_region() {
        let mut desired = sharded_in(&["us-east-1a", "us-west-2a", "us-west-2b"], false);
        let before = strings(&desired)[0].private.clone();
        assert_eq!(before.len(), 1);
        assert_eq!(before[0].srv_connection_string, "mongodb+srv://cluster0-pl-0.ab123.mongodb.net");

        desired.projects[0].regionalized = true;
        let more = "vpce-0beef000000000002";
        add_endpoint(&mut desired, more, SERVICE, "us-east-1", VPC, &[("10.0.30.7", "a")]);
        let private = &strings(&desired)[0].private;
        let seed_lists: Vec<_> = private.iter().map(|strings| strings.srv_connection_string.as_str()).collect();
        assert_eq!(
            seed_lists,
            [
                "mongodb+srv://cluster0-pl-0-us-east-1.ab123.mongodb.net",
                "mongodb+srv://cluster0-pl-1-us-east-1.ab123.mongodb.net",
                "mongodb+srv://cluster0-pl-0-us-west-2.ab123.mongodb.net",
            ]
        );
        assert_eq!(
            private[2].connection_string,
            "mongodb://pl-0-us-west-2.ab123.mongodb.net:1024,pl-0-us-west-2.ab123.mongodb.net:1025/\
             ?ssl=true&authSource=admin"
        );
    }

    #[test]
    fn in_regional_mode_a_multi_region_cluster_can_be_optimized() {
        let mut desired = sharded_in(&["us-east-1a", "us-west-2a"], true);
        let snapshot = plan(&desired);
        assert_eq!(snapshot.strings[0].private[0].srv_shard_optimized_connection_string, None);
        assert!(snapshot.notices[0].contains("no optimized connection string"), "{:?}", snapshot.notices);

        desired.projects[0].regionalized = true;
        let private = &strings(&desired)[0].private;
        let lb: Vec<_> = private.iter().filter_map(|p| p.srv_shard_optimized_connection_string.as_deref()).collect();
        assert_eq!(
            lb,
            [
                "mongodb+srv://cluster0-pl-0-us-east-1-lb.ab123.mongodb.net",
                "mongodb+srv://cluster0-pl-0-us-west-2-lb.ab123.mongodb.net",
            ]
        );
    }

    #[test]
    fn every_endpoint_of_a_region_has_an_n_that_it_keeps() {
        let mut desired = documented();
        let second = "vpce-000000000000000aa";
        let (_, held) = plan_from(&desired, &PortAllocations::default());
        add_endpoint(&mut desired, second, SERVICE, "us-east-1", VPC, &[("10.0.30.7", "a")]);
        let (snapshot, held) = plan_from(&desired, &held);
        let names = |snapshot: &super::super::Snapshot| {
            let private = snapshot.strings[0].private.iter();
            private.map(|p| (p.srv_connection_string.clone(), p.endpoints[0].0.to_string())).collect::<Vec<_>>()
        };
        let first = ("mongodb+srv://cluster0-pl-0-k45tj.mongodb.net".to_owned(), ENDPOINT.to_owned());
        let other = ("mongodb+srv://cluster0-pl-1-k45tj.mongodb.net".to_owned(), second.to_owned());
        assert_eq!(names(&snapshot), [first.clone(), other.clone()], "in order of appearance, not of id");

        let removed = desired.endpoints.remove(&of::<VpceId>(ENDPOINT)).expect("it was there");
        let (snapshot, held) = plan_from(&desired, &held);
        assert_eq!(names(&snapshot), std::slice::from_ref(&other), "it keeps its N");
        desired.endpoints.insert(removed.id.clone(), removed);
        assert_eq!(names(&plan_from(&desired, &held).0), [first, other], "the lowest free N");
    }

    /// A21.
    #[test]
    fn a_multi_region_cluster_with_an_unreached_region_has_no_private_strings_and_the_reason() {
        let mut desired = two_regions();
        desired.projects[0].clusters[0] = replica_set("Cluster0", "k45tj", &["us-east-1a", "us-west-2a"], 11);
        super::super::fixture::endpoint(&mut desired, WEST_ENDPOINT).state = EndpointState::Pending;
        let snapshot = plan(&desired);
        assert_eq!(snapshot.strings[0].private, []);
        let reason = "there is no available private endpoint in us-west-2; AWS PrivateLink must be active in all regions \
                      into which a multi-region cluster is deployed";
        assert_eq!(snapshot.strings[0].unavailable.as_deref(), Some(reason));
        assert_eq!(snapshot.notices, [format!("project 5f0000000000000000000001, cluster Cluster0: {reason}")]);
    }

    #[test]
    fn a_cluster_without_an_endpoint_has_the_reason_and_no_notice() {
        let mut desired = documented();
        desired.endpoints.clear();
        let snapshot = plan(&desired);
        let reason = "there is no available private endpoint in us-east-1";
        assert_eq!(snapshot.strings[0].unavailable.as_deref(), Some(reason));
        assert_eq!(snapshot.notices, Vec::<String>::new());
    }

    #[test]
    fn names_that_no_resolver_can_carry_are_refused() {
        let mut desired = documented();
        desired.projects[0].clusters[0].name = of(&"c".repeat(60));
        desired.projects[0].clusters.push(replica_set("Cluster1", "k45tj", &["us-east-1a"], 31));
        desired.projects[0].clusters[1].nodes[0].name = "shard 00".to_owned();
        let refusals = refusals(&desired);
        assert_eq!(refusals.len(), 2, "{refusals:?}");
        assert!(refusals[0].contains("cluster cccc"), "{refusals:?}");
        assert!(
            refusals[1].contains("the host name `cluster1-shard 00-k45tj.mongodb.net` cannot be made"),
            "{refusals:?}"
        );
    }
}
