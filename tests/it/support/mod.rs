//! A gateway of a test's own: its addresses are in a /16 of 127.0.0.0/8 that no other test has.

mod command;
mod dns;
mod net;
pub(crate) mod netns;
mod peers;

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use plgw::app::{Gateway, GatewayOptions};
use plgw::config::Config;

pub(crate) use command::{Child, Ran, Shift, plgw};
pub(crate) use dns::{NameServer, Resolver};
pub(crate) use net::{ClientNetwork, Net};
pub(crate) use peers::{
    Closed, DyingTarget, EchoTarget, Flow, HeldTarget, RecordingTarget, ResettingTarget, SilentTarget,
};

/// How long anything may take that ought to happen at once. Generous: machines are busy; nothing passes by waiting.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Prints why a test cannot run on this machine, bypassing the test harness, which hides the output of passing tests.
///
/// # Panics
///
/// On CI's machine, which has all that the tests need: a test that is left out there is a failure.
pub(crate) fn skip(reason: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let reason = reason.trim();
    assert!(std::env::var_os("CI").is_none(), "{name} must not be skipped on CI: {reason}");
    let _ = writeln!(std::io::stderr(), "SKIP {name}: {reason}");
}

/// A running gateway with its network.
pub(crate) struct TestGateway {
    pub(crate) gateway: Gateway,
    pub(crate) net: Net,
}

impl TestGateway {
    /// A replica set of three in front of `targets`, at addresses that each test's network names.
    pub(crate) async fn start(net: Net) -> Self {
        Self::start_with(net, |_| {}).await
    }

    /// The same, with a config that `change` changed.
    pub(crate) async fn start_with(net: Net, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = net.config();
        change(&mut config);
        let options = GatewayOptions { tick: Some(Duration::from_millis(10)), ..GatewayOptions::default() };
        let gateway = Gateway::start(config, options).await.expect("the gateway starts");
        Self { gateway, net }
    }

    /// The port that `member` of `Cluster0` has now.
    pub(crate) fn port(&self, member: &str) -> u16 {
        let id = format!("Cluster0/{member}");
        let snapshot = self.gateway.snapshot();
        let view = snapshot.targets.iter().find(|target| target.id.as_str() == id).expect("a target");
        view.port.get()
    }

    /// Where `member` is reached through the endpoint's address in zone a.
    pub(crate) fn address(&self, member: &str) -> SocketAddr {
        SocketAddr::new(self.net.endpoint_a(), self.port(member))
    }

    /// A flow from inside the VPC to `member`.
    pub(crate) async fn dial(&self, member: &str) -> Flow {
        Flow::connect(self.net.source(ClientNetwork::Vpc), self.address(member)).await.expect("the port accepts")
    }

    /// The DNS answers inside the VPC for the endpoint's regional name, sorted.
    pub(crate) async fn answers(&self) -> Vec<std::net::IpAddr> {
        let name = "vpce-024f5b57108c8d3ed-ypwbxwll.vpce-svc-02863655456245e5c.us-east-1.vpce.amazonaws.com";
        let resolver = Resolver::new(self.net.source(ClientNetwork::Vpc), self.net.dns()).await;
        let mut addresses = resolver.addresses(name).await;
        addresses.sort();
        addresses
    }

    /// The sum of the series of `/metrics` that have this name and every one of `labels`; `None` when there is none, which
    /// is not 0.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        metric(&self.gateway.metrics(), name, labels)
    }

    /// Waits until a metric has a value.
    pub(crate) async fn expect_metric(&self, name: &str, labels: &[&str], value: f64) {
        eventually(&format!("{name}{labels:?} = {value}"), || {
            let found = self.metric(name, labels);
            found.filter(|found| (found - value).abs() < f64::EPSILON).map(|_| ()).ok_or(found)
        })
        .await;
    }
}

/// The sum of the series of a metrics page that have this name and every one of `labels`; `None` when there is none.
pub(crate) fn metric(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    page.lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .map(|line| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok()).expect("a value"))
        .reduce(|sum, value| sum + value)
}

/// Calls `look` until it returns a value.
pub(crate) async fn eventually<T, E: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(tokio::time::Instant::now() < deadline, "expected {what}, last seen {seen:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
