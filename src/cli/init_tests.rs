use proptest::prelude::*;

use super::*;

fn wanted(nodes: u8, zones: u8, cidr: &str, service: &str) -> InitOptions {
    wanted_in(Provider::Aws, "eu-west-1", nodes, zones, cidr, service).expect("nothing is asked")
}

fn wanted_in(
    provider: Provider,
    region: &str,
    nodes: u8,
    zones: u8,
    cidr: &str,
    service: &str,
) -> Result<InitOptions, Failure> {
    let args = Args {
        nodes: Some(nodes),
        node: Vec::new(),
        zones: Some(zones),
        provider: Some(provider),
        region: Some(region.to_owned()),
        cidr: Some(network(cidr).expect("a network")),
        service_cidr: Some(network(service).expect("a network")),
        cluster: None,
    };
    args.wanted()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// C1.
    #[test]
    fn every_combination_of_options_can_be_planned(nodes in 1..=MAX_NODES, zones in 1..=MAX_ZONES, prefix in 8u8..=24) {
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
fn networks_that_cannot_hold_it_are_refused_with_those_that_can() {
    assert_eq!(
        network("10.0.0.0/25").expect_err("small"),
        "`10.0.0.0/25` is too small; write a network of /24 or more"
    );
    assert!(network("fd00::/64").expect_err("IPv6").contains("no IPv4 network"));
}

#[test]
fn a_config_of_each_cloud_can_be_planned_by_the_clouds_names_of_regions_and_by_atlas() {
    for (provider, own, atlas) in
        [(Provider::Azure, "eastus2", "US_EAST_2"), (Provider::Gcp, "us-central1", "CENTRAL_US")]
    {
        for region in [own, atlas] {
            let wanted = wanted_in(provider, region, 4, 3, "10.0.0.0/24", "10.1.0.0/16").expect("nothing is asked");
            let text = wanted.text();
            let config = config::parse(&text, NAME).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
            let (snapshot, _) = compile(&config.desired, &PortAllocations::default(), Generation(1)).expect("a plan");
            assert_eq!((snapshot.targets.len(), snapshot.listeners.len()), (4, 4), "{text}");
            assert!(snapshot.notices.is_empty(), "{:?}", snapshot.notices);
            assert!(text.contains(&format!("region = \"{own}\"")), "{text}");
        }
    }
}

#[test]
fn a_region_of_another_provider_and_a_fourth_zone_are_refused_with_advice() {
    let wrong = |provider, region, zones| {
        let wanted = wanted_in(provider, region, 3, zones, "10.0.0.0/16", "10.1.0.0/16");
        wanted.map(drop).expect_err("it is refused").to_string()
    };
    assert!(wrong(Provider::Aws, "eastus2", 2).contains("`eastus2` is a region of AZURE; add `--provider azure`"));
    assert!(wrong(Provider::Azure, "us-central1", 2).contains("add `--provider gcp`"));
    assert!(wrong(Provider::Gcp, "us-central9", 2).contains("is not a region of GCP that Atlas offers"));
    assert!(wrong(Provider::Gcp, "us-central1", 4).contains("us-central1 has 3 availability zones"));
}
