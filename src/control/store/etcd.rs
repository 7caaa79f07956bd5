//! The state in etcd: a transaction is one of etcd's, a revision is the cluster's.
//!
//! `etcd-client` spreads calls over all endpoints, including a member that is stopped but still accepts connections.
//! Here one member is used at a time, and the next one if it does not answer within [`ATTEMPT_TIMEOUT`].

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, Identity, KeyValue, TlsOptions, TxnOp,
    TxnOpResponse, WatchOptions, WatchStream,
};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::{Entry, ExpectedRevision, OpenError, RangeView, Revision, StateKey, StateStore, StoreError, Txn};

/// Time limit for one member to answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval and time limit of HTTP/2 keepalive pings: a watch of a member that disappeared silently ends after both.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(1));

/// The largest answer that is read. gRPC's default of 4 MiB is less than a few large commits together.
const MAX_ANSWER: usize = 64 << 20;

/// Connection settings.
#[derive(Debug, Clone, Default)]
pub struct EtcdOptions {
    /// The members' client URLs; at least one.
    pub endpoints: Vec<String>,
    /// The prefix of every key; it ends with `/`.
    pub prefix: String,
    /// The CA certificate in PEM form; `None`: the endpoints are `http:`.
    pub ca: Option<Vec<u8>>,
    /// The client certificate and key in PEM form.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The user's name and password.
    pub user: Option<(String, String)>,
}

/// A store in an etcd cluster, below a prefix.
pub struct EtcdStore {
    members: Members,
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore").field("prefix", &self.members.options.prefix).finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Connects to the first member that answers.
    ///
    /// # Errors
    ///
    /// [`OpenError::Etcd`] when no member answers, or when etcd refuses this client.
    pub async fn connect(options: EtcdOptions) -> Result<Self, OpenError> {
        let clients = options.endpoints.iter().map(|_| OnceCell::new()).collect();
        let members = Members { options, clients, current: AtomicUsize::new(0) };
        members.serving().await.map_err(|failure| OpenError::Etcd { source: failure.into() })?;
        Ok(Self { members })
    }
}

/// The cluster's members, one of which is used at a time.
struct Members {
    options: EtcdOptions,
    /// In the order of the endpoints; each connects on first use.
    clients: Vec<OnceCell<Client>>,
    /// The member that answered last.
    current: AtomicUsize,
}

/// Why no member fulfilled a request.
#[derive(Debug, thiserror::Error)]
enum EtcdFailure {
    /// No member answered.
    #[error("no etcd member answered ({0})")]
    NoAnswer(String),
    /// A member refused it.
    #[error("etcd refused: {0}")]
    Refused(#[source] Error),
}

impl EtcdFailure {
    /// The error of a request that changed nothing.
    fn unavailable(self) -> StoreError {
        StoreError::Unavailable { source: self.into() }
    }
}

impl Members {
    async fn client(&self, index: usize) -> Result<Client, Error> {
        let connect = || async {
            let options = &self.options;
            let mut connect = ConnectOptions::new()
                .with_connect_timeout(ATTEMPT_TIMEOUT)
                .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
                .with_require_leader(true)
                .with_auto_token_refresh(true);
            if let Some(ca) = &options.ca {
                let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
                if let Some((certificate, key)) = &options.identity {
                    tls = tls.identity(Identity::from_pem(certificate, key));
                }
                connect = connect.with_tls(tls);
            }
            if let Some((name, password)) = &options.user {
                connect = connect.with_user(name, password);
            }
            Client::connect([&options.endpoints[index]], Some(connect)).await
        };
        self.clients[index].get_or_try_init(connect).await.cloned()
    }

