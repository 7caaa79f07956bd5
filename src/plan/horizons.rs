//! Split horizons: the names that a set's members must announce to clients, for each path. Pure; computed from the
//! snapshot.
//!
//! A server chooses a horizon by the SNI of a client, and sends that client only the hosts of that horizon. Every
//! member must have every horizon, so one in which a member has no address is omitted. Source: MongoDB,
//! `src/mongo/db/repl/split_horizon/README.md`.

use crate::model::{Cluster, DnsName, Node, TargetId};
use crate::plan::{ClusterStrings, PrivateStrings, Snapshot};

/// A path to a replica set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon {
    /// Its name: `pl-0`, `public`.
    pub name: String,
    /// The endpoints of the path; none for the public one.
    pub endpoints: Vec<String>,
    /// Each member's `host:port` on the path, in the cluster's node order.
    pub members: Vec<String>,
}

/// The horizons of a replica set, in the order of its private strings, with the public one last. A sharded cluster has
/// none, as a `mongos` announces no other host.
#[must_use]
pub fn horizons(cluster: &Cluster, strings: &ClusterStrings, snapshot: &Snapshot) -> Vec<Horizon> {
    if cluster.is_sharded() {
        return Vec::new();
    }
    let private = strings.private.iter().filter_map(|private| {
        let members = cluster.nodes.iter().map(|node| private_member(cluster, node, private, snapshot));
        let host = private_hosts(private).into_iter().next()?;
        // `pl-0-us-east-1-k45tj.…` in one region, `pl-0-eu-west-1-k45tj.…` in another: `pl-0` in both.
        let name: Vec<&str> = host.as_str().split('-').take(2).collect();
        let endpoints = private.endpoints.iter().map(|(id, _)| id.to_string()).collect();
        Some(Horizon { name: name.join("-"), endpoints, members: members.collect::<Option<_>>()? })
    });
    let public = cluster.nodes.iter().map(|node| public_member(node, strings).map(|(_, member)| member));
    let public = public.collect::<Option<Vec<String>>>().filter(|members| !members.is_empty());
    let public = public.map(|members| Horizon { name: "public".to_owned(), endpoints: Vec::new(), members });
    private.chain(public).collect()
}

/// The host names of private strings, each once, in the order of the regions.
#[must_use]
pub fn private_hosts(strings: &PrivateStrings) -> Vec<DnsName> {
    let mut hosts: Vec<DnsName> =
        listed(&strings.connection_string).filter_map(|(host, _)| host.parse().ok()).collect();
    hosts.dedup();
    hosts
}

/// `host:port` of a node on the private path.
#[must_use]
pub fn private_member(cluster: &Cluster, node: &Node, strings: &PrivateStrings, snapshot: &Snapshot) -> Option<String> {
    let region = node.zone.region();
    let at = strings.endpoints.iter().position(|(_, of)| *of == region)?;
    let host = private_hosts(strings).into_iter().nth(at)?;
    let id = TargetId::new(&cluster.name, &node.name);
    let target = snapshot.targets.iter().find(|target| target.id == id && target.region == region)?;
    Some(format!("{host}:{}", target.port))
}

/// The host name of a node on the standard path, with its `host:port`.
#[must_use]
pub fn public_member(node: &Node, strings: &ClusterStrings) -> Option<(DnsName, String)> {
    node.public_address?;
    let has_name = |host: &str| host.split('.').next().is_some_and(|label| label.contains(node.name.as_str()));
    let (host, port) = listed(&strings.standard).find(|(host, _)| has_name(host))?;
    Some((host.parse().ok()?, format!("{host}:{port}")))
}

/// Hosts and ports of a standard string.
pub fn listed(string: &str) -> impl Iterator<Item = (&str, &str)> {
    let hosts = string.strip_prefix("mongodb://").and_then(|rest| rest.split_once('/')).map_or("", |(hosts, _)| hosts);
    hosts.split(',').filter_map(|host| host.rsplit_once(':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::plan::{Generation, PortAllocations, compile};

    #[test]
    fn every_path_to_a_set_is_a_horizon_that_every_member_has() {
        let mut desired = config::quickstart().desired;
        let of = |desired: &crate::model::Desired, n: usize| {
            let (snapshot, _) = compile(desired, &PortAllocations::default(), Generation(1)).expect("a plan");
            horizons(&desired.projects[0].clusters[n], &snapshot.strings[n], &snapshot)
        };
        let found = of(&desired, 0);
        let private = [1024, 1025, 1026].map(|port| format!("pl-0-us-east-1-k45tj.mongodb.net:{port}"));
        let public = ["00", "01", "02"].map(|n| format!("cluster0-shard-00-{n}-k45tj.mongodb.net:27017"));
        assert_eq!(found.iter().map(|of| of.name.as_str()).collect::<Vec<_>>(), ["pl-0", "public"]);
        assert_eq!((found[0].members.as_slice(), found[1].members.as_slice()), (&private[..], &public[..]));
        assert_eq!(found[0].endpoints, ["vpce-024f5b57108c8d3ed"]);
        assert_eq!(of(&desired, 1), [], "a mongos names no other host");

        desired.projects[0].clusters[0].nodes[1].public_address = None;
        let names: Vec<String> = of(&desired, 0).into_iter().map(|of| of.name).collect();
        assert_eq!(names, ["pl-0"], "one member has no public address");
    }

    #[test]
    fn strings_are_taken_apart() {
        let string = "mongodb://a.net:1024,b.net:1025/?ssl=true&authSource=admin&replicaSet=rs";
        assert_eq!(listed(string).collect::<Vec<_>>(), [("a.net", "1024"), ("b.net", "1025")]);
    }
}
