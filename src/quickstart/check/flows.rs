//! Checks that flows reach the right targets.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bson::{Document, doc, oid::ObjectId};
use futures_util::future::try_join_all;

use super::super::client::mongo::MongoClient;
use super::super::horizons::{private_hosts, private_member, public_member, strings_of};
use super::client_addresses::{ClientAddresses, client_of};
use super::{CheckContext, CheckResult, why};
use crate::model::{Cluster, ClusterKind, DnsName};
use crate::plan::{Listener, ListenerAccess, PrivateStrings};

/// Connections to a balanced port, enough to reach every `mongos`: with two, all 64 reach the same one with a
/// probability of 2⁻⁶³.
const BALANCED_CONNECTIONS: usize = 64;

/// Where the check writes.
const DATABASE: &str = "plgw_quickstart";
const COLLECTION: &str = "self_check";

/// A path to one listener: address, host name, and the expected `hello`.
#[derive(Debug, Clone)]
struct ListenerPath {
    address: SocketAddr,
    host: DnsName,
    expected: Expected,
    /// The source address of a client in the endpoint's network; `None`: the default source address.
    inside: Option<IpAddr>,
}

/// The expected content of a `hello`.
#[derive(Debug, Clone)]
enum Expected {
    /// A member of a set: its name, all members, and its own address among them.
    Member { set: String, hosts: Vec<String>, me: String },
    /// A `mongos`; behind a load balancer it also has a service id.
    Router { balanced: bool },
}

impl ListenerPath {
    async fn client(&self, context: &CheckContext, source: Option<IpAddr>) -> Result<MongoClient, String> {
        let client = MongoClient::connect(source.or(self.inside), self.address, &self.host, &context.tls).await;
        client.map_err(|error| self.failure(source, &why(&error)))
    }

    /// Runs `hello` from `source` and compares the reply.
    async fn check(&self, context: &CheckContext, source: Option<IpAddr>) -> Result<Document, String> {
        let mut client = self.client(context, source).await?;
        let reply = client.run("admin", self.hello()).await.map_err(|error| self.failure(source, &why(&error)))?;
        self.expected.compare(&reply).map_err(|reason| self.failure(source, &reason))?;
        Ok(reply)
    }

    /// The `hello` of a driver with the right connection string.
    fn hello(&self) -> Document {
        let mut hello = doc! { "hello": 1, "helloOk": true };
        if matches!(self.expected, Expected::Router { balanced: true }) {
            hello.insert("loadBalanced", true);
        }
        hello
    }

    fn failure(&self, source: Option<IpAddr>, what: &str) -> String {
        let from = source.map(|source| format!(" from {source}")).unwrap_or_default();
        format!("{} as {}{from}: {what}", self.address, self.host)
    }
}

impl Expected {
    fn compare(&self, reply: &Document) -> Result<(), String> {
        match self {
            Self::Member { set, hosts, me } => {
                let found = (reply.get_str("setName").unwrap_or_default(), reply.get_str("me").unwrap_or_default());
                if found != (set, me) {
                    return Err(format!("it is {} of set {}, expected {me} of {set}", found.1, found.0));
                }
                let found: Vec<&str> =
                    reply.get_array("hosts").into_iter().flatten().filter_map(|host| host.as_str()).collect();
                if found != *hosts {
                    return Err(format!("it names the members {}, expected {}", found.join(", "), hosts.join(", ")));
                }
            }
            Self::Router { balanced } => {
                if !reply.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
                    return Err("it is no mongos".to_owned());
                }
                if *balanced && reply.get_object_id("serviceId").is_err() {
                    return Err("a load-balanced hello has no serviceId".to_owned());
                }
            }
        }
        Ok(())
    }
}

