//! The exact messages for mistakes. Each row changes the quickstart's file in one place.

use crate::config::{QUICKSTART, load, parse};

/// The text to replace in the quickstart's file with [`PRIVATE_ZONES`], its replacement, and the expected messages in
/// order.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// Private hosted zones, which the quickstart does not have.
const PRIVATE_ZONES: &str = r#"
[[private_hosted_zone]]
name = "us-east-1.aws.services.cloud.mongodb.com"
vpcs = ["vpc-0b3f1c9a7d2e84f56"]
record = [
    { name = "us-east-1.aws.services.cloud.mongodb.com", type = "ALIAS", endpoint = "vpce-0357a1c6e8b2d4f90" },
    { name = "ws.us-east-1.aws.services.cloud.mongodb.com", type = "ALIAS", endpoint = "vpce-0468b2d7f9c3e5a01" },
]

[[private_hosted_zone]]
name = "us-east-1.aws.ws.services.cloud.mongodb.com"
vpcs = ["vpc-0b3f1c9a7d2e84f56"]
record = [
    { name = "us-east-1.aws.ws.services.cloud.mongodb.com", type = "ALIAS", endpoint = "vpce-0468b2d7f9c3e5a01" },
]
"#;

#[test]
fn invalid_toml_and_unknown_missing_or_mistyped_keys_are_reported_with_their_place() {
    said(&[
        (
            "[[vpc]]",
            r#"workers = "two"
wrokers = 2
[[vpc]]"#,
            &[
                r#"workers: the text "two" is not a whole number (0 to 1024)"#,
                "wrokers: unknown key; did you mean `workers`?",
            ],
        ),
        (
            "[[vpc]]",
            "xyz = 1\n[[vpc]]",
            &[
                "xyz: unknown key; known here: `access_log`, `admin`, `app`, `app_service`, `app_services`, `dns`, `fault`, `flow_logs`, `gateway`, `interface_endpoint`, `keepalive`, `lab_dir`, `limits`, `logs`, `metrics`, `move_grace`, `network`, `node_names`, `pace`, `private_endpoint`, `private_hosted_zone`, `project`, `relay`, `shutdown_grace`, `state`, `vpc`, `watch_file`, `workers`",
            ],
        ),
        (
            "[[vpc]]",
            "[flow_logs]\ninterval = \"20m\"\nformat = \"${version} ${scraddr}\"\naccount_id = \"12\"\n[[vpc]]",
            &[
                "flow_logs.interval: `20m` is out of range (1s to 600s, a flow log's own are 60s and 600s)",
                "flow_logs.format: there is no field `scraddr` here; did you mean `srcaddr`?",
                "flow_logs.account_id: `12` is no account id (12 digits, or `unknown`)",
            ],
        ),
        (
            "[[vpc]]",
            "[state]\npath = \"./x\"\n[flow_logs]\nenabled = true\npath = \"x\"\n[[vpc]]",
            &["flow_logs.path: `x` is the file of `state.path`; a log has one of its own"],
        ),
        (
            "[[vpc]]",
            "[flow_logs]\nenabled = true\npath = \"plgw-lab/access.log\"\n[access_log]\nenabled = true\n[[vpc]]",
            &["access_log.path: `./plgw-lab/access.log` is the file of `flow_logs.path`; a log has one of its own"],
        ),
        (
            "[[vpc]]",
            "[access_log]\ndestination = \"stdout\"\npath = \"x\"\n[[vpc]]",
            &["access_log.path: standard output has no path; leave it out or set `destination` to `file`"],
        ),
        ("[[vpc]]", "workers =\n[[vpc]]", &["string values must be quoted, expected literal string"]),
        ("[[vpc]]", "workers = 1\nworkers = 2\n[[vpc]]", &["duplicate key"]),
        (
            r#"cidrs = ["127.0.0.0/16"]"#,
            r#"cidrs = "127.0.0.0/16""#,
            &[r#"vpc[0].cidrs: the text "127.0.0.0/16" is not an array; write it in `[` and `]`"#],
        ),
        (
            "enable_dns_support = true",
            r#"enable_dns_support = "yes""#,
            &[r#"vpc[0].enable_dns_support: the text "yes" is neither `true` nor `false`"#],
        ),
        (
            r#"ports = "1024-65535","#,
            r#"groups = ["sg-0a1b2c3d4e5f60719"],"#,
            &[
                "vpc[0].security_group[0].ingress[0].ports: missing; it has no default",
                "vpc[0].security_group[0].ingress[0].groups[0]: no `[[vpc.security_group]]` of this VPC has the id `sg-0a1b2c3d4e5f60719`",
            ],
        ),
        (
            "[[app]]",
            "[[app]]\n[[app]]",
            &[
                "app[0].id: missing; it has no default",
                "app[0].project: missing; it has no default",
                "app[0].region: missing; it has no default",
                "app[0].public_address: missing; it has no default",
                "app[0].backend: missing; it has no default",
            ],
        ),
        (
            r#"name = "Project0""#,
            r#"node = 5
name = "Project0""#,
            &[
                "project[0].node: unknown key; known here: `access_list`, `cluster`, `endpoint_service`, `id`, `name`, `regionalized_private_endpoints`",
            ],
        ),
        (
            "[[vpc]]",
            r#"workers = 99999999999999999999
lab_dir = 5
shutdown_grace = "2d"
watch_file = 2026-01-01
[[vpc]]"#,
            &[
                "workers: 99999999999999999999 is out of range (0 to 1024)",
                "lab_dir: the number 5 is not a text in quotes",
                "shutdown_grace: `2d` is out of range (0s to 86400s)",
                "watch_file: the date 2026-01-01 is neither `true` nor `false`",
            ],
        ),
        (
            "[[vpc]]",
            r#"workers = 1
lab_dir = ./x
move_grace = "2s
[[vpc]]"#,
            &["invalid mantissa, expected digits", r#"invalid basic string, expected `"`"#],
        ),
        (
            r#"{ subnet = "subnet-0c1d2e3f4a5b60718", ip = "127.0.30.194" },"#,
            "5,",
            &["interface_endpoint[0].address[0]: the number 5 is not a table"],
        ),
        (
            "[[vpc]]",
            "[[vpc]]\nwrokers.x = 1",
            &[
                "vpc[0].wrokers: unknown key; known here: `cidrs`, `enable_dns_hostnames`, `enable_dns_support`, `id`, `on_premises`, `peered`, `region`, `security_group`, `subnet`",
            ],
        ),
    ]);
}

#[test]
fn impossible_settings_are_refused_with_the_possible_ones() {
    said(&[(
        "[[vpc]]",
        r#"[state]
store = "memory"
path = "x"
[keepalive]
idle = 5
[relay]
scratch = "64KB"
pipe_size = "2MiB"
congestion = "a-very-long-congestion-name"
[limits]
backlog = 0
[[vpc]]"#,
        &[
            "state.path: a store in memory has no path; leave it out or set `store` to `file`",
            r#"keepalive.idle: the number 5 is not a duration in quotes, as "350s""#,
            "relay.scratch: `64KB` is not a size; write a number and B, KiB, MiB or GiB, as `64KiB`",
            "relay.pipe_size: `2MiB` is out of range (4KiB to 1MiB)",
            "relay.congestion: `a-very-long-congestion-name` is no congestion control: their names have at most 15 characters",
            "limits.backlog: 0 is out of range (1 to 65535)",
        ],
    )]);
}

#[test]
fn a_store_in_etcd_has_endpoints_and_what_belongs_to_them() {
    let head = |state: &str| -> &str { format!("[state]\n{state}\n[[vpc]]").leak() };
    said(&[
        (
            "[[vpc]]",
            head(r#"store = "etcd""#),
            &[r#"state.endpoints: etcd's client URLs are missing; write `endpoints = ["http://127.0.0.1:2379"]`"#],
        ),
        (
            "[[vpc]]",
            head("endpoints = [\"http://a:1\", \"b:2379\"]\nprefix = \"x\""),
            &["state.endpoints[1]: `b:2379` is not a server's URL, as `http://127.0.0.1:2379`"],
        ),
        (
            "[[vpc]]",
            head("store = \"etcd\"\npath = \"x\"\nendpoints = [\"https://a:1\"]\nkey = \"k\"\nuser = \"u\""),
            &[
                "state.path: a store in etcd has no path; leave it out or set `store` to `file`",
                "state.endpoints: `https:` needs `ca`, the file with the certificate of the CA that signed etcd's",
                "state.key: `certificate` and `key` belong together",
                "state.user: `user` and `password_file` belong together",
            ],
        ),
        (
            "[[vpc]]",
            head("store = \"etcd\"\nendpoints = [\"http://a:1\"]\nca = \"c\""),
            &["state.ca: the endpoints are `http:`, where no certificate is used; leave it out or write `https:`"],
        ),
        (
            "[[vpc]]",
            head("store = \"etcd\"\nendpoints = [\"http://a:1\", \"https://b:1\"]"),
            &["state.endpoints: some are `https:` and some `http:`; make them all the same"],
        ),
        (
            "[[vpc]]",
            "[gateway]\nid = \"a\"\n[[vpc]]",
            &[
                "gateway.id: names a gateway among those that share a state, and this one's is its alone; leave it out, or set \
               `state.store` to `etcd`",
            ],
        ),
    ]);
}

#[test]
fn vpcs_subnets_and_security_groups_that_contradict_themselves_are_named() {
    said(&[
        (
            r#"region = "us-east-1""#,
            r#"region = "us-esat-1""#,
            &["vpc[0].region: `us-esat-1` is not an AWS region that Atlas offers; did you mean `us-east-1`?"],
        ),
        (
            r#"cidrs = ["127.0.0.0/16"]"#,
            r#"cidrs = ["127.0.0.1/16"]"#,
            &["vpc[0].cidrs[0]: `127.0.0.1/16` has bits set behind its prefix; did you mean `127.0.0.0/16`?"],
        ),
        (r#"cidrs = ["127.0.0.0/16"]"#, "cidrs = []", &["vpc[0].cidrs: empty; a VPC has one network at least"]),
        (
            r#"zone = "us-east-1a""#,
            r#"zone = "us-esat-1a""#,
            &[
                "vpc[0].subnet[0].zone: in zone `us-esat-1a`, `us-esat-1` is not an AWS region that Atlas offers; did you mean `us-east-1`?",
            ],
        ),
        (
            r#"zone = "us-east-1a""#,
            r#"zone = "eu-west-1a""#,
            &["vpc[0].subnet[0].zone: `eu-west-1a` is not in the VPC's region `us-east-1`"],
        ),
        (
            r#"cidr = "127.0.30.0/24""#,
            r#"cidr = "127.4.30.0/24""#,
            &[
                "vpc[0].subnet[0].cidr: `127.4.30.0/24` is outside the VPC's networks (127.0.0.0/16)",
                "interface_endpoint[0].address[0].ip: `127.0.30.194` is outside its subnet `127.4.30.0/24`",
                "interface_endpoint[1].address[0].ip: `127.0.30.195` is outside its subnet `127.4.30.0/24`",
                "interface_endpoint[2].address[0].ip: `127.0.30.196` is outside its subnet `127.4.30.0/24`",
            ],
        ),
        (
            r#"cidr = "127.0.30.0/24""#,
            r#"cidr = "127.0.20.0/25""#,
            &[
                "vpc[0].subnet[1].cidr: `127.0.20.0/24` overlaps `127.0.20.0/25` of another subnet of the VPC",
                "interface_endpoint[0].address[0].ip: `127.0.30.194` is outside its subnet `127.0.20.0/25`",
                "interface_endpoint[1].address[0].ip: `127.0.30.195` is outside its subnet `127.0.20.0/25`",
                "interface_endpoint[2].address[0].ip: `127.0.30.196` is outside its subnet `127.0.20.0/25`",
            ],
        ),
        (
            r#"cidr = "127.0.30.0/24""#,
            r#"cidr = "127.0.30.0/24"
ipv6_cidr = "127.0.31.0/24""#,
            &["vpc[0].subnet[0].ipv6_cidr: `127.0.31.0/24` is IPv4; write an IPv6 network, as `2001:db8:0:30::/64`"],
        ),
        (
            r#"cidr = "127.0.30.0/24""#,
            r#"cidr = "127.0.30.0/24"
ipv6_cidr = "2001:db8:a:30::/64""#,
            &["vpc[0].subnet[0].ipv6_cidr: `2001:db8:a:30::/64` is outside the VPC's networks (127.0.0.0/16)"],
        ),
        (
            r#"id = "subnet-0d2e3f4a5b6c71829""#,
            r#"id = "subnet-0c1d2e3f4a5b60718""#,
            &[
                "vpc[0].subnet[1].id: subnet id `subnet-0c1d2e3f4a5b60718` is given twice; `vpc[0].subnet[0].id` has it",
                "interface_endpoint[0].address[1].subnet: no `[[vpc.subnet]]` has the id `subnet-0d2e3f4a5b6c71829`",
                "interface_endpoint[1].address[1].subnet: no `[[vpc.subnet]]` has the id `subnet-0d2e3f4a5b6c71829`",
                "interface_endpoint[2].address[1].subnet: no `[[vpc.subnet]]` has the id `subnet-0d2e3f4a5b6c71829`",
            ],
        ),
        (
            r#"name = "default""#,
            r#"name = "other""#,
            &[
                "interface_endpoint[0].security_groups: missing, and VPC `vpc-0b3f1c9a7d2e84f56` has no security group named `default` to stand in",
                "interface_endpoint[1].security_groups: missing, and VPC `vpc-0b3f1c9a7d2e84f56` has no security group named `default` to stand in",
                "interface_endpoint[2].security_groups: missing, and VPC `vpc-0b3f1c9a7d2e84f56` has no security group named `default` to stand in",
            ],
        ),
        (
            r#"ports = "1024-65535""#,
            r#"ports = "0-5""#,
            &[
                "vpc[0].security_group[0].ingress[0].ports: `0-5` is not a range of ports; write FIRST-LAST, as `1024-65535`",
            ],
        ),
        (
            r#"ports = "1024-65535", cidrs = ["127.0.0.0/16", "127.3.0.0/16", "127.2.0.0/16"]"#,
            r#"ports = "1024-65535""#,
            &["vpc[0].security_group[0].ingress[0]: the rule names no peer; give it `cidrs` or `groups`"],
        ),
    ]);
}

#[test]
fn projects_and_clusters_that_contradict_themselves_are_named() {
    said(&[
        (
            r#"id = "5f2a1b3c4d5e6f7081920a3b""#,
            r#"id = "5f2a""#,
            &[
                "project[0].id: `5f2a` is not a project id (24 lower-case hex digits)",
                "app[0].project: no `[[project]]` has the id `5f2a1b3c4d5e6f7081920a3b`",
            ],
        ),
        (
            r#"label = "auylw""#,
            r#"label = "k45tj"
set_name = "x""#,
            &["project[0].cluster[1].set_name: a sharded cluster has no set name that clients see; leave it out"],
        ),
        (
            r#"name = "Sharded0""#,
            r#"name = "cluster0""#,
            &["project[0].cluster[1].name: `cluster0` is another cluster's name, as host names go (`cluster0`)"],
        ),
        (
            r#"type = "replica-set""#,
            r#"type = "replicaset"
optimized = true"#,
            &["project[0].cluster[0].type: `replicaset` is none of `replica-set`, `sharded`"],
        ),
        (
            r#"tier = "M30""#,
            r#"tier = "M31""#,
            &[
                "project[0].cluster[1].tier: `M31` is none of `M0`, `M2`, `M5`, `M10`, `M20`, `M30`, `M40`, `M50`, `M60`, `M80`, `M100`, `M140`, `M200`, `M300`, `M700`",
            ],
        ),
        (
            r#"address = "127.1.0.12:27017""#,
            r#"address = "127.1.0.12:0""#,
            &["project[0].cluster[0].node[1].address: 0 is not a port (1 to 65535)"],
        ),
        (
            r#"name = "shard-00-01""#,
            r#"name = "shard-00-00""#,
            &[
                "project[0].cluster[0].node[1].name: `shard-00-00` is the name of another node or BI Connector of the cluster",
            ],
        ),
        (
            r#"name = "mongos-00""#,
            r#"name = "lb""#,
            &[
                "project[0].cluster[1].node[0].name: `lb` names all `mongos` of an optimized cluster together; take another",
            ],
        ),
        (
            r#"address = "127.1.0.12:27017""#,
            r#"address = "mongo1.internal:27017""#,
            &["project[0].cluster[0].node[1].address: `mongo1.internal:27017` is a host name; write it as `host`"],
        ),
        (
            r#"address = "127.1.0.12:27017""#,
            r#"host = "127.1.0.12:27017""#,
            &["project[0].cluster[0].node[1].host: `127.1.0.12:27017` is an address; write it as `address`"],
        ),
        (
            r#"address = "127.1.0.12:27017""#,
            r#"host = "mongo1.internal""#,
            &["project[0].cluster[0].node[1].host: `mongo1.internal` is not HOST:PORT, as `mongo1.internal:27017`"],
        ),
        (
            r#"address = "127.1.0.12:27017""#,
            "address = \"127.1.0.12:27017\"\nhost = \"mongo1.internal:27017\"",
            &["project[0].cluster[0].node[1].host: written beside `address`; leave one of them out"],
        ),
        (
            r#"address = "127.1.0.12:27017""#,
            "",
            &["project[0].cluster[0].node[1].address: missing; write the server's `address`, or its `host` name"],
        ),
        (
            r#"address = "127.1.0.12:27017""#,
            r#"address = "a\u0007b""#,
            &[r#"project[0].cluster[0].node[1].address: `a\u{7}b` is not ADDRESS:PORT, as `127.0.0.1:27017`"#],
        ),
        (r#"name = "Project0""#, r#"name = """#, &["project[0].name: empty; write something or leave it out"]),
    ]);
}

#[test]
fn attributes_outside_of_the_ranges_of_aws_are_named_with_the_range() {
    said(&[
        (
            "health_check = {",
            r#"ports = "1024-1026"
health_check = {"#,
            &[
                "project[0].endpoint_service[0].ports: `1024-1026` has 3 ports for 4 targets (Cluster0: 3, Sharded0: 1); widen it",
            ],
        ),
        (
            "health_check = {",
            r#"target_limit = 101
idle_timeout = "30s"
deregistration_delay = "2h"
flows_per_target = 0
health_check = {"#,
            &[
                "project[0].endpoint_service[0].target_limit: 101 is out of range (1 to 100)",
                "project[0].endpoint_service[0].idle_timeout: `30s` is out of range (60s to 6000s, AWS's range for `tcp.idle_timeout.seconds`)",
                "project[0].endpoint_service[0].deregistration_delay: `2h` is out of range (0s to 3600s, AWS's range for `deregistration_delay.timeout_seconds`)",
                "project[0].endpoint_service[0].flows_per_target: 0 is out of range (1 to 10000000)",
            ],
        ),
        (
            r#"interval = "5s", timeout = "2s", healthy_threshold = 2"#,
            r#"interval = "1s", timeout = "1s", healthy_threshold = 1"#,
            &[
                "project[0].endpoint_service[0].health_check.interval: `1s` is out of range (5s to 300s, AWS's range for `HealthCheckIntervalSeconds`)",
                "project[0].endpoint_service[0].health_check.timeout: `1s` is out of range (2s to 120s, AWS's range for `HealthCheckTimeoutSeconds`)",
                "project[0].endpoint_service[0].health_check.healthy_threshold: 1 is out of range (2 to 10)",
            ],
        ),
        (
            r#"interval = "5s", timeout = "2s""#,
            r#"interval = "5s", timeout = "6s""#,
            &[
                "project[0].endpoint_service[0].health_check.timeout: `6s` is longer than the interval `5s`: probes would overlap",
            ],
        ),
        (
            r#"id = "vpce-svc-0718bec2c0bdeab5c""#,
            r#"id = "vpce-svc-02863655456245e5c""#,
            &[
                "app_service[0].id: endpoint service id `vpce-svc-02863655456245e5c` is given twice; `project[0].endpoint_service[0].id` has it",
                "interface_endpoint[1].service: no `[[project.endpoint_service]]` or `[[app_service]]` is `com.amazonaws.vpce.us-east-1.vpce-svc-0718bec2c0bdeab5c`",
            ],
        ),
        (
            r#"service = "com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c""#,
            r#"service = "com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5d""#,
            &[
                "interface_endpoint[0].service: no `[[project.endpoint_service]]` or `[[app_service]]` is `com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5d`",
            ],
        ),
    ]);
}

#[test]
fn endpoints_that_lie_where_nothing_is_are_named() {
    said(&[
        (
            r#"vpc = "vpc-0b3f1c9a7d2e84f56""#,
            r#"vpc = "vpc-0b3f1c9a7d2e84f57""#,
            &[
                "interface_endpoint[0].vpc: no `[[vpc]]` has the id `vpc-0b3f1c9a7d2e84f57`",
                "interface_endpoint[0].address[0].subnet: `subnet-0c1d2e3f4a5b60718` is a subnet of `vpc-0b3f1c9a7d2e84f56`, not of the endpoint's VPC `vpc-0b3f1c9a7d2e84f57`",
                "interface_endpoint[0].address[1].subnet: `subnet-0d2e3f4a5b6c71829` is a subnet of `vpc-0b3f1c9a7d2e84f56`, not of the endpoint's VPC `vpc-0b3f1c9a7d2e84f57`",
            ],
        ),
        (
            r#"dns_suffix = "ypwbxwll""#,
            r#"dns_suffix = "YP"
state = "up"
security_groups = ["sg-0a1b2c3d4e5f60719"]"#,
            &[
                "interface_endpoint[0].dns_suffix: `YP` is not eight lower-case letters and digits, as `ypwbxwll`",
                "interface_endpoint[0].state: `up` is none of `available`, `pendingAcceptance`, `pending`, `deleting`, `deleted`, `rejected`, `failed`, `expired`",
                "interface_endpoint[0].security_groups[0]: VPC `vpc-0b3f1c9a7d2e84f56` has no security group `sg-0a1b2c3d4e5f60719`",
            ],
        ),
        (
            r#"subnet = "subnet-0c1d2e3f4a5b60718", ip = "127.0.30.194""#,
            r#"subnet = "subnet-0c1d2e3f4a5b60719", ip = "127.0.30.194""#,
            &["interface_endpoint[0].address[0].subnet: no `[[vpc.subnet]]` has the id `subnet-0c1d2e3f4a5b60719`"],
        ),
        (
            r#"ip = "127.0.30.194""#,
            r#"ip = "127.0.31.194""#,
            &["interface_endpoint[0].address[0].ip: `127.0.31.194` is outside its subnet `127.0.30.0/24`"],
        ),
        (
            r#"ip = "127.0.30.194""#,
            r#"ip = "127.0.30.3""#,
            &[
                "interface_endpoint[0].address[0].ip: `127.0.30.3` is reserved: AWS keeps the first four addresses and the last of `127.0.30.0/24`",
            ],
        ),
        (
            r#"{ subnet = "subnet-0d2e3f4a5b6c71829", ip = "127.0.20.54" }"#,
            r#"{ subnet = "subnet-0c1d2e3f4a5b60718", ip = "127.0.30.200" }"#,
            &[
                "interface_endpoint[0].address[1].subnet: a second subnet in zone `us-east-1a`; an endpoint has one a zone",
            ],
        ),
        (
            r#"{ subnet = "subnet-0c1d2e3f4a5b60718", ip = "127.0.30.194" },"#,
            r#"{ subnet = "subnet-0c1d2e3f4a5b60718", ip = "127.0.30.194", eni = "eni-0123456789abcdef0" }, { subnet = "subnet-0d2e3f4a5b6c71829", ip = "127.0.20.99", eni = "eni-0123456789abcdef0" },"#,
            &[
                "interface_endpoint[0].address[1].eni: network interface id `eni-0123456789abcdef0` is given twice; `interface_endpoint[0].address[0].eni` has it",
                "interface_endpoint[0].address[2].subnet: a second subnet in zone `us-east-1b`; an endpoint has one a zone",
            ],
        ),
    ]);
}

#[test]
fn apps_that_lead_nowhere_are_named() {
    said(&[
        (
            r#"type = "sync""#,
            r#"type = "general""#,
            &["app_service[1]: region and type `us-east-1/general` is given twice; `app_service[0]` has it"],
        ),
        (
            r#"project = "5f2a1b3c4d5e6f7081920a3b""#,
            r#"project = "5f2a1b3c4d5e6f7081920a3c""#,
            &["app[0].project: no `[[project]]` has the id `5f2a1b3c4d5e6f7081920a3c`"],
        ),
        (
            r#"backend = "http://127.1.0.31:9080""#,
            r#"backend = "https://x""#,
            &[
                "app[0].backend: `https://x` is not a backend (http://HOST:PORT, https://HOST:PORT, or h2c://HOST:PORT for \
                 HTTP/2 without TLS, with nothing behind it, as `http://127.1.0.31:9080`)",
            ],
        ),
        (
            r#"backend = "http://127.1.0.31:9080""#,
            r#"backend = "http://127.0.0.1:8474""#,
            &[
                "app[0].backend: `http://127.0.0.1:8474` is the gateway's own admin API; write the address of the server that \
                 is to answer the app's requests",
            ],
        ),
        (
            r#"endpoint = "vpce-0468b2d7f9c3e5a01", type"#,
            r#"endpoint = "vpce-0357a1c6e8b2d4f90", type"#,
            &["app[0].endpoint[1].endpoint: the app has `vpce-0357a1c6e8b2d4f90` already"],
        ),
    ]);
}

#[test]
fn private_hosted_zones_that_route_53_would_refuse_are_named() {
    said(&[
        (
            r#"vpcs = ["vpc-0b3f1c9a7d2e84f56"]"#,
            r#"vpcs = ["vpc-0b3f1c9a7d2e84f57"]"#,
            &["private_hosted_zone[0].vpcs[0]: no `[[vpc]]` has the id `vpc-0b3f1c9a7d2e84f57`"],
        ),
        (
            r#"name = "us-east-1.aws.ws.services.cloud.mongodb.com"
vpcs"#,
            r#"name = "us-east-1.aws.services.cloud.mongodb.com"
vpcs"#,
            &[
                "private_hosted_zone[1].vpcs[0]: private hosted zone `vpc-0b3f1c9a7d2e84f56/us-east-1.aws.services.cloud.mongodb.com` is given twice; `private_hosted_zone[0].vpcs[0]` has it",
                "private_hosted_zone[1].record[0].name: `us-east-1.aws.ws.services.cloud.mongodb.com` is outside the zone `us-east-1.aws.services.cloud.mongodb.com`",
            ],
        ),
        (
            r#"type = "ALIAS", endpoint = "vpce-0357a1c6e8b2d4f90""#,
            r#"type = "CNAME", values = ["127.0.0.1"]"#,
            &[
                "private_hosted_zone[0].record[0].target: missing; records of this type lead there",
                "private_hosted_zone[0].record[0].name: a CNAME is not allowed at the zone apex; use ALIAS",
                "private_hosted_zone[0].record[0].values: belongs to records of another type; this one has `target`",
            ],
        ),
        (
            r#"type = "ALIAS", endpoint = "vpce-0357a1c6e8b2d4f90""#,
            r#"type = "A", values = []"#,
            &["private_hosted_zone[0].record[0].values: empty; name one address at least"],
        ),
        (
            r#"name = "ws.us-east-1.aws.services"#,
            r#"name = "us-east-1.aws.services"#,
            &[
                "private_hosted_zone[0].record[1].name: `us-east-1.aws.services.cloud.mongodb.com` has a record already; give a name one record, with all of its addresses",
            ],
        ),
        (
            r#"vpcs = ["vpc-0b3f1c9a7d2e84f56"]"#,
            "vpcs = []",
            &["private_hosted_zone[0].vpcs: empty; a private hosted zone is associated with one VPC at least"],
        ),
    ]);
}

#[test]
fn networks_and_addresses_with_two_meanings_are_named_with_both_holders() {
    said(&[
        (
            "[[vpc]]",
            r#"[admin]
listen = "0.0.0.0:5335"
[metrics]
listen = "0.0.0.0:1030"
[[vpc]]"#,
            &[
                "admin.listen: `0.0.0.0:5335` can be reached from other machines and the admin API has no credentials; set PLGW_ADMIN_PUBLIC_KEY and PLGW_ADMIN_PRIVATE_KEY in the environment, or write a loopback address, as `127.0.0.1:8474`",
                "admin.listen: `0.0.0.0:5335` is held by `dns.listen`; give one of them another address",
                "metrics.listen: `0.0.0.0:1030` takes the port of `127.0.30.194` too, where it is likely to be a target's (`interface_endpoint[0].address[0].ip`); write one address, or leave the port out of the endpoint service's `ports`",
            ],
        ),
        (
            r#"peered = ["127.3.0.0/16"]"#,
            r#"peered = ["127.0.30.0/24"]"#,
            &[
                "vpc[0].peered[0]: `127.0.30.0/24` overlaps `127.0.0.0/16` of `vpc[0].cidrs[0]`; an address must have one meaning",
            ],
        ),
        (
            r#"on_premises = ["127.2.0.0/16"]"#,
            r#"on_premises = ["127.1.4.0/24"]"#,
            &[
                "project[0].endpoint_service[0].cidrs[0]: `127.1.0.0/16` overlaps `127.1.4.0/24` of `vpc[0].on_premises[0]`; an address must have one meaning",
                "app_service[0].cidrs[0]: `127.1.0.0/16` overlaps `127.1.4.0/24` of `vpc[0].on_premises[0]`; an address must have one meaning",
                "app_service[1].cidrs[0]: `127.1.0.0/16` overlaps `127.1.4.0/24` of `vpc[0].on_premises[0]`; an address must have one meaning",
            ],
        ),
        (
            r#"address = "127.1.0.12:27017""#,
            r#"address = "127.1.0.11:27017""#,
            &[
                "project[0].cluster[0].node[1].address: `127.1.0.11:27017` is the address of `project[0].cluster[0].node[0].address` already; each target has its own",
            ],
        ),
        (
            "[[vpc]]",
            r#"[metrics]
listen = "127.1.0.4:9464"
[[vpc]]"#,
            &[
                "metrics.listen: `127.1.0.4:9464` is in `127.1.0.0/16` of `project[0].endpoint_service[0].cidrs[0]`, and clients on the service's side are refused; write an address outside",
            ],
        ),
        (
            r#"address = "127.1.0.12:27017""#,
            r#"address = "127.0.30.194:27017""#,
            &[
                "project[0].cluster[0].node[1].address: `127.0.30.194:27017` leads back into the gateway, which binds it for `interface_endpoint[0].address[0].ip`; name a server's own",
            ],
        ),
        (
            r#"public_address = "127.9.0.12:27017""#,
            r#"public_address = "127.9.0.11:27017""#,
            &[
                "project[0].cluster[0].node[1].public_address: `127.9.0.11:27017` is held by `project[0].cluster[0].node[0].public_address`; give one of them another address",
            ],
        ),
        (
            r#"ip = "127.0.30.194""#,
            r#"ip = "127.0.30.195""#,
            &[
                "interface_endpoint[1].address[0].ip: `127.0.30.195` is held by `interface_endpoint[0].address[0].ip`; give one of them another address",
            ],
        ),
        (
            r#"public_address = "127.9.0.10:8443""#,
            r#"public_address = "127.9.0.11:27017""#,
            &[
                "app[0].public_address: `127.9.0.11:27017` is held by `project[0].cluster[0].node[0].public_address`; give one of them another address",
            ],
        ),
        (
            r#"[[project.cluster]]
name = "Sharded0""#,
            r#"[[project]]
id = "5f2a1b3c4d5e6f7081920a3c"
[[project.cluster]]
name = "Cluster1"
label = "k45tj"
type = "replica-set"
[[project.cluster]]
name = "Sharded0""#,
            &[
                "project[1].cluster[0].node: missing; a cluster has one node at least",
                "project[1].cluster[0].label: `k45tj` is the label of `project[0]`; each project has its own",
            ],
        ),
        (
            "[[app]]",
            r#"[[vpc]]
id = "vpc-0b3f1c9a7d2e84f57"
region = "us-east-1"
cidrs = ["127.0.4.0/24"]
[[app]]"#,
            &[
                "vpc[1].cidrs[0]: `127.0.4.0/24` overlaps `127.0.0.0/16` of `vpc[0].cidrs[0]`; an address must have one meaning",
            ],
        ),
    ]);
}

#[test]
fn mistakes_of_every_kind_are_reported_in_one_run_and_in_the_order_of_the_file() {
    let text = r#"
wrokers = 2

[dns]
listen = "127.0.0.1:5335"

[[vpc]]
id = "vpc-1"
region = "us-esat-1"
cidrs = ["10.0.0.1/16"]
colour = "blue"

[[interface_endpoint]]
id = "vpce-024f5b57108c8d3ed"
vpc = "vpc-0b3f1c9a7d2e84f56"
state = 5
"#;
    let errors = parse(text, "config/gateway.toml").expect_err("mistakes");
    let expected = r#"config/gateway.toml: 9 problems
  config/gateway.toml:2:1: wrokers: unknown key; did you mean `workers`?
  config/gateway.toml:5:1: dns.listen: the text "127.0.0.1:5335" is not an array; write it in `[` and `]`
  config/gateway.toml:8:1: vpc[0].id: `vpc-1` is not a VPC id (`vpc-` and 8 or 17 lower-case hex digits)
  config/gateway.toml:9:1: vpc[0].region: `us-esat-1` is not an AWS region that Atlas offers; did you mean `us-east-1`?
  config/gateway.toml:10:10: vpc[0].cidrs[0]: `10.0.0.1/16` has bits set behind its prefix; did you mean `10.0.0.0/16`?
  config/gateway.toml:11:1: vpc[0].colour: unknown key; known here: `cidrs`, `enable_dns_hostnames`, `enable_dns_support`, `id`, `on_premises`, `peered`, `region`, `security_group`, `subnet`
  config/gateway.toml:13:1: interface_endpoint[0].service: missing; it has no default
  config/gateway.toml:15:1: interface_endpoint[0].vpc: no `[[vpc]]` has the id `vpc-0b3f1c9a7d2e84f56`
  config/gateway.toml:16:1: interface_endpoint[0].state: the number 5 is not one of `available`, `pendingAcceptance`, `pending`, `deleting`, `deleted`, `rejected`, `failed`, `expired`"#;
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn invalid_toml_is_reported_with_its_line_and_column() {
    let errors = parse("workers = 1\nlab_dir = ./x\nmove_grace = \"2s\n", "f.toml").expect_err("no TOML");
    let said = errors.to_string();
    let expected = ["f.toml: 2 problems", "  f.toml:2:11: invalid mantissa", "  f.toml:3:17: invalid basic string"];
    assert!(said.lines().zip(expected).all(|(line, start)| line.starts_with(start)), "{said}");
    assert_eq!(said.lines().count(), expected.len(), "{said}");
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("missing.toml");
    let errors = load(&missing).expect_err("no such file");
    let expected =
        format!("{}: 1 problem\n  cannot read the file: No such file or directory (os error 2)", missing.display());
    assert_eq!(errors.to_string(), expected);

    let noise = directory.path().join("noise.toml");
    std::fs::write(&noise, b"workers = 1\n\xff\xfe").expect("writable");
    let errors = load(&noise).expect_err("no text");
    let expected = format!("{0}: 1 problem\n  {0}:2:1: not UTF-8 text from here on", noise.display());
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn an_object_with_a_mistake_is_not_reported_as_missing_to_its_references() {
    let text = QUICKSTART.replacen("region = \"us-east-1\"", "region = 1", 1);
    let errors = parse(&text, "f.toml").expect_err("a mistake");
    assert_eq!(errors.problems.len(), 1, "{errors}");
}

/// Asserts the messages for each row's change, and that their location is that of the key or element, or of the table
/// without the key.
fn said(rows: &[Row]) {
    let file = format!("{QUICKSTART}{PRIVATE_ZONES}");
    for (from, to, expected) in rows {
        assert!(file.contains(from), "the file has {from}");
        let text = file.replacen(from, to, 1);
        let errors = parse(&text, "f.toml").expect_err(to);
        let problems: Vec<String> = errors.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, *expected, "{from} became {to}");
        for problem in errors.problems.iter().filter(|problem| !problem.path.is_empty()) {
            let (line, column) = problem.place.expect("a mistake in a text has a place");
            let there = &text.lines().nth(line - 1).expect("the line exists")[column - 1..];
            let mut keys = problem.path.rsplit('.');
            let key = keys.next().expect("a path has a last part");
            let table = keys.next().unwrap_or(key);
            let stands_there = there.starts_with(['[', '{'])
                || if key.ends_with(']') { !there.starts_with([' ', ',', ']']) } else { there.starts_with(key) }
                || there.starts_with(table);
            assert!(stands_there, "{line}:{column} is not the place of {problem}: {there}");
        }
    }
}
