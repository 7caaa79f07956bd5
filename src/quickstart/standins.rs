//! The quickstart's stand-ins: one for every cluster and app of the config, at the addresses that it names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::QuickstartError;
use super::horizons::{horizons, listed, private_hosts, strings_of};
use crate::model::{App, Cluster, ClusterKind, Desired, DnsName, Node};
use crate::plan::Snapshot;
use crate::standin::StandinError;
use crate::standin::app::{App as AppBackend, AppCarried, AppLocation, AppSpec, Apps};
use crate::standin::mongo::{
    Carried, Horizons, MemberStatus, Mongos, MongosAddresses, MongosSpec, ReplicaSet, ReplicaSetSpec, Timing,
};
use crate::tls::LabCa;

/// App Services' name for `us-east-1` in the answer to an SDK's location call; other regions have others, which the
/// quickstart doesn't need.
const LOCATION: &str = "US-VA";

/// The running stand-ins. Dropped, they stop.
#[derive(Debug)]
pub struct StandIns {
    clusters: Vec<(Cluster, Backend)>,
    apps: Vec<(String, AppBackend)>,
    horizons: Vec<(Cluster, watch::Sender<Horizons>)>,
}

#[derive(Debug)]
enum Backend {
    Set(Arc<ReplicaSet>),
    Routers(Mongos),
}

/// What one stand-in has carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StandInCarried {
    /// A cluster's nodes, together.
    Cluster(String, Carried),
    /// An App Services backend.
    App(String, AppCarried),
}

/// A member of a stand-in set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StandInMember {
    /// Its cluster.
    pub cluster: String,
    /// Its node's name in the config.
    pub node: String,
    /// How it is doing.
    #[serde(flatten)]
    pub status: MemberStatus,
}

/// Why a stand-in member was not stopped, started or stepped down.
#[derive(Debug, thiserror::Error)]
pub enum StandInControlError {
    /// No stand-in set has such a cluster or node.
    #[error("no stand-in {0}; the stand-ins of replica sets are: {1}")]
    Unknown(String, String),
    /// The set refused.
    #[error(transparent)]
    Refused(#[from] StandinError),
}

/// Tells the stand-ins what their members are called; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    _task: AbortOnDropHandle<()>,
}

impl StandIns {
    /// Starts one for every cluster and app of `desired`. `planned` is the snapshot that the gateway will start with: it has
    /// the names that their certificates are for.
    pub(crate) async fn start(
        desired: &Desired,
        planned: &Snapshot,
        ca: &LabCa,
        timing: Timing,
    ) -> Result<Self, QuickstartError> {
        let (mut clusters, mut senders) = (Vec::new(), Vec::new());
        for cluster in desired.projects.iter().flat_map(|project| &project.clusters) {
            let tls = certificate(cluster, planned, ca)?;
            let backend = match &cluster.kind {
                ClusterKind::ReplicaSet { set_name } => {
                    let (sender, receiver) = watch::channel(horizons(cluster, planned));
                    senders.push((cluster.clone(), sender));
                    let spec = ReplicaSetSpec {
                        set_name: set_name.clone(),
                        nodes: cluster.nodes.iter().map(|node| node.address).collect(),
                        tls: Some(tls),
                        proxied: cluster.nodes.iter().any(|node| is_proxied(planned, node.address)),
                        horizons: receiver,
                        timing,
                    };
                    Backend::Set(Arc::new(ReplicaSet::start(spec).await?))
                }
                ClusterKind::Sharded { .. } => {
                    let nodes = cluster.nodes.iter().map(|node| mongos(planned, node.address)).collect();
                    Backend::Routers(Mongos::start(MongosSpec { nodes, tls: Some(tls) }).await?)
                }
            };
            clusters.push((cluster.clone(), backend));
        }
        let mut apps = Vec::new();
        for app in &desired.apps {
            let Some(address) = backend_address(app) else { continue };
            let known = Apps::from([(app.id.clone(), location(app))]);
            // Nothing about an app changes while the quickstart runs.
            let spec = AppSpec { address, tls: None, apps: watch::channel(known).1 };
            apps.push((app.id.to_string(), AppBackend::start(spec).await?));
        }
        Ok(Self { clusters, apps, horizons: senders })
    }

