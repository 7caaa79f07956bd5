use proptest::prelude::*;

use super::*;

fn wanted(nodes: u8, zones: u8, cidr: &str, service: &str) -> Wanted {
    let args = Args {
        nodes: Some(nodes),
        node: Vec::new(),
        zones: Some(zones),
        region: Some("eu-west-1".parse().expect("a region")),
        cidr: Some(network(cidr).expect("a network")),
        service_cidr: Some(network(service).expect("a network")),
        cluster: None,
    };
    args.wanted().expect("nothing is asked")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// C1.
    #[test]
    fn whatever_is_wanted_can_be_planned(nodes in 1..=MOST_NODES, zones in 1..=MOST_ZONES, prefix in 8u8..=24) {
        let text = wanted(nodes, zones, &format!("10.0.0.0/{prefix}"), "192.168.7.0/24").text();
        let config = config::parse(&text, NAME).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        let (snapshot, _) = compile(&config.desired, &PortAllocations::default(), Generation(1)).expect("a plan");
        prop_assert_eq!(snapshot.targets.len(), usize::from(nodes));
        prop_assert_eq!(snapshot.listeners.len(), usize::from(nodes) * usize::from(zones));
        prop_assert!(snapshot.notices.is_empty(), "{:?}", snapshot.notices);
    }
}

#[test]
fn two_configs_share_no_id() {
    let ids = |text: String| -> Vec<String> {
        text.lines().filter_map(|line| Some(line.strip_prefix("id = ")?.to_owned())).collect()
    };
    let (one, other) = (
        ids(wanted(3, 2, "10.0.0.0/16", "10.1.0.0/16").text()),
        ids(wanted(3, 2, "10.0.0.0/16", "10.1.0.0/16").text()),
    );
    assert_eq!(one.len(), 7);
    assert!(one.iter().all(|id| !other.contains(id)), "{one:?} {other:?}");
}

#[test]
fn networks_that_cannot_hold_it_are_refused_with_what_can() {
    assert_eq!(
        network("10.0.0.0/25").expect_err("small"),
        "`10.0.0.0/25` is too small; write a network of /24 or more"
    );
    assert!(network("fd00::/64").expect_err("IPv6").contains("no IPv4 network"));
}
