//! Command dispatch, with the checks of whether this node may run a command.

use std::net::SocketAddr;
use std::time::Duration;

use bson::{Bson, Document, doc};
use tokio::sync::watch;

use super::election::MemberRole;
use super::error::{CommandError, CommandResult};
use super::member::{SetMember, SetMemberState, replica_count};
use super::node::{Role, StandInNode};
use super::order::integer;
use super::{catalog, crud, diagnostics};
use crate::model::{DnsName, VpceId};

/// A client's connection.
#[derive(Debug, Clone)]
pub(super) struct ClientInfo {
    /// The connection's number on this node.
    pub(super) connection: i32,
    /// Its address, from the PROXY protocol header if there is one.
    pub(super) source: SocketAddr,
    /// The host name of its TLS SNI.
    pub(super) sni: Option<DnsName>,
    /// Whether it uses a port that requires a PROXY protocol header.
    pub(super) proxied: bool,
    /// The interface endpoint that the header names.
    pub(super) vpce: Option<VpceId>,
    /// Whether its `hello` had `loadBalanced`, so that the reply had the service id.
    pub(super) load_balanced: bool,
}

/// A command that is being run.
pub(super) struct CommandCall<'a> {
    pub(super) node: &'a StandInNode,
    pub(super) client: &'a ClientInfo,
    pub(super) name: &'a str,
    pub(super) body: &'a Document,
}

/// Runs any command but `hello`.
pub(super) async fn run(node: &StandInNode, client: &ClientInfo, body: &Document) -> Document {
    node.store.counts().commands += 1;
    let name = body.keys().next().map_or("", String::as_str);
    let call = CommandCall { node, client, name, body };
    let rollbacks = node.store.data().rollbacks();
    let outcome = match (name, &node.role) {
        ("replSetStepDown", Role::Member(member)) => member.step_down(body).await,
        ("replSetFreeze", Role::Member(member)) => member.freeze(body),
        _ => call.run(),
    };
    match outcome {
        Ok(reply) if is_write(name) => call.with_write_concern(reply, rollbacks).await,
        Ok(reply) => reply,
        Err(error) => error.reply(),
    }
}

/// Whether a reply is a not-primary error.
pub(super) fn is_not_primary(reply: &Document) -> bool {
    reply.get_i32("code").is_ok_and(|code| code == 10107)
}

/// Whether a command changes data, and so waits for its write concern.
fn is_write(name: &str) -> bool {
    matches!(
        name,
        "insert"
            | "update"
            | "delete"
            | "findAndModify"
            | "findandmodify"
            | "create"
            | "drop"
            | "dropDatabase"
            | "createIndexes"
    )
}