    /// Tries one member after the other, starting with the one that answered last.
    async fn ask<T, F>(&self, question: impl Fn(Client) -> F) -> Result<T, EtcdFailure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (count, first) = (self.clients.len(), self.current.load(Ordering::Relaxed));
        let mut tried = Vec::new();
        for index in (first..first + count).map(|index| index % count) {
            let asked = async { question(self.client(index).await?).await };
            let problem = match timeout(ATTEMPT_TIMEOUT, asked).await {
                Ok(Ok(answer)) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(error)) if is_refusal(&error) => return Err(EtcdFailure::Refused(error)),
                Ok(Err(error)) => reason(&error),
                Err(_) => format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()),
            };
            tried.push(format!("{}: {problem}", self.options.endpoints[index]));
        }
        Err(EtcdFailure::NoAnswer(tried.join("; ")))
    }

    /// A client of a member that has just answered a linearizable read, which proves a quorum.
    async fn serving(&self) -> Result<Client, EtcdFailure> {
        let prefix = &self.options.prefix;
        self.ask(|client| async move {
            let options = GetOptions::new().with_prefix().with_count_only();
            client.kv_client().get(prefix.as_str(), Some(options)).await.map(|_| client)
        })
        .await
    }

    fn key(&self, key: &StateKey) -> String {
        format!("{}{key}", self.options.prefix)
    }

    /// The key without the prefix; `None` for a key that this program does not write.
    fn state_key(&self, pair: &KeyValue) -> Option<StateKey> {
        pair.key_str().ok()?.strip_prefix(&self.options.prefix)?.parse().ok()
    }

    async fn range(&self, prefix: &str) -> Result<RangeView, StoreError> {
        let from = &format!("{}{prefix}", self.options.prefix);
        let answer = self.ask(|client| async move {
            let mut client = client.kv_client().max_decoding_message_size(MAX_ANSWER);
            client.get(from.as_str(), Some(GetOptions::new().with_prefix())).await
        });
        let answer = answer.await.map_err(EtcdFailure::unavailable)?;
        let entry = |pair: &KeyValue| {
            let value = Bytes::copy_from_slice(pair.value());
            Some(Entry { key: self.state_key(pair)?, value, revision: revision(pair.mod_revision()) })
        };
        let at = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        Ok(RangeView { entries: answer.kvs().iter().filter_map(entry).collect(), revision: revision(at) })
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        txn.check()?;
        let compares = txn.compares.iter().map(|(key, expected)| match expected {
            ExpectedRevision::Absent => Compare::create_revision(self.key(key), CompareOp::Equal, 0),
            ExpectedRevision::At(at) => Compare::mod_revision(self.key(key), CompareOp::Equal, at.0.cast_signed()),
        });
        let puts = txn.puts.iter().map(|(key, value)| TxnOp::put(self.key(key), &value[..], None));
        let deletes = txn.deletes.iter().map(|key| TxnOp::delete(self.key(key), None));
        let found = txn.compares.iter().map(|(key, _)| TxnOp::get(self.key(key), None));
        let sent = etcd_client::Txn::new()
            .when(compares.collect::<Vec<_>>())
            .and_then(puts.chain(deletes).collect::<Vec<_>>())
            .or_else(found.collect::<Vec<_>>());

        // A failure before the transaction is sent changes nothing.
        let client = self.serving().await.map_err(EtcdFailure::unavailable)?;
        let answer = match timeout(ATTEMPT_TIMEOUT, client.kv_client().txn(sent)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if is_refusal(&error) => return Err(EtcdFailure::Refused(error).unavailable()),
            Ok(Err(error)) => return Err(StoreError::OutcomeUnknown { source: reason(&error).into() }),
            Err(late) => return Err(StoreError::OutcomeUnknown { source: late.into() }),
        };
        if answer.succeeded() {
            return Ok(revision(answer.header().map_or(0, etcd_client::ResponseHeader::revision)));
        }
        let found = answer.op_responses().into_iter().map(|response| match response {
            TxnOpResponse::Get(got) => got.kvs().first().map(|pair| revision(pair.mod_revision())),
            _ => None,
        });
        let failed = txn.compares.into_iter().zip(found).find(|((_, expected), found)| match expected {
            ExpectedRevision::Absent => found.is_some(),
            ExpectedRevision::At(at) => *found != Some(*at),
        });
        let ((key, expected), found) = failed.expect("etcd evaluates compares and reads at one revision");
        Err(StoreError::Conflict { key, expected, found })
    }

    /// Starts a watch; returns after etcd has confirmed it.
    async fn watch(&self, prefix: &str) -> Result<WatchStream, EtcdFailure> {
        let from = &format!("{}{prefix}", self.options.prefix);
        self.ask(|client| async move {
            let mut watches = client.watch_client().max_decoding_message_size(MAX_ANSWER);
            let mut stream = watches.watch(from.as_str(), Some(WatchOptions::new().with_prefix())).await?;
            match stream.message().await? {
                Some(answer) if answer.canceled() => Err(Error::WatchError(answer.cancel_reason().to_owned())),
                Some(_) => Ok(stream),
                None => Err(Error::WatchError("etcd ended the watch before confirming it".to_owned())),
            }
        })
        .await
    }
}

impl StateStore for EtcdStore {
    fn range<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<RangeView, StoreError>> {
        Box::pin(self.members.range(prefix))
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(self.members.commit(txn))
    }

    fn changes<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<BoxStream<'static, ()>, StoreError>> {
        Box::pin(async move {
            let watch = self.members.watch(prefix).await.map_err(EtcdFailure::unavailable)?;
            let changes = stream::unfold(watch, async |mut watch| {
                let answer = watch.message().await.ok()??;
                (!answer.canceled()).then_some(((), watch))
            });
            Ok(changes.boxed())
        })
    }
}

fn revision(number: i64) -> Revision {
    Revision(number.cast_unsigned())
}

/// The gRPC status code as a number: `etcd-client` does not export the type.
fn code(error: &Error) -> Option<i32> {
    if let Error::GRpcStatus(status) = error { Some(status.code().into()) } else { None }
}

/// Whether etcd refused the request, so that nothing happened and another member would refuse it too:
/// `INVALID_ARGUMENT` (3), `PERMISSION_DENIED` (7), `RESOURCE_EXHAUSTED` (8: the quota is used up),
/// `FAILED_PRECONDITION` (9), `OUT_OF_RANGE` (11), `UNAUTHENTICATED` (16).
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::InvalidArgs(_) | Error::InvalidUri(_))
        || code(error).is_some_and(|code| [3, 7, 8, 9, 11, 16].contains(&code))
}

/// The message of an error, without gRPC's envelope.
fn reason(error: &Error) -> String {
    let Error::GRpcStatus(status) = error else { return error.to_string() };
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}
