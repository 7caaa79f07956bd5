//! Diagnostic commands. Replies identify the node as a stand-in where possible.

use std::sync::atomic::Ordering;

use bson::{Bson, DateTime, Document, Timestamp, doc};
use tokio::time::Instant;

use super::command::{ClientInfo, CommandCall};
use super::election::MemberRole;
use super::error::{CommandError, CommandResult};
use super::member::SetMember;
use super::node::{Role, StandInNode};
use super::{MAX_DOCUMENT, VERSION, VERSION_PARTS, WIRE_VERSION};
use crate::standin::NAME;

pub(super) fn build_info() -> Document {
    doc! {
        "version": VERSION,
        "gitVersion": NAME,
        "modules": [NAME],
        "allocator": "system",
        "javascriptEngine": "none",
        "sysInfo": NAME,
        "versionArray": VERSION_PARTS.to_vec(),
        "standIn": concat!("privatelink-gateway ", env!("CARGO_PKG_VERSION")),
        "bits": 64,
        "debug": false,
        "maxBsonObjectSize": MAX_DOCUMENT as i32,
        "storageEngines": ["memory"],
        "ok": 1.0,
    }
}

pub(super) fn host_info() -> Document {
    doc! {
        "system": { "currentTime": DateTime::now(), "hostname": NAME, "cpuAddrSize": 64 },
        "os": { "type": std::env::consts::OS, "name": NAME, "version": VERSION },
        "extra": {},
        "ok": 1.0,
    }
}

pub(super) fn server_status(call: &CommandCall<'_>) -> Document {
    let node = call.node;
    let carried = *node.store.counts();
    let up = node.started.elapsed();
    let open = node.open_connections.load(Ordering::Relaxed);
    let mut status = doc! {
        "host": node.name(),
        "version": VERSION,
        "process": if matches!(node.role, Role::Mongos) { "mongos" } else { "mongod" },
        "service": [NAME],
        "pid": i64::from(std::process::id()),
        "uptime": up.as_secs_f64(),
        "uptimeMillis": up.as_millis() as i64,
        "localTime": DateTime::now(),
        "connections": { "current": open, "totalCreated": i64::from(node.connections.load(Ordering::Relaxed)) },
        "opcounters": {
            "insert": carried.inserted as i64, "query": carried.found as i64, "update": carried.updated as i64,
            "delete": carried.deleted as i64, "command": carried.commands as i64,
        },
        "storageEngine": { "name": "memory", "persistent": false },
    };
    if let Role::Member(member) = &node.role {
        status.insert("repl", doc! { "setName": &member.set.name, "isWritablePrimary": node.is_writable() });
    }
    status.insert("ok", 1.0);
    status
}

/// The client's address. If a PROXY protocol header named an interface endpoint, an additional field has its id.
pub(super) fn whats_my_uri(client: &ClientInfo) -> Document {
    let mut reply = doc! { "you": client.source.to_string() };
    if let Some(vpce) = &client.vpce {
        reply.insert("vpce", vpce.as_str());
    }
    reply.insert("ok", 1.0);
    reply
}

pub(super) fn connection_status() -> Document {
    let none = Vec::<Bson>::new();
    doc! { "authInfo": { "authenticatedUsers": none.clone(), "authenticatedUserRoles": none }, "ok": 1.0 }
}

pub(super) fn command_line(node: &StandInNode) -> Document {
    let mut parsed = doc! { "net": { "bindIp": node.name() } };
    if let Role::Member(member) = &node.role {
        parsed.insert("replication", doc! { "replSet": &member.set.name });
    }
    doc! { "argv": [NAME], "parsed": parsed, "ok": 1.0 }
}

pub(super) fn start_session() -> Document {
    doc! { "id": { "id": bson::Uuid::new() }, "timeoutMinutes": 30, "ok": 1.0 }
}

pub(super) fn parameter(body: &Document) -> CommandResult {
    if body.contains_key("featureCompatibilityVersion") {
        return Ok(doc! { "featureCompatibilityVersion": { "version": "8.0" }, "ok": 1.0 });
    }
    Err(CommandError::new(72, "InvalidOptions", "no option found to get"))
}

pub(super) fn log(body: &Document) -> CommandResult {
    let none = Vec::<Bson>::new();
    match body.get_str("getLog") {
        Ok("*") => Ok(doc! { "names": ["global", "startupWarnings"], "ok": 1.0 }),
        Ok("startupWarnings" | "global") => Ok(doc! { "totalLinesWritten": 0, "log": none, "ok": 1.0 }),
        _ => {
            Err(CommandError::new(96, "OperationFailed", "No log named as asked; there are global and startupWarnings"))
        }
    }
}

