//! Host names of nodes: resolved at the start, on a reload, and again whenever a TTL expires.
//!
//! Answers are sent to the owner like every change. The owner refuses an answer with an address of the gateway itself
//! or of clients. A name without an accepted answer keeps its last address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::{Resolver, TokioResolver};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::chain::chain;
use super::events::{EventKind, EventLog, Severity};
use super::inventory::Inventory;
use super::owner::{ChangeError, Command, RETRY_DELAY};
use crate::model::DnsName;

/// Time limit for one name, over all name servers and retries.
const NAME_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for one query to one name server.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Minimum time between two queries for a name: a TTL of 0 is common.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time between two queries: entries of `/etc/hosts` have no TTL.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// A node's host name with its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    /// The name.
    pub name: DnsName,
    /// The address in use; `None`: none yet.
    pub address: Option<IpAddr>,
    /// Why the latest answer is not in use; `None`: it is.
    pub problem: Option<String>,
}

impl NodeName {
    /// The problem, in a sentence; `None`: no problem.
    #[must_use]
    pub fn problem_text(&self) -> Option<String> {
        let (name, problem) = (&self.name, self.problem.as_ref()?);
        Some(match self.address {
            Some(address) => {
                format!("the host name {name} cannot be resolved again: {problem}; {address} stays in use")
            }
            None => {
                format!("the host name {name} is not resolved: {problem}; its node gets no connections until it is")
            }
        })
    }
}

/// A request to resolve names now; answered when the result is applied.
pub(super) type ResolveRequest = (BTreeSet<DnsName>, oneshot::Sender<()>);

/// The names with their latest answers.
pub(super) struct NodeNames {
    /// The name servers; empty: the machine's.
    servers: Vec<SocketAddr>,
    known: BTreeMap<DnsName, NameState>,
    published: watch::Sender<Vec<NodeName>>,
    events: EventLog,
}

struct NameState {
    /// The latest answer.
    latest: Option<IpAddr>,
    /// The answer that the owner applied.
    in_force: Option<IpAddr>,
    problem: Option<String>,
    /// When it is resolved again.
    due: Instant,
}

/// Addresses, and when to resolve again; or why there are none.
type Resolution = Result<(Vec<IpAddr>, Instant), String>;

impl NodeNames {
    pub(super) fn new(servers: Vec<SocketAddr>, events: EventLog) -> Self {
        Self { servers, known: BTreeMap::new(), published: watch::Sender::default(), events }
    }

    /// A receiver of the names' states.
    pub(super) fn published(&self) -> watch::Receiver<Vec<NodeName>> {
        self.published.subscribe()
    }

    /// The latest answer of each name.
    fn answers(&self) -> BTreeMap<DnsName, IpAddr> {
        self.known.iter().filter_map(|(name, known)| Some((name.clone(), known.latest?))).collect()
    }

    /// Resolves `names` concurrently.
    pub(super) async fn ask(&mut self, names: BTreeSet<DnsName>) {
        if names.is_empty() {
            return;
        }
        let of = |strategy| resolver(&self.servers, strategy);
        let resolvers = of(LookupIpStrategy::Ipv4Only).and_then(|ipv4| Ok([ipv4, of(LookupIpStrategy::Ipv6Only)?]));
        let resolvers = &resolvers.map_err(|error| error.to_string());
        let answer = |name| async move {
            match resolvers {
                Ok(resolvers) => look_up(resolvers, name).await,
                Err(error) => Err(error.clone()),
            }
        };
        let answers = join_all(names.iter().map(answer)).await;
        let now = Instant::now();
        for (name, answer) in names.into_iter().zip(answers) {
            let known =
                self.known.entry(name).or_insert(NameState { latest: None, in_force: None, problem: None, due: now });
            known.take(answer, now);
        }
    }

