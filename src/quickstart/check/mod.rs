//! The self-check: what a client would see, from every side, each with a reason when it is not so.
//!
//! What is expected is taken from the config and the connection strings, never from the answers.

mod apps;
mod flows;
mod names;
mod places;
mod refusals;
mod services;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::time::{Instant, timeout};

use self::places::Places;
use crate::model::Desired;
use crate::plan::Snapshot;

/// How long one check may take. All of them together take some 100 ms; past this something hangs.
const CHECK_WITHIN: Duration = Duration::from_secs(10);

/// One check, done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name: one word or two with a dash.
    pub name: &'static str,
    /// What was seen, or what was seen instead.
    pub outcome: Result<String, String>,
    /// How long it took.
    pub took: Duration,
}

/// What is checked.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) desired: Desired,
    pub(super) admin: Option<SocketAddr>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) dns: Vec<SocketAddr>,
    pub(super) metrics: Option<SocketAddr>,
    /// Trusts the lab's CA alone.
    pub(super) tls: Arc<ClientConfig>,
}

/// What a check finds: in words, either way.
type Outcome = Result<String, String>;

/// Runs every check: those that make flows at once, then those that look at what came of it.
pub(super) async fn all(bench: &Arc<Bench>) -> Vec<Check> {
    let places = match Places::of(&bench.desired) {
        Ok(places) => Arc::new(places),
        Err(reason) => return vec![Check { name: "places", outcome: Err(reason), took: Duration::ZERO }],
    };
    let b = || Arc::clone(bench);
    let p = || Arc::clone(&places);
    let (targets, hello, balanced, write_read, standard, udp, tcp, views, apps, one_way, origin) = tokio::join!(
        one("targets", services::targets(b())),
        one("hello", flows::hello(b(), p())),
        one("balanced", flows::balanced(b())),
        one("write-read", flows::write_and_read(b())),
        one("standard-path", flows::standard_path(b(), p())),
        one("dns-udp", names::answers(b(), super::client::dns::Transport::Udp)),
        one("dns-tcp", names::answers(b(), super::client::dns::Transport::Tcp)),
        one("dns-views", names::views(b(), p())),
        one("app-services", apps::app_services(b(), p())),
        one("one-way", refusals::one_way(b(), p())),
        one("origin", refusals::origin(b(), p())),
    );
    let (metrics, ready) = tokio::join!(one("metrics", services::metrics(b())), one("readyz", services::ready(b())));
    vec![targets, hello, balanced, write_read, standard, udp, tcp, views, apps, one_way, origin, metrics, ready]
}

/// Runs the checks that any topology passes. Where clients of this machine are outside of every VPC, what only a VPC's
/// hosts can do is left out.
pub(super) async fn own(bench: &Arc<Bench>) -> Vec<Check> {
    let b = || Arc::clone(bench);
    let mut checks = vec![one("targets", services::targets(b())).await];
    let unbound = IpAddr::from(Ipv4Addr::LOCALHOST);
    if bench.desired.vpcs.values().any(|vpc| vpc.cidrs.contains(unbound)) {
        checks.push(one("write-read", flows::write_and_read(b())).await);
        if !bench.dns.is_empty() {
            checks.push(one("dns-udp", names::answers(b(), super::client::dns::Transport::Udp)).await);
            checks.push(one("dns-tcp", names::answers(b(), super::client::dns::Transport::Tcp)).await);
        }
    }
    if bench.metrics.is_some() {
        checks.push(one("readyz", services::ready(b())).await);
    }
    checks
}

/// Runs one check, bounded. It has a task of its own, so that a panic in it is a failed check like any other.
async fn one(name: &'static str, check: impl Future<Output = Outcome> + Send + 'static) -> Check {
    let started = Instant::now();
    let outcome = match timeout(CHECK_WITHIN, tokio::spawn(check)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panicked)) => Err(format!("the check itself failed: {panicked}")),
        Err(_) => Err(format!("nothing came of it within {} s", CHECK_WITHIN.as_secs())),
    };
    Check { name, outcome, took: started.elapsed() }
}

/// An error with its causes.
fn why(error: &dyn std::error::Error) -> String {
    crate::control::chain(error)
}
