//! The adapter between packets and answers, and the only file that names the DNS library's server.
//!
//! The library parses requests and writes forwarded replies. Its own socket loops are not used: they tell nobody of
//! malformed packets (which are to be counted), answer malformed *replies* with FORMERR, take any number of TCP
//! connections, and cost a task, a channel and several buffers a datagram.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, Metadata, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Name, RData, Record as WireRecord, RecordType, rdata};
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::Request;
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::forward::{self, ForwardOutcome, Forwarder};
use super::question::name_text;
use super::rotation::Rotation;
use super::view::choose;
use super::wire::{Echo, Limit, UDP_PAYLOAD, encode, encode_error};
use super::{
    Answer, Code, Data, DnsError, DnsMetrics, DnsOptions, DnsSockets, Kind, Owner, Question, ViewKind, answer, tcp, udp,
};
use crate::model::{DnsFailure, Fault};
use crate::plan::{DnsFault, DnsView, Snapshot};

/// A running DNS server: UDP and TCP, answering from the latest snapshot.
#[derive(Debug)]
pub struct DnsServer {
    addresses: Vec<SocketAddr>,
    loops: JoinSet<Result<(), DnsError>>,
    tracker: TaskTracker,
    /// Ends connections and questions under way when the server is dropped.
    _stop: DropGuard,
}

impl DnsServer {
    /// Serves `sockets` until `stop` is cancelled, on the tokio runtime of the caller. Each answer is taken from the
    /// latest snapshot.
    ///
    /// # Errors
    ///
    /// [`DnsError::ForwardsToItself`] when an upstream resolver is one of the sockets.
    pub fn start(
        sockets: DnsSockets,
        options: DnsOptions,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        metrics: DnsMetrics,
        stop: &CancellationToken,
    ) -> Result<Self, DnsError> {
        let DnsSockets { udp, tcp } = sockets;
        let of_udp = udp.iter().map(tokio::net::UdpSocket::local_addr);
        let of_tcp = tcp.iter().map(tokio::net::TcpListener::local_addr);
        let mut addresses: Vec<_> = of_udp.chain(of_tcp).filter_map(Result::ok).collect();
        addresses.dedup();
        if let Some(own) = options.forward.iter().find(|upstream| addresses.contains(upstream)) {
            return Err(DnsError::ForwardsToItself(*own));
        }

        let stop = stop.child_token();
        let tracker = TaskTracker::new();
        let adapter = Arc::new(Adapter::new(options, metrics));
        let mut loops = JoinSet::new();
        for socket in udp {
            let views = Views::new(snapshots.clone());
            loops.spawn(udp::serve(socket, Arc::clone(&adapter), views, tracker.clone(), stop.clone()));
        }
        for listener in tcp {
            let views = Views::new(snapshots.clone());
            loops.spawn(tcp::serve(listener, Arc::clone(&adapter), views, tracker.clone(), stop.clone()));
        }
        Ok(Self { addresses, loops, tracker, _stop: stop.drop_guard() })
    }

    /// Where it listens, each address once.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until the server has stopped: all at once when one of its sockets failed, else after a stop was asked for
    /// and every connection has ended.
    ///
    /// # Errors
    ///
    /// [`DnsError::Stopped`] when a socket failed. Without DNS nobody finds the gateway, so callers should end too.
    ///
    /// # Panics
    ///
    /// When one of the server's tasks did.
    pub async fn stopped(mut self) -> Result<(), DnsError> {
        while let Some(ended) = self.loops.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(error) => {
                    if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
        self.tracker.close();
        self.tracker.wait().await;
        Ok(())
    }
}

/// The latest snapshot's names. A look-up costs an atomic load while nothing has changed.
#[derive(Debug, Clone)]
pub(super) struct Views {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    latest: Arc<DnsView>,
}

impl Views {
    fn new(mut snapshots: watch::Receiver<Arc<Snapshot>>) -> Self {
        let latest = Arc::clone(&snapshots.borrow_and_update().dns);
        Self { snapshots, latest }
    }

