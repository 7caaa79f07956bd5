//! Connect, first byte there and back, close: through the gateway, beside a direct connection.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

fn flow_setup(c: &mut Criterion) {
    let server = support::echo_server();
    let paths = [("direct", server), ("gateway", support::gateway(server))];
    let mut group = c.benchmark_group("flow_setup");
    // Short: every connection leaves a port in TIME_WAIT for a minute.
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    for (path, address) in paths {
        group.bench_function(path, |b| {
            b.iter(|| {
                let mut stream = support::connect(address);
                let mut byte = [7];
                stream.write_all(&byte).expect("sent");
                stream.read_exact(&mut byte).expect("echoed");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, flow_setup);
criterion_main!(benches);
