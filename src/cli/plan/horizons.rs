//! `plgw plan --horizons`: configures real servers to announce the gateway's names.

use serde_json::{Map, Value, json};

use crate::cli::operator::{cell, list};
use crate::cli::planned::PlannedConfig;
use crate::plan::horizons;

/// Every replica set that has horizons, in the order of the config. Each has its horizons with their endpoints (none for the
/// public path), and its members: the `host` in `rs.conf()`, if the set uses the config's addresses, and `host:port` by
/// horizon.
pub(super) fn views(planned: &PlannedConfig) -> Vec<Value> {
    let mut views = Vec::new();
    for project in &planned.config.desired.projects {
        for cluster in &project.clusters {
            let of = |strings: &&crate::plan::ClusterStrings| {
                strings.project == project.id && strings.cluster == cluster.name
            };
            let Some(strings) = planned.snapshot.strings.iter().find(of) else { continue };
            let found = horizons(cluster, strings, &planned.snapshot);
            if found.is_empty() {
                continue;
            }
            let members = cluster.nodes.iter().enumerate().map(|(at, node)| {
                let horizons: Map<_, _> =
                    found.iter().map(|of| (of.name.clone(), of.members[at].as_str().into())).collect();
                json!({ "host": node.address.to_string(), "horizons": horizons })
            });
            let members: Value = members.collect();
            let paths = found.iter().map(|of| json!({ "name": of.name, "endpoints": of.endpoints })).collect::<Value>();
            views.push(json!({ "cluster": cluster.name, "horizons": paths, "members": members }));
        }
    }
    views
}

/// A `mongosh` script, to be run on a primary.
pub(super) fn script(views: &[Value]) -> String {
    if views.is_empty() {
        return "// no replica set has a private endpoint or public addresses, so there is no horizon to set\n"
            .to_owned();
    }
    views.iter().map(of_set).collect::<Vec<_>>().join("\n")
}

fn of_set(view: &Value) -> String {
    let mut text = format!("// {}: run it in mongosh, connected to the set's primary.\n", cell(&view["cluster"]));
    for horizon in list(view, "horizons") {
        let endpoints: Vec<String> = list(horizon, "endpoints").iter().map(cell).collect();
        let who = if endpoints.is_empty() {
            "clients that use the standard connection string".to_owned()
        } else {
            format!("clients that connect through {}", endpoints.join(" or "))
        };
        text.push_str(&format!("//   {}: for {who}\n", cell(&horizon["name"])));
    }
    text.push_str(
        "// Servers choose by the name that a client asks for in TLS, so they need TLS and certificates with these names.\n\
         // The keys are the members' `host` in rs.conf(): write yours where they differ. Run it again when a port moves.\n\
         {\n  const horizons = {\n",
    );
    for member in list(view, "members") {
        // A JSON string is a JavaScript string.
        let pairs = member["horizons"].as_object().into_iter().flatten();
        let pairs: Vec<String> = pairs.map(|(name, host)| format!("{}: {host}", json!(name))).collect();
        text.push_str(&format!("    {}: {{ {} }},\n", member["host"], pairs.join(", ")));
    }
    text.push_str(
        "  };\n  const conf = rs.conf();\n  for (const member of conf.members) {\n    \
         if (!horizons[member.host]) throw new Error(\"no horizons for \" + member.host + \": write its host above\");\n    \
         member.horizons = horizons[member.host];\n  }\n  rs.reconfig(conf);\n}\n",
    );
    text
}