    pub(super) fn latest(&mut self) -> &DnsView {
        // An error means that nobody publishes any more: the last snapshot holds.
        if self.snapshots.has_changed().unwrap_or(false) {
            self.latest = Arc::clone(&self.snapshots.borrow_and_update().dns);
        }
        &self.latest
    }
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What is done about a message.
#[derive(Debug)]
pub(super) enum Reaction {
    /// Nothing: it asked nothing.
    Silence,
    /// The reply is in the buffer.
    Reply,
    /// Upstream is to be asked; [`Adapter::finish`] gives the reply.
    Forward(Box<Forwarding>),
}

/// A question on its way upstream.
#[derive(Debug)]
pub(super) struct Forwarding {
    request: Request,
    view: ViewKind,
    kind: Kind,
    limit: Limit,
    started: Instant,
    /// Our part of the chain of aliases.
    prefix: Vec<WireRecord>,
    question: forward::Question,
    _permit: OwnedSemaphorePermit,
}

/// Turns packets into replies.
#[derive(Debug)]
pub(super) struct Adapter {
    options: DnsOptions,
    pub(super) metrics: DnsMetrics,
    rotation: Rotation,
    forwarder: Forwarder,
    /// Failures that were asked for, and how many questions each could have befallen since.
    failures: Mutex<HashMap<String, (Arc<Fault>, u64)>>,
}

const HEADER_BYTES: usize = 12;

/// The shortest record: root, type, class, TTL, no data.
const SHORTEST_RECORD: usize = 11;

impl Adapter {
    pub(super) fn new(options: DnsOptions, metrics: DnsMetrics) -> Self {
        let forwarder = Forwarder::new(options.forward.clone());
        Self { options, metrics, rotation: Rotation::new(), forwarder, failures: Mutex::default() }
    }

    /// Reacts to `packet`; a reply is appended to `out`.
    pub(super) fn react(
        &self,
        packet: &[u8],
        source: SocketAddr,
        transport: Transport,
        view: &DnsView,
        out: &mut Vec<u8>,
    ) -> Reaction {
        let started = Instant::now();
        // Replies are not answered, least of all with FORMERR: two servers could go on for ever. Neither is port 0,
        // which nobody can have sent from.
        if packet.len() < HEADER_BYTES || packet[2] & 0x80 != 0 || source.port() == 0 {
            self.metrics.malformed.increment(1);
            return Reaction::Silence;
        }
        let is_query = packet[2] & 0x78 == 0;
        let fail = |out: &mut Vec<u8>| {
            let code = if is_query { Code::FormErr } else { Code::NotImp };
            encode_error(out, packet, code);
            self.metrics.malformed.increment(1);
            self.metrics.answered(ViewKind::None, Kind::Other, code);
            Reaction::Reply
        };
        let Some((request, name)) = parse(packet, source, transport) else {
            return fail(out);
        };
        let query = request.queries.queries()[0].original();
        let payload = request.edns.as_ref().map(Edns::max_payload);
        let limit = match transport {
            Transport::Udp => Limit::udp(payload),
            Transport::Tcp => Limit::TCP,
        };
        let dnssec_ok = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let echo = Echo {
            id: request.metadata.id,
            opcode: request.metadata.op_code.into(),
            recursion_desired: request.metadata.recursion_desired,
            checking_disabled: request.metadata.checking_disabled,
            question: Some((request.queries.as_bytes(), &name)),
            edns: request.edns.as_ref().map(|_| dnssec_ok),
        };
        let kind = if is_query { Kind::from_code(query.query_type().into()) } else { Kind::Other };
        let question = Question { name: &name, kind };
        let given = match self.failure(source.ip(), view) {
            None => self.answer(&question, query, &request, source, view),
            Some((_, DnsFailure::Timeout)) => return Reaction::Silence,
            Some((seen, DnsFailure::Servfail)) => Answer::of(seen, Code::ServFail),
            Some((seen, DnsFailure::Nxdomain)) => Answer::of(seen, Code::NxDomain),
            Some((seen, DnsFailure::Refused)) => Answer::of(seen, Code::Refused),
        };
        let given = match given.upstream {
            None => given,
            Some(owner) if request.metadata.recursion_desired => {
                if let Some(permit) = self.forwarder.admit() {
                    let prefix = aliases(&given, query.name());
                    let question = upstream_question(owner, &request);
                    let view = given.view;
                    let forwarding =
                        Forwarding { request, view, kind, limit, started, prefix, question, _permit: permit };
                    return Reaction::Forward(Box::new(forwarding));
                }
                self.metrics.forwarded(ForwardOutcome::Overloaded);
                Answer::of(given.view, Code::ServFail)
            }
            // Without RD nothing is asked upstream: what is ours of a chain, or nothing.
            Some(_) if given.records.is_empty() => Answer::of(given.view, Code::Refused),
            Some(_) => given,
        };
        encode(out, &echo, &given, limit);
        self.metrics.answered(given.view, kind, given.code);
        self.metrics.duration.record(started.elapsed().as_secs_f64());
        Reaction::Reply
    }

