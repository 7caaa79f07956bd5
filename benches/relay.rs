//! Small messages and bulk through the gateway, beside a direct connection: read the two as a ratio.

mod support;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Bytes of a bulk iteration: enough for the relay to change to splicing and stay there.
const BULK: usize = 32 << 20;

fn relay(c: &mut Criterion) {
    let server = support::echo_server();
    let paths = [("direct", server), ("gateway", support::gateway(server))];

    let mut group = c.benchmark_group("relay_message");
    group.measurement_time(Duration::from_secs(3));
    for flows in [1_usize, 64, 1000] {
        group.throughput(Throughput::Elements(flows as u64));
        for (path, address) in paths {
            let mut streams: Vec<TcpStream> = (0..flows).map(|_| support::connect(address)).collect();
            let mut buffer = [7; 64];
            group.bench_function(BenchmarkId::new(path, flows), |b| {
                b.iter(|| {
                    for stream in &mut streams {
                        stream.write_all(&buffer).expect("sent");
                    }
                    for stream in &mut streams {
                        stream.read_exact(&mut buffer).expect("echoed");
                    }
                });
            });
        }
    }
    group.finish();

    let mut group = c.benchmark_group("relay_bulk");
    group.throughput(Throughput::Bytes(2 * BULK as u64)).sample_size(20);
    let chunk = vec![7; 256 << 10];
    for (path, address) in paths {
        group.bench_function(path, |b| {
            let stream = support::connect(address);
            b.iter(|| {
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        for _ in 0..BULK / chunk.len() {
                            (&stream).write_all(&chunk).expect("sent");
                        }
                    });
                    let mut left = BULK;
                    let mut buffer = vec![0; 256 << 10];
                    while left > 0 {
                        let n = (&stream).read(&mut buffer).expect("echoed");
                        assert!(n > 0, "the connection ended early");
                        left -= n;
                    }
                    black_box(&buffer);
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, relay);
criterion_main!(benches);
