//! `hello`: the node's role, and the set's members in the client's horizon.
//!
//! Sources: *hello* in the MongoDB manual; `server-discovery-and-monitoring` and `load-balancers` in the driver
//! specifications; the awaitable form in `server-monitoring.md`, *Streaming Protocol*.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};

use super::command::ClientInfo;
use super::diagnostics::{limits, optime};
use super::election::MemberRole;
use super::error::CommandError;
use super::member::{SetMember, SetMemberState};
use super::node::{Role, StandInNode};
use super::order::integer;

/// Maximum wait that a client may request.
const MAX_WAIT: Duration = Duration::from_secs(60 * 60);

/// A `hello` under any of its names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hello {
    /// Whether it was `isMaster`: the reply has that field instead of `isWritablePrimary`.
    legacy: bool,
    /// Whether the client also supports the newer name (`helloOk`).
    hello_ok: bool,
    /// Whether the client uses load balancing (`loadBalanced`).
    pub(super) load_balanced: bool,
    /// The state that the client waits to change.
    pub(super) awaits: Option<HelloWait>,
}

/// A client's wait for a change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HelloWait {
    process: ObjectId,
    counter: i64,
    /// The maximum wait, after which the unchanged state is sent.
    pub(super) longest: Duration,
}

/// Whether a command is a `hello`.
pub(super) fn is_hello(name: &str) -> bool {
    name == "hello" || is_legacy(name)
}

fn is_legacy(name: &str) -> bool {
    name.eq_ignore_ascii_case("ismaster")
}

impl Hello {
    /// Checks a command for which [`is_hello`] holds.
    pub(super) fn parse(body: &Document) -> Result<Self, CommandError> {
        let version = body.get("topologyVersion").filter(|version| !matches!(version, Bson::Null));
        let wait = body.get("maxAwaitTimeMS").filter(|wait| !matches!(wait, Bson::Null));
        let location = |code, name, message: &str| CommandError::new(code, name, message);
        let awaits = match (version, wait) {
            (None, None) => None,
            (Some(_), None) => {
                let message = "A request with a 'topologyVersion' must include 'maxAwaitTimeMS'";
                return Err(location(31368, "Location31368", message));
            }
            (None, Some(_)) => {
                let message = "A request with 'maxAwaitTimeMS' must include a 'topologyVersion'";
                return Err(location(31368, "Location31368", message));
            }
            (Some(version), Some(wait)) => {
                let version = version.as_document().and_then(|version| {
                    Some((version.get_object_id("processId").ok()?, integer(version.get("counter")?)?))
                });
                let (process, counter) = version
                    .ok_or_else(|| CommandError::type_mismatch("'topologyVersion' takes a processId and a counter"))?;
                if counter < 0 {
                    let message = "topologyVersion must have a non-negative counter";
                    return Err(location(31372, "Location31372", message));
                }
                let wait = integer(wait)
                    .and_then(|wait| u64::try_from(wait).ok())
                    .ok_or_else(|| location(31373, "Location31373", "maxAwaitTimeMS must be a non-negative integer"))?;
                Some(HelloWait { process, counter, longest: Duration::from_millis(wait).min(MAX_WAIT) })
            }
        };
        let flag = |field: &str| body.get_bool(field).unwrap_or(false);
        Ok(Self {
            legacy: body.keys().next().is_some_and(|name| is_legacy(name)),
            hello_ok: flag("helloOk"),
            load_balanced: flag("loadBalanced"),
            awaits,
        })
    }

    /// The same command, for a client that now knows the state `counter`.
    pub(super) fn with_known_state(&self, node: &StandInNode, counter: i64) -> Self {
        let awaits = self.awaits.map(|awaits| HelloWait { process: node.process, counter, ..awaits });
        Self { awaits, ..self.clone() }
    }

    /// Why a connection through an endpoint to a load-balanced port is refused: a driver without `loadBalanced=true` takes
    /// the routers behind the port for one server. (LoadBalancerSupportMismatch; servers with SERVER-99834 accept it.)
    /// The public path to the same port, which has no endpoint in its PROXY header, is for standard strings.
    pub(super) fn refused_by_load_balancing(&self, node: &StandInNode, client: &ClientInfo) -> Option<CommandError> {
        let refused = client.vpce.is_some() && !client.load_balanced && matches!(node.role, Role::Mongos);
        refused.then(|| {
            let message = "The server is being accessed through a load balancer, but this driver does not have load \
                           balancing enabled";
            CommandError::new(354, "LoadBalancerSupportMismatch", message)
        })
    }