/// Every port at every endpoint address leads to the right process, over TLS with the lab's CA, from the VPC, the
/// peered VPC, and on premises (A3).
pub(super) async fn hello(context: Arc<CheckContext>, clients: Arc<ClientAddresses>) -> CheckResult {
    let paths: Vec<ListenerPath> = clusters(&context).flat_map(|cluster| private_paths(&context, cluster)).collect();
    if paths.is_empty() {
        return Err("no endpoint address has a port".to_owned());
    }
    let sources = [None, Some(clients.peered), Some(clients.on_premises)];
    let (aws, others): (Vec<&ListenerPath>, Vec<&ListenerPath>) = paths.iter().partition(|path| path.inside.is_none());
    let all = aws.into_iter().flat_map(|path| sources.map(|source| path.check(&context, source)));
    try_join_all(all.chain(others.into_iter().map(|path| path.check(&context, None)))).await?;
    Ok(format!(
        "{} address and port pairs lead to their targets over TLS, from the VPC, the peered VPC and on premises",
        paths.len()
    ))
}

/// An optimized port returns a service id, and distributes connections over every `mongos` (A16, A17).
pub(super) async fn balanced(context: Arc<CheckContext>) -> CheckResult {
    let (mut ports, mut routers) = (0, 0);
    for (cluster, path) in balanced_paths(&context) {
        let replies = try_join_all((0..BALANCED_CONNECTIONS).map(|_| path.check(&context, None))).await?;
        let met: BTreeSet<ObjectId> =
            replies.iter().filter_map(|reply| reply.get_object_id("serviceId").ok()).collect();
        if met.len() != cluster.nodes.len() {
            return Err(path.failure(
                None,
                &format!(
                    "{BALANCED_CONNECTIONS} connections met {} of the {} mongos of {}",
                    met.len(),
                    cluster.nodes.len(),
                    cluster.name
                ),
            ));
        }
        ports += 1;
        routers += met.len();
    }
    match ports {
        0 => Err("no cluster of the scenario has an optimized port".to_owned()),
        _ => Ok(format!("{ports} optimized port spreads connections over {routers} mongos, each with its serviceId")),
    }
}

/// A write on the primary is read through every address of the endpoint, from the primary and from the others.
pub(super) async fn write_and_read(context: Arc<CheckContext>) -> CheckResult {
    let mut read = 0;
    for cluster in clusters(&context) {
        let paths = private_paths(&context, cluster);
        let id = ObjectId::new();
        let (primary, mut client) = primary(&context, cluster, &paths).await?;
        let document = doc! { "_id": id, "by": "plgw quickstart" };
        let insert = doc! { "insert": COLLECTION, "documents": [document] };
        client.run(DATABASE, insert).await.map_err(|error| primary.failure(None, &why(&error)))?;
        for path in &paths {
            let mut client = path.client(&context, None).await?;
            let find = doc! {
                "find": COLLECTION, "filter": { "_id": id }, "$readPreference": { "mode": "secondaryPreferred" },
            };
            let reply = client.run(DATABASE, find).await.map_err(|error| path.failure(None, &why(&error)))?;
            let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
            if !batch.is_ok_and(|found| found.len() == 1) {
                return Err(path.failure(None, "what was written on the primary is not found"));
            }
            read += 1;
        }
        // Restores the state of the stand-ins.
        let delete = doc! { "delete": COLLECTION, "deletes": [{ "q": { "_id": id }, "limit": 1 }] };
        client.run(DATABASE, delete).await.map_err(|error| primary.failure(None, &why(&error)))?;
    }
    Ok(format!("what was written on a primary was read {read} times, through every address and port"))
}

/// The path to the primary or a router, with a connection to it.
async fn primary<'w>(
    context: &CheckContext,
    cluster: &Cluster,
    paths: &'w [ListenerPath],
) -> Result<(&'w ListenerPath, MongoClient), String> {
    for path in paths {
        let mut client = path.client(context, None).await?;
        let hello = client.run("admin", path.hello()).await.map_err(|error| path.failure(None, &why(&error)))?;
        if hello.get_bool("isWritablePrimary").is_ok_and(|writable| writable) {
            return Ok((path, client));
        }
    }
    Err(format!("no port of {} leads to a node that takes writes", cluster.name))
}

