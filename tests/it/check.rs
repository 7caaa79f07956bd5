//! `plgw check`: every kind of mistake has its line and column, whichever part of the program finds it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Ran, plgw};

/// A correct file: the quickstart with its clouds.
const RIGHT: &str =
    concat!(include_str!("../../config/scenarios/quickstart.toml"), include_str!("../../config/scenarios/clouds.toml"));

/// A private hosted zone, which the quickstart does not have.
const ZONE: &str = r#"
[[private_hosted_zone]]
name = "example.com"
vpcs = ["vpc-0b3f1c9a7d2e84f56"]
record = [{ name = "a.example.com", type = "ALIAS", endpoint = "vpce-024f5b57108c8d3ed" }]
"#;

/// A text of the file and its replacement; `»` marks each place where a mistake must be reported. Others may follow from it.
const MISTAKES: &[(&str, &str)] = &[
    // The text is no TOML.
    ("[[vpc]]", "lab_dir = »./x\n[[vpc]]"),
    ("[[vpc]]", "lab_dir = \"x»\n[[vpc]]"),
    ("[[vpc]]", "workers = 1\n»workers = 2\n[[vpc]]"),
    ("[[vpc]]", "[dns]\n[»dns]\n[[vpc]]"),
    // Keys and types.
    ("[[vpc]]", "»wrokers = 2\n[[vpc]]"),
    ("[[vpc]]", "[»vpc]"),
    ("[[vpc]]", "»workers = \"two\"\n[[vpc]]"),
    ("[[vpc]]", "»workers = 5000\n[[vpc]]"),
    ("[[vpc]]", "»lab_dir = \"\"\n[[vpc]]"),
    ("[[vpc]]", "»shutdown_grace = \"2d\"\n[[vpc]]"),
    ("[[vpc]]", "»move_grace = 5\n[[vpc]]"),
    ("[[vpc]]", "»watch_file = \"no\"\n[[vpc]]"),
    ("[[vpc]]", "»pace = \"quick\"\n[[vpc]]"),
    ("[[vpc]]", "»dns = 5\n[[vpc]]"),
    ("[[vpc]]", "[»vpc_]\n[[vpc]]"),
    // Settings.
    ("[[vpc]]", "[state]\n»store = \"disk\"\n[[vpc]]"),
    ("[[vpc]]", "[state]\nstore = \"memory\"\n»path = \"x\"\n[[vpc]]"),
    ("[[vpc]]", "[»state]\nstore = \"etcd\"\n[[vpc]]"),
    ("[[vpc]]", "[state]\nendpoints = [»\"b:2379\"]\n[[vpc]]"),
    ("[[vpc]]", "[gateway]\n»id = \"a\"\n[[vpc]]"),
    ("[[vpc]]", "[gateway]\n»zones = [\"us-east-1a\"]\n[[vpc]]"),
    ("[[vpc]]", "[dns]\n»listen = \"127.0.0.1:5335\"\n[[vpc]]"),
    ("[[vpc]]", "[dns]\nlisten = [»\"127.0.0.1\"]\n[[vpc]]"),
    ("[[vpc]]", "[dns]\n»listen = []\n[[vpc]]"),
    ("[[vpc]]", "[dns]\n»ttl = \"1500ms\"\n[[vpc]]"),
    ("[[vpc]]", "[dns]\n»forward = [\"127.0.0.1:5335\"]\n[[vpc]]"),
    ("[[vpc]]", "[metrics]\n»listen = \"127.1.0.4:9464\"\n[[vpc]]"),
    ("[[vpc]]", "[metrics]\n»listen = \"127.0.0.1:8474\"\n[admin]\nlisten = \"127.0.0.1:8474\"\n[[vpc]]"),
    ("[[vpc]]", "[admin]\n»listen = \"0.0.0.0:8474\"\n[[vpc]]"),
    ("[[vpc]]", "[admin]\n»tls = \"files\"\n[[vpc]]"),
    ("[[vpc]]", "[admin]\nnames = [»\"cluster0-shard-00-00-k45tj.mongodb.net\"]\n[[vpc]]"),
    ("[[vpc]]", "[node_names]\nservers = [»\"ns:53\"]\n[[vpc]]"),
    ("[[vpc]]", "[relay]\n»pipe_size = \"2MiB\"\n[[vpc]]"),
    ("[[vpc]]", "[limits]\n»backlog = 0\n[[vpc]]"),
    ("[[vpc]]", "[keepalive]\n»idle = 5\n[[vpc]]"),
    ("[[vpc]]", "[logs]\n»levels = \"loud\"\n[[vpc]]"),
    ("[[vpc]]", "[flow_logs]\n»format = \"${scraddr}\"\n[[vpc]]"),
    ("[[vpc]]", "[flow_logs]\nenabled = true\n»path = \"./plgw-lab/state.json\"\n[[vpc]]"),
    ("[[vpc]]", "»[[app_services.certificate]]\ncertificate = \"c.pem\"\n[[vpc]]"),
    // The consumer's side.
    ("id = \"vpc-0b3f1c9a7d2e84f56\"", "»id = \"vpc-1\""),
    ("region = \"us-east-1\"", "»region = \"us-esat-1\""),
    ("cidrs = [\"127.0.0.0/16\"]", "cidrs = [»\"127.0.0.1/16\"]"),
    ("cidrs = [\"127.0.0.0/16\"]", "cidrs = [»\"127.0.0/16\"]"),
    ("cidrs = [\"127.0.0.0/16\"]", "»cidrs = []"),
    ("cidrs = [\"127.0.0.0/16\"]", "»cidrs = \"127.0.0.0/16\""),
    ("peered = [\"127.3.0.0/16\"]", "peered = [»\"127.0.7.0/24\"]"),
    ("zone = \"us-east-1a\"", "»zone = \"eu-west-1a\""),
    ("cidr = \"127.0.30.0/24\"", "»cidr = \"127.4.30.0/24\""),
    ("cidr = \"127.0.20.0/24\"", "»cidr = \"127.0.30.128/25\""),
    ("id = \"subnet-0d2e3f4a5b6c71829\"", "»id = \"subnet-0c1d2e3f4a5b60718\""),
    ("ingress = [{ ports = \"1024-65535\", ", "ingress = [»{ "),
    ("ports = \"1024-65535\"", "»ports = \"0-5\""),
    ("ports = \"1024-65535\",", "ports = \"1024-65535\", groups = [»\"sg-0a1b2c3d4e5f60719\"],"),
    (
        "[[project]]",
        "[[vpc]]\nid = \"vpc-0b3f1c9a7d2e84f57\"\nregion = \"us-east-1\"\ncidrs = [»\"127.0.4.0/24\"]\n[[project]]",
    ),
    // The provider's side.
    ("id = \"5f2a1b3c4d5e6f7081920a3b\"", "»id = \"5f2a\""),
    ("access_list = [\"127.9.0.0/24\"]", "access_list = [»\"everywhere\"]"),
    ("name = \"Sharded0\"", "»name = \"cluster0\""),
    ("label = \"k45tj\"", "»label = \"K 45\""),
    ("label = \"uzgh6\"", "»label = \"k45tj\""),
    ("naming = \"dash\"", "»naming = \"underscore\""),
    ("type = \"replica-set\"", "»type = \"replicaset\""),
    ("type = \"replica-set\"", "type = \"replica-set\"\n»optimized = true"),
    ("optimized = true", "»set_name = \"x\""),
    (
        "[[project.cluster]]\nname = \"Sharded0\"",
        "»[[project.cluster]]\nname = \"Empty0\"\nlabel = \"k45tj\"\ntype = \"replica-set\"\n[[project.cluster]]\nname = \"Sharded0\"",
    ),
    ("tier = \"M30\"", "»tier = \"M31\""),
    ("tier = \"M30\"", "»connection_limit = \"many\""),
    ("name = \"shard-00-01\"", "»name = \"shard-00-00\""),
    ("address = \"127.1.0.12:27017\"", "»address = \"127.1.0.12:0\""),
    ("address = \"127.1.0.12:27017\"", "»address = \"127.1.0.11:27017\""),
    ("address = \"127.1.0.12:27017\"", "»address = \"127.0.30.194:27017\""),
    ("address = \"127.1.0.12:27017\"", "address = \"127.1.0.12:27017\"\n»host = \"mongo2.internal:27017\""),
    ("address = \"127.1.0.12:27017\"", "»host = \"mongo 2:27017\""),
    (
        "[[project.cluster.node]]\nname = \"shard-00-01\"\nzone = \"us-east-1b\"\naddress = \"127.1.0.12:27017\"",
        "»[[project.cluster.node]]\nname = \"shard-00-01\"\nzone = \"us-east-1b\"",
    ),
    ("public_address = \"127.9.0.12:27017\"", "»public_address = \"127.9.0.11:27017\""),
    ("id = \"vpce-svc-02863655456245e5c\"", "»id = \"vpce-svc-1\""),
    ("source_addresses", "»idle_timeout = \"5s\"\nsource_addresses"),
    ("source_addresses", "»target_limit = 500\nsource_addresses"),
    ("source_addresses", "»ports = \"1024-1026\"\nsource_addresses"),
    ("source_addresses", "»dns_minimum_healthy = 1\nrouting_minimum_healthy = 2\nsource_addresses"),
    ("source_addresses", "supported_remote_regions = [»\"us-east-1\"]\nsource_addresses"),
    ("timeout = \"2s\"", "»timeout = \"6s\""),
    // Endpoints.
    ("vpc = \"vpc-0b3f1c9a7d2e84f56\"", "»vpc = \"vpc-0b3f1c9a7d2e84f57\""),
    ("service = \"com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c\"", "»service = \"atlas\""),
    (
        "service = \"com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c\"",
        "»service = \"com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5d\"",
    ),
    ("dns_suffix = \"ypwbxwll\"", "»dns_suffix = \"x\""),
    ("dns_suffix = \"ypwbxwll\"", "»state = \"open\""),
    ("dns_suffix = \"ypwbxwll\"", "security_groups = [»\"sg-0a1b2c3d4e5f60719\"]"),
    ("ip = \"127.0.30.194\"", "»ip = \"127.0.31.194\""),
    ("ip = \"127.0.30.194\"", "»ip = \"127.0.30.1\""),
    ("ip = \"127.0.30.195\"", "»ip = \"127.0.30.194\""),
    ("{ subnet = \"subnet-0c1d2e3f4a5b60718\", ip = \"127.0.30.194\" },", "»5,"),
    // Apps.
    (
        "id = \"myapp-abcde\"\nproject = \"5f2a1b3c4d5e6f7081920a3b\"",
        "id = \"myapp-abcde\"\n»project = \"5f2a1b3c4d5e6f7081920a3d\"",
    ),
    ("backend = \"http://127.1.0.31:9080\"", "»backend = \"127.1.0.31:9080\""),
    ("backend = \"http://127.1.0.31:9080\"", "»backend = \"http://127.0.0.1:8474\""),
    ("public_address = \"127.9.0.10:8443\"", "»public_address = \"127.9.0.11:27017\""),
    (
        "endpoint = \"vpce-0357a1c6e8b2d4f90\", type = \"general\"",
        "»endpoint = \"vpce-0357a1c6e8b2d4f91\", type = \"general\"",
    ),
    // Azure and Google Cloud.
    ("id = \"projects/lab-project/global/networks/app\"", "»id = \"vpc-0b3f1c9a7d2e84f58\""),
    ("region = \"eastus2\"", "»region = \"us-central1\""),
    ("cidr = \"127.4.0.0/24\"", "»cidr = \"127.7.0.0/24\""),
    ("service = \"65f0000000000000000000a1\"", "»service = \"65f0000000000000000000a2\""),
    ("ip = \"127.4.0.4\"", "»ip = \"127.0.0.1\""),
    // Private hosted zones and faults.
    ("vpcs = [\"vpc-0b3f1c9a7d2e84f56\"]", "vpcs = [»\"vpc-0b3f1c9a7d2e84f57\"]"),
    ("name = \"a.example.com\"", "»name = \"a.example.org\""),
    (
        "{ name = \"a.example.com\", type = \"ALIAS\", endpoint = \"vpce-024f5b57108c8d3ed\" }",
        "»{ name = \"a.example.com\", type = \"A\" }",
    ),
    (
        "{ name = \"a.example.com\", type = \"ALIAS\", endpoint = \"vpce-024f5b57108c8d3ed\" }",
        "{ »name = \"example.com\", type = \"CNAME\", target = \"example.org\" }",
    ),
    ("[[vpc]]", "»[[fault]]\nname = \"x\"\ntype = \"latency\"\n[[vpc]]"),
    ("[[vpc]]", "[[fault]]\nname = \"x\"\n»type = \"zone-outage\"\n[[vpc]]"),
    ("[[vpc]]", "[[fault]]\nname = \"x\"\ntype = \"refuse\"\n»share = 2\n[[vpc]]"),
    ("[[vpc]]", "[[fault]]\nname = \"x\"\ntype = \"refuse\"\n»bytes = 2\n[[vpc]]"),
    ("[[vpc]]", "fault = [{ name = \"x\", type = \"refuse\" }, { »name = \"x\", type = \"refuse\" }]\n[[vpc]]"),
    // Mistakes that the plan finds in values that are each right but conflict: at the object concerned.
    (
        "[[project.cluster]]\nname = \"Sharded0\"\nlabel = \"auylw\"\nnaming = \"dot\"\ntype = \"sharded\"\noptimized = true\ntier = \"M30\"",
        "»[[project.cluster]]\nname = \"Sharded0\"\nlabel = \"auylw\"\ntype = \"sharded\"\ntier = \"M5\"",
    ),
    (
        "id = \"5f2a1b3c4d5e6f7081920a3b\"\nname = \"Project0\"\n# Half of the internet: 127.9.1.1 is not on the list.\naccess_list = [\"127.9.0.0/24\"]\n\n[[project.cluster]]",
        "id = \"5f2a1b3c4d5e6f7081920a3b\"\nregionalized_private_endpoints = true\n»[[project.cluster]]",
    ),
    (
        "id = \"vpce-svc-02863655456245e5c\"",
        "»id = \"vpce-svc-02863655456245e5c\"\nproxy_protocol_sources = [\"127.1.0.0/24\"]",
    ),
    (
        "id = \"vpce-svc-02863655456245e5c\"",
        "»id = \"vpce-svc-02863655456245e5c\"\nsupported_ip_address_types = [\"ipv4\", \"ipv6\"]",
    ),
    (
        "id = \"vpce-svc-02863655456245e5c\"",
        "»id = \"vpce-svc-02863655456245e5c\"\nidle_timeout = \"400s\"\nsupported_remote_regions = [\"us-west-2\"]",
    ),
    ("id = \"vpce-024f5b57108c8d3ed\"", "»id = \"vpce-024f5b57108c8d3ed\"\nip_address_type = \"dualstack\""),
    ("id = \"myapp-abcde\"", "»id = \"myapp-abcde\"\ndeployment = \"global\""),
    ("id = \"myapp-abcde\"", "»id = \"myapp-abcde\"\nwire_protocol = true"),
    (
        "id = \"myapp-abcde\"\nproject = \"5f2a1b3c4d5e6f7081920a3b\"\nregion = \"us-east-1\"\npublic_address = \"127.9.0.10:8443\"\nbackend = \"http://127.1.0.31:9080\"",
        "»id = \"myapp-abcde\"\nproject = \"5f2a1b3c4d5e6f7081920a3b\"\nregion = \"us-east-1\"\npublic_address = \"127.9.0.10:8443\"\nbackend = \"http://127.9.0.10:8443\"",
    ),
];

