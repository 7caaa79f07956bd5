//! The rules of Atlas, App Services, AWS and the network, with the reasons for refusals.
//!
//! Every rule is checked on every call, so that all mistakes are reported at once. The rules change nothing; a state
//! that satisfies them can be compiled.

mod apps;
mod network;
mod placement;
mod private_zones;

use std::collections::BTreeSet;
use std::fmt::Display;

use super::error::{Findings, Location};
use super::port_allocations::PortAllocations;
use super::survey::Survey;

pub use placement::may_disable_regional_mode;

pub(super) use apps::is_paired;
pub(super) use private_zones::owner;

/// Checks all rules.
pub(super) fn check(survey: &Survey<'_>, held: &PortAllocations, findings: &mut Findings) {
    network::check(survey, held, findings);
    placement::check(survey, held, findings);
    apps::check(survey, findings);
    private_zones::check(survey, findings);
}

/// The message for two objects with the same id.
fn twice(what: &str, id: impl Display) -> String {
    format!("{what} `{id}` is there twice; give one of them another")
}

/// Refuses duplicates in `ids`; `what` is the kind of object.
fn distinct<I: Ord + Display>(
    what: &'static str,
    ids: impl IntoIterator<Item = I>,
    at: impl Fn(&I) -> Location,
    findings: &mut Findings,
) {
    let mut seen = BTreeSet::new();
    for id in ids {
        if seen.contains(&id) {
            findings.refuse(at(&id), twice(what, &id));
        }
        seen.insert(id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        ENDPOINT, GENERAL_SERVICE, PROJECT, SERVICE, SYNC_SERVICE, VPC, WEST_ENDPOINT, WEST_SERVICE, WEST_VPC,
        add_endpoint, app, bi_connector, documented, endpoint, nets, of, plan, plan_from, refusals, refusals_from,
        replica_set, rule, service, sharded, two_regions, vpc, with_app,
    };
    use super::*;
    use crate::model::{
        Cluster, DeploymentModel, Desired, EndpointState, PrivateZone, Project, Region, Tier, Vpc, VpcId, ZoneRecord,
    };

    const CLUSTER: &str = "project 5f0000000000000000000001, cluster Cluster0";

    fn refused(change: impl FnOnce(&mut Desired)) -> Vec<String> {
        changed(documented(), change)
    }

    fn changed(mut desired: Desired, change: impl FnOnce(&mut Desired)) -> Vec<String> {
        assert_eq!(plan(&desired).notices, Vec::<String>::new(), "there is nothing to say before the change");
        change(&mut desired);
        refusals(&desired)
    }

    fn project(desired: &mut Desired) -> &mut Project {
        &mut desired.projects[0]
    }

    fn cluster(desired: &mut Desired) -> &mut Cluster {
        &mut desired.projects[0].clusters[0]
    }

    fn own_vpc(desired: &mut Desired) -> &mut Vpc {
        desired.vpcs.get_mut(&of::<VpcId>(VPC)).expect("it is there")
    }

    fn many_nodes(name: &str, count: usize, host: u16) -> Cluster {
        replica_set(name, "k45tj", &vec!["us-east-1a"; count], host)
    }

    /// A7, A8.
    #[test]
    fn the_51st_target_is_refused_with_the_users_of_the_slots() {
        let fill = |desired: &mut Desired| {
            cluster(desired).bi_connectors.push(bi_connector("bi", "10.200.9.9:27015"));
            project(desired).clusters.push(sharded("Sharded0", "k45tj", true, &["us-east-1a", "us-east-1b"], 21));
            project(desired).clusters.push(sharded("Sharded1", "k45tj", false, &["us-east-1a", "us-east-1b"], 31));
        };
        let mut desired = documented();
        fill(&mut desired);
        project(&mut desired).clusters.push(many_nodes("Cluster1", 43, 300));
        assert_eq!(plan(&desired).targets.len(), 50);

        project(&mut desired).clusters[3] = many_nodes("Cluster1", 44, 300);
        assert_eq!(
            refusals(&desired),
            [
                "project 5f0000000000000000000001: 51 addressable targets in us-east-1 are more than the limit of 50 per \
              region and project; they are: Cluster0 1 BI Connector, Cluster0 3 mongod, Cluster1 44 mongod, Sharded0 1 \
              for its optimized string, Sharded1 2 mongos. Ask MongoDB Support for the one-time increase to at most 100 \
              (`target_limit`), or use additional projects or regions"
            ]
        );
        project(&mut desired).services[0].target_limit = 100;
        assert_eq!(plan(&desired).targets.len(), 51);
    }

    #[test]
    fn the_limit_is_raised_to_100_at_most_and_is_per_region() {
        let refusals = refused(|desired| {
            project(desired).services[0].target_limit = 101;
            project(desired).clusters.push(many_nodes("Cluster1", 99, 300));
        });
        assert_eq!(
            refusals[0],
            "endpoint service vpce-svc-02863655456245e5c: a limit of 101 addressable targets cannot be set; MongoDB \
             Support raises the limit once, to at most 100"
        );
        assert!(refusals[1].ends_with("Use additional projects or regions"), "{refusals:?}");

        let mut desired = two_regions();
        project(&mut desired).clusters.push(many_nodes("Cluster1", 47, 300));
        let west = vec!["us-west-2a"; 50];
        project(&mut desired).clusters.push(replica_set("Cluster2", "k45tj", &west, 600));
        assert_eq!(plan(&desired).targets.len(), 100);
    }

    #[test]
    fn a_paused_cluster_keeps_its_slots() {
        let refusals = refused(|desired| {
            desired.endpoints.clear();
            project(desired).clusters.push(many_nodes("Cluster1", 48, 300));
            project(desired).clusters[1].paused = true;
        });
        assert!(refusals[0].contains("51 addressable targets"), "{refusals:?}");
    }

    /// A18.
    #[test]
    fn regional_mode_is_for_sharded_clusters_only() {
        assert_eq!(
            refused(|desired| project(desired).regionalized = true),
            [format!(
                "{CLUSTER}: regionalized private endpoints are on, and then a project can have sharded clusters only; \
                 this is a replica set"
            )]
        );
    }

    /// A20.
    #[test]
    fn several_endpoints_in_one_region_exclude_endpoints_in_another() {
        let mut desired = two_regions();
        let more = "vpce-0beef000000000002";
        add_endpoint(&mut desired, more, SERVICE, "us-east-1", VPC, &[("10.0.30.7", "a")]);
        assert_eq!(
            refusals(&desired),
            ["project 5f0000000000000000000001: a project can have either more than one private endpoint in a single \
              region, or no more than one per region; it has 2 in us-east-1, 1 in us-west-2. Remove endpoints, or switch \
              regionalized private endpoints on"]
        );
        endpoint(&mut desired, WEST_ENDPOINT).state = EndpointState::Deleting;
        assert_eq!(plan(&desired).listeners.len(), 9, "three addresses and three ports");
    }

    /// A19.
    #[test]
    fn regional_mode_stays_on_with_several_endpoints_in_one_region_and_others_elsewhere() {
        let id = of(PROJECT);
        let mut desired = two_regions();
        project(&mut desired).clusters[0] = sharded("Cluster0", "k45tj", false, &["us-east-1a", "us-west-2a"], 11);
        project(&mut desired).regionalized = true;
        assert_eq!(may_disable_regional_mode(&desired, &id), Ok(()), "one in each region");

        let (more, most) = ("vpce-0beef000000000002", "vpce-0beef000000000003");
        add_endpoint(&mut desired, more, SERVICE, "us-east-1", VPC, &[("10.0.30.7", "a")]);
        let refused = may_disable_regional_mode(&desired, &id).expect_err("two and one");
        assert_eq!(
            refused.to_string(),
            "regionalized private endpoints cannot be switched off with more than one private endpoint in one region and \
             others elsewhere (2 in us-east-1, 1 in us-west-2); remove endpoints first"
        );
        add_endpoint(&mut desired, most, WEST_SERVICE, "us-west-2", WEST_VPC, &[("10.1.30.7", "a")]);
        let regions: Vec<(Region, usize)> = vec![(of("us-east-1"), 2), (of("us-west-2"), 2)];
        assert_eq!(may_disable_regional_mode(&desired, &id), Err(crate::plan::RuleError::RegionalModeInUse(regions)));

        for west in [WEST_ENDPOINT, most] {
            endpoint(&mut desired, west).state = EndpointState::Deleted;
        }
        assert_eq!(may_disable_regional_mode(&desired, &id), Ok(()), "several in a single region");
        assert!(may_disable_regional_mode(&desired, &of("5f0000000000000000000009")).is_err());
    }

    /// A22.
    #[test]
    fn the_first_endpoint_of_a_region_waits_for_paused_clusters_and_a_further_one_does_not() {
        let mut desired = documented();
        cluster(&mut desired).paused = true;
        assert_eq!(
            refusals(&desired),
            [
                "endpoint vpce-024f5b57108c8d3ed: this is the first private endpoint in us-east-1, and Cluster0 with nodes \
              there is paused; resume it first"
            ]
        );

        cluster(&mut desired).paused = false;
        let (_, held) = plan_from(&desired, &PortAllocations::default());
        cluster(&mut desired).paused = true;
        plan_from(&desired, &held);
        add_endpoint(&mut desired, "vpce-0beef000000000002", SERVICE, "us-east-1", VPC, &[("10.0.30.7", "a")]);
        plan_from(&desired, &held);

        desired.endpoints.remove(&of::<crate::model::VpceId>(ENDPOINT));
        let refusals = refusals_from(&desired, &held);
        assert!(refusals[0].starts_with("endpoint vpce-0beef000000000002: this is the first"), "{refusals:?}");
    }

    #[test]
    fn a_paused_cluster_elsewhere_is_no_obstacle() {
        let mut desired = two_regions();
        desired.endpoints.remove(&of::<crate::model::VpceId>(WEST_ENDPOINT));
        project(&mut desired).clusters.push(replica_set("West", "k45tj", &["us-west-2a"], 31));
        project(&mut desired).clusters[1].paused = true;
        assert_eq!(plan(&desired).listeners.len(), 6);
    }

    /// A28.
    #[test]
    fn shared_tiers_have_no_private_endpoints() {
        assert_eq!(
            refused(|desired| cluster(desired).tier = Tier::Shared(2)),
            [format!(
                "{CLUSTER}: private endpoints are not available for M0, M2 and M5 clusters, and this is an M2; upgrade \
                 it to M10 or more, or remove the project's private endpoints"
            )]
        );
        let mut desired = documented();
        desired.endpoints.clear();
        cluster(&mut desired).tier = Tier::Shared(0);
        let snapshot = plan(&desired);
        assert!(snapshot.targets.is_empty(), "without endpoints it is let be, and takes no port");
        let reason = "private endpoints are not available for M0 clusters";
        assert_eq!(snapshot.strings[0].unavailable.as_deref(), Some(reason));
    }

    #[test]
    fn a_region_has_one_endpoint_service_per_project_and_one_per_kind_of_app_endpoint() {
        let another = "vpce-svc-0beef000000000002";
        assert_eq!(
            refused(|desired| project(desired).services.push(service(another, "us-east-1", "10.201.0.0/16"))),
            [
                "project 5f0000000000000000000001: a private endpoint service already exists for AWS region US_EAST_1; a \
              project has one per region"
            ]
        );
        assert_eq!(
            changed(with_app(), |desired| desired.app_services[1].kind = crate::model::AppEndpointKind::General)[0],
            format!(
                "endpoint service {SYNC_SERVICE}: App Services endpoint service `General in us-east-1` is there twice; \
                 give one of them another"
            )
        );
    }

    #[test]
    fn ids_are_there_once() {
        let refusals = changed(with_app(), |desired| {
            let twin = project(desired).clone();
            desired.projects.push(twin);
            desired.app_services[0].id = of(SERVICE);
            let twin = cluster(desired).clone();
            project(desired).clusters.push(twin);
            let twin = desired.apps[0].clone();
            desired.apps.push(twin);
            cluster(desired).nodes[1].name = "shard-00-00".to_owned();
        });
        for expected in [
            "project 5f0000000000000000000001: project `5f0000000000000000000001` is there twice; give one of them another",
            "endpoint service vpce-svc-02863655456245e5c: endpoint service `vpce-svc-02863655456245e5c` is there twice; \
             give one of them another",
            "project 5f0000000000000000000001, cluster Cluster0: cluster `Cluster0` is there twice; give one of them \
             another",
            "project 5f0000000000000000000001, cluster Cluster0: member `shard-00-00` is there twice; give one of them \
             another",
            "app myapp-abcde: app `myapp-abcde` is there twice; give one of them another",
        ] {
            assert!(refusals.iter().any(|refusal| refusal == expected), "{expected}\n{refusals:#?}");
        }
    }

    #[test]
    fn an_optimized_clusters_own_target_name_is_taken() {
        let refusals = refused(|desired| {
            *cluster(desired) = sharded("Cluster0", "k45tj", true, &["us-east-1a"], 21);
            cluster(desired).bi_connectors.push(bi_connector("lb", "10.200.9.9:27015"));
        });
        assert_eq!(refusals, [format!("{CLUSTER}: member `lb` is there twice; give one of them another")]);
    }

    #[test]
    fn host_names_belong_to_one_cluster() {
        let refusals = refused(|desired| {
            project(desired).clusters.push(replica_set("cluster0", "k45tj", &["us-east-1a"], 31));
            let mut other = project(desired).clone();
            other.id = of("5f0000000000000000000002");
            other.services.clear();
            other.clusters = vec![replica_set("Cluster9", "k45tj", &["us-east-1a"], 41)];
            desired.projects.push(other);
        });
        assert_eq!(
            refusals,
            [
                "project 5f0000000000000000000001, cluster cluster0: clusters `Cluster0` and `cluster0` would have the same \
                 host names; rename one of them",
                "project 5f0000000000000000000002, cluster Cluster9: the label `k45tj` belongs to project \
                 5f0000000000000000000001; labels make the projects' host names unique",
            ]
        );
    }

    #[test]
    fn every_process_has_its_own_address() {
        let refusals = refused(|desired| {
            cluster(desired).nodes[1].address = of("10.200.0.11:27017");
            cluster(desired).nodes[2].address = of("10.0.30.194:27017");
            cluster(desired).bi_connectors.push(bi_connector("bi", "10.200.0.9:0"));
            cluster(desired).nodes[0].public_address = Some(of("10.0.20.54:27017"));
            cluster(desired).nodes[1].public_address = Some(of("203.0.113.20:27017"));
            cluster(desired).nodes[2].public_address = Some(of("203.0.113.20:27017"));
        });
        assert_eq!(
            refusals,
            [
                format!(
                    "{CLUSTER}: `Cluster0/shard-00-01` is at 10.200.0.11:27017, and so is `Cluster0/shard-00-00`; two \
                     targets cannot be at one address"
                ),
                format!(
                    "{CLUSTER}: `Cluster0/shard-00-02` is at 10.0.30.194:27017, where the gateway itself listens; flows \
                     would go round"
                ),
                format!(
                    "{CLUSTER}: `Cluster0/bi` is at 10.200.0.9:0; write an address and a port of which neither is zero"
                ),
                format!(
                    "{CLUSTER}: the public address 10.0.20.54:27017 of `Cluster0/shard-00-00` is taken by endpoint \
                     {ENDPOINT}"
                ),
                format!(
                    "{CLUSTER}: the public address 203.0.113.20:27017 of `Cluster0/shard-00-02` is taken by \
                     `Cluster0/shard-00-01`"
                ),
            ]
        );
    }

    #[test]
    fn a_cluster_has_nodes() {
        assert_eq!(
            refused(|desired| cluster(desired).nodes.clear()),
            [format!("{CLUSTER}: the cluster has no nodes; give it one at least")]
        );
    }

    #[test]
    fn unusual_configs_that_work_get_a_notice() {
        let mut desired = two_regions();
        project(&mut desired).services.pop();
        desired.endpoints.remove(&of::<crate::model::VpceId>(WEST_ENDPOINT));
        cluster(&mut desired).nodes[0].address = of("10.0.99.1:27017");
        cluster(&mut desired).nodes[1].zone = of("us-west-2a");
        cluster(&mut desired).nodes[1].public_address = Some(of("203.0.113.20:27017"));
        endpoint(&mut desired, ENDPOINT).security_groups.clear();
        desired.moves.insert((of(SERVICE), of("Cluster0/none")), crate::model::PortRange::atlas().last());
        assert_eq!(
            plan(&desired).notices[..4],
            [
                "endpoint vpce-024f5b57108c8d3ed: it has no security group, so it admits no connection".to_owned(),
                "endpoint service vpce-svc-02863655456245e5c: targets outside its networks are not recognised as the \
                 service's side when they open connections: Cluster0/shard-00-00 (10.0.99.1:27017)"
                    .to_owned(),
                format!(
                    "{CLUSTER}: the project has no endpoint service in us-west-2, so nothing listens on the public \
                     address of `shard-00-01`"
                ),
                "endpoint service vpce-svc-02863655456245e5c: nothing moves to port 65535: there is no target \
                 `Cluster0/none`"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn the_gateways_addresses_are_not_targets_and_not_on_the_services_side() {
        let own = |address: &'static str| {
            move |desired: &mut Desired| {
                desired.own_addresses.insert(of(address));
            }
        };
        let target = |address: &'static str| {
            format!(
                "{CLUSTER}: `Cluster0/shard-00-00` is at {address}, where the gateway itself listens; flows would go round"
            )
        };
        for (bound, address) in
            [("127.0.0.1:8474", "127.0.0.1:8474"), ("0.0.0.0:8474", "127.0.0.7:8474"), ("[::]:53", "[::1]:53")]
        {
            let both = |desired: &mut Desired| {
                own(bound)(desired);
                cluster(desired).nodes[0].address = of(address);
            };
            assert_eq!(refused(both), [target(address)]);
        }
        let held = format!(
            "endpoint service {SERVICE}: its networks hold 10.200.0.9:53, where the gateway itself answers, and clients on the \
             service's side are refused; put the targets, or the gateway's own address, elsewhere"
        );
        assert_eq!(refused(own("10.200.0.9:53")), [held]);

        let mut with_apps = with_app();
        own("127.0.0.1:8474")(&mut with_apps);
        for backend in ["http://localhost:8474", "http://127.0.0.1:8474"] {
            with_apps.apps[0].backend = backend.to_owned();
            let said = refusals(&with_apps);
            assert!(
                said.len() == 1 && said[0].contains(&format!("`{backend}` is an address of this gateway")),
                "{said:?}"
            );
        }
        with_apps.apps[0].backend = "http://127.0.0.1:8475".to_owned();
        plan(&with_apps);
    }

    #[test]
    fn operators_and_the_gateway_itself_are_not_locked_out_by_a_target_beside_them() {
        let mut desired = documented();
        desired.own_addresses.insert(of("192.0.2.1:8474"));
        for address in ["127.0.0.1:27017", "[::1]:27017", "192.0.2.1:27017", "10.0.99.1:27017"] {
            cluster(&mut desired).nodes[0].address = of(address);
            let snapshot = plan(&desired);
            let ip = of::<std::net::SocketAddr>(address).ip();
            assert!(!snapshot.service_side.contains(ip), "{address} is not refused");
            assert!(snapshot.notices[0].contains("are not recognised as the service's side"), "{:?}", snapshot.notices);
        }
        cluster(&mut desired).nodes[0].address = of("192.0.2.2:27017");
        let snapshot = plan(&desired);
        assert!(snapshot.service_side.contains(of("192.0.2.2")), "any other target's address is");
        assert_eq!(snapshot.notices, Vec::<String>::new());
    }

    #[test]
    fn a_source_of_proxy_headers_is_not_on_the_service_side() {
        let sources = |net: &'static str| {
            move |desired: &mut Desired| project(desired).services[0].attributes.proxy_sources = nets(&[net])
        };
        let overlap = |network: &str, other: &str| {
            format!(
                "endpoint service {SERVICE}: `proxy_protocol_sources` holds `{network}`, which overlaps `{other}` of the \
                 service's side; a target could then pass for a client of the VPC. Name the load balancer's own addresses \
                 alone"
            )
        };
        assert_eq!(refused(sources("10.200.0.7/32")), [overlap("10.200.0.7/32", "10.200.0.0/16")]);
        assert_eq!(refused(sources("0.0.0.0/0")), [overlap("0.0.0.0/0", "10.200.0.0/16")]);
        let stray = |desired: &mut Desired| {
            cluster(desired).nodes[0].address = of("192.0.2.2:27017");
            sources("192.0.2.0/24")(desired);
        };
        assert_eq!(refused(stray), [overlap("192.0.2.0/24", "192.0.2.2/32")]);
        let mut desired = documented();
        sources("192.0.2.0/24")(&mut desired);
        plan(&desired);
    }

    #[test]
    fn an_endpoint_whose_groups_admit_none_of_its_ports_gives_a_notice() {
        let mut desired = documented();
        let groups = &mut own_vpc(&mut desired).security_groups;
        for group in groups.values_mut() {
            for rule in &mut group.ingress {
                rule.ports = of("27017");
            }
        }
        let notices = plan(&desired).notices;
        assert!(
            notices.iter().any(|notice| notice.starts_with(&format!("endpoint {ENDPOINT}: security group"))
                && notice.ends_with("none of this endpoint's ports 1024-1026")),
            "{notices:?}"
        );
    }

    #[test]
    fn networks_that_must_be_apart_are_refused() {
        let third = "vpc-0a1b2c3d4e5f60720";
        let refusals = refused(|desired| {
            own_vpc(desired).peered = nets(&["10.0.128.0/17"]);
            own_vpc(desired).on_premises = nets(&["10.200.7.0/24"]);
            desired.vpcs.insert(of(third), vpc(third, "us-east-1", "10.0", &[]));
            let mut own = desired.endpoints.values().next().expect("an endpoint").clone();
            (own.id, own.vpc, own.addresses) = (of("vpce-0000ffff"), of(third), Vec::new());
            own.security_groups.clear();
            desired.endpoints.insert(own.id.clone(), own);
        });
        assert_eq!(
            refusals,
            [
                format!(
                    "VPC {third}: network of {third} 10.0.0.0/16 overlaps network of {VPC} 10.0.0.0/16; the gateway \
                     distinguishes VPCs by their clients' addresses"
                ),
                format!(
                    "VPC {VPC}: network peered with {VPC} 10.0.128.0/17 overlaps network of {VPC} 10.0.0.0/16; VPCs with \
                     overlapping networks cannot be peered"
                ),
                format!(
                    "VPC {VPC}: on-premises network of {VPC} 10.200.7.0/24 overlaps network of endpoint service {SERVICE} \
                     10.200.0.0/16; connectivity is one-way, so sources in a service's network are refused everywhere"
                ),
            ]
        );
    }

    /// As in AWS, until both have endpoints; names are resolved as in the one with endpoints.
    #[test]
    fn vpcs_may_overlap_while_one_has_no_endpoint() {
        let mut desired = documented();
        let other = "vpc-00000001";
        desired.vpcs.insert(of(other), vpc(other, "us-east-1", "10.0", &[]));
        let snapshot = plan(&desired);
        assert_eq!(snapshot.dns.vpcs.iter().map(|view| view.vpc.to_string()).collect::<Vec<_>>(), [VPC, other]);
    }

    #[test]
    fn a_consumers_network_around_a_services_is_refused_too() {
        let refusals = refused(|desired| own_vpc(desired).on_premises = nets(&["10.192.0.0/10"]));
        let expected = format!(
            "VPC {VPC}: on-premises network of {VPC} 10.192.0.0/10 overlaps network of endpoint service {SERVICE}"
        );
        assert!(refusals[0].starts_with(&expected), "{refusals:?}");
    }

    #[test]
    fn subnets_lie_in_their_vpc_and_region_and_apart() {
        let refusals = refused(|desired| {
            desired.endpoints.clear();
            let mut subnets = own_vpc(desired).subnets.values_mut();
            let mut next = || subnets.next().expect("there are three");
            next().cidr = of("10.7.0.0/24");
            next().zone = of("eu-west-1a");
            next().cidr = of("10.0.20.128/25");
        });
        assert_eq!(
            refusals,
            [
                format!(
                    "VPC {VPC}: subnet subnet-0000100c has 10.7.0.0/24, which is in none of the VPC's networks \
                     (10.0.0.0/16)"
                ),
                format!("VPC {VPC}: subnet subnet-0000200b is in zone eu-west-1a, but the VPC is in us-east-1"),
                format!(
                    "VPC {VPC}: subnet subnet-0000300a 10.0.20.128/25 overlaps subnet subnet-0000200b 10.0.20.0/24; \
                     subnets of a VPC are apart"
                ),
            ]
        );
    }

    #[test]
    fn an_endpoint_is_in_its_vpc_region_and_subnets() {
        let refusals = refused(|desired| {
            let endpoint = endpoint(desired, ENDPOINT);
            endpoint.addresses[0].ip = of("10.0.31.1");
            endpoint.addresses[1].zone = of("us-east-1c");
            endpoint.dns_suffix = "Ypwb".to_owned();
            endpoint.security_groups.push(of("sg-00000bad"));
            own_vpc(desired)
                .security_groups
                .values_mut()
                .next()
                .expect("a group")
                .ingress
                .push(rule(&[], &["sg-0000dead"]));
        });
        assert_eq!(
            refusals,
            [
                format!("VPC {VPC}: security group sg-000000c0 names sg-0000dead, which the VPC does not have"),
                format!(
                    "endpoint {ENDPOINT}: `Ypwb` is not valid in the endpoint's DNS names; write eight lower-case letters \
                     and digits, as `ypwbxwll`"
                ),
                format!("endpoint {ENDPOINT}: address 10.0.31.1 is outside subnet subnet-0000300a (10.0.30.0/24)"),
                format!(
                    "endpoint {ENDPOINT}: address 10.0.20.54 is said to be in us-east-1c, but subnet subnet-0000200b is in \
                     us-east-1b"
                ),
                format!("endpoint {ENDPOINT}: there is no security group `sg-00000bad`"),
            ]
        );
    }

    #[test]
    fn an_endpoint_has_one_subnet_per_zone_and_its_addresses_to_itself() {
        let second = "vpce-0beef000000000002";
        let refusals = refused(|desired| {
            add_endpoint(desired, second, SERVICE, "us-east-1", VPC, &[("10.0.30.194", "a"), ("10.0.30.8", "a")]);
        });
        assert_eq!(
            refusals,
            [
                format!("endpoint {second}: address 10.0.30.194 is in use by endpoint {ENDPOINT}"),
                format!(
                    "endpoint {second}: DuplicateSubnetsInSameZone: subnets subnet-0000300a and subnet-0000300a are both in \
                     us-east-1a; choose one subnet per zone"
                ),
            ]
        );
    }

    #[test]
    fn an_endpoint_leads_from_a_vpc_to_a_service() {
        let lost = |change: fn(&mut Desired)| refused(change).remove(0);
        assert_eq!(
            lost(|desired| {
                let name = of("com.amazonaws.vpce.us-east-1.vpce-svc-0dead000000000001");
                endpoint(desired, ENDPOINT).service = name;
            }),
            format!(
                "endpoint {ENDPOINT}: the VPC endpoint service \
                 `com.amazonaws.vpce.us-east-1.vpce-svc-0dead000000000001` does not exist"
            )
        );
        assert_eq!(
            lost(|desired| endpoint(desired, ENDPOINT).vpc = of("vpc-0dead000000000001")),
            format!("endpoint {ENDPOINT}: there is no VPC `vpc-0dead000000000001`")
        );
        assert_eq!(
            lost(|desired| endpoint(desired, ENDPOINT).addresses[0].subnet = of("subnet-0dead000000000001")),
            format!("endpoint {ENDPOINT}: there is no subnet `subnet-0dead000000000001`")
        );
    }

    /// A24.
    #[test]
    fn an_endpoint_without_a_subnet_ends_failed_with_the_documented_message() {
        for state in [EndpointState::Available, EndpointState::Pending, EndpointState::Failed] {
            let mut desired = documented();
            endpoint(&mut desired, ENDPOINT).addresses.clear();
            endpoint(&mut desired, ENDPOINT).state = state;
            let snapshot = plan(&desired);
            assert_eq!(snapshot.endpoints[&of::<crate::model::VpceId>(ENDPOINT)].state, EndpointState::Failed);
            assert_eq!(
                snapshot.notices,
                [format!(
                    "endpoint {ENDPOINT}: No dns entries found for endpoint {ENDPOINT}, your endpoint must be provisioned \
                     in at least one subnet. Click \"Edit\" to fix the problem."
                )]
            );
        }
    }

    /// B7, B12.
    #[test]
    fn an_app_with_endpoints_is_local_and_has_no_wire_protocol() {
        let refusals = changed(with_app(), |desired| {
            desired.apps[0].deployment = DeploymentModel::Global;
            desired.apps[0].wire_protocol = true;
        });
        assert_eq!(
            refusals,
            [
                "app myapp-abcde: private endpoints are only available for apps deployed locally to a region in AWS, and \
                 this one is deployed globally",
                "app myapp-abcde: wire protocol connections and private endpoints exclude each other; switch one of them \
                 off",
            ]
        );
        let mut desired = with_app();
        desired.apps[0].endpoints.clear();
        desired.apps[0].deployment = DeploymentModel::Global;
        desired.apps[0].wire_protocol = true;
        plan(&desired);
    }

    #[test]
    fn an_apps_backend_is_no_address_of_the_gateway() {
        for backend in [
            "http://10.0.30.195:443",
            "https://10.0.30.196:1024",
            "h2c://203.0.113.10:443",
            "https://us-east-1.aws.services.cloud.mongodb.com:8443",
        ] {
            let refusals = changed(with_app(), |desired| desired.apps[0].backend = backend.to_owned());
            let expected = format!(
                "app myapp-abcde: backend `{backend}` is an address of this gateway, so that requests would come back to it; \
                 write the address of the server that is to answer them"
            );
            assert_eq!(refusals, [expected]);
        }
        let mut desired = with_app();
        desired.apps[0].backend = "http://203.0.113.10:8080".to_owned();
        plan(&desired);
    }

    #[test]
    fn an_apps_endpoint_leads_to_app_services_and_to_the_right_kind() {
        let refusals = changed(with_app(), |desired| {
            desired.apps[0].endpoints[0].endpoint = of(ENDPOINT);
            desired.apps[0].endpoints[1].kind = crate::model::AppEndpointKind::General;
            let mut lost = desired.apps[0].endpoints[1].clone();
            lost.endpoint = of("vpce-0dead000000000001");
            desired.apps[0].endpoints.push(lost);
        });
        assert_eq!(
            refusals,
            [
                format!(
                    "app myapp-abcde: General endpoint {ENDPOINT} leads to `com.amazonaws.vpce.us-east-1.{SERVICE}`, which \
                     is the service of project {PROJECT}"
                ),
                format!(
                    "app myapp-abcde: General endpoint vpce-0a000000000000002 leads to \
                     `com.amazonaws.vpce.us-east-1.{SYNC_SERVICE}`, which is App Services' Sync service"
                ),
                "app myapp-abcde: there is no interface endpoint `vpce-0dead000000000001`".to_owned(),
                format!(
                    "app myapp-abcde: endpoints {ENDPOINT} and vpce-0a000000000000002 would both answer for \
                     `us-east-1.aws.services.cloud.mongodb.com` in {VPC}; a VPC can have one endpoint per private DNS name"
                ),
            ]
        );
    }

    #[test]
    fn an_apps_public_address_is_not_an_endpoints() {
        assert_eq!(
            changed(with_app(), |desired| desired.apps[0].public_address = of("10.0.30.194:443")),
            [format!(
                "app myapp-abcde: the public address 10.0.30.194:443 of `myapp-abcde` is taken by endpoint {ENDPOINT}"
            )]
        );
        let mut desired = with_app();
        desired.apps[0].public_address = of("203.0.113.20:27017");
        cluster(&mut desired).nodes[0].public_address = Some(of("203.0.113.20:27017"));
        assert!(refusals(&desired)[0].ends_with("`Cluster0/shard-00-00` is taken by app myapp-abcde"));
    }

    #[test]
    fn apps_may_share_an_endpoint_but_not_a_private_name() {
        let mut desired = with_app();
        desired.apps.push(app("other-abcde"));
        plan(&desired);

        let third = "vpce-0a000000000000003";
        add_endpoint(&mut desired, third, GENERAL_SERVICE, "us-east-1", VPC, &[("10.0.30.197", "a")]);
        desired.apps[1].endpoints[0].endpoint = of(third);
        assert_eq!(
            refusals(&desired),
            [format!(
                "app other-abcde: endpoints vpce-0a000000000000001 and {third} would both answer for \
                 `us-east-1.aws.services.cloud.mongodb.com` in {VPC}; a VPC can have one endpoint per private DNS name"
            )]
        );
    }

    #[test]
    fn a_private_hosted_zone_keeps_route_53s_rules() {
        let zone = |vpcs: &[&str], records| PrivateZone {
            name: of("lab.internal"),
            vpcs: vpcs.iter().map(|id| of(id)).collect(),
            records,
        };
        let address = |name: &str, ips: &[&str]| ZoneRecord::Address {
            name: of(name),
            ips: ips.iter().map(|ip| of(ip)).collect(),
        };
        let cname = |name: &str| ZoneRecord::Cname { name: of(name), target: of("example.com") };
        let refusals = refused(|desired| {
            let records = vec![
                address("other.example", &["10.0.0.1"]),
                address("empty.lab.internal", &[]),
                address("both.lab.internal", &["10.0.0.1"]),
                ZoneRecord::Alias { name: of("lost.lab.internal"), endpoint: of("vpce-0dead000000000001") },
                cname("lab.internal"),
                cname("both.lab.internal"),
                cname("fine.lab.internal"),
            ];
            desired.private_zones.push(zone(&[VPC, "vpc-0dead000000000001"], records));
            desired.private_zones.push(zone(&[VPC], vec![]));
        });
        let refusals: Vec<_> = refusals
            .iter()
            .map(|refusal| refusal.strip_prefix("private hosted zone lab.internal: ").expect("its location"))
            .collect();
        assert_eq!(
            refusals,
            [
                "there is no VPC `vpc-0dead000000000001`",
                "record `other.example` is outside the zone",
                "record `empty.lab.internal` has no address; give it one at least",
                "there is no interface endpoint `vpce-0dead000000000001`",
                "record `lab.internal` cannot be a CNAME: it is the zone's own name, or has other records; use an alias",
                "record `both.lab.internal` cannot be a CNAME: it is the zone's own name, or has other records; use an \
                 alias",
                &format!("ConflictingDomainExists: another zone of this name is associated with {VPC}"),
            ]
        );
    }

    #[test]
    fn mistakes_of_every_sort_are_reported_together() {
        let mut desired = with_app();
        project(&mut desired).regionalized = true;
        project(&mut desired).services[0].ports = of("1024-1025");
        endpoint(&mut desired, ENDPOINT).vpc = of("vpc-0dead000000000001");
        desired.apps[0].wire_protocol = true;
        let errors = super::super::compile(&desired, &PortAllocations::default(), super::super::Generation(1))
            .expect_err("four");
        assert_eq!(
            errors.to_string(),
            format!(
                "cannot plan what is wanted: 4 problems
  endpoint {ENDPOINT}: there is no VPC `vpc-0dead000000000001`
  {CLUSTER}: regionalized private endpoints are on, and then a project can have sharded clusters only; this is a replica set
  app myapp-abcde: wire protocol connections and private endpoints exclude each other; switch one of them off
  endpoint service {SERVICE}: cannot give 3 targets a port each: 1 find none in 1024-1025 (0 ports are draining)"
            )
        );
    }
}