    /// The failure that was asked for and befalls this question. Whoever is refused anyway has none.
    fn failure(&self, source: IpAddr, view: &DnsView) -> Option<(ViewKind, DnsFailure)> {
        if view.faults.is_empty() {
            return None;
        }
        let seen = choose(source, view, &self.options).0;
        let meant = |fault: &&DnsFault| {
            seen != ViewKind::None && fault.clients.as_ref().is_none_or(|clients| clients.contains(source))
        };
        view.faults.iter().filter(meant).find_map(|DnsFault { fault, answer, .. }| {
            let befalls = fault.share.holds(fault.lot(self.number(fault)));
            befalls.then(|| {
                self.metrics.failed(*answer);
                (seen, *answer)
            })
        })
    }

    /// The number of this question among those that the failure could befall; from 0 again when it is set anew.
    fn number(&self, fault: &Arc<Fault>) -> u64 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, next) = failures.entry(fault.name.clone()).or_insert_with(|| (Arc::clone(fault), 0));
        if known != fault {
            (*known, *next) = (Arc::clone(fault), 0);
        }
        *next += 1;
        *next - 1
    }

    /// The answer to a question that was understood.
    fn answer<'v>(
        &self,
        question: &Question<'_>,
        query: &Query,
        request: &Request,
        source: SocketAddr,
        view: &'v DnsView,
    ) -> Answer<'v> {
        if request.metadata.op_code != OpCode::Query {
            return Answer::of(ViewKind::None, Code::NotImp);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return Answer::of(ViewKind::None, Code::BadVers);
        }
        let class_served = matches!(query.query_class(), DNSClass::IN | DNSClass::ANY);
        let is_transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if !class_served || is_transfer {
            return Answer::of(ViewKind::None, Code::Refused);
        }
        answer(question, source.ip(), view, &self.options, self.rotation.next(question))
    }

    /// Asks upstream and makes the reply of it.
    pub(super) async fn finish(&self, forwarding: Forwarding, out: &mut Vec<u8>) {
        let Forwarding { request, view, kind, limit, started, prefix, question, _permit } = forwarding;
        let asked = self.forwarder.ask(&question).await;
        self.metrics.forwarded(asked.as_ref().map_or_else(|outcome| *outcome, |_| ForwardOutcome::Answered));
        let (code, records, authorities) = match asked {
            Ok(message) => {
                let records: Vec<_> = prefix.into_iter().chain(message.answers).collect();
                (message.metadata.response_code, records, message.authorities)
            }
            Err(_) => (ResponseCode::ServFail, Vec::new(), Vec::new()),
        };
        let start = out.len();
        if !encode_forwarded(out, &request, code, &records, &authorities, limit) {
            // The library gives no room to OPT when it cuts records, so a cut reply is sent without any.
            out.truncate(start);
            encode_forwarded(out, &request, code, &[], &[], limit);
            out[start + 2] |= 0x02;
        }
        let code = match code {
            ResponseCode::NoError => Code::NoError,
            ResponseCode::NXDomain => Code::NxDomain,
            _ => Code::ServFail,
        };
        self.metrics.answered(view, kind, code);
        self.metrics.duration.record(started.elapsed().as_secs_f64());
    }
}