    /// From now on the members' names are those of the latest snapshot, after a port move too; and a member that a fault
    /// makes unreachable is lost to the others, as its machine or its zone would be.
    pub(crate) fn follow(&mut self, mut snapshots: watch::Receiver<Arc<Snapshot>>) -> Follower {
        let senders = std::mem::take(&mut self.horizons);
        let sets = self.sets();
        let take = move |snapshot: &Snapshot| {
            for (cluster, sender) in &senders {
                let now = horizons(cluster, snapshot);
                sender.send_if_modified(|known| {
                    let changed = *known != now;
                    *known = now;
                    changed
                });
            }
            isolate(&sets, |node| is_faulted(snapshot, node.address));
        };
        take(&snapshots.borrow_and_update());
        let task = tokio::spawn(async move {
            while snapshots.changed().await.is_ok() {
                let snapshot = Arc::clone(&snapshots.borrow_and_update());
                take(&snapshot);
            }
        });
        Follower { _task: AbortOnDropHandle::new(task) }
    }

    fn sets(&self) -> Vec<(Cluster, Arc<ReplicaSet>)> {
        let set = |(cluster, backend): &(Cluster, Backend)| match backend {
            Backend::Set(set) => Some((cluster.clone(), Arc::clone(set))),
            Backend::Routers(_) => None,
        };
        self.clusters.iter().filter_map(set).collect()
    }

    /// The members of the stand-in sets.
    #[must_use]
    pub fn list(&self) -> Vec<StandInMember> {
        let members = self.sets().into_iter().flat_map(|(cluster, set)| {
            let named = cluster.nodes.into_iter().zip(set.members());
            let name = cluster.name.to_string();
            named.map(move |(node, status)| StandInMember { cluster: name.clone(), node: node.name, status })
        });
        members.collect()
    }

    /// Stops a member as a crash would: nothing is handed over, its connections end.
    ///
    /// # Errors
    ///
    /// [`StandInControlError::Unknown`] when there is no such member.
    pub async fn stop_member(&self, cluster: &str, node: &str) -> Result<(), StandInControlError> {
        let (set, index) = self.member(cluster, node)?;
        Ok(set.stop_node(index).await?)
    }

    /// Starts a member that was stopped.
    ///
    /// # Errors
    ///
    /// [`StandInControlError`] when there is no such member, or its address is taken by now.
    pub async fn start_member(&self, cluster: &str, node: &str) -> Result<(), StandInControlError> {
        let (set, index) = self.member(cluster, node)?;
        Ok(set.start_node(index).await?)
    }

    /// Lets the set's primary step down for `period` and hand over.
    ///
    /// # Errors
    ///
    /// [`StandInControlError`] when there is no such set, no primary, or no member that could take over.
    pub async fn step_down(&self, cluster: &str, period: Duration) -> Result<(), StandInControlError> {
        let set = self.sets().into_iter().find(|(candidate, _)| candidate.name.to_string() == cluster);
        let (_, set) = set.ok_or_else(|| self.unknown(cluster))?;
        Ok(set.step_down(period).await?)
    }

    fn member(&self, cluster: &str, node: &str) -> Result<(Arc<ReplicaSet>, usize), StandInControlError> {
        let members = self.sets().into_iter().filter(|(candidate, _)| candidate.name.to_string() == cluster);
        let position = |(cluster, set): (Cluster, Arc<ReplicaSet>)| {
            let index = cluster.nodes.iter().position(|candidate| candidate.name == node)?;
            Some((set, index))
        };
        members.filter_map(position).next().ok_or_else(|| self.unknown(&format!("{cluster}/{node}")))
    }

    fn unknown(&self, wanted: &str) -> StandInControlError {
        let known: Vec<String> =
            self.list().into_iter().map(|member| format!("{}/{}", member.cluster, member.node)).collect();
        StandInControlError::Unknown(wanted.to_owned(), known.join(", "))
    }

    /// What each has carried so far.
    pub(super) fn carried(&self) -> Vec<StandInCarried> {
        let clusters = self.clusters.iter().map(|(cluster, backend)| {
            let carried = match backend {
                Backend::Set(set) => set.carried(),
                Backend::Routers(routers) => routers.carried(),
            };
            StandInCarried::Cluster(cluster.name.to_string(), carried)
        });
        let apps = self.apps.iter().map(|(id, app)| StandInCarried::App(id.clone(), app.carried()));
        clusters.chain(apps).collect()
    }

