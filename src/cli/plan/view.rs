//! The format of `plgw plan --output json`. Scripts depend on it: keys may be added, but not renamed or removed.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::cli::planned::{PlannedConfig, StateSource};
use crate::plan::{
    AppListener, AppListenerKind, AppView, AppsView, ClusterStrings, DnsView, DnsZone, EndpointAccess, Listener,
    ListenerAccess, PrivateStrings, RecordSets, Snapshot, TargetKind, TargetView,
};

/// The plan.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct PlanView {
    /// The config file, as named on the command line.
    pub(in crate::cli) config: String,
    /// The source of the assigned ports.
    pub(in crate::cli) state: StateView,
    /// The gateway's own addresses.
    pub(in crate::cli) services: ServicesView,
    /// Listening sockets, by address.
    pub(in crate::cli) listeners: Vec<PlannedListener>,
    /// Addressable targets, by load balancer and port.
    pub(in crate::cli) targets: Vec<PlannedTarget>,
    /// Interface endpoints, by id.
    pub(in crate::cli) endpoints: Vec<PlannedEndpoint>,
    /// DNS records, by view, zone and name.
    pub(in crate::cli) dns_records: Vec<RecordView>,
    /// App Services' apps, by id.
    pub(in crate::cli) apps: Vec<PlannedApp>,
    /// Connection strings, by project and cluster.
    pub(in crate::cli) connection_strings: Vec<StringsView>,
    /// Notices: what is allowed but probably not intended.
    pub(in crate::cli) notices: Vec<String>,
}

/// The source of the assigned ports.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct StateView {
    /// `file`, `no-file`, `memory` or `etcd`.
    source: &'static str,
    /// The state file.
    path: Option<String>,
}

/// The gateway's own addresses; `null`: not served.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct ServicesView {
    /// DNS, over UDP and TCP.
    pub(in crate::cli) dns: Vec<SocketAddr>,
    /// `/metrics`, `/healthz`, `/readyz`.
    pub(in crate::cli) metrics: Option<SocketAddr>,
    /// The admin API.
    pub(in crate::cli) admin: Option<SocketAddr>,
}

/// A listening socket.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct PlannedListener {
    /// Its address.
    pub(in crate::cli) address: SocketAddr,
    /// `private`: through an interface endpoint; `public`: the standard strings' path.
    pub(in crate::cli) path: &'static str,
    /// The interface endpoint on the private path.
    pub(in crate::cli) endpoint: Option<String>,
    /// The zone of the address.
    pub(in crate::cli) zone: String,
    /// The target of its flows.
    pub(in crate::cli) target: String,
    /// The processes behind it.
    pub(in crate::cli) members: Vec<PlannedMember>,
    /// Whether a PROXY protocol v2 header goes in front of every flow.
    pub(in crate::cli) proxy_protocol: bool,
}

/// An addressable target.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct PlannedTarget {
    project: String,
    /// The load balancer.
    service: String,
    region: String,
    /// `Cluster0/shard-00-00`.
    pub(in crate::cli) target: String,
    cluster: String,
    /// `mongod`, `mongos`, `optimized` or `bi-connector`.
    pub(in crate::cli) kind: &'static str,
    /// Its port on the load balancer.
    pub(in crate::cli) port: u16,
    /// Whether its cluster is paused: the port is kept, nothing listens.
    pub(in crate::cli) paused: bool,
    /// `initial`, `healthy`, `unhealthy`, `draining`, `unused`. Planning does not probe.
    pub(in crate::cli) state: &'static str,
    /// The processes behind it.
    pub(in crate::cli) members: Vec<PlannedMember>,
}

/// A process behind a listener.
#[derive(Debug, Clone, Serialize)]
pub(in crate::cli) struct PlannedMember {
    name: String,
    pub(in crate::cli) zone: String,
    /// Its address or host name, which a running gateway resolves, with its port.
    pub(in crate::cli) address: String,
}

