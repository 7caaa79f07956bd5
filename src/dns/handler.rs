//! The library's request handler: from a request to its reply.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, MessageType, Metadata, Query};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use super::forward::{ForwardOutcome, Forwarder};
use super::message::{Content, ParsedQuestion, WireReply, read, wire_name};
use super::rotation::Rotation;
use super::view::choose;
use super::{Answer, DnsMetrics, Rcode, RecordOwner, ViewKind, answer};
use crate::config::DnsSettings;
use crate::model::{DnsFailure, Fault};
use crate::plan::{DnsFault, DnsView, Snapshot};

/// Answers requests from the latest snapshot; clones share their state.
#[derive(Debug, Clone)]
pub(super) struct Handler(Arc<HandlerState>);

#[derive(Debug)]
struct HandlerState {
    options: DnsSettings,
    metrics: DnsMetrics,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    rotation: Rotation,
    forwarder: Forwarder,
    /// The faults of the latest snapshots by name, with the number of questions that each could have affected since it
    /// was set.
    faults: Mutex<HashMap<String, (Arc<Fault>, u64)>>,
}

impl Handler {
    pub(super) fn new(options: DnsSettings, metrics: DnsMetrics, snapshots: watch::Receiver<Arc<Snapshot>>) -> Self {
        let forwarder = Forwarder::new(&options.forward);
        let (rotation, faults) = (Rotation::new(), Mutex::default());
        Self(Arc::new(HandlerState { options, metrics, snapshots, rotation, forwarder, faults }))
    }

    /// Checks that no upstream resolver forwards its questions back to this server.
    pub(super) async fn probe_for_loops(&self) {
        self.0.forwarder.probe().await;
    }

    /// The kind of view that `source` is answered from.
    pub(super) fn view_of(&self, source: SocketAddr) -> ViewKind {
        choose(source.ip(), &self.0.view(), &self.0.options).0
    }

    /// Counts a message that could not be parsed.
    pub(super) fn count_malformed(&self) {
        self.0.metrics.malformed.increment(1);
    }
}

impl HandlerState {
    fn view(&self) -> Arc<DnsView> {
        Arc::clone(&self.snapshots.borrow().dns)
    }

    /// The reply's content; `None` when there is no reply.
    async fn content(&self, request: &Request) -> Option<Content> {
        let started = Instant::now();
        let (view, kind, content) = match read(request) {
            Ok(asked) => {
                let (view, content) = self.answer(request, &asked).await?;
                (view, asked.kind, content)
            }
            Err((kind, code)) => {
                if code == Rcode::FormErr {
                    self.metrics.malformed.increment(1);
                }
                (ViewKind::None, kind, Content::error(code))
            }
        };
        self.metrics.answered(view, kind, content.code);
        self.metrics.duration.record(started.elapsed().as_secs_f64());
        Some(content)
    }

    async fn answer(&self, request: &Request, asked: &ParsedQuestion<'_>) -> Option<(ViewKind, Content)> {
        let view = self.view();
        let source = request.src().ip();
        let question = asked.question();
        let found = match self.fault(source, &view) {
            None => answer(&question, source, &view, &self.options, self.rotation.next(&question)),
            Some((_, DnsFailure::Timeout)) => return None,
            Some((seen, DnsFailure::Servfail)) => Answer::of(seen, Rcode::ServFail),
            Some((seen, DnsFailure::Nxdomain)) => Answer::of(seen, Rcode::NxDomain),
            Some((seen, DnsFailure::Refused)) => Answer::of(seen, Rcode::Refused),
        };
        let mut content = Content::of(&found, asked.query.name());
        if let Some(owner) = found.upstream {
            if request.metadata.recursion_desired {
                let mut query = asked.query.clone();
                if let RecordOwner::Name(name) = owner {
                    query.set_name(wire_name(name.as_str()));
                }
                self.forward(&query, request.metadata.checking_disabled, &mut content).await;
            } else if content.answers.is_empty() {
                content.code = Rcode::Refused;
            }
        }
        Some((found.view, content))
    }

    /// Completes `content`, which has the aliases that lead to `query`, with the answer of an upstream resolver.
    async fn forward(&self, query: &Query, checking_disabled: bool, content: &mut Content) {
        let outcome = match self.forwarder.ask(query, checking_disabled).await {
            Ok(found) => {
                content.code = found.code;
                content.answers.extend(found.answers);
                content.authorities = found.authorities;
                ForwardOutcome::Answered
            }
            Err(outcome) => {
                *content = Content::error(Rcode::ServFail);
                outcome
            }
        };
        self.metrics.forwarded(outcome);
    }

    /// The fault that affects this question. Sources without a view are refused regardless of faults.
    fn fault(&self, source: IpAddr, view: &DnsView) -> Option<(ViewKind, DnsFailure)> {
        if view.faults.is_empty() {
            return None;
        }
        let seen = choose(source, view, &self.options).0;
        let matches = |fault: &&DnsFault| {
            seen != ViewKind::None && fault.clients.as_ref().is_none_or(|clients| clients.contains(source))
        };
        view.faults.iter().filter(matches).find_map(|DnsFault { fault, answer, .. }| {
            let is_affected = fault.share.includes(fault.random_for(self.count(fault)));
            is_affected.then(|| {
                self.metrics.failed(*answer);
                (seen, *answer)
            })
        })
    }

    /// The sequence number of this question for the fault; starts from 0 when the fault is set again.
    fn count(&self, fault: &Arc<Fault>) -> u64 {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, next) = faults.entry(fault.name.clone()).or_insert_with(|| (Arc::clone(fault), 0));
        if known != fault {
            (*known, *next) = (Arc::clone(fault), 0);
        }
        *next += 1;
        *next - 1
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut responses: R) -> ResponseInfo {
        // Replies are not answered: two servers could answer each other without end.
        let is_query = request.metadata.message_type == MessageType::Query;
        if is_query && let Some(content) = self.0.content(request).await {
            let reply = WireReply::new(request, content);
            // The library would log two lines for every answer.
            let sending = responses.send_response(reply.message()).with_subscriber(Dispatch::none());
            match sending.await {
                Ok(info) => return info,
                Err(error) => tracing::debug!(client.addr = %request.src(), %error, "failed to send a DNS reply"),
            }
        }
        // The metadata that the library logs for a request without a reply.
        let metadata = Metadata::response_from_request(&request.metadata);
        Header { metadata, counts: HeaderCounts::default() }.into()
    }
}
