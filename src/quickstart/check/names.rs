//! Checks that names resolve correctly.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::super::client::dns::{DnsReply, Transport, ask};
use super::super::horizons::{listed, private_hosts, txt_options};
use super::client_addresses::ClientAddresses;
use super::{CheckContext, CheckResult};
use crate::model::{AppEndpointKind, DnsName, IpFamily};
use crate::plan::EndpointAccess;

/// Queries to one server from one source address.
struct Resolver {
    server: SocketAddr,
    transport: Transport,
    source: Option<IpAddr>,
}

impl Resolver {
    async fn ask(&self, name: &str, kind: RecordType) -> Result<DnsReply, String> {
        let answer = ask(self.transport, self.source, self.server, name, kind).await;
        answer.map_err(|error| self.failure(name, kind, &error.to_string()))
    }

    fn failure(&self, name: &str, kind: RecordType, what: &str) -> String {
        let from = self.source.map(|source| format!(" from {source}")).unwrap_or_default();
        format!("{name} {kind} over {}{from}: {what}", self.transport.label())
    }

    /// Expects exactly these records at `name`, in any order.
    async fn expect(&self, name: &str, kind: RecordType, expected: Vec<String>) -> Result<(), String> {
        let answer = self.ask(name, kind).await?;
        let sorted = |mut records: Vec<String>| {
            records.sort();
            records
        };
        let (found, expected) = (sorted(answer.records), sorted(expected));
        if answer.code == ResponseCode::NoError && found == expected {
            return Ok(());
        }
        Err(self.failure(name, kind, &format!("{:?} {}, expected {}", answer.code, shown(&found), shown(&expected))))
    }

    /// Expects REFUSED; over TCP the connection may also be closed.
    async fn expect_refusal(&self, name: &str, kind: RecordType) -> Result<(), String> {
        match ask(self.transport, self.source, self.server, name, kind).await {
            Ok(answer) if answer.code == ResponseCode::Refused => Ok(()),
            Ok(answer) => Err(self.failure(name, kind, &format!("{:?}, expected Refused", answer.code))),
            Err(error) if self.transport == Transport::Tcp && is_cut_off(&error) => Ok(()),
            Err(error) => Err(self.failure(name, kind, &error.to_string())),
        }
    }

    async fn expect_seeds(&self, srv: &str, string: &str) -> Result<(), String> {
        let name = srv.trim_start_matches("mongodb+srv://");
        let owner = format!("_mongodb._tcp.{name}");
        let seeds = listed(string).map(|(host, port)| format!("{owner} SRV 0 0 {port} {host}"));
        self.expect(&owner, RecordType::SRV, seeds.collect()).await?;
        self.expect(name, RecordType::TXT, vec![format!("{name} TXT {:?}", txt_options(string))]).await
    }

    /// A9 to A13: the host is an alias of the endpoint's regional name, which has an address per subnet; each zonal
    /// name has one address. Outside AWS the host itself has the address (A30).
    ///
    /// Expects records of the families that the endpoint has in DNS.
    async fn expect_endpoint(&self, host: &DnsName, access: &EndpointAccess, in_dns: &[IpAddr]) -> Result<(), String> {
        let Some(regional) = access.regional_name.as_ref().map(ToString::to_string) else {
            let own = access.addresses.iter().map(|at| format!("{host} A {}", at.ip)).collect();
            return self.expect(host.as_str(), RecordType::A, own).await;
        };
        let alias = format!("{host} CNAME {regional}");
        self.expect(host.as_str(), RecordType::CNAME, vec![alias.clone()]).await?;
        let Some((label, rest)) = regional.split_once('.') else { return Ok(()) };
        for (kind, family) in [(RecordType::A, IpFamily::Ipv4), (RecordType::AAAA, IpFamily::Ipv6)] {
            let answered = || {
                let addresses = access.addresses.iter();
                addresses.filter(|at| IpFamily::of(at.ip) == family && in_dns.contains(&at.ip))
            };
            let addresses = answered().map(|at| format!("{regional} A {}", at.ip));
            self.expect(host.as_str(), kind, [alias.clone()].into_iter().chain(addresses).collect()).await?;
            for zone in answered().map(|at| &at.zone).collect::<BTreeSet<_>>() {
                let name = format!("{label}-{zone}.{rest}");
                let own = answered().filter(|at| at.zone == *zone);
                let own = own.map(|at| format!("{name} A {}", at.ip)).collect();
                self.expect(&name, kind, own).await?;
            }
        }
        Ok(())
    }
}