/// An interface endpoint.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct PlannedEndpoint {
    pub(in crate::cli) id: String,
    vpc: String,
    /// The service's full name.
    service: String,
    /// EC2's state: `available`, `pendingAcceptance`, ….
    pub(in crate::cli) state: &'static str,
    /// Its regional DNS name.
    regional_name: Option<String>,
    pub(in crate::cli) addresses: Vec<EndpointAddressView>,
}

/// One address of an endpoint.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct EndpointAddressView {
    subnet: String,
    pub(in crate::cli) zone: String,
    pub(in crate::cli) ip: IpAddr,
}

/// An App Services app.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct PlannedApp {
    pub(in crate::cli) app: String,
    project: String,
    /// Whether requests from outside the VPC get 404.
    pub(in crate::cli) restricted: bool,
    /// The backend of its requests.
    pub(in crate::cli) backend: Option<String>,
    /// The names that its clients use.
    hosts: Vec<String>,
    pub(in crate::cli) addresses: Vec<AppAddressView>,
}

/// A listening address of an app.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct AppAddressView {
    pub(in crate::cli) address: SocketAddr,
    /// The interface endpoint; none on the public path.
    pub(in crate::cli) endpoint: Option<String>,
}

impl PlannedApp {
    fn all(apps: &AppsView) -> Vec<Self> {
        let addresses = |app: &AppView| {
            let own = apps.listeners.values().filter(|listener| listener.apps.contains_key(&app.id));
            let view = |listener: &Arc<AppListener>| AppAddressView {
                address: listener.address,
                endpoint: matches!(listener.kind, AppListenerKind::Private { .. }).then(|| listener.label().to_owned()),
            };
            own.map(view).collect()
        };
        let view = |app: &Arc<AppView>| Self {
            app: app.id.to_string(),
            project: app.project.to_string(),
            restricted: app.restricted,
            backend: app.backend.as_ref().map(ToString::to_string),
            hosts: app.hosts.iter().map(ToString::to_string).collect(),
            addresses: addresses(app),
        };
        apps.apps.values().map(view).collect()
    }
}

/// One DNS record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct RecordView {
    /// `public`, or the VPC whose private hosted zone has it.
    pub(in crate::cli) view: String,
    /// The zone's name.
    zone: String,
    /// The owner.
    pub(in crate::cli) name: String,
    /// `A`, `AAAA`, `CNAME`, `SRV`, `TXT`.
    pub(in crate::cli) r#type: &'static str,
    /// The record's data, as in a zone file; a TXT record's text without quotes.
    pub(in crate::cli) value: String,
}

impl RecordView {
    /// Whether the record is the same in the same view, whatever its zone.
    pub(in crate::cli) fn is_same_record(&self, other: &Self) -> bool {
        let said = |record: &Self| (record.view.clone(), record.name.clone(), record.r#type, record.value.clone());
        said(self) == said(other)
    }
}

/// A cluster's connection strings.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct StringsView {
    project: String,
    pub(in crate::cli) cluster: String,
    /// `mongodb+srv://…` on the public path.
    /// Whether a node has a public address; without one the names of the standard strings do not exist.
    pub(in crate::cli) is_public: bool,
    pub(in crate::cli) standard_srv: String,
    /// `mongodb://…` on the public path.
    pub(in crate::cli) standard: String,
    /// The strings of the private path; if there are none, `unavailable` has the reason.
    pub(in crate::cli) private: Vec<PrivateStringsView>,
    /// Why there are no private strings.
    pub(in crate::cli) unavailable: Option<String>,
}

/// Private endpoint-aware connection strings.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct PrivateStringsView {
    /// `MONGOD` or `MONGOS`.
    r#type: &'static str,
    pub(in crate::cli) connection_string: String,
    pub(in crate::cli) srv_connection_string: String,
    pub(in crate::cli) srv_shard_optimized_connection_string: Option<String>,
    /// The endpoints that they use.
    pub(in crate::cli) endpoints: Vec<EndpointRef>,
}

/// An endpoint of connection strings.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct EndpointRef {
    pub(in crate::cli) endpoint_id: String,
    region: String,
}

