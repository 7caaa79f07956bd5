//! The quickstart's stand-ins, one for every cluster and app, at the addresses of the config.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::QuickstartError;
use super::horizons::{horizons, listed, private_hosts, strings_of};
use crate::api::StandInControl;
use crate::model::{App, Cluster, ClusterKind, Desired, DnsName, Node, StandInCommand, StandInMember, StandInRefusal};
use crate::plan::Snapshot;
use crate::standin::app::{AppBackend, AppCounts, AppLocation, KnownApps};
use crate::standin::mongo::{
    Horizons, Mongos, MongosAddresses, MongosSpec, ReplicaSet, ReplicaSetSpec, StandInCounts, Timing,
};
use crate::tls::LabCa;

/// App Services' name for `us-east-1` in the response to an SDK's location call; the quickstart needs no other region.
const LOCATION: &str = "US-VA";

/// How long a primary that an operator steps down is not a candidate: the default of `replSetStepDown`.
const STEP_DOWN: Duration = Duration::from_secs(60);

/// The running stand-ins. Dropping them stops them.
#[derive(Debug)]
pub struct RunningStandIns {
    clusters: Vec<(Cluster, StandIn)>,
    apps: Vec<(String, AppBackend)>,
    horizons: Vec<(Cluster, watch::Sender<Horizons>)>,
}

#[derive(Debug)]
enum StandIn {
    Set(Arc<ReplicaSet>),
    Routers(Mongos),
}

/// The traffic of one stand-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StandInTraffic {
    /// A cluster's nodes, together.
    Cluster(String, StandInCounts),
    /// An App Services backend.
    App(String, AppCounts),
}

/// The stand-in sets, each with its cluster.
#[derive(Debug, Clone)]
struct Sets(Arc<[(Cluster, Arc<ReplicaSet>)]>);

impl RunningStandIns {
    /// Starts one for every cluster and app of `desired`. `planned` is the snapshot that the gateway will start with;
    /// their certificates are for its names.
    pub(crate) async fn start(
        desired: &Desired,
        planned: &Snapshot,
        ca: &LabCa,
        timing: Timing,
    ) -> Result<Self, QuickstartError> {
        let (mut clusters, mut senders) = (Vec::new(), Vec::new());
        for cluster in desired.projects.iter().flat_map(|project| &project.clusters) {
            let tls = certificate(cluster, planned, ca)?;
            let nodes = cluster.nodes.iter().map(|node| {
                let named =
                    || QuickstartError::HostName(format!("{}/{}", cluster.name, node.name), node.address.to_string());
                node.address.fixed().ok_or_else(named)
            });
            let nodes = nodes.collect::<Result<Vec<SocketAddr>, _>>()?;
            let backend = match &cluster.kind {
                ClusterKind::ReplicaSet { set_name } => {
                    let (sender, receiver) = watch::channel(horizons(cluster, planned));
                    senders.push((cluster.clone(), sender));
                    let spec = ReplicaSetSpec {
                        set_name: set_name.clone(),
                        tls: Some(tls),
                        proxied: nodes.iter().any(|node| is_proxied(planned, *node)),
                        nodes,
                        horizons: receiver,
                        timing,
                    };
                    StandIn::Set(Arc::new(ReplicaSet::start(spec).await?))
                }
                ClusterKind::Sharded { .. } => {
                    let nodes = nodes.into_iter().map(|node| mongos(planned, node)).collect();
                    StandIn::Routers(Mongos::start(MongosSpec { nodes, tls: Some(tls) }).await?)
                }
            };
            clusters.push((cluster.clone(), backend));
        }
        let mut apps = Vec::new();
        for app in &desired.apps {
            let Some(address) = backend_address(app) else { continue };
            let known = KnownApps::from([(app.id.clone(), location(app))]);
            apps.push((app.id.to_string(), AppBackend::start(address, known).await?));
        }
        Ok(Self { clusters, apps, horizons: senders })
    }

