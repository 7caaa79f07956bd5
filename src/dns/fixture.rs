//! The example of MongoDB's documentation, for the tests of this module.
//!
//! Endpoint `vpce-024f5b57108c8d3ed` in two subnets, the replica set `Cluster0` behind it on ports 1024 to 1026, the
//! sharded `Sharded0` in dot form, and App Services' name, public and private.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{CidrSet, DnsName, VpcId};
use crate::plan::{DnsView, DnsZone, RecordSets, Snapshot, VpcDns};

/// The endpoint's regional name.
pub(super) const REGIONAL: &str =
    "vpce-024f5b57108c8d3ed-ypwbxwll.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com";

/// A view with all of it.
pub(super) fn view() -> DnsView {
    let mut atlas = FixtureZone::default();
    atlas.srv("_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net", &[1024, 1025, 1026], "pl-0-us-east-1-k45tj.mongodb.net");
    atlas.at("cluster0-pl-0-k45tj.mongodb.net").txt =
        Some("authSource=admin&replicaSet=Cluster0-shard-0-shard-0".to_owned());
    atlas.at("pl-0-us-east-1-k45tj.mongodb.net").cname = Some(name(REGIONAL));
    atlas.srv("_mongodb._tcp.sharded0-pl-0-lb.auylw.mongodb.net", &[1027], "pl-0-us-east-1.auylw.mongodb.net");
    atlas.at("sharded0-pl-0-lb.auylw.mongodb.net").txt = Some("authSource=admin&loadBalanced=true".to_owned());
    atlas.at("pl-0-us-east-1.auylw.mongodb.net").cname = Some(name(REGIONAL));
    atlas.at("loop-a.mongodb.net").cname = Some(name("loop-b.mongodb.net"));
    atlas.at("loop-b.mongodb.net").cname = Some(name("loop-a.mongodb.net"));
    atlas.at("out.mongodb.net").cname = Some(name("www.example.com"));
    atlas.at("long.mongodb.net").txt = Some("a".repeat(300));

    let mut vpce = FixtureZone::default();
    vpce.addresses(REGIONAL, &["10.0.30.194", "10.0.20.54"]);
    for (zone, address) in [("us-east-1a", "10.0.30.194"), ("us-east-1b", "10.0.20.54")] {
        let zonal = REGIONAL.replacen("ypwbxwll", &format!("ypwbxwll-{zone}"), 1);
        vpce.addresses(&zonal, &[address]);
    }

    let app_services = "us-east-1.aws.services.cloud.mongodb.com";
    let mut public = FixtureZone::default();
    public.addresses(app_services, &["127.9.0.10"]);
    let mut private = FixtureZone::default();
    private.addresses(app_services, &["10.0.30.195", "10.0.20.55"]);
    private.addresses(&format!("*.{app_services}"), &["10.0.30.195"]);
    private.at(&format!("deep.below.{app_services}")).txt = Some("there".to_owned());
    private.at(&format!("alias.{app_services}")).cname = Some(name("pl-0-us-east-1-k45tj.mongodb.net"));

    DnsView {
        public: zones([
            ("mongodb.net", atlas),
            ("us-east-1.vpce.amazonaws.com", vpce),
            ("services.cloud.mongodb.com", public),
        ]),
        vpcs: vec![
            VpcDns {
                vpc: vpc_id(),
                clients: cidrs(&["10.0.0.0/16", "127.0.0.0/16"]),
                enabled: true,
                private: zones([(app_services, private)]),
            },
            VpcDns { vpc: mute_vpc_id(), clients: cidrs(&["10.5.0.0/16"]), enabled: false, private: BTreeMap::new() },
        ],
        refused: cidrs(&["10.0.200.0/24", "127.1.0.0/16"]),
        faults: Vec::new(),
    }
}

/// The view in a snapshot.
pub(super) fn snapshot(view: DnsView) -> Arc<Snapshot> {
    Arc::new(Snapshot { dns: Arc::new(view), ..Snapshot::default() })
}

/// The consumer's VPC.
pub(super) fn vpc_id() -> VpcId {
    "vpc-0a1b2c3d".parse().expect("an id")
}

/// A VPC without `enableDnsSupport`.
pub(super) fn mute_vpc_id() -> VpcId {
    "vpc-0badbad0".parse().expect("an id")
}

/// Networks.
pub(super) fn cidrs(texts: &[&str]) -> CidrSet {
    texts.iter().map(|text| CidrSet::parse_one(text).expect(text)).collect()
}

/// A name.
pub(super) fn name(text: &str) -> DnsName {
    text.parse().expect(text)
}

/// Adds a seed list of `count` nodes in `mongodb.net`, with names of the maximum length.
pub(super) fn with_srv(mut view: DnsView, owner: &str, count: u16) -> DnsView {
    let zone = view.public.get_mut("mongodb.net").expect("in the fixture");
    let ports: Vec<_> = (1024..1024 + count).collect();
    let mut records = FixtureZone::default();
    records.srv(owner, &ports, "pl-0-us-east-1-k45tj.mongodb.net");
    zone.records.append(&mut records.0);
    view
}

#[derive(Default)]
struct FixtureZone(BTreeMap<DnsName, RecordSets>);

impl FixtureZone {
    fn at(&mut self, owner: &str) -> &mut RecordSets {
        self.0.entry(name(owner)).or_default()
    }

    fn srv(&mut self, owner: &str, ports: &[u16], target: &str) {
        let record = |port: &u16| ((*port).try_into().expect("a port"), name(target));
        self.at(owner).srv = ports.iter().map(record).collect();
    }

    fn addresses(&mut self, owner: &str, addresses: &[&str]) {
        self.at(owner).addresses = addresses.iter().map(|address| address.parse().expect(address)).collect();
    }
}

fn zones<const N: usize>(zones: [(&str, FixtureZone); N]) -> BTreeMap<DnsName, DnsZone> {
    zones.into_iter().map(|(apex, zone)| (name(apex), DnsZone { records: zone.0 })).collect()
}