    /// Keeps the names of the inventory resolved until `stop`.
    pub(super) async fn run(
        mut self,
        mut inventories: watch::Receiver<std::sync::Arc<Inventory>>,
        commands: mpsc::UnboundedSender<Command>,
        mut learn: mpsc::Receiver<ResolveRequest>,
        stop: CancellationToken,
    ) {
        // The first inventory may have names of the saved state or of another gateway's config, which are not in this
        // gateway's file.
        inventories.mark_changed();
        let work = async {
            loop {
                let due = self.known.values().map(|known| known.due).min();
                let is_due = async move {
                    match due {
                        Some(due) => sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                };
                let (names, reply) = tokio::select! {
                    Some((names, reply)) = learn.recv() => (names, Some(reply)),
                    changed = inventories.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let names = inventories.borrow_and_update().host_names();
                        (names.into_iter().filter(|name| !self.known.contains_key(name)).collect(), None)
                    }
                    () = is_due => {
                        // Removes names of a refused reload, and of removed nodes.
                        let names = inventories.borrow().host_names();
                        self.known.retain(|name, _| names.contains(name));
                        let now = Instant::now();
                        let due = self.known.iter().filter(|(_, known)| known.due <= now);
                        (due.map(|(name, _)| name.clone()).collect(), None)
                    }
                };
                self.ask(names).await;
                self.submit_answers(&commands).await;
                if let Some(reply) = reply {
                    // Fails if the reload was given up.
                    let _ = reply.send(());
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Submits the latest answers to the owner: all together, as two names may swap addresses; if that is refused, one
    /// by one, so that a bad answer does not block the others.
    pub(super) async fn submit_answers(&mut self, commands: &mpsc::UnboundedSender<Command>) {
        let is_new = |known: &NameState| known.latest.is_some() && known.latest != known.in_force;
        let new: Vec<DnsName> =
            self.known.iter().filter(|(_, known)| is_new(known)).map(|(name, _)| name.clone()).collect();
        if !new.is_empty() && submit(commands, self.answers()).await.is_ok() {
            self.known.values_mut().for_each(|known| known.in_force = known.latest);
        } else {
            for name in new {
                let mut addresses: BTreeMap<DnsName, IpAddr> =
                    self.known.iter().filter_map(|(name, known)| Some((name.clone(), known.in_force?))).collect();
                let Some(known) = self.known.get_mut(&name) else { continue };
                addresses.extend(known.latest.map(|address| (name, address)));
                match submit(commands, addresses).await {
                    Ok(()) => known.in_force = known.latest,
                    Err(error) => {
                        known.problem = Some(chain(&error));
                        if !matches!(error, ChangeError::Plan(_)) {
                            // The address itself was not refused.
                            known.due = Instant::now() + RETRY_DELAY;
                        }
                    }
                }
            }
        }
        self.publish();
    }

    /// Publishes the state of the names, and records changes.
    fn publish(&self) {
        let now: Vec<NodeName> = self
            .known
            .iter()
            .map(|(name, known)| NodeName {
                name: name.clone(),
                address: known.in_force,
                problem: known.problem.clone(),
            })
            .collect();
        let before = self.published.send_replace(now.clone());
        for node in now.iter().filter(|node| !before.contains(node)) {
            let (name, address) = (&node.name, node.address);
            let (severity, message) = match (node.problem_text(), address) {
                (Some(problem_text), _) => (Severity::Warning, problem_text),
                (None, Some(address)) => (Severity::Info, format!("the host name {name} leads to {address}")),
                (None, None) => continue,
            };
            match severity {
                Severity::Info => tracing::info!(%name, address = ?address, "the host name of a node is resolved"),
                _ => tracing::warn!(
                    %name, address = ?address, reason = node.problem.as_deref(), "failed to resolve the host name of a node"
                ),
            }
            self.events.record(EventKind::NodeName, severity, name.as_str(), message);
        }
    }
}

impl NameState {
    /// Applies an answer. Of several addresses the one in use is preferred, then the latest one, then the lowest: the
    /// order changes from answer to answer.
    fn take(&mut self, answer: Resolution, now: Instant) {
        match answer {
            Ok((addresses, valid_until)) => {
                let stays = [self.in_force, self.latest].into_iter().flatten().find(|ip| addresses.contains(ip));
                self.latest = stays.or_else(|| addresses.into_iter().min());
                self.problem = None;
                self.due = valid_until.clamp(now + MIN_INTERVAL, now + MAX_INTERVAL);
            }
            Err(problem) => {
                self.problem = Some(problem);
                self.due = now + RETRY_DELAY;
            }
        }
    }
}

async fn submit(
    commands: &mpsc::UnboundedSender<Command>,
    addresses: BTreeMap<DnsName, IpAddr>,
) -> Result<(), ChangeError> {
    let (reply, answer) = oneshot::channel();
    commands.send(Command::Resolved { addresses, reply }).map_err(|_| ChangeError::Stopping)?;
    answer.await.map_err(|_| ChangeError::Stopping)?.map(drop)
}

/// Creates a resolver for each round, so that changes of `/etc/resolv.conf` and `/etc/hosts` apply, and nothing is
/// cached beyond its TTL.
fn resolver(servers: &[SocketAddr], strategy: LookupIpStrategy) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let server = |server: &SocketAddr| {
            let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|connection| connection.port = server.port());
            NameServerConfig::new(server.ip(), true, connections.into())
        };
        let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder
    };
    let options = builder.options_mut();
    options.ip_strategy = strategy;
    options.timeout = options.timeout.min(SERVER_TIMEOUT);
    builder.build()
}

/// Queries IPv4 addresses, and IPv6 only if there are none: a failed query must not move a target to the other family.
async fn look_up([ipv4, ipv6]: &[TokioResolver; 2], name: &DnsName) -> Resolution {
    let asked = async {
        match ipv4.lookup_ip(name.as_str()).await {
            Err(NetError::Dns(DnsError::NoRecordsFound(_))) => ipv6.lookup_ip(name.as_str()).await,
            found => found,
        }
    };
    match timeout(NAME_TIMEOUT, asked).await.unwrap_or(Err(NetError::Timeout)) {
        Ok(found) => {
            // An IPv4-mapped IPv6 address is the IPv4 address.
            let all: Vec<IpAddr> = found.iter().map(|ip| ip.to_canonical()).collect();
            let fit: Vec<IpAddr> = all.iter().copied().filter(|ip| !is_link_scoped(*ip)).collect();
            if fit.is_empty() {
                let all = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(format!("it leads to {all}, where no node can be: link-local, multicast or broadcast"));
            }
            Ok((fit, Instant::from_std(found.valid_until())))
        }
        Err(NetError::Timeout) => Err("no name server answered in time".to_owned()),
        Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. }))) => Err(match response_code {
            ResponseCode::NXDomain => "there is no such name (NXDOMAIN)".to_owned(),
            _ => "it has neither an A nor an AAAA record".to_owned(),
        }),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether an address is link-local or multicast; this includes the clouds' metadata addresses.
