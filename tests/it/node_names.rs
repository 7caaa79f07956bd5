//! C6. Nodes given by host names with changing addresses.

use std::net::{IpAddr, SocketAddr};

use plgw::config::Config;
use plgw::control::NodeName;

use crate::support::{ClientNetwork, EchoTarget, Flow, HeldTarget, NameServer, Net, TestGateway, eventually};

/// The host name of node `a`.
const NAME: &str = "mongo-a.internal";

/// Puts `node` at the host name `name`, at its own port.
fn at_name(config: &mut Config, node: usize, name: &str) {
    let node = &mut config.desired.projects[0].clusters[0].nodes[node];
    let port = node.address.fixed().expect("an address").port();
    node.address = format!("{name}:{port}").parse().expect("a host name");
}

/// A gateway with node `a` at [`NAME`], resolved by `names`.
async fn start(net: Net, names: &NameServer) -> TestGateway {
    TestGateway::start_with(net, |config| {
        config.settings.name_servers = vec![names.address];
        at_name(config, 0, NAME);
    })
    .await
}

/// Where flows to `member` go now; nothing while its name is not resolved.
fn member(gateway: &TestGateway, member: &str) -> Option<SocketAddr> {
    let snapshot = gateway.gateway.snapshot();
    let members = snapshot.targets.iter().flat_map(|target| &target.members);
    members.filter(|found| found.name == member).map(|found| found.address).next()
}

async fn moves_to(gateway: &TestGateway, name: &str, address: SocketAddr) {
    eventually(&format!("{name} at {address}"), || {
        let found = member(gateway, name);
        (found == Some(address)).then_some(()).ok_or(found)
    })
    .await;
}

/// Waits until the problem of the name contains `text`; returns the state of the name.
async fn complains(gateway: &TestGateway, text: &str) -> NodeName {
    eventually(text, || {
        let names = gateway.gateway.control().node_names();
        let found =
            names.iter().find(|node| node.problem_text().is_some_and(|problem_text| problem_text.contains(text)));
        found.cloned().ok_or(names)
    })
    .await
}

#[tokio::test]
async fn a_change_of_address_moves_the_target_and_drops_no_flow() {
    let (net, names) = (Net::claim(), NameServer::start().await);
    names.set(NAME, &[net.target(0).ip()]);
    let _before = EchoTarget::start(net.target(0)).await;
    let mut after = HeldTarget::start(net.target(5)).await;
    let gateway = start(net, &names).await;
    let port = gateway.port("a");
    let mut old = gateway.dial("a").await;
    assert_eq!(old.echo(b"before").await, b"before");
    names.set(NAME, &[gateway.net.target(5).ip()]);
    moves_to(&gateway, "a", gateway.net.target(5)).await;
    let mut new = gateway.dial("a").await;
    tokio::io::AsyncWriteExt::write_all(&mut new.stream, b"x").await.expect("sent");
    after.next().await;
    assert_eq!(old.echo(b"still there").await, b"still there");
    assert_eq!(gateway.port("a"), port, "the target keeps its port");
    let told = gateway.gateway.control().events().latest(100);
    let moved = format!("the host name {NAME} leads to {}", gateway.net.target(5).ip());
    assert!(told.events.iter().any(|event| event.message == moved), "{told:?}");
}

#[tokio::test]
async fn a_removed_or_unanswered_name_keeps_its_last_address_and_is_reported() {
    let (net, names) = (Net::claim(), NameServer::start().await);
    names.set(NAME, &[net.target(0).ip()]);
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = start(net, &names).await;
    for (say, text) in [(NameServer::remove as fn(&NameServer, &str), "NXDOMAIN"), (NameServer::ignore, "in time")] {
        say(&names, NAME);
        assert_eq!(complains(&gateway, text).await.address, Some(gateway.net.target(0).ip()));
        assert_eq!(gateway.dial("a").await.echo(b"goes on").await, b"goes on");
    }
    names.set(NAME, &[gateway.net.target(0).ip()]);
    eventually("no complaint", || {
        let names = gateway.gateway.control().node_names();
        names.iter().all(|node| node.problem.is_none()).then_some(()).ok_or(names)
    })
    .await;
}

#[tokio::test]
async fn a_gateway_starts_before_a_name_resolves_and_serves_the_target_afterwards() {
    let (net, names) = (Net::claim(), NameServer::start().await);
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = start(net, &names).await;
    assert_eq!(complains(&gateway, "gets no connections until it is").await.address, None);
    let snapshot = gateway.gateway.snapshot();
    let target = snapshot.targets.iter().find(|target| target.id.as_str() == "Cluster0/a").expect("a target");
    assert_eq!((target.members.len(), target.unresolved[0].address.as_str()), (0, "mongo-a.internal:27017"));
    names.set(NAME, &[gateway.net.target(0).ip()]);
    moves_to(&gateway, "a", gateway.net.target(0)).await;
    assert_eq!(gateway.dial("a").await.echo(b"here").await, b"here");
}

