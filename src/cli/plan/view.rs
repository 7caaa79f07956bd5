//! The format of `plgw plan --output json`. Scripts depend on it: keys may be added, but not renamed or removed.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::connection_strings;
use crate::cli::planned::{PlannedConfig, StateSource};
use crate::plan::{
    AppListenerKind, AppView, AppsView, DnsView, EndpointAccess, Listener, ListenerAccess, Member, RecordSets,
    Snapshot, TargetView,
};

/// The plan.
pub(super) fn view(config: &Path, planned: &PlannedConfig) -> Value {
    let (settings, snapshot) = (&planned.config.settings, &planned.snapshot);
    let (source, path) = match &planned.state {
        StateSource::File(path) => ("file", Some(path)),
        StateSource::NoFile(path) => ("no-file", Some(path)),
        StateSource::Memory => ("memory", None),
        StateSource::Etcd(_) => ("etcd", None),
    };
    json!({
        "config": config.display().to_string(),
        "state": { "source": source, "path": path.map(|path| path.display().to_string()) },
        // The gateway's own addresses; null: not served.
        "services": {
            "dns": settings.dns.as_ref().map(|dns| dns.listen.as_slice()).unwrap_or_default(),
            "metrics": settings.metrics,
            "admin": settings.admin,
        },
        "listeners": snapshot.listeners.values().map(|of| listener(of)).collect::<Value>(),
        "targets": snapshot.targets.iter().map(target).collect::<Value>(),
        "endpoints": snapshot.endpoints.values().map(|access| endpoint(access)).collect::<Value>(),
        "dns_records": records(snapshot),
        "apps": snapshot.apps.apps.values().map(|of| app(of, &snapshot.apps)).collect::<Value>(),
        "connection_strings": connection_strings::shown(&snapshot.strings),
        "notices": snapshot.notices,
    })
}

/// A listening socket.
fn listener(listener: &Listener) -> Value {
    let (path, endpoint) = match &listener.access {
        ListenerAccess::Endpoint(access) => ("private", Some(&access.id)),
        ListenerAccess::Public { .. } => ("public", None),
    };
    json!({
        "address": listener.address,
        "path": path,
        "endpoint": endpoint,
        "zone": listener.zone,
        "target": listener.group.target,
        "members": listener.group.members.iter().map(member).collect::<Value>(),
        // Whether a PROXY protocol v2 header goes in front of every flow.
        "proxy_protocol": listener.group.proxy_protocol,
    })
}

fn member(member: &Member) -> Value {
    json!({ "name": member.name, "zone": member.zone, "address": member.address })
}

/// An addressable target. Planning neither probes nor resolves host names.
fn target(target: &TargetView) -> Value {
    json!({
        "project": target.project,
        "service": target.service,
        "region": target.region,
        "target": target.id,
        "cluster": target.cluster,
        "kind": target.kind,
        "port": target.port,
        "paused": target.paused,
        "state": target.state.label(),
        "members": target.members.iter().map(member).chain(target.unresolved.iter().map(|of| json!(of))).collect::<Value>(),
    })
}

fn endpoint(access: &EndpointAccess) -> Value {
    let addresses = access.addresses.iter();
    json!({
        "id": access.id,
        "vpc": access.vpc,
        "service": access.service.to_string(),
        "state": access.state.label(),
        "regional_name": access.regional_name,
        "addresses": addresses.map(|at| json!({ "subnet": at.subnet, "zone": at.zone, "ip": at.ip })).collect::<Value>(),
    })
}

fn app(app: &Arc<AppView>, apps: &AppsView) -> Value {
    let own = apps.listeners.values().filter(|listener| listener.apps.contains_key(&app.id));
    let address = own.map(|listener| {
        let is_private = matches!(listener.kind, AppListenerKind::Private { .. });
        json!({ "address": listener.address, "endpoint": is_private.then(|| listener.label()) })
    });
    json!({
        "app": app.id,
        "project": app.project,
        "restricted": app.restricted,
        "backend": app.backend.as_ref().map(ToString::to_string),
        "hosts": app.hosts,
        "addresses": address.collect::<Value>(),
    })
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
        *self == Self { zone: self.zone.clone(), ..other.clone() }
    }
}

/// Every record of a snapshot: the public ones, then each VPC's private hosted zones.
pub(in crate::cli) fn records(snapshot: &Snapshot) -> Vec<RecordView> {
    let DnsView { public, vpcs, .. } = snapshot.dns.as_ref();
    let zones = public.iter().map(|zone| ("public", zone));
    let private = vpcs.iter().flat_map(|vpc| vpc.private.iter().map(|zone| (vpc.vpc.as_str(), zone)));
    let mut records = Vec::new();
    for (view, (apex, zone)) in zones.chain(private) {
        for (name, sets) in &zone.records {
            records.extend(typed(sets).into_iter().map(|(r#type, value)| RecordView {
                view: view.to_owned(),
                zone: apex.to_string(),
                name: name.to_string(),
                r#type,
                value,
            }));
        }
    }
    records
}

fn typed(sets: &RecordSets) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    all.extend(sets.addresses.iter().map(|ip| (if ip.is_ipv4() { "A" } else { "AAAA" }, ip.to_string())));
    all.extend(sets.cname.iter().map(|target| ("CNAME", format!("{target}."))));
    all.extend(sets.srv.iter().map(|(port, target)| ("SRV", format!("0 0 {port} {target}."))));
    all.extend(sets.txt.iter().map(|text| ("TXT", text.clone())));
    all
}