    /// Stops them all, and waits until their connections are closed.
    pub(super) async fn stop(self) {
        for (_, backend) in self.clusters {
            match backend {
                Backend::Set(set) => set.stop().await,
                Backend::Routers(routers) => routers.stop().await,
            }
        }
        for (_, app) in self.apps {
            app.stop().await;
        }
    }
}

/// Isolates the members whose nodes `is_lost` says so of, and connects the others.
fn isolate(sets: &[(Cluster, Arc<ReplicaSet>)], is_lost: impl Fn(&Node) -> bool) {
    for (cluster, set) in sets {
        for (index, node) in cluster.nodes.iter().enumerate() {
            // The set has a member for every node.
            let _ = set.isolate_node(index, is_lost(node));
        }
    }
}

/// Whether a fault makes the node at `address` unreachable.
fn is_faulted(snapshot: &Snapshot, address: SocketAddr) -> bool {
    let members = snapshot.targets.iter().flat_map(|target| &target.members);
    members.filter(|member| member.address == address).any(|member| member.faulted)
}

/// Every address that the stand-ins of `desired` will bind, with what for.
pub(super) fn addresses(desired: &Desired) -> Vec<(SocketAddr, String)> {
    let clusters = desired.projects.iter().flat_map(|project| &project.clusters);
    let nodes = clusters.flat_map(|cluster| {
        let named = move |node: &Node| (node.address, format!("the stand-in {}/{}", cluster.name, node.name));
        cluster.nodes.iter().map(named)
    });
    let apps =
        desired.apps.iter().filter_map(|app| Some((backend_address(app)?, format!("the stand-in of {}", app.id))));
    nodes.chain(apps).collect()
}

/// The certificate of a cluster's nodes: for every name that leads to them, and for every address, so that clients
/// without the lab's DNS can check it too.
fn certificate(cluster: &Cluster, planned: &Snapshot, ca: &LabCa) -> Result<Arc<ServerConfig>, QuickstartError> {
    let Some(strings) = strings_of(cluster, planned) else {
        return Err(QuickstartError::NoStrings(cluster.name.clone()));
    };
    let mut names: Vec<DnsName> = strings.private.iter().flat_map(private_hosts).collect();
    names.extend(listed(&strings.standard).filter_map(|(host, _)| host.parse().ok()));
    names.dedup();
    let mut ips: Vec<IpAddr> =
        planned.endpoints.values().flat_map(|gate| gate.addresses.iter().map(|at| at.ip)).collect();
    for node in &cluster.nodes {
        ips.push(node.address.ip());
        ips.extend(node.public_address.map(|address| address.ip()));
    }
    ips.push(Ipv4Addr::LOCALHOST.into());
    ips.sort_unstable();
    ips.dedup();
    let file = names.first().ok_or_else(|| QuickstartError::NoStrings(cluster.name.clone()))?;
    let file = file.prefixed(&cluster.name.host_label()).unwrap_or_else(|_| file.clone());
    Ok(ca.server_certificate(&file, &names, &ips)?.server_config(&[])?)
}

/// Whether the load balancer sends a PROXY header to `address`.
fn is_proxied(planned: &Snapshot, address: SocketAddr) -> bool {
    planned.listeners.values().any(|listener| {
        listener.group.proxy_protocol && listener.group.members.iter().any(|member| member.address == address)
    })
}

/// The port of a `mongos`: one that wants a PROXY header where the load balancer sends one.
fn mongos(planned: &Snapshot, address: SocketAddr) -> MongosAddresses {
    if is_proxied(planned, address) {
        MongosAddresses { direct: None, load_balanced: Some(address) }
    } else {
        MongosAddresses { direct: Some(address), load_balanced: None }
    }
}

/// Where an app's backend is to listen; `None` when it is no plain address of ours.
fn backend_address(app: &App) -> Option<SocketAddr> {
    app.backend.strip_prefix("http://")?.trim_end_matches('/').parse().ok()
}

/// What SDKs are told of an app: its regional names, with the port that the lab serves them on.
fn location(app: &App) -> AppLocation {
    let (region, port) = (app.region.as_str(), app.public_address.port());
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    AppLocation {
        deployment_model: "LOCAL".to_owned(),
        location: LOCATION.to_owned(),
        hostname: format!("https://{region}.aws.services.cloud.mongodb.com{port}"),
        ws_hostname: format!("wss://ws.{region}.aws.services.cloud.mongodb.com{port}"),
    }
}
