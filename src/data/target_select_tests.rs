use std::time::Duration;

use super::*;
use crate::model::{ClusterName, TargetId};

fn group(states: &[(&str, TargetState)], cross_zone: bool) -> TargetGroup {
    let cluster: ClusterName = "Sharded0".parse().expect("a name");
    TargetGroup {
        service: "vpce-svc-02863655456245e5c".parse().expect("an id"),
        target: TargetId::optimized(&cluster),
        members: states
            .iter()
            .enumerate()
            .map(|(i, (zone, state))| Member {
                name: format!("mongos-{i}"),
                zone: zone.parse().expect("a zone"),
                address: ([127, 1, 0, 20 + i as u8], 27016).into(),
                host: None,
                state: *state,
                reach: None,
                shifted: false,
                faulted: false,
            })
            .collect(),
        proxy_protocol: true,
        idle_timeout: Duration::from_secs(350),
        connect_timeout: Duration::from_secs(30),
        deregistration_delay: Duration::from_secs(300),
        terminate_on_deregistration: false,
        terminate_on_unhealthy: true,
        routing_minimum: crate::model::Minimum::default(),
        bandwidth_cap: None,
        proxy_sources: crate::model::CidrSet::default(),
        flows_per_target: 55_000,
        connections_per_member: None,
        cross_zone,
        source_addresses: Vec::new(),
    }
}

fn zone(text: &str) -> Zone {
    text.parse().expect("a zone")
}

#[test]
fn healthy_members_share_the_flows_evenly() {
    use TargetState::{Healthy, Unhealthy};
    let group = group(&[("us-east-1a", Healthy), ("us-east-1b", Unhealthy), ("us-east-1b", Healthy)], true);
    let mut hits = [0; 3];
    for hash in 0..10_000_u64 {
        hits[choose(&group, &zone("us-east-1a"), hash).expect("a member")] += 1;
    }
    assert_eq!(hits, [5000, 0, 5000]);
}

#[test]
fn without_cross_zone_only_the_listeners_zone_is_used() {
    use TargetState::Healthy;
    let group = group(&[("us-east-1a", Healthy), ("us-east-1b", Healthy)], false);
    assert!((0..50).all(|hash| choose(&group, &zone("us-east-1b"), hash) == Some(1)));
    assert_eq!(choose(&group, &zone("us-east-1c"), 7), None);
}

#[test]
fn a_group_without_a_healthy_member_fails_open() {
    use TargetState::{Draining, Initial, Unhealthy};
    let group = group(&[("us-east-1a", Unhealthy), ("us-east-1a", Initial), ("us-east-1a", Draining)], true);
    let mut hits = [0; 3];
    for hash in 0..100 {
        hits[choose(&group, &zone("us-east-1a"), hash).expect("a member")] += 1;
    }
    assert_eq!(hits, [50, 50, 0]);
}
