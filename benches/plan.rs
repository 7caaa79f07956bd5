//! Compiling a desired state into a snapshot, and telling two apart, over the number of targets.

mod support;

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use plgw::plan::{Generation, PortAllocations, compile, diff};

fn plan(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan");
    for targets in [3_usize, 25, 50, 75, 100] {
        let desired = support::config(targets, (Ipv4Addr::new(127, 1, 0, 11), 27017).into(), 1024).desired;
        let (snapshot, held) =
            compile(&desired, &PortAllocations::default(), Generation(1)).expect("the plan allows it");
        group.throughput(Throughput::Elements(targets as u64));
        group.bench_with_input(BenchmarkId::new("compile", targets), &desired, |b, desired| {
            b.iter(|| compile(black_box(desired), &held, Generation(2)).expect("the plan allows it"));
        });
        let (next, _) = compile(&desired, &held, Generation(2)).expect("the plan allows it");
        group.bench_function(BenchmarkId::new("diff", targets), |b| {
            b.iter(|| diff(black_box(&snapshot), black_box(&next)));
        });
    }
    group.finish();
}

criterion_group!(benches, plan);
criterion_main!(benches);