impl CommandCall<'_> {
    fn run(&self) -> CommandResult {
        let says = |field: &str, value: bool| self.body.get(field) == Some(&Bson::Boolean(value));
        if says("startTransaction", true) || says("autocommit", false) {
            return Err(match self.name {
                "commitTransaction" | "abortTransaction" => no_transaction(),
                _ => CommandError::new(
                    263,
                    "OperationNotSupportedInTransaction",
                    format!("the {} has no transactions", crate::standin::NAME),
                ),
            });
        }
        match self.name {
            "insert" => self.write(crud::insert),
            "update" => self.write(crud::update),
            "delete" => self.write(crud::delete),
            "findAndModify" | "findandmodify" => self.write(crud::find_and_modify),
            "create" => self.write(catalog::create),
            "drop" => self.write(catalog::drop),
            "dropDatabase" => self.write(catalog::drop_database),
            "createIndexes" => self.write(catalog::create_indexes),
            "find" => self.read(crud::find),
            "count" => self.read(crud::count),
            "aggregate" => self.read(crud::aggregate),
            "listCollections" => self.read(catalog::list_collections),
            "listDatabases" => self.read(catalog::list_databases),
            "listIndexes" => self.read(catalog::list_indexes),
            "getMore" => crud::get_more(self),
            "killCursors" => crud::kill_cursors(self),
            "ping" | "refreshSessions" | "logout" => Ok(doc! { "ok": 1.0 }),
            "startSession" => Ok(diagnostics::start_session()),
            "endSessions" => Ok(self.end_sessions()),
            "commitTransaction" | "abortTransaction" => Err(no_transaction()),
            "buildInfo" | "buildinfo" => Ok(diagnostics::build_info()),
            "hostInfo" => Ok(diagnostics::host_info()),
            "serverStatus" => Ok(diagnostics::server_status(self)),
            "whatsmyuri" => Ok(diagnostics::whats_my_uri(self.client)),
            "connectionStatus" => Ok(diagnostics::connection_status()),
            "getCmdLineOpts" => Ok(diagnostics::command_line(self.node)),
            "getParameter" => diagnostics::parameter(self.body),
            "getLog" => diagnostics::log(self.body),
            "replSetGetStatus" => diagnostics::replica_set_status(self),
            "replSetGetConfig" => diagnostics::replica_set_config(self),
            name => Err(CommandError::unsupported(&format!("command '{name}'"))),
        }
    }

    /// The database that the command is for.
    pub(super) fn db(&self) -> Result<&str, CommandError> {
        self.body.get_str("$db").map_err(|_| {
            CommandError::new(40414, "IDLFailedToParse", "BSON field '$db' is missing but a required field")
        })
    }

    /// The collection that the command is for: the value of its first field.
    pub(super) fn collection(&self) -> Result<&str, CommandError> {
        self.body.get_str(self.name).map_err(|_| {
            CommandError::new(73, "InvalidNamespace", format!("collection name of `{}` has invalid type", self.name))
        })
    }

    /// `db.collection`.
    pub(super) fn namespace(&self) -> Result<String, CommandError> {
        Ok(format!("{}.{}", self.db()?, self.collection()?))
    }

    /// A document of the command, empty where it is absent or null.
    pub(super) fn document(&self, field: &str) -> Result<Document, CommandError> {
        match self.body.get(field) {
            None | Some(Bson::Null) => Ok(Document::new()),
            Some(Bson::Document(document)) => Ok(document.clone()),
            Some(_) => Err(CommandError::type_mismatch(format!(
                "BSON field '{}.{field}' is the wrong type, expected type 'object'",
                self.name
            ))),
        }
    }

    /// An array of the command.
    pub(super) fn array(&self, field: &str) -> Result<&Vec<Bson>, CommandError> {
        self.body.get_array(field).map_err(|_| {
            let message = format!("BSON field '{}.{field}' is missing or no array", self.name);
            CommandError::new(40414, "IDLFailedToParse", message)
        })
    }

    /// A number from 0 of the command; `None` where it is absent.
    pub(super) fn number(&self, field: &str) -> Result<Option<usize>, CommandError> {
        let Some(value) = self.body.get(field).filter(|value| !matches!(value, Bson::Null)) else {
            return Ok(None);
        };
        let number = integer(value).or_else(|| value.as_f64().map(|number| number as i64));
        number.and_then(|number| usize::try_from(number).ok()).map(Some).ok_or_else(|| {
            let message =
                format!("BSON field '{}.{field}' value must be a number >= 0, actual value '{value}'", self.name);
            CommandError::new(51024, "Location51024", message)
        })
    }

    /// Refuses unsupported options that change the meaning of a command.
    pub(super) fn refuse(&self, options: &Document, names: &[&str]) -> Result<(), CommandError> {
        for name in names {
            let given = match options.get(name) {
                None | Some(Bson::Null | Bson::Boolean(false)) => false,
                Some(Bson::Document(document)) => !document.is_empty(),
                Some(Bson::Array(array)) => !array.is_empty(),
                Some(_) => true,
            };
            if given {
                return Err(CommandError::unsupported(&format!("option `{name}` of `{}`", self.name)));
            }
        }
        Ok(())
    }

    /// A command that only a primary, or a `mongos`, may run; once where it is retryable.
    fn write(&self, run: fn(&Self) -> CommandResult) -> CommandResult {
        let session = self.body.get_document("lsid").ok().and_then(session_id);
        let retryable = session.zip(self.body.get("txnNumber").and_then(integer));
        if !self.node.is_writable() {
            let mut extra = self.topology_version();
            if retryable.is_some() {
                // Since 4.4 drivers retry only if the server sets this label.
                extra.insert("errorLabels", vec!["RetryableWriteError", "NoWritesPerformed"]);
            }
            return Err(CommandError::new(10107, "NotWritablePrimary", "not primary").with(extra));
        }
        match retryable {
            Some((session, number)) => self.node.store.run_once(session, number, || run(self)),
            None => run(self),
        }
    }

    /// A command that a secondary runs only if the client allows secondary reads.
    fn read(&self, run: fn(&Self) -> CommandResult) -> CommandResult {
        let preference = self.body.get_document("$readPreference").ok();
        let mode = preference.and_then(|preference| preference.get_str("mode").ok()).unwrap_or("primary");
        let role = self.node.state.borrow().role;
        if matches!(self.node.role, Role::Member(_)) && matches!(role, MemberRole::Elected | MemberRole::SteppingDown) {
            let message = "node is not in primary or recovering state";
            return Err(CommandError::new(13436, "NotPrimaryOrSecondary", message).with(self.topology_version()));
        }
        if !self.node.is_writable() && mode == "primary" {
            let message = "not primary and secondaryOk=false";
            return Err(CommandError::new(13435, "NotPrimaryNoSecondaryOk", message).with(self.topology_version()));
        }
        run(self)
    }

    /// The `topologyVersion` of a state error, by which a driver ignores errors of an older state.
    fn topology_version(&self) -> Document {
        doc! { "topologyVersion": self.node.topology_version(self.node.state.borrow().counter) }
    }

    /// Waits until the write concern is met by the members that the primary reaches. The default is majority since
    /// MongoDB 5.0.
    async fn with_write_concern(&self, mut reply: Document, rollbacks: u64) -> Document {
        let Role::Member(member) = &self.node.role else { return reply };
        let concern = self.body.get_document("writeConcern").ok();
        let count = member.set.nodes.len();
        let wanted = match concern.and_then(|concern| concern.get("w")).and_then(integer) {
            Some(wanted) => usize::try_from(wanted).unwrap_or(0),
            None => count / 2 + 1,
        };
        let limit = concern.and_then(|concern| concern.get("wtimeout")).and_then(integer).filter(|limit| *limit > 0);
        let error = if wanted > count {
            doc! { "code": 100, "codeName": "UnsatisfiableWriteConcern", "errmsg": "Not enough data-bearing nodes" }
        } else {
            let replicated = replicated(member, wanted, self.node.state.clone());
            let limit = limit.and_then(|limit| u64::try_from(limit).ok()).map_or(Duration::MAX, Duration::from_millis);
            match tokio::time::timeout(limit, replicated).await {
                // A write that was rolled back meanwhile was never on a majority.
                Ok(true) if self.node.store.data().rollbacks() == rollbacks => return reply,
                Ok(_) => {
                    let message = "Primary stepped down while waiting for replication";
                    doc! { "code": 189, "codeName": "PrimarySteppedDown", "errmsg": message }
                }
                Err(_) => doc! {
                    "code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting for replication timed out",
                    "errInfo": { "wtimeout": true },
                },
            }
        };
        if error.get_i32("code").is_ok_and(|code| code == 189) {
            reply.extend(self.topology_version());
            if self.body.contains_key("txnNumber") {
                reply.insert("errorLabels", vec!["RetryableWriteError"]);
            }
        }
        reply.insert("writeConcernError", error);
        reply
    }

    fn end_sessions(&self) -> Document {
        for session in self.body.get_array("endSessions").into_iter().flatten() {
            if let Some(id) = session.as_document().and_then(session_id) {
                self.node.store.end_session(id);
            }
        }
        doc! { "ok": 1.0 }
    }
}