pub(super) fn replica_set_status(call: &CommandCall<'_>) -> CommandResult {
    let member = member(call.node)?;
    let state = call.node.state.borrow().clone();
    let last_write = call.node.store.data().last_write();
    let hosts = state.horizons.hosts(&member.set.nodes, call.client.sni.as_ref());
    let up = call.node.started.elapsed().as_secs() as i64;
    let now = Instant::now();
    let own = match state.role {
        MemberRole::Primary | MemberRole::SteppingDown => (1, "PRIMARY"),
        MemberRole::Secondary | MemberRole::Elected => (2, "SECONDARY"),
    };
    let entry = |(id, host): (usize, &String)| {
        let (is_up, contact) = member.with(|election| (election.is_up(id, now), election.contact(id)));
        let (number, name) = match (id == member.index, is_up) {
            (true, _) => own,
            (false, false) => (8, "(not reachable/healthy)"),
            (false, true) if state.primary == Some(id) => (1, "PRIMARY"),
            (false, true) => (2, "SECONDARY"),
        };
        let mut entry = doc! {
            "_id": id as i32, "name": host, "health": f64::from(u8::from(is_up)), "state": number, "stateStr": name,
            "uptime": if is_up { up } else { 0 }, "optime": optime(last_write, state.term), "optimeDate": last_write,
        };
        if id == member.index {
            entry.insert("self", true);
        } else if let Some(at) = contact {
            let since = i64::try_from(now.duration_since(at).as_millis()).unwrap_or(i64::MAX);
            let at = DateTime::from_millis(DateTime::now().timestamp_millis() - since);
            entry.insert("lastHeartbeat", at);
        }
        entry
    };
    Ok(doc! {
        "set": &member.set.name,
        "date": DateTime::now(),
        "myState": own.0,
        "term": state.term,
        "heartbeatIntervalMillis": member.set.timing.heartbeat_interval.as_millis() as i64,
        "majorityVoteCount": member.with(|election| election.majority()) as i32,
        "members": hosts.iter().enumerate().map(entry).collect::<Vec<_>>(),
        "ok": 1.0,
    })
}

pub(super) fn replica_set_config(call: &CommandCall<'_>) -> CommandResult {
    let member = member(call.node)?;
    let state = call.node.state.borrow().clone();
    let hosts = state.horizons.hosts(&member.set.nodes, call.client.sni.as_ref());
    let members = hosts.iter().enumerate().map(|(id, host)| {
        doc! { "_id": id as i32, "host": host, "arbiterOnly": false, "hidden": false, "priority": 1.0, "votes": 1 }
    });
    let timing = member.set.timing;
    let settings = doc! {
        "heartbeatIntervalMillis": timing.heartbeat_interval.as_millis() as i64,
        "electionTimeoutMillis": timing.election_timeout.as_millis() as i64,
    };
    let members = members.collect::<Vec<_>>();
    let config =
        doc! { "_id": &member.set.name, "version": 1, "term": state.term, "members": members, "settings": settings };
    Ok(doc! { "config": config, "ok": 1.0 })
}

/// An optime at a wall-clock time.
pub(super) fn optime(time: DateTime, term: i64) -> Document {
    let seconds = u32::try_from(time.timestamp_millis() / 1000).unwrap_or(0);
    doc! { "ts": Timestamp { time: seconds, increment: 1 }, "t": term }
}

fn member(node: &StandInNode) -> Result<&SetMember, CommandError> {
    match &node.role {
        Role::Member(member) => Ok(member),
        Role::Mongos => {
            let message = "replSetGetStatus and replSetGetConfig are not supported through mongos";
            Err(CommandError::new(115, "CommandNotSupported", message))
        }
    }
}

/// Limits of the server, which every `hello` has.
pub(super) fn limits() -> Document {
    doc! {
        "maxBsonObjectSize": MAX_DOCUMENT as i32,
        "maxMessageSizeBytes": super::MAX_MESSAGE as i32,
        "maxWriteBatchSize": super::MAX_BATCH as i32,
        "localTime": DateTime::now(),
        "logicalSessionTimeoutMinutes": 30,
        "minWireVersion": 0,
        "maxWireVersion": WIRE_VERSION,
        "readOnly": false,
    }
}