    /// Keeps the members' names in sync with the latest snapshot, also after a port move. A member that a fault makes
    /// unreachable, or for whose node `is_lost` returns true (called at each snapshot), is isolated from the others. Stops
    /// when the handle is dropped.
    pub(crate) fn follow(
        &mut self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        is_lost: impl Fn(&Node) -> bool + Send + 'static,
    ) -> AbortOnDropHandle<()> {
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
            sets.isolate(|node| node.address.fixed().is_some_and(|at| is_faulted(snapshot, at)) || is_lost(node));
        };
        take(&snapshots.borrow_and_update());
        AbortOnDropHandle::new(tokio::spawn(async move {
            while snapshots.changed().await.is_ok() {
                let snapshot = Arc::clone(&snapshots.borrow_and_update());
                take(&snapshot);
            }
        }))
    }

    fn sets(&self) -> Sets {
        let set = |(cluster, backend): &(Cluster, StandIn)| match backend {
            StandIn::Set(set) => Some((cluster.clone(), Arc::clone(set))),
            StandIn::Routers(_) => None,
        };
        Sets(self.clusters.iter().filter_map(set).collect())
    }

    /// The members of the stand-in sets.
    #[must_use]
    pub fn list(&self) -> Vec<StandInMember> {
        self.sets().members()
    }

    /// Runs an operator's command and returns the resulting members.
    ///
    /// # Errors
    ///
    /// [`StandInRefusal`] when there is no such set or member, or the set refuses the command.
    pub async fn run(&self, command: StandInCommand) -> Result<Vec<StandInMember>, StandInRefusal> {
        self.sets().run(command).await
    }

    /// A handle for commands, which works while the sets run.
    pub(crate) fn control(&self) -> StandInControl {
        let sets = self.sets();
        Arc::new(move |command| {
            let sets = sets.clone();
            Box::pin(async move { sets.run(command).await })
        })
    }

    /// The traffic so far.
    pub(super) fn carried(&self) -> Vec<StandInTraffic> {
        let clusters = self.clusters.iter().map(|(cluster, backend)| {
            let carried = match backend {
                StandIn::Set(set) => set.carried(),
                StandIn::Routers(routers) => routers.carried(),
            };
            StandInTraffic::Cluster(cluster.name.to_string(), carried)
        });
        let apps = self.apps.iter().map(|(id, app)| StandInTraffic::App(id.clone(), app.carried()));
        clusters.chain(apps).collect()
    }

    /// Stops all of them and waits until their connections are closed.
    pub(super) async fn stop(self) {
        for (_, backend) in self.clusters {
            match backend {
                StandIn::Set(set) => set.stop().await,
                StandIn::Routers(routers) => routers.stop().await,
            }
        }
        for (_, app) in self.apps {
            app.stop().await;
        }
    }
}

impl Sets {
    fn members(&self) -> Vec<StandInMember> {
        let members = self.0.iter().flat_map(|(cluster, set)| {
            cluster.nodes.iter().zip(set.members()).map(|(node, status)| StandInMember {
                cluster: cluster.name.to_string(),
                member: node.name.clone(),
                zone: node.zone.clone(),
                address: status.address,
                state: status.state,
                isolated: status.isolated,
            })
        });
        members.collect()
    }

    async fn run(&self, command: StandInCommand) -> Result<Vec<StandInMember>, StandInRefusal> {
        let done = match &command {
            StandInCommand::List => Ok(()),
            StandInCommand::Stop { cluster, member } => {
                let (set, index) = self.member(cluster, member)?;
                set.stop_node(index).await
            }
            StandInCommand::Start { cluster, member } => {
                let (set, index) = self.member(cluster, member)?;
                set.start_node(index).await
            }
            StandInCommand::StepDown { cluster } => {
                let set = self.0.iter().find(|(candidate, _)| candidate.name.as_str() == cluster);
                let (_, set) = set.ok_or_else(|| self.unknown(cluster.clone()))?;
                set.step_down(STEP_DOWN).await
            }
        };
        done.map_err(|error| StandInRefusal::Refused(crate::control::chain(&error)))?;
        Ok(self.members())
    }

    fn member(&self, cluster: &str, member: &str) -> Result<(Arc<ReplicaSet>, usize), StandInRefusal> {
        let sets = self.0.iter().filter(|(candidate, _)| candidate.name.as_str() == cluster);
        let position = |(cluster, set): &(Cluster, Arc<ReplicaSet>)| {
            Some((Arc::clone(set), cluster.nodes.iter().position(|node| node.name == member)?))
        };
        sets.filter_map(position).next().ok_or_else(|| self.unknown(format!("{cluster}/{member}")))
    }

