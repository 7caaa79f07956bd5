//! Answering a question from the snapshot, over the number of targets: the pure part, without sockets.

mod support;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use plgw::config::DnsSettings;
use plgw::dns::{QueryType, Question, Rcode, answer};
use plgw::plan::{Generation, PortAllocations, compile};

fn dns(c: &mut Criterion) {
    let mut group = c.benchmark_group("dns");
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let options = DnsSettings::default();
    for targets in [3_usize, 25, 50, 75, 100] {
        let desired = support::config(targets, (Ipv4Addr::new(127, 1, 0, 11), 27017).into(), 1024).desired;
        let (snapshot, _) = compile(&desired, &PortAllocations::default(), Generation(1)).expect("the plan allows it");
        for (label, name, kind) in [
            ("srv", "_mongodb._tcp.cluster000-pl-0-k45tj.mongodb.net", QueryType::Srv),
            ("a", "pl-0-us-east-1-k45tj.mongodb.net", QueryType::A),
            ("nxdomain", "no-such-name-k45tj.mongodb.net", QueryType::A),
        ] {
            let question = Question { name, kind };
            let said = answer(&question, source, &snapshot.dns, &options, 0);
            assert_eq!(said.code == Rcode::NoError, label != "nxdomain", "{name} is answered with {:?}", said.code);
            group.bench_function(BenchmarkId::new(label, targets), |b| {
                let mut rotation = 0;
                b.iter(|| {
                    rotation += 1;
                    answer(black_box(&question), source, &snapshot.dns, &options, rotation)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, dns);
criterion_main!(benches);
