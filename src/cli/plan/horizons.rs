//! `plgw plan --horizons`: configures real servers to announce the gateway's names.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::planned::PlannedConfig;
use crate::plan::{Horizon, horizons};

/// The horizons of one replica set.
#[derive(Debug, Serialize)]
pub(super) struct HorizonsView {
    cluster: String,
    /// The horizons, in the order of the explanation.
    horizons: Vec<HorizonView>,
    members: Vec<HorizonMember>,
}

/// A path to the set.
#[derive(Debug, Serialize)]
struct HorizonView {
    name: String,
    /// The endpoints of the path; none for the public one.
    endpoints: Vec<String>,
}

/// A member.
#[derive(Debug, Serialize)]
struct HorizonMember {
    /// Its `host` in `rs.conf()`, if the set uses the config's addresses.
    host: String,
    /// `host:port` by horizon.
    horizons: BTreeMap<String, String>,
}

/// Every replica set that has horizons, in the order of the config.
pub(super) fn views(planned: &PlannedConfig) -> Vec<HorizonsView> {
    let snapshot = &planned.snapshot;
    let clusters = planned.config.desired.projects.iter().flat_map(|project| {
        project.clusters.iter().filter_map(|cluster| {
            let of = |strings: &&crate::plan::ClusterStrings| {
                strings.project == project.id && strings.cluster == cluster.name
            };
            let found = horizons(cluster, snapshot.strings.iter().find(of)?, snapshot);
            let member = |(at, node): (usize, &crate::model::Node)| HorizonMember {
                host: node.address.to_string(),
                horizons: found.iter().map(|of| (of.name.clone(), of.members[at].clone())).collect(),
            };
            let members: Vec<HorizonMember> = cluster.nodes.iter().enumerate().map(member).collect();
            let horizons: Vec<HorizonView> = found.into_iter().map(HorizonView::from).collect();
            (!horizons.is_empty()).then(|| HorizonsView { cluster: cluster.name.to_string(), horizons, members })
        })
    });
    clusters.collect()
}

impl From<Horizon> for HorizonView {
    fn from(horizon: Horizon) -> Self {
        Self { name: horizon.name, endpoints: horizon.endpoints }
    }
}

/// A `mongosh` script, to be run on a primary.
pub(super) fn script(views: &[HorizonsView]) -> String {
    if views.is_empty() {
        return "// no replica set has a private endpoint or public addresses, so there is no horizon to set\n"
            .to_owned();
    }
    views.iter().map(of_set).collect::<Vec<_>>().join("\n")
}

fn of_set(view: &HorizonsView) -> String {
    let mut text = format!("// {}: run it in mongosh, connected to the set's primary.\n", view.cluster);
    for horizon in &view.horizons {
        let who = if horizon.endpoints.is_empty() {
            "clients that use the standard connection string".to_owned()
        } else {
            format!("clients that connect through {}", horizon.endpoints.join(" or "))
        };
        text.push_str(&format!("//   {}: for {who}\n", horizon.name));
    }
    text.push_str(
        "// Servers choose by the name that a client asks for in TLS, so they need TLS and certificates with these names.\n\
         // The keys are the members' `host` in rs.conf(): write yours where they differ. Run it again when a port moves.\n\
         {\n  const horizons = {\n",
    );
    for member in &view.members {
        let pairs: Vec<String> =
            member.horizons.iter().map(|(name, host)| format!("{}: {}", quoted(name), quoted(host))).collect();
        text.push_str(&format!("    {}: {{ {} }},\n", quoted(&member.host), pairs.join(", ")));
    }
    text.push_str(
        "  };\n  const conf = rs.conf();\n  for (const member of conf.members) {\n    \
         if (!horizons[member.host]) throw new Error(\"no horizons for \" + member.host + \": write its host above\");\n    \
         member.horizons = horizons[member.host];\n  }\n  rs.reconfig(conf);\n}\n",
    );
    text
}

/// A JavaScript string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}
