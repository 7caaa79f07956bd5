//! A DNS message from the network, answered from the quickstart's snapshot.
#![no_main]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use plgw::config::DnsSettings;
use plgw::dns::reply;
use plgw::model::CidrSet;
use plgw::plan::{Generation, Snapshot, compile};

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let desired = plgw::config::quickstart().desired;
    compile(&desired, &Default::default(), Generation(1)).expect("the quickstart's config compiles").0
});

/// Without public clients, so that a source outside every network is refused.
static SETTINGS: LazyLock<DnsSettings> =
    LazyLock::new(|| DnsSettings { public_clients: CidrSet::default(), ..DnsSettings::default() });

/// A client of the VPC, a peered one, one outside every network, and the service's side.
const SOURCES: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 0, 30, 7),
    Ipv4Addr::new(127, 3, 0, 7),
    Ipv4Addr::new(203, 0, 113, 7),
    Ipv4Addr::new(127, 1, 0, 11),
];

fuzz_target!(|message: &[u8]| {
    for source in SOURCES {
        let Some(reply) = reply(message, SocketAddr::from((source, 40_000)), &SNAPSHOT.dns, &SETTINGS) else {
            continue;
        };
        assert_eq!(reply[..2], message[..2], "a reply has its question's id");
        assert_ne!(
            reply[2] & 0x80,
            0,
            "a reply is marked as one, so that two servers don't answer each other for ever"
        );
        assert!(reply.len() <= 4096, "{} bytes are more than UDP carries here", reply.len());
    }
});
