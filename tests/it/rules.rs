//! The refusals of Atlas and App Services: `plgw check` names the rule and exits with 78.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A file with the two regions' scenario or the replica set's, changed.
struct Case {
    directory: TempDir,
    text: String,
}

impl Case {
    fn scenario(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("config/scenarios/{name}.toml"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let directory = tempfile::tempdir().expect("a directory");
        let lab = format!("lab_dir = {:?}\n", directory.path().join("lab"));
        Self { directory, text: lab + &text }
    }

    /// Puts `new` in the place of `old`, which has to be there.
    fn with(mut self, old: &str, new: &str) -> Self {
        assert!(self.text.contains(old), "the scenario has no {old:?}");
        self.text = self.text.replace(old, new);
        self
    }

    /// Adds `more` at the end.
    fn and(mut self, more: &str) -> Self {
        self.text.push_str(more);
        self
    }

    /// The command's output and exit code.
    fn run(&self, command: &[&str]) -> (i32, String) {
        let file = self.directory.path().join("gateway.toml");
        std::fs::write(&file, &self.text).expect("written");
        let mut plgw = Command::new(env!("CARGO_BIN_EXE_plgw"));
        let done = plgw.args(command).arg("--config").arg(file).output().expect("it runs");
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        (done.status.code().expect("an exit code"), said)
    }

    /// It is refused, and every one of `words` is said.
    #[track_caller]
    fn is_refused(&self, words: &[&str]) {
        let (code, said) = self.run(&["check"]);
        assert_eq!(code, 78, "{said}");
        for word in words {
            assert!(said.contains(word), "no {word:?} in: {said}");
        }
    }

    /// Expects success, and returns the output of `check`.
    #[track_caller]
    fn is_right(&self) -> String {
        let (code, said) = self.run(&["check"]);
        assert_eq!(code, 0, "{said}");
        said
    }
}

fn many_nodes(count: usize) -> String {
    let node = |n: usize| {
        format!("    {{ name = \"mongos-{n:02}\", zone = \"us-east-1a\", address = \"127.1.1.{}:27016\" }},\n", n + 1)
    };
    (0..count).map(node).collect()
}

/// The sharded scenario with `count` mongos instead of its own, beside its BI Connector.
fn sharded(count: usize) -> Case {
    let case = Case::scenario("sharded");
    let (from, to) = ("node = [\n", "]\nbi_connector");
    let start = case.text.find(from).expect("nodes") + from.len();
    let end = case.text.find(to).expect("the nodes' end");
    let old = case.text[start..end].to_owned();
    case.with(&old, &many_nodes(count))
}

/// A7, A8: each mongos counts, and so does the BI Connector.
#[test]
fn the_51st_target_of_a_region_is_refused_with_the_users_of_the_slots() {
    assert!(sharded(49).is_right().contains("50 targets"));
    sharded(50).is_refused(&["51 addressable targets in us-east-1", "limit of 50", "Sharded0", "one-time increase"]);
}

/// A7: the limit can be raised once, to 100 and no further.
#[test]
fn the_limit_of_targets_can_be_raised_to_100_and_no_further() {
    let service = "id = \"vpce-svc-02863655456245e5c\"\nregion";
    let raised = |to: u32| format!("id = \"vpce-svc-02863655456245e5c\"\ntarget_limit = {to}\nregion");
    assert!(sharded(99).with(service, &raised(100)).is_right().contains("100 targets"));
    sharded(100).with(service, &raised(100)).is_refused(&["101 addressable targets", "limit of 100"]);
    sharded(3).with(service, &raised(101)).is_refused(&["101", "100"]);
}

/// A8, A16: with optimized strings a sharded cluster is one target, however many mongos it has.
#[test]
fn an_optimized_cluster_is_one_target_whatever_its_size() {
    let optimized = sharded(80).with("type = \"sharded\"\n", "type = \"sharded\"\noptimized = true\n");
    assert!(optimized.is_right().contains("2 targets"), "itself and the BI Connector");
    let (code, strings) = optimized.run(&["connection-strings"]);
    assert_eq!(code, 0, "{strings}");
    assert!(strings.contains("mongodb+srv://sharded0-pl-0-lb.auylw.mongodb.net"), "{strings}");
}

/// A9, A10: both spellings of the names, by the cluster's setting; the standard string with a port a node.
#[test]
fn connection_strings_are_the_documented_ones_in_both_spellings() {
    let (_, dash) = Case::scenario("replica-set").run(&["connection-strings"]);
    assert!(dash.contains("mongodb+srv://cluster0-pl-0-k45tj.mongodb.net"), "{dash}");
    let hosts = [1024, 1025, 1026].map(|port| format!("pl-0-us-east-1-k45tj.mongodb.net:{port}")).join(",");
    let options = "ssl=true&authSource=admin&replicaSet=Cluster0-shard-0-shard-0";
    assert!(dash.contains(&format!("mongodb://{hosts}/?{options}")), "{dash}");
    let (_, dot) =
        Case::scenario("replica-set").with("naming = \"dash\"", "naming = \"dot\"").run(&["connection-strings"]);
    assert!(dot.contains("mongodb+srv://cluster0-pl-0.k45tj.mongodb.net"), "{dot}");
}

/// A second endpoint in us-east-1, in another VPC.
const SECOND_ENDPOINT: &str = r#"
[[vpc]]
id = "vpc-0d5f3e1c9f4a06b78"
region = "us-east-1"
cidrs = ["127.6.0.0/16"]
enable_dns_hostnames = true

[[vpc.subnet]]
id = "subnet-0f4a5b6c7d8e9304b"
zone = "us-east-1a"
cidr = "127.6.30.0/24"

[[vpc.security_group]]
id = "sg-0c3d4e5f607182930"
name = "default"
ingress = [{ ports = "1024-65535", cidrs = ["127.6.0.0/16"] }]

[[interface_endpoint]]
id = "vpce-068ad4f9b1e5071c3"
vpc = "vpc-0d5f3e1c9f4a06b78"
service = "com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c"
address = [{ subnet = "subnet-0f4a5b6c7d8e9304b", ip = "127.6.30.194" }]
"#;

/// A20: several endpoints in one region, or one per region over several; nothing else.
#[test]
fn several_endpoints_in_one_region_exclude_endpoints_elsewhere() {
    Case::scenario("replica-set").and(SECOND_ENDPOINT).is_right();
    Case::scenario("two-regions").is_right();
    Case::scenario("two-regions").and(SECOND_ENDPOINT).is_refused(&[
        "either more than one private endpoint in a single region, or no more than one per region",
        "us-east-1",
        "eu-west-1",
    ]);
}

/// A18: only sharded clusters, and then any number of endpoints in any region, with strings of each region's own.
#[test]
fn regional_mode_takes_sharded_clusters_only_and_any_number_of_endpoints() {
    let project = "id = \"5f2a1b3c4d5e6f7081920a3b\"\n";
    let regional = "id = \"5f2a1b3c4d5e6f7081920a3b\"\nregionalized_private_endpoints = true\n";
    Case::scenario("two-regions").with(project, regional).is_refused(&["Cluster0", "sharded clusters only"]);
    let sharded = Case::scenario("two-regions").with("type = \"replica-set\"", "type = \"sharded\"\ntier = \"M30\"");
    let before = sharded.run(&["connection-strings"]).1;
    let sharded = sharded.with(project, regional).and(SECOND_ENDPOINT);
    sharded.is_right();
    let after = sharded.run(&["connection-strings"]).1;
    assert_ne!(before, after, "the strings change when the mode is switched on");
    for host in ["pl-0-us-east-1.k45tj", "pl-1-us-east-1.k45tj", "pl-0-eu-west-1.k45tj"] {
        assert!(after.contains(host), "{host}: {after}");
    }
}

/// A19: only this mode allows so many endpoints.
#[test]
fn regional_mode_cannot_be_switched_off_with_more_than_one_endpoint_here_and_one_there() {
    Case::scenario("two-regions")
        .with("type = \"replica-set\"", "type = \"sharded\"\ntier = \"M30\"")
        .and(SECOND_ENDPOINT)
        .is_refused(&["no more than one per region", "switch regionalized private endpoints on"]);
}

/// A21: with an endpoint missing in one of the cluster's regions there are no private strings, and it is said which.
#[test]
fn a_cluster_with_an_unreached_region_has_no_private_strings_and_names_the_region() {
    let missing = Case::scenario("two-regions");
    let at = missing.text.find("[[interface_endpoint]]\nid = \"vpce-0579c3e8a0d4f6b12\"").expect("the second endpoint");
    let rest = missing.text[at..].to_owned();
    let missing = missing.with(&rest, "");
    let said = missing.is_right();
    assert!(said.contains("eu-west-1") && said.contains("Cluster0"), "{said}");
    let (_, strings) = missing.run(&["connection-strings"]);
    assert!(!strings.contains("pl-0"), "{strings}");
}

/// A31: the service's owner sets the supported regions.
#[test]
fn an_endpoint_of_another_region_needs_the_owners_support_and_awss_idle_timeout() {
    let supported = "supported_remote_regions = [\"eu-west-1\"]";
    let scenario = || Case::scenario("cross-region");
    scenario().is_right();
    scenario().with(supported, "").is_refused(&[
        "vpce-0579c3e8a0d4f6b12",
        "takes no endpoints from there",
        "eu-west-1",
    ]);
    let own = "supported_remote_regions = [\"eu-west-1\", \"us-east-1\", \"eu-west-1\"]";
    scenario()
        .with(supported, own)
        .is_refused(&["`us-east-1` is the service's own region", "`eu-west-1` appears here twice"]);
    let idle = format!("{supported}\nidle_timeout = \"400s\"");
    scenario().with(supported, &idle).is_refused(&["cross-region access is not supported", "400 s"]);
    let said = scenario().run(&["connection-strings"]).1;
    assert!(said.contains("pl-0-us-east-1"), "{said}");
}

/// A22: the first endpoint of a region waits until paused clusters there are resumed.
#[test]
fn the_first_endpoint_of_a_region_is_refused_while_a_cluster_there_is_paused() {
    Case::scenario("replica-set")
        .with("type = \"replica-set\"", "type = \"replica-set\"\npaused = true")
        .is_refused(&["first private endpoint in us-east-1", "Cluster0", "resume it first"]);
}

/// A24: the documented message.
#[test]
fn an_endpoint_without_a_subnet_ends_failed_with_the_documented_message() {
    let bare = Case::scenario("replica-set")
        .with("address = [{ subnet = \"subnet-0c1d2e3f4a5b60718\", ip = \"127.0.30.194\" }]", "address = []");
    let said = bare.is_right();
    let message = "No dns entries found for endpoint vpce-024f5b57108c8d3ed, your endpoint must be provisioned in at \
                   least one subnet";
    assert!(said.contains(message), "{said}");
}

/// A28.
#[test]
fn shared_tiers_have_no_private_endpoints() {
    for tier in ["M0", "M2", "M5"] {
        let tier_line = format!("type = \"replica-set\"\ntier = \"{tier}\"");
        Case::scenario("replica-set")
            .with("type = \"replica-set\"", &tier_line)
            .is_refused(&["not available for M0, M2 and M5", tier]);
    }
}

/// B7: a global app has none.
#[test]
fn a_global_app_has_no_private_endpoints() {
    Case::scenario("app-services")
        .with("deployment = \"local\"\n", "deployment = \"global\"\n")
        .is_refused(&["only available for apps deployed locally to a region in AWS"]);
}

/// B12: in either order, since a config has both at once.
#[test]
fn wire_protocol_and_private_endpoints_exclude_each_other() {
    Case::scenario("app-services")
        .with("deployment = \"local\"\n", "deployment = \"local\"\nwire_protocol = true\n")
        .is_refused(&["wire protocol connections and private endpoints exclude each other"]);
}
