//! The self-check: verifies what clients in every network observe, and reports a reason for each failure.
//!
//! Expected values come from the config and the connection strings, never from the responses.

mod apps;
mod client_addresses;
mod flows;
mod names;
mod refusals;
mod services;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::time::{Instant, timeout};

use self::client_addresses::ClientAddresses;
use crate::model::Desired;
use crate::plan::Snapshot;

/// Time limit of one check. All of them together take some 100 ms.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The name, in kebab case.
    pub name: &'static str,
    /// A description of the success, or the reason of the failure.
    pub outcome: Result<String, String>,
    /// The duration.
    pub took: Duration,
}

/// The context of the checks.
#[derive(Debug)]
pub(super) struct CheckContext {
    pub(super) desired: Desired,
    pub(super) admin: Option<SocketAddr>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) dns: Vec<SocketAddr>,
    pub(super) metrics: Option<SocketAddr>,
    /// Trusts only the lab's CA.
    pub(super) tls: Arc<ClientConfig>,
}

/// A check's result as text.
type CheckResult = Result<String, String>;

/// Runs every check: those that create flows concurrently, then those that verify metrics.
pub(super) async fn all(context: &Arc<CheckContext>) -> Vec<Check> {
    let clients = match ClientAddresses::of(&context.desired) {
        Ok(clients) => Arc::new(clients),
        Err(reason) => return vec![Check { name: "client-addresses", outcome: Err(reason), took: Duration::ZERO }],
    };
    let b = || Arc::clone(context);
    let p = || Arc::clone(&clients);
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

/// Runs the checks that apply to any topology. If this machine's address is outside every VPC, checks from within a VPC
/// are skipped.
pub(super) async fn own(context: &Arc<CheckContext>) -> Vec<Check> {
    let b = || Arc::clone(context);
    let mut checks = vec![one("targets", services::targets(b())).await];
    let unbound = IpAddr::from(Ipv4Addr::LOCALHOST);
    if context.desired.vpcs.values().any(|vpc| vpc.cidrs.contains(unbound)) {
        checks.push(one("write-read", flows::write_and_read(b())).await);
        if !context.dns.is_empty() {
            checks.push(one("dns-udp", names::answers(b(), super::client::dns::Transport::Udp)).await);
            checks.push(one("dns-tcp", names::answers(b(), super::client::dns::Transport::Tcp)).await);
        }
    }
    if context.metrics.is_some() {
        checks.push(one("readyz", services::ready(b())).await);
    }
    checks
}

/// Runs one check with a time limit, in its own task, so that a panic counts as a failed check.
async fn one(name: &'static str, check: impl Future<Output = CheckResult> + Send + 'static) -> Check {
    let started = Instant::now();
    let outcome = match timeout(CHECK_TIMEOUT, tokio::spawn(check)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panicked)) => Err(format!("the check itself failed: {panicked}")),
        Err(_) => Err(format!("timed out after {} s", CHECK_TIMEOUT.as_secs())),
    };
    Check { name, outcome, took: started.elapsed() }
}

/// An error with its causes.
fn why(error: &dyn std::error::Error) -> String {
    crate::control::chain(error)
}
