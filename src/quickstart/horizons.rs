//! The split horizons of a stand-in set, computed from the snapshot.

use crate::model::{Cluster, DnsName};
use crate::plan::{ClusterStrings, Snapshot};
pub(super) use crate::plan::{listed, private_hosts, private_member, public_member};
use crate::standin::mongo::Horizons;

/// The members' addresses by the host name that clients connect to: the private ones of every endpoint, and the public
/// ones.
///
/// Members are in the cluster's node order, independent of the strings.
pub(super) fn horizons(cluster: &Cluster, snapshot: &Snapshot) -> Horizons {
    let mut horizons = Horizons::default();
    let Some(strings) = strings_of(cluster, snapshot) else { return horizons };
    for private in &strings.private {
        let hosts = private_hosts(private);
        let members: Vec<String> =
            cluster.nodes.iter().filter_map(|node| private_member(cluster, node, private, snapshot)).collect();
        for host in hosts {
            horizons.insert(host, members.clone());
        }
    }
    let public: Vec<(DnsName, String)> = cluster.nodes.iter().filter_map(|node| public_member(node, strings)).collect();
    for (host, _) in &public {
        horizons.insert(host.clone(), public.iter().map(|(_, member)| member.clone()));
    }
    horizons
}

/// The cluster's strings.
pub(super) fn strings_of<'s>(cluster: &Cluster, snapshot: &'s Snapshot) -> Option<&'s ClusterStrings> {
    snapshot.strings.iter().find(|strings| strings.cluster == cluster.name)
}

/// The options of a standard string that a seed list's TXT record carries.
pub(super) fn txt_options(string: &str) -> &str {
    string.split_once("ssl=true&").map_or("", |(_, options)| options)
}

#[cfg(test)]
mod tests {
    use super::super::{NetworkShift, scenario};
    use super::*;
    use crate::model::TargetId;
    use crate::plan::{Generation, PortAllocations, compile};

    const PRIVATE: &str = "pl-0-us-east-1-k45tj.mongodb.net";

    #[test]
    fn members_are_in_node_order_and_follow_a_port_move() {
        let mut desired = scenario(NetworkShift::default(), false).desired;
        let cluster = desired.projects[0].clusters[0].clone();
        let (first, held) = compile(&desired, &PortAllocations::default(), Generation(1)).expect("a plan");
        let mut expected = Horizons::default();
        expected.insert(PRIVATE.parse().unwrap(), [1024, 1025, 1026].map(|port| format!("{PRIVATE}:{port}")));
        let public = ["00", "01", "02"].map(|n| format!("cluster0-shard-00-{n}-k45tj.mongodb.net"));
        for host in &public {
            expected.insert(host.parse().unwrap(), public.iter().map(|host| format!("{host}:27017")));
        }
        assert_eq!(horizons(&cluster, &first), expected);

        let service = desired.projects[0].services[0].id.clone();
        let target = TargetId::new(&cluster.name, "shard-00-00");
        desired.moves.insert((service, target), 1030.try_into().unwrap());
        let (moved, _) = compile(&desired, &held, Generation(2)).expect("a plan");
        expected.insert(PRIVATE.parse().unwrap(), [1030, 1025, 1026].map(|port| format!("{PRIVATE}:{port}")));
        assert_eq!(horizons(&cluster, &moved), expected);
    }

    #[test]
    fn a_seed_lists_options_are_those_of_the_string() {
        let string = "mongodb://a.net:1024,b.net:1025/?ssl=true&authSource=admin&replicaSet=rs";
        assert_eq!(txt_options(string), "authSource=admin&replicaSet=rs");
    }
}
