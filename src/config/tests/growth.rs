//! The cost of checking a file is linear in its size, and the messages stay bounded.

use std::fmt::Write as _;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::config::parse;

/// Writes a file with `n` objects of a kind.
type Shape = fn(usize) -> String;

/// Kinds of files with many equal objects, each of which may be a mistake.
const SHAPES: [(&str, Shape); 11] = [
    ("unknown keys", |n| lines(n, |i| format!("k{i} = 1"))),
    ("unknown tables", |n| lines(n, |i| format!("[t{i}]\nx = 1"))),
    ("lines that are no TOML", |n| lines(n, |i| format!("k{i} ="))),
    ("elements of one line that do not fit", |n| format!("[dns]\nforward = [{}]", "1, ".repeat(n))),
    ("VPCs with overlapping networks", |n| {
        lines(n, |i| {
            format!("[[vpc]]\nid = \"vpc-{i:08x}\"\ncidrs = [\"10.0.0.0/16\"]\npeered = [\"10.{}.0.0/16\"]", i % 250)
        })
    }),
    ("VPCs with networks of their own", |n| {
        lines(n, |i| format!("[[vpc]]\nid = \"vpc-{i:08x}\"\ncidrs = [\"10.{}.{}.0/24\"]", i / 250, i % 250))
    }),
    ("subnets", |n| {
        let subnet = |i| format!("[[vpc.subnet]]\nid = \"subnet-{i:08x}\"\ncidr = \"10.{}.{}.0/24\"", i / 250, i % 250);
        format!("[[vpc]]\ncidrs = [\"10.0.0.0/8\"]\n{}", lines(n, subnet))
    }),
    ("security groups", |n| {
        let group = |i| format!("[[vpc.security_group]]\nid = \"sg-{i:08x}\"\nname = \"g{i}\"");
        format!("[[vpc]]\nid = \"vpc-00000000\"\n{}", lines(n, group))
    }),
    ("endpoints", |n| {
        lines(n, |i| {
            format!("[[interface_endpoint]]\n[[interface_endpoint.address]]\nip = \"10.{}.{}.7\"", i / 250, i % 250)
        })
    }),
    ("clusters and nodes", |n| {
        let cluster = |i| {
            let address = format!("10.{}.{}.7:27017", i / 250, i % 250);
            format!(
                "[[project.cluster]]\nname = \"c{i}\"\n[[project.cluster.node]]\naddress = \"{address}\"\npublic_address = \"10.0.0.1:{i}\""
            )
        };
        format!("[[project]]\n{}", lines(n, cluster))
    }),
    ("faults", |n| lines(n, |i| format!("[[fault]]\nname = \"f{i}\""))),
];

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, i| {
        writeln!(text, "{}", line(i)).expect("a string takes everything");
        text
    })
}

/// The processor time that checking `text` takes in this thread, without other threads and processes.
fn cost(text: &str) -> Duration {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a clock is not before 0");
    let before = now();
    let errors = parse(text, "f.toml").expect_err("a mistake");
    let cost = now() - before;
    assert!(errors.problems.iter().all(|problem| problem.to_string().len() < 2100), "what is said is bounded");
    cost
}

#[test]
fn sixteen_times_as_much_costs_not_nearly_the_square_of_it() {
    for (what, text) in SHAPES {
        let (few, many) = (text(200), text(3200));
        // The shortest of three, as the others may have been interrupted.
        let shortest = |text: &str| (0..3).map(|_| cost(text)).min().expect("three times");
        let (few, many) = (shortest(&few), shortest(&many));
        assert!(many < few * 64, "{what}: {few:?} for 200, {many:?} for 3200");
    }
}

#[test]
fn a_value_of_any_length_is_quoted_in_part() {
    let long = "x".repeat(100_000);
    for text in [
        format!("workers = \"{long}\""),
        format!("{long} = 1"),
        format!("[{long}.{long}]"),
        format!("pace = \"{}\"", "é\\u0007".repeat(9999)),
    ] {
        let errors = parse(&text, "f.toml").expect_err("a mistake");
        let said = errors.problems[0].to_string();
        assert!(said.len() <= 2100 && said.contains('…'), "{} bytes: {said}", said.len());
    }
}