/// The request with the text of its name; `None` when it is malformed.
fn parse(packet: &[u8], source: SocketAddr, transport: Transport) -> Option<(Request, String)> {
    // Several questions are no question (RFC 9619). Also spares the parser counts that the packet cannot hold.
    if !counts_are_plausible(packet) {
        return None;
    }
    let protocol = match transport {
        Transport::Udp => Protocol::Udp,
        Transport::Tcp => Protocol::Tcp,
    };
    let request = Request::from_bytes(packet.to_vec(), source, protocol).ok()?;
    let query = request.queries.queries().first()?.original();
    let name = name_text(query.name().iter());
    // A question is repeated byte by byte, so it must not point into a header that the reply has not. A name without
    // pointers takes a byte more for each label, and one for the root.
    let plain_bytes = if name.is_empty() { 1 } else { name.len() + 2 };
    let is_plain = request.queries.as_bytes().len() == plain_bytes + 4;
    (is_plain && query.query_type() != RecordType::OPT).then_some((request, name))
}

/// What is asked upstream for `request`: its question, or the same of the name that our aliases end in.
fn upstream_question(owner: Owner<'_>, request: &Request) -> forward::Question {
    let mut query = request.queries.queries()[0].original().clone();
    if let Owner::Name(name) = owner {
        query.set_name(wire_name(name.as_str()));
    }
    let dnssec_ok = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
    forward::Question { query, dnssec_ok, checking_disabled: request.metadata.checking_disabled }
}

/// Whether the header counts one question, and no more records than the packet has room for.
fn counts_are_plausible(packet: &[u8]) -> bool {
    let count = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    count(4) == 1 && (count(6) + count(8) + count(10)) * SHORTEST_RECORD <= packet.len() - HEADER_BYTES
}

/// The aliases of `given`, for the library.
fn aliases(given: &Answer<'_>, question: &Name) -> Vec<WireRecord> {
    let alias = |record: &super::Record<'_>| {
        let Data::Cname(target) = record.data else { return None };
        let owner = match record.owner {
            Owner::Question => question.clone(),
            Owner::Name(name) => wire_name(name.as_str()),
        };
        Some(WireRecord::from_rdata(owner, record.ttl, RData::CNAME(rdata::CNAME(wire_name(target.as_str())))))
    };
    given.records.iter().filter_map(alias).collect()
}

fn wire_name(name: &str) -> Name {
    let mut name = Name::from_ascii(name).expect("a DnsName is a name");
    name.set_fqdn(true);
    name
}

/// Appends a reply with these records; `false` when they did not all fit.
fn encode_forwarded(
    out: &mut Vec<u8>,
    request: &Request,
    code: ResponseCode,
    records: &[WireRecord],
    authorities: &[WireRecord],
    limit: Limit,
) -> bool {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    debug_assert_eq!(metadata.op_code, OpCode::Query, "other operations are not forwarded");
    metadata.recursion_available = true;
    metadata.response_code = code;
    let edns = request.edns.as_ref().map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
        edns
    });
    let response =
        MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(metadata, records, authorities, [], []);
    let mut message = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut message);
    encoder.set_max_size(limit.bytes());
    let fitted = response.destructive_emit(&mut encoder).is_ok_and(|info| !info.truncation);
    out.extend_from_slice(&message);
    fitted
}