/// Seed lists, hosts and endpoint names, as a client in the VPC resolves them (A9 to A13).
pub(super) async fn answers(context: Arc<CheckContext>, transport: Transport) -> CheckResult {
    let mut names = 0;
    for server in &context.dns {
        let resolver = Resolver { server: *server, transport, source: None };
        for strings in &context.snapshot.strings {
            if strings.is_public {
                resolver.expect_seeds(&strings.standard_srv, &strings.standard).await?;
            }
            for private in &strings.private {
                resolver.expect_seeds(&private.srv_connection_string, &private.connection_string).await?;
                for (host, (endpoint, _)) in private_hosts(private).iter().zip(&private.endpoints) {
                    let access = context.snapshot.endpoints.get(endpoint);
                    let access = access.ok_or_else(|| format!("there is no endpoint {endpoint}"))?;
                    let zones = context.snapshot.zones.iter().flat_map(|zone| &zone.addresses);
                    let own = zones.filter(|address| address.endpoint == *endpoint && address.in_dns);
                    let in_dns: Vec<IpAddr> = own.map(|address| address.ip).collect();
                    resolver.expect_endpoint(host, access, &in_dns).await?;
                    names += 1;
                }
            }
        }
        let unknown = "nothing-here-pl-0-k45tj.mongodb.net";
        let answer = resolver.ask(unknown, RecordType::A).await?;
        if answer.code != ResponseCode::NXDomain {
            return Err(resolver.failure(unknown, RecordType::A, &format!("{:?}, expected NXDomain", answer.code)));
        }
    }
    if names == 0 {
        return Err("no name was resolved: DNS is off, or no cluster has private strings".to_owned());
    }
    Ok(format!("SRV, TXT, CNAME and A of {names} private host names and their seed lists are as documented"))
}

/// Private hosted zones are visible only in the VPC; the internet sees the public addresses; the service's side is
/// refused.
pub(super) async fn views(context: Arc<CheckContext>, clients: Arc<ClientAddresses>) -> CheckResult {
    let mut names = 0;
    for server in &context.dns {
        for transport in [Transport::Udp, Transport::Tcp] {
            let at = |source| Resolver { server: *server, transport, source };
            for (name, inside, outside) in split_horizon_names(&context) {
                let addresses = |ips: Vec<IpAddr>| ips.iter().map(|ip| format!("{name} A {ip}")).collect::<Vec<_>>();
                at(None).expect(&name, RecordType::A, addresses(inside)).await?;
                at(Some(clients.listed)).expect(&name, RecordType::A, addresses(outside)).await?;
                names += 1;
            }
            at(Some(clients.service)).expect_refusal("mongodb.net", RecordType::A).await?;
        }
    }
    if names == 0 {
        return Err("no name of the scenario has private and public addresses".to_owned());
    }
    let distinct = names / (2 * context.dns.len());
    Ok(format!(
        "{distinct} App Services names lead to the endpoints in the VPC and to the public address outside; the service's side is refused"
    ))
}

/// The names of the apps, with their private and public addresses.
fn split_horizon_names(context: &CheckContext) -> Vec<(String, Vec<IpAddr>, Vec<IpAddr>)> {
    let mut names = Vec::new();
    for app in &context.desired.apps {
        for endpoint in &app.endpoints {
            let Some(interface) = context.desired.endpoints.get(&endpoint.endpoint) else { continue };
            let inside: Vec<IpAddr> = interface.addresses.iter().map(|at| at.ip).collect();
            let hosts = match endpoint.kind {
                AppEndpointKind::General => vec![format!("{}.aws", app.region)],
                // Both forms: the one of MongoDB's documentation, and the one that device SDKs derive.
                AppEndpointKind::Sync => vec![format!("ws.{}.aws", app.region), format!("{}.aws.ws", app.region)],
            };
            for host in hosts {
                let name = format!("{host}.services.cloud.mongodb.com");
                names.push((name, inside.clone(), vec![app.public_address.ip()]));
            }
        }
    }
    names
}

fn is_cut_off(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof)
}

fn shown(records: &[String]) -> String {
    if records.is_empty() { "without records".to_owned() } else { format!("[{}]", records.join("; ")) }
}