    fn unknown(&self, wanted: String) -> StandInRefusal {
        let known = self.members().into_iter().map(|found| format!("{}/{}", found.cluster, found.member));
        StandInRefusal::Unknown { wanted, known: known.collect::<Vec<_>>().join(", ") }
    }

    /// Isolates the members for whose nodes `is_lost` returns true, and connects the others.
    fn isolate(&self, is_lost: impl Fn(&Node) -> bool) {
        for (cluster, set) in &*self.0 {
            for (index, node) in cluster.nodes.iter().enumerate() {
                // The set has a member for every node.
                let _ = set.isolate_node(index, is_lost(node));
            }
        }
    }
}

/// Whether a fault makes the node at `address` unreachable.
fn is_faulted(snapshot: &Snapshot, address: SocketAddr) -> bool {
    let members = snapshot.targets.iter().flat_map(|target| &target.members);
    members.filter(|member| member.address == address).any(|member| member.faulted)
}

/// Every address that the stand-ins of `desired` will bind, with its purpose.
pub(super) fn addresses(desired: &Desired) -> Vec<(SocketAddr, String)> {
    let clusters = desired.projects.iter().flat_map(|project| &project.clusters);
    let nodes = clusters.flat_map(|cluster| {
        let named =
            move |node: &Node| Some((node.address.fixed()?, format!("the stand-in {}/{}", cluster.name, node.name)));
        cluster.nodes.iter().filter_map(named)
    });
    let apps =
        desired.apps.iter().filter_map(|app| Some((backend_address(app)?, format!("the stand-in of {}", app.id))));
    nodes.chain(apps).collect()
}

/// The certificate of a cluster's nodes: for all names that resolve to them, and for all addresses, so that clients
/// without the lab's DNS can verify it.
fn certificate(cluster: &Cluster, planned: &Snapshot, ca: &LabCa) -> Result<Arc<ServerConfig>, QuickstartError> {
    let Some(strings) = strings_of(cluster, planned) else {
        return Err(QuickstartError::NoStrings(cluster.name.clone()));
    };
    let mut names: Vec<DnsName> = strings.private.iter().flat_map(private_hosts).collect();
    names.extend(listed(&strings.standard).filter_map(|(host, _)| host.parse().ok()));
    names.dedup();
    // As Atlas' own certificates, so that an endpoint that is made later has a good name too.
    let domains: BTreeSet<&str> = names.iter().filter_map(|name| Some(name.as_str().split_once('.')?.1)).collect();
    let wildcards: Vec<DnsName> = domains.iter().filter_map(|domain| format!("*.{domain}").parse().ok()).collect();
    names.extend(wildcards);
    let mut ips: Vec<IpAddr> =
        planned.endpoints.values().flat_map(|access| access.addresses.iter().map(|at| at.ip)).collect();
    for node in &cluster.nodes {
        ips.extend(node.address.fixed().map(|address| address.ip()));
        ips.extend(node.public_address.map(|address| address.ip()));
    }
    ips.push(Ipv4Addr::LOCALHOST.into());
    ips.sort_unstable();
    ips.dedup();
    let file = names.first().ok_or_else(|| QuickstartError::NoStrings(cluster.name.clone()))?;
    let file = file.prefixed(&cluster.name.host_label()).unwrap_or_else(|_| file.clone());
    Ok(ca.server_certificate(&file, &names, &ips)?.server_config(&[])?)
}

/// Whether the load balancer sends a PROXY protocol header to `address`.
fn is_proxied(planned: &Snapshot, address: SocketAddr) -> bool {
    planned.listeners.values().any(|listener| {
        listener.group.proxy_protocol && listener.group.members.iter().any(|member| member.address == address)
    })
}

/// The port of a `mongos`, which requires a PROXY protocol header if the load balancer sends one.
fn mongos(planned: &Snapshot, address: SocketAddr) -> MongosAddresses {
    if is_proxied(planned, address) {
        MongosAddresses { direct: None, load_balanced: Some(address) }
    } else {
        MongosAddresses { direct: Some(address), load_balanced: None }
    }
}

/// The address for an app's backend; `None` if its URL is not a loopback address.
fn backend_address(app: &App) -> Option<SocketAddr> {
    app.backend.strip_prefix("http://")?.trim_end_matches('/').parse().ok()
}

/// The response to an SDK's location call: the app's regional names, with the lab's port.
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