impl PlanView {
    /// Creates the view.
    pub(super) fn new(config: &Path, planned: &PlannedConfig) -> Self {
        let (settings, snapshot) = (&planned.config.settings, &planned.snapshot);
        Self {
            config: config.display().to_string(),
            state: StateView::from(&planned.state),
            services: ServicesView {
                dns: settings.dns.as_ref().map(|dns| dns.listen.clone()).unwrap_or_default(),
                metrics: settings.metrics,
                admin: settings.admin,
            },
            listeners: snapshot.listeners.values().map(|listener| PlannedListener::from(listener.as_ref())).collect(),
            targets: snapshot.targets.iter().map(PlannedTarget::from).collect(),
            endpoints: snapshot.endpoints.values().map(|access| PlannedEndpoint::from(access.as_ref())).collect(),
            dns_records: records(snapshot),
            apps: PlannedApp::all(&snapshot.apps),
            connection_strings: snapshot.strings.iter().map(StringsView::from).collect(),
            notices: snapshot.notices.clone(),
        }
    }
}

impl From<&StateSource> for StateView {
    fn from(state: &StateSource) -> Self {
        let (source, path) = match state {
            StateSource::File(path) => ("file", Some(path)),
            StateSource::NoFile(path) => ("no-file", Some(path)),
            StateSource::Memory => ("memory", None),
            StateSource::Etcd(_) => ("etcd", None),
        };
        Self { source, path: path.map(|path| path.display().to_string()) }
    }
}

impl From<&Listener> for PlannedListener {
    fn from(listener: &Listener) -> Self {
        let (path, endpoint) = match &listener.access {
            ListenerAccess::Endpoint(access) => ("private", Some(access.id.to_string())),
            ListenerAccess::Public { .. } => ("public", None),
        };
        Self {
            address: listener.address,
            path,
            endpoint,
            zone: listener.zone.to_string(),
            target: listener.group.target.to_string(),
            members: listener.group.members.iter().map(PlannedMember::from).collect(),
            proxy_protocol: listener.group.proxy_protocol,
        }
    }
}

impl From<&crate::plan::Member> for PlannedMember {
    fn from(member: &crate::plan::Member) -> Self {
        Self { name: member.name.clone(), zone: member.zone.to_string(), address: member.address.to_string() }
    }
}

impl From<&crate::plan::UnresolvedMember> for PlannedMember {
    fn from(member: &crate::plan::UnresolvedMember) -> Self {
        Self { name: member.name.clone(), zone: member.zone.to_string(), address: member.address.clone() }
    }
}

impl From<&TargetView> for PlannedTarget {
    fn from(target: &TargetView) -> Self {
        Self {
            project: target.project.to_string(),
            service: target.service.to_string(),
            region: target.region.to_string(),
            target: target.id.to_string(),
            cluster: target.cluster.to_string(),
            kind: kind(target.kind),
            port: target.port.get(),
            paused: target.paused,
            state: target.state.label(),
            members: target
                .members
                .iter()
                .map(PlannedMember::from)
                .chain(target.unresolved.iter().map(PlannedMember::from))
                .collect(),
        }
    }
}

/// A target's kind.
pub(in crate::cli) fn kind(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Mongod => "mongod",
        TargetKind::Mongos => "mongos",
        TargetKind::Optimized => "optimized",
        TargetKind::BiConnector => "bi-connector",
    }
}

impl From<&EndpointAccess> for PlannedEndpoint {
    fn from(access: &EndpointAccess) -> Self {
        let address = |at: &crate::model::EndpointAddress| EndpointAddressView {
            subnet: at.subnet.to_string(),
            zone: at.zone.to_string(),
            ip: at.ip,
        };
        Self {
            id: access.id.to_string(),
            vpc: access.vpc.to_string(),
            service: access.service.to_string(),
            state: access.state.label(),
            regional_name: access.regional_name.as_ref().map(ToString::to_string),
            addresses: access.addresses.iter().map(address).collect(),
        }
    }
}