/// Clients on the IP access list reach the nodes by their own names and standard ports, at the same time (A15).
pub(super) async fn standard_path(context: Arc<CheckContext>, clients: Arc<ClientAddresses>) -> CheckResult {
    let paths: Vec<ListenerPath> = clusters(&context).flat_map(|cluster| public_paths(&context, cluster)).collect();
    if paths.is_empty() {
        return Err("no node of the scenario has a public address".to_owned());
    }
    try_join_all(paths.iter().map(|path| path.check(&context, Some(clients.listed)))).await?;
    Ok(format!("{} public addresses are open to {}, which is on the IP access list", paths.len(), clients.listed))
}

fn clusters(context: &CheckContext) -> impl Iterator<Item = &Cluster> {
    context.desired.projects.iter().flat_map(|project| &project.clusters).filter(|cluster| !cluster.paused)
}

fn is_of(listener: &Listener, cluster: &Cluster) -> bool {
    listener.group.target.as_str().split_once('/').is_some_and(|(name, _)| name == cluster.name.as_str())
}

/// The optimized ports, one path for each.
fn balanced_paths(context: &CheckContext) -> Vec<(&Cluster, ListenerPath)> {
    let of = |cluster| private_paths(context, cluster).into_iter().map(move |path| (cluster, path));
    let mut paths: Vec<_> = clusters(context)
        .flat_map(of)
        .filter(|(_, path)| matches!(path.expected, Expected::Router { balanced: true }))
        .collect();
    paths.dedup_by_key(|(_, path)| path.address.port());
    paths
}

/// Every listener of a cluster on the private path.
fn private_paths(context: &CheckContext, cluster: &Cluster) -> Vec<ListenerPath> {
    let Some(strings) = strings_of(cluster, &context.snapshot) else { return Vec::new() };
    let listeners = context.snapshot.listeners.values().filter(|listener| is_of(listener, cluster));
    listeners
        .filter_map(|listener| {
            let ListenerAccess::Endpoint(access) = &listener.access else { return None };
            let through = |private: &&PrivateStrings| private.endpoints.iter().any(|(id, _)| *id == access.id);
            let private = strings.private.iter().find(through)?;
            let at = private.endpoints.iter().position(|(id, _)| *id == access.id)?;
            let host = private_hosts(private).into_iter().nth(at)?;
            let expected = expected(context, cluster, listener, private)?;
            let network = context.desired.vpcs.get(&access.vpc).filter(|vpc| vpc.id.cloud().is_some());
            let inside = network.and_then(|network| client_of(&network.cidrs, "network").ok());
            Some(ListenerPath { address: listener.address, host, expected, inside })
        })
        .collect()
}

fn expected(
    context: &CheckContext,
    cluster: &Cluster,
    listener: &Listener,
    private: &PrivateStrings,
) -> Option<Expected> {
    let ClusterKind::ReplicaSet { set_name } = &cluster.kind else {
        return Some(Expected::Router { balanced: private.srv_shard_optimized_connection_string.is_some() });
    };
    let member = |node| private_member(cluster, node, private, &context.snapshot);
    let hosts: Vec<String> = cluster.nodes.iter().filter_map(member).collect();
    let node =
        cluster.nodes.iter().find(|node| listener.group.target.as_str().ends_with(&format!("/{}", node.name)))?;
    Some(Expected::Member { set: set_name.clone(), hosts, me: member(node)? })
}

fn public_paths(context: &CheckContext, cluster: &Cluster) -> Vec<ListenerPath> {
    let Some(strings) = strings_of(cluster, &context.snapshot) else { return Vec::new() };
    let named = cluster.nodes.iter().filter_map(|node| {
        let (host, member) = public_member(node, strings)?;
        Some((node.public_address?, host, member))
    });
    let named: Vec<(SocketAddr, DnsName, String)> = named.collect();
    let hosts: Vec<String> = named.iter().map(|(_, _, member)| member.clone()).collect();
    let path = |(address, host, me): &(SocketAddr, DnsName, String)| ListenerPath {
        address: *address,
        host: host.clone(),
        expected: match &cluster.kind {
            ClusterKind::ReplicaSet { set_name } => {
                Expected::Member { set: set_name.clone(), hosts: hosts.clone(), me: me.clone() }
            }
            ClusterKind::Sharded { .. } => Expected::Router { balanced: false },
        },
        inside: None,
    };
    named.iter().map(path).collect()
}