    /// The reply, from the member's `state`.
    pub(super) fn reply(&self, node: &StandInNode, client: &ClientInfo, state: &SetMemberState) -> Document {
        let mut reply = doc! {};
        if self.hello_ok {
            reply.insert("helloOk", true);
        }
        let writable = if self.legacy { "ismaster" } else { "isWritablePrimary" };
        reply.insert("topologyVersion", node.topology_version(state.counter));
        match &node.role {
            Role::Member(own) => {
                reply.extend(member(node, own, client, state));
                reply.insert(writable, state.role == MemberRole::Primary);
            }
            Role::Mongos => {
                reply.insert(writable, true);
                reply.insert("msg", "isdbgrid");
            }
        }
        // Only for a `mongos`, on the port that requires a PROXY protocol header.
        if client.load_balanced && matches!(node.role, Role::Mongos) {
            reply.insert("serviceId", node.process);
        }
        reply.extend(limits());
        reply.insert("connectionId", client.connection);
        reply.insert("ok", 1.0);
        reply
    }
}

impl HelloWait {
    /// Whether the client's known state is the current one, `counter`, so that it waits.
    pub(super) fn is_current(&self, node: &StandInNode, counter: i64) -> Result<bool, CommandError> {
        if self.process == node.process && self.counter > counter {
            let message = format!(
                "Received a topology version with counter: {} which is greater than the server topology version \
                 counter: {counter}",
                self.counter
            );
            return Err(CommandError::new(31382, "Location31382", message));
        }
        Ok(self.process == node.process && self.counter == counter)
    }
}

fn member(node: &StandInNode, member: &SetMember, client: &ClientInfo, state: &SetMemberState) -> Document {
    let hosts = state.horizons.hosts(&member.set.nodes, client.sni.as_ref());
    let last_write = node.store.data().last_write();
    let mut fields = doc! {
        "hosts": hosts.clone(),
        "setName": &member.set.name,
        "setVersion": 1,
        "secondary": matches!(state.role, MemberRole::Secondary | MemberRole::Elected),
        "me": &hosts[member.index],
        "lastWrite": {
            "opTime": optime(last_write, state.term), "lastWriteDate": last_write,
            "majorityOpTime": optime(last_write, state.term), "majorityWriteDate": last_write,
        },
    };
    if let Some(host) = state.primary.and_then(|primary| hosts.get(primary)) {
        fields.insert("primary", host);
    }
    if matches!(state.role, MemberRole::Primary | MemberRole::SteppingDown) {
        fields.insert("electionId", election_id(state.term));
    }
    fields
}

/// The election id of a term in the servers' form: drivers compare it to find the newest primary.
fn election_id(term: i64) -> ObjectId {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&0x7FFF_FFFF_u32.to_be_bytes());
    bytes[4..].copy_from_slice(&term.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(body: Document) -> Result<Hello, i32> {
        Hello::parse(&body).map_err(|error| error.code())
    }

    #[test]
    fn an_awaitable_hello_needs_a_topology_version_and_a_maximum_time() {
        let version = doc! { "processId": ObjectId::new(), "counter": 3_i64 };
        let seen = code(doc! { "hello": 1, "topologyVersion": version.clone(), "maxAwaitTimeMS": 10_000 }).unwrap();
        assert_eq!(seen.awaits.map(|awaits| (awaits.counter, awaits.longest)), Some((3, Duration::from_secs(10))));
        assert_eq!(code(doc! { "hello": 1, "topologyVersion": version.clone() }), Err(31368));
        assert_eq!(code(doc! { "hello": 1, "maxAwaitTimeMS": 1 }), Err(31368));
        assert_eq!(code(doc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": -1 }), Err(31373));
        let below = doc! { "processId": ObjectId::new(), "counter": -1_i64 };
        assert_eq!(code(doc! { "hello": 1, "topologyVersion": below, "maxAwaitTimeMS": 1 }), Err(31372));
    }

    #[test]
    fn later_elections_have_greater_ids() {
        assert!(election_id(2) > election_id(1));
        assert_eq!(election_id(1).to_hex(), "7fffffff0000000000000001");
    }

    #[test]
    fn all_names_of_hello_are_known() {
        assert!(["hello", "isMaster", "ismaster", "IsMaster"].into_iter().all(is_hello));
        assert!(!is_hello("helloo"));
    }
}
