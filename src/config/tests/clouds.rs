//! Mistakes in the Azure and Google Cloud parts of a config.

use super::super::{CLOUDS, parse};

/// The only mistake in the embedded file with `from` replaced by `to`, as printed by `plgw check`.
fn mistake(from: &str, to: &str) -> String {
    assert!(CLOUDS.contains(from), "{from}");
    parse(&CLOUDS.replacen(from, to, 1), "clouds.toml").expect_err("there is a mistake").to_string()
}

#[test]
fn two_forwarding_rules_of_one_name_are_refused_as_atlas_could_not_tell_them_apart() {
    let with_rule = |name: &str| {
        let id = format!("projects/other/regions/us-central1/forwardingRules/{name}");
        let (network, service) = ("projects/lab-project/global/networks/app", "65f0000000000000000000b1");
        let rule = format!("id = \"{id}\"\nnetwork = \"{network}\"\nservice = \"{service}\"\nip = \"127.5.0.5\"\n");
        parse(&[CLOUDS, "\n[[private_endpoint]]\n", &rule].concat(), "clouds.toml")
    };
    let line = CLOUDS.lines().count() + 3;
    assert_eq!(
        with_rule("atlas").expect_err("two have one name").to_string(),
        format!(
            "clouds.toml: 1 problem\n  clouds.toml:{line}:1: private_endpoint[2].id: `atlas` is the name of \
             `private_endpoint[1].id` too, and Atlas knows a service's forwarding rules by their names alone; rename one of them"
        )
    );
    assert_eq!(with_rule("other").expect("a good config").desired.endpoints.len(), 3);
}

#[test]
fn optimized_strings_of_a_cluster_in_a_cloud_are_refused_with_the_reason() {
    let said =
        mistake("type = \"replica-set\"\nset_name = \"atlas-azure0-shard-0\"", "type = \"sharded\"\noptimized = true");
    assert!(
        said.contains("project[0].cluster[0].optimized: optimized strings are for nodes behind AWS PrivateLink"),
        "{said}"
    );
    assert!(said.contains("nodes on AZURE; leave it out"), "{said}");
}