fn is_link_scoped(ip: IpAddr) -> bool {
    ip.is_multicast()
        || match ip {
            IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_link_are_no_nodes() {
        for ip in ["169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            assert!(is_link_scoped(ip.parse().expect("an address")), "{ip}");
        }
        for ip in ["10.1.0.5", "127.1.0.11", "fd00::1", "192.0.2.1"] {
            assert!(!is_link_scoped(ip.parse().expect("an address")), "{ip}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_in_use_is_preferred_to_one_that_was_refused() {
        let (mut known, now) = (known(), Instant::now());
        known.in_force = Some(ips(&[11])[0]);
        known.take(Ok((ips(&[9]), now)), now);
        assert_eq!(known.latest, Some(ips(&[9])[0]), "to be refused, say");
        known.take(Ok((ips(&[9, 11]), now)), now);
        assert_eq!(known.latest, Some(ips(&[11])[0]));
    }

    fn known() -> NameState {
        NameState { latest: None, in_force: None, problem: None, due: Instant::now() }
    }

    fn ips(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|last| IpAddr::from([10, 1, 0, *last])).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_in_use_is_kept_among_several() {
        let (mut known, now) = (known(), Instant::now());
        known.take(Ok((ips(&[12, 11]), now)), now);
        assert_eq!(known.latest, Some(ips(&[11])[0]), "the lowest of a first answer");
        known.take(Ok((ips(&[13, 11, 9]), now)), now);
        assert_eq!(known.latest, Some(ips(&[11])[0]));
        known.take(Ok((ips(&[13, 9]), now)), now);
        assert_eq!(known.latest, Some(ips(&[9])[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_keeps_the_address_and_is_tried_again_and_a_ttl_is_kept_within_bounds() {
        let (mut known, now) = (known(), Instant::now());
        known.take(Ok((ips(&[11]), now + Duration::from_secs(60))), now);
        assert_eq!(known.due, now + Duration::from_secs(60));
        known.take(Err("there is no such name (NXDOMAIN)".to_owned()), now);
        assert_eq!((known.latest, known.due), (Some(ips(&[11])[0]), now + RETRY_DELAY));
        assert!(known.problem.is_some());
        known.take(Ok((ips(&[11]), now)), now);
        assert_eq!((known.problem.as_deref(), known.due), (None, now + MIN_INTERVAL));
        known.take(Ok((ips(&[11]), now + 48 * MAX_INTERVAL)), now);
        assert_eq!(known.due, now + MAX_INTERVAL);
    }
}