impl From<&ClusterStrings> for StringsView {
    fn from(strings: &ClusterStrings) -> Self {
        Self {
            project: strings.project.to_string(),
            cluster: strings.cluster.to_string(),
            is_public: strings.is_public,
            standard_srv: strings.standard_srv.clone(),
            standard: strings.standard.clone(),
            private: strings.private.iter().map(PrivateStringsView::from).collect(),
            unavailable: strings.unavailable.clone(),
        }
    }
}

/// From `/v1/connection-strings`.
impl From<&serde_json::Value> for StringsView {
    fn from(strings: &serde_json::Value) -> Self {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let of = |name: &str| text(&strings[name]).unwrap_or_default();
        let endpoint = |pair: &serde_json::Value| {
            let of = |index: usize| text(&pair[index]).unwrap_or_default();
            EndpointRef { endpoint_id: of(0), region: of(1) }
        };
        let private = |private: &serde_json::Value| PrivateStringsView {
            r#type: if private["type"] == "MONGOS" { "MONGOS" } else { "MONGOD" },
            connection_string: text(&private["connection_string"]).unwrap_or_default(),
            srv_connection_string: text(&private["srv_connection_string"]).unwrap_or_default(),
            srv_shard_optimized_connection_string: text(&private["srv_shard_optimized_connection_string"]),
            endpoints: private["endpoints"].as_array().into_iter().flatten().map(endpoint).collect(),
        };
        Self {
            project: of("project"),
            cluster: of("cluster"),
            is_public: strings["is_public"] == true,
            standard_srv: of("standard_srv"),
            standard: of("standard"),
            private: strings["private"].as_array().into_iter().flatten().map(private).collect(),
            unavailable: text(&strings["unavailable"]),
        }
    }
}

impl From<&PrivateStrings> for PrivateStringsView {
    fn from(strings: &PrivateStrings) -> Self {
        let endpoints = strings.endpoints.iter();
        Self {
            r#type: strings.r#type,
            connection_string: strings.connection_string.clone(),
            srv_connection_string: strings.srv_connection_string.clone(),
            srv_shard_optimized_connection_string: strings.srv_shard_optimized_connection_string.clone(),
            endpoints: endpoints
                .map(|(id, region)| EndpointRef { endpoint_id: id.to_string(), region: region.to_string() })
                .collect(),
        }
    }
}

/// Every record of a snapshot: the public ones, then each VPC's private hosted zones.
pub(in crate::cli) fn records(snapshot: &Snapshot) -> Vec<RecordView> {
    let DnsView { public, vpcs, .. } = snapshot.dns.as_ref();
    let zones = public.iter().map(|zone| ("public".to_owned(), zone));
    let private = vpcs.iter().flat_map(|vpc| vpc.private.iter().map(|zone| (vpc.vpc.to_string(), zone)));
    zones.chain(private).flat_map(|(view, (apex, zone))| of_zone(&view, apex.as_str(), zone)).collect()
}

fn of_zone(view: &str, apex: &str, zone: &DnsZone) -> Vec<RecordView> {
    let record = |name: &str, kind: &'static str, value: String| RecordView {
        view: view.to_owned(),
        zone: apex.to_owned(),
        name: name.to_owned(),
        r#type: kind,
        value,
    };
    let of_name = |(name, sets): (&crate::model::DnsName, &RecordSets)| {
        let name = name.as_str().to_owned();
        typed(sets).into_iter().map(|(kind, value)| record(&name, kind, value)).collect::<Vec<_>>()
    };
    zone.records.iter().flat_map(of_name).collect()
}

fn typed(sets: &RecordSets) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    all.extend(sets.addresses.iter().map(|ip| (if ip.is_ipv4() { "A" } else { "AAAA" }, ip.to_string())));
    all.extend(sets.cname.iter().map(|target| ("CNAME", format!("{target}."))));
    all.extend(sets.srv.iter().map(|(port, target)| ("SRV", format!("0 0 {port} {target}."))));
    all.extend(sets.txt.iter().map(|text| ("TXT", text.clone())));
    all
}