/// Waits until `wanted` members have the writes of `member`; false if it stops being primary first.
async fn replicated(member: &SetMember, wanted: usize, mut states: watch::Receiver<SetMemberState>) -> bool {
    let mut links = member.set.links.subscribe();
    tokio::select! {
        biased;
        copied = async { links.wait_for(|links| replica_count(links, member.index) >= wanted).await.is_ok() } => copied,
        _ = async { states.wait_for(|state| state.role != MemberRole::Primary).await.is_ok() } => false,
    }
}

/// The session id of an `lsid`.
fn session_id(lsid: &Document) -> Option<&[u8]> {
    match lsid.get("id") {
        Some(Bson::Binary(id)) => Some(&id.bytes),
        _ => None,
    }
}

fn no_transaction() -> CommandError {
    let message = format!("the {} has no transactions, so none is in progress", crate::standin::NAME);
    CommandError::new(251, "NoSuchTransaction", message)
}

/// The reply to a command by `OP_QUERY`, which only `hello` may still use (MongoDB 5.1 and later).
pub(super) fn unsupported_query(name: &str) -> Document {
    let message = format!(
        "Unsupported OP_QUERY command: {name}. The client driver may require an upgrade. For more details see \
         https://dochub.mongodb.org/core/legacy-opcode-removal"
    );
    CommandError::new(352, "UnsupportedOpQueryCommand", message).reply()
}