/// The same for mistakes that are reported elsewhere: with the text that begins at that place.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("zone = \"us-east-1b\"", "zone = \"us-east-1a\" #", "subnet = \"subnet-0d2e3f4a5b6c71829\", ip = \"127.0.20.54\""),
    ("name = \"Project0\"", "name = \"Project0\"\nregionalized_private_endpoints = true #", "[[project.cluster]]"),
    ("type = \"general\", comment", "type = \"sync\", comment", "id = \"myapp-abcde\""),
    (
        "id = \"65f0000000000000000000b1\"\nregion = \"us-central1\"",
        "id = \"65f0000000000000000000b1\"\nregion = \"us-east1\"",
        "service = \"65f0000000000000000000b1\"",
    ),
];

/// Files of mistakes in a directory of their own, where no state is saved.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    fn check<A: AsRef<Path>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        let mut command = plgw(["check"]);
        command.args(arguments.into_iter().map(|argument| argument.as_ref().as_os_str().to_owned()));
        Ran::from(command.current_dir(self.directory.path()).output().expect("the binary runs"))
    }
}

/// `text` without its marks, and the lines and columns that they marked.
fn unmarked(text: &str) -> (String, BTreeSet<(usize, usize)>) {
    let (mut plain, mut marks, mut line, mut column) = (String::new(), BTreeSet::new(), 1, 1);
    for c in text.chars() {
        if c == '»' {
            marks.insert((line, column));
            continue;
        }
        plain.push(c);
        (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    (plain, marks)
}

/// C2.
#[test]
fn every_kind_of_mistake_has_its_line_and_column() {
    let files = Files::new();
    let right = format!("{RIGHT}{ZONE}");
    let unchanged = files.check([files.write("right.toml", &right)]);
    assert_eq!(unchanged.code, Some(0), "{}", unchanged.err);
    let mut expected = BTreeMap::new();
    let marked = MISTAKES.iter().map(|(from, to)| (*to, *from, right.replacen(from, to, 1)));
    let elsewhere = ELSEWHERE
        .iter()
        .map(|(from, to, place)| (*to, *from, right.replacen(from, to, 1).replacen(place, &format!("»{place}"), 1)));
    for (number, (to, from, text)) in marked.chain(elsewhere).enumerate() {
        assert!(right.contains(from), "the file has {from}");
        let (text, marks) = unmarked(&text);
        assert!(!marks.is_empty(), "{to} has a mark");
        expected.insert(files.write(&format!("{number:03}.toml"), text).display().to_string(), (to, marks));
    }
    let checked = files.check(expected.keys());
    assert_eq!(checked.code, Some(78));
    let mut wrong = String::new();
    for (file, (to, marks)) in &expected {
        let headline =
            checked.err.lines().position(|line| line.trim_start_matches("plgw: ").starts_with(&format!("{file}: ")));
        let Some(headline) = headline else {
            wrong += &format!("{to}\n  is not reported\n");
            continue;
        };
        let problems: Vec<&str> = checked
            .err
            .lines()
            .skip(headline + 1)
            .take_while(|line| line.starts_with("  "))
            .map(str::trim_start)
            .collect();
        let place = |problem: &str| {
            let mut parts = problem.strip_prefix(file.as_str())?.strip_prefix(':')?.splitn(3, ':');
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        };
        let places: BTreeSet<Option<(usize, usize)>> = problems.iter().map(|problem| place(problem)).collect();
        if places.contains(&None) || places.is_empty() || marks.iter().any(|mark| !places.contains(&Some(*mark))) {
            wrong += &format!("{to}\n  {marks:?} expected:\n  {}\n", problems.join("\n  "));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// C2.
#[test]
fn what_is_no_file_of_text_is_named_and_the_other_files_are_checked_all_the_same() {
    let files = Files::new();
    let right = files.write("right.toml", RIGHT);
    let noise = files.write("noise.toml", b"workers = 1\nx = \"\xff\"\n");
    let directory = files.directory.path();
    let missing = directory.join("missing.toml");
    let checked = files.check([directory, &missing, &noise, &right]);
    assert_eq!(checked.code, Some(78));
    assert!(checked.out.starts_with(&format!("{}: ok: ", right.display())), "{}", checked.out);
    let expected = format!(
        "plgw: {directory}: 1 problem\n  cannot read the file: Is a directory (os error 21)\n\
         {missing}: 1 problem\n  cannot read the file: No such file or directory (os error 2)\n\
         {noise}: 1 problem\n  {noise}:2:6: not UTF-8 text from here on\n",
        directory = directory.display(),
        missing = missing.display(),
        noise = noise.display(),
    );
    assert_eq!(checked.err, expected);

    let json = files.check([directory, &noise, &right, Path::new("--output"), Path::new("json")]);
    assert_eq!((json.code, json.err.as_str()), (Some(78), ""));
    let list: Value = serde_json::from_str(&json.out).expect("JSON");
    let problem = |n: usize| list[n]["problems"][0].as_str().expect("a text").to_owned();
    assert_eq!(problem(0), "cannot read the file: Is a directory (os error 21)");
    assert_eq!(problem(1), format!("{}:2:6: not UTF-8 text from here on", noise.display()));
    assert_eq!((&list[2]["ok"], &list[2]["problems"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(files.check([&right]).code, Some(0));
    assert_eq!(files.check([&right, &right]).out.lines().count(), 2, "each as often as it is named");
    assert_eq!(files.check(Vec::<PathBuf>::new()).code, Some(2), "no file is named");
}

/// A fault may be for what an API adds later, so a name that the config does not have is no mistake.
#[test]
fn a_fault_for_what_the_config_does_not_have_is_noticed() {
    let files = Files::new();
    let fault = |scope: &str| format!("[[fault]]\nname = \"{scope}\"\ntype = \"refuse\"\n{scope}\n");
    let there = [
        "target = 'Cluster0/shard-00-00'",
        "target = 'Sharded0/lb'",
        "member = 'mongos-00'",
        "zone = 'us-east-1a'",
        "service = 'vpce-svc-0718bec2c0bdeab5c'",
        "endpoint = 'vpce-024f5b57108c8d3ed'",
    ];
    let absent = [
        ("target = 'Cluster0/shard-00-07'", "target `Cluster0/shard-00-07`"),
        ("member = 'mongos'", "member `mongos`"),
        ("zone = 'us-west-2a'", "zone `us-west-2a`"),
        ("service = 'vpce-svc-0718bec2c0bdeab5d'", "service `vpce-svc-0718bec2c0bdeab5d`"),
        ("endpoint = 'vpce-024f5b57108c8d3ee'", "endpoint `vpce-024f5b57108c8d3ee`"),
    ];
    let faults: String = there.into_iter().chain(absent.map(|(scope, _)| scope)).map(fault).collect();
    let checked = files.check([files.write("faults.toml", format!("{faults}{RIGHT}"))]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    let notices: Vec<&str> = checked.out.lines().filter_map(|line| line.strip_prefix("  notice: fault")).collect();
    let expected: Vec<String> = (there.len()..)
        .zip(absent)
        .map(|(n, (_, name))| {
            format!("[{n}]: this config has no {name}; the fault has an effect only once an API has made it")
        })
        .collect();
    assert_eq!(notices, expected);
}