#[tokio::test]
async fn a_name_is_not_followed_to_the_gateway_or_to_clients() {
    let (net, names) = (Net::claim(), NameServer::start().await);
    names.set(NAME, &[net.target(0).ip()]);
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = start(net, &names).await;
    let places: [(IpAddr, &str); 3] = [
        (gateway.net.endpoint_a(), "where the gateway itself listens"),
        (gateway.net.source(ClientNetwork::Vpc), "in a consumer's network"),
        (gateway.net.target(1).ip(), "two targets cannot be at one address"),
    ];
    for (ip, why) in places {
        names.set(NAME, &[ip]);
        assert_eq!(complains(&gateway, why).await.address, Some(gateway.net.target(0).ip()), "{ip}");
        assert_eq!(member(&gateway, "a"), Some(gateway.net.target(0)));
        assert_eq!(gateway.dial("a").await.echo(b"goes on").await, b"goes on");
    }
}

#[tokio::test]
async fn a_name_with_a_refused_address_does_not_prevent_the_start() {
    let (net, names) = (Net::claim(), NameServer::start().await);
    names.set(NAME, &[net.endpoint_a()]);
    let gateway = start(net, &names).await;
    let known = complains(&gateway, "is not resolved").await;
    assert_eq!((known.address, member(&gateway, "a")), (None, None));
    let target = gateway.net.target(0);
    names.set(NAME, &[target.ip()]);
    moves_to(&gateway, "a", target).await;
}

#[tokio::test]
async fn an_ipv4_address_mapped_into_ipv6_is_that_address_and_a_links_own_is_not_followed() {
    let (net, names) = (Net::claim(), NameServer::start().await);
    let target = net.target(0);
    let IpAddr::V4(ip) = target.ip() else { unreachable!("targets of the tests are IPv4") };
    names.set(NAME, &["fe80::1".parse().expect("an address")]);
    let gateway = start(net, &names).await;
    complains(&gateway, "link-local").await;
    names.set(NAME, &[ip.to_ipv6_mapped().into()]);
    moves_to(&gateway, "a", target).await;
}

#[tokio::test]
async fn two_names_that_swap_addresses_are_followed() {
    let (net, names) = (Net::claim(), NameServer::start().await);
    let [a, b] = [net.target(0), net.target(1)];
    names.set(NAME, &[a.ip()]);
    names.set("mongo-b.internal", &[b.ip()]);
    let gateway = TestGateway::start_with(net, |config| {
        config.settings.name_servers = vec![names.address];
        at_name(config, 0, NAME);
        at_name(config, 1, "mongo-b.internal");
    })
    .await;
    assert_eq!((member(&gateway, "a"), member(&gateway, "b")), (Some(a), Some(b)));
    names.set(NAME, &[b.ip()]);
    names.set("mongo-b.internal", &[a.ip()]);
    moves_to(&gateway, "a", b).await;
    moves_to(&gateway, "b", a).await;
}

#[tokio::test]
async fn a_reload_resolves_its_names_first_and_is_refused_when_one_has_a_refused_address() {
    let (net, names) = (Net::claim(), NameServer::start().await);
    let _echo = EchoTarget::start(net.target(0)).await;
    let gateway = TestGateway::start_with(net, |config| config.settings.name_servers = vec![names.address]).await;
    let source = gateway.net.source(ClientNetwork::Vpc);
    let mut flow = Flow::connect(source, gateway.address("a")).await.expect("the port accepts");
    let mut config = gateway.net.config();
    at_name(&mut config, 0, NAME);
    names.set(NAME, &[gateway.net.endpoint_b()]);
    let refused = gateway.gateway.control().replace_inventory(Ok(config.desired.clone())).await.expect_err("refused");
    let why = format!("`Cluster0/a ({NAME})` is at {}:27017, where the gateway", gateway.net.endpoint_b());
    assert!(refused.to_string().contains(&why), "{refused}");
    names.set(NAME, &[gateway.net.target(0).ip()]);
    gateway.gateway.control().replace_inventory(Ok(config.desired)).await.expect("the name leads to the same server");
    assert_eq!(member(&gateway, "a"), Some(gateway.net.target(0)), "known when the reload is over");
    assert_eq!(flow.echo(b"the same flow").await, b"the same flow");
}
