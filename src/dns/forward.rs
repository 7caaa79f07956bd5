//! Forwards questions to upstream resolvers.
//!
//! Each upstream has a pool of the DNS library, which provides UDP with retries, TCP for truncated answers, checks of
//! source, id and question, and one query for clients that ask the same at the same time. The library's `Resolver` is
//! not used: it caches, and it stops at a resolver that answers SERVFAIL. Nothing is cached, so an answer is never
//! older than the upstream resolver's.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::DnsHandle;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Rcode;

/// Time limit for one upstream resolver, including TCP. Stub resolvers give up after 5 s, so two can be tried.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of questions forwarded at once. More get SERVFAIL: their clients would have given up by the time of
/// an answer.
const MAXIMUM_IN_FLIGHT: usize = 256;

/// Aliases followed in an upstream resolver's answer.
const MAXIMUM_CHAIN: usize = 16;

/// How forwarding a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ForwardOutcome {
    /// An upstream resolver answered.
    Answered,
    /// The last upstream resolver did not answer in time.
    Timeout,
    /// The last upstream resolver refused, failed, or could not be reached.
    Failed,
    /// Too many questions were being forwarded.
    Overloaded,
}

impl ForwardOutcome {
    /// Every outcome.
    pub(super) const ALL: [Self; 4] = [Self::Answered, Self::Timeout, Self::Failed, Self::Overloaded];

    /// The lower-case name in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::Overloaded => "overloaded",
        }
    }
}

/// The part of an upstream resolver's answer that belongs to the question.
#[derive(Debug)]
pub(super) struct UpstreamAnswer {
    pub(super) code: Rcode,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
}

/// The upstream resolvers.
#[derive(Debug)]
pub(super) struct Forwarder {
    upstreams: Vec<Upstream>,
    in_flight: Semaphore,
}

impl Forwarder {
    pub(super) fn new(upstreams: &[SocketAddr]) -> Self {
        let upstreams = upstreams.iter().copied().map(Upstream::new).collect();
        Self { upstreams, in_flight: Semaphore::new(MAXIMUM_IN_FLIGHT) }
    }

    /// Sends every upstream resolver a query for a unique name. If that query arrives at [`ask`](Self::ask), the
    /// resolver forwards to this server, and is not used any more.
    pub(super) async fn probe(&self) {
        for upstream in &self.upstreams {
            upstream.probe().await;
        }
    }

    /// Tries the upstream resolvers in order until one answers.
    ///
    /// # Errors
    ///
    /// The last resolver's outcome, when none answered.
    pub(super) async fn ask(&self, query: &Query, checking_disabled: bool) -> Result<UpstreamAnswer, ForwardOutcome> {
        if let Some(looping) = self.upstreams.iter().find(|upstream| upstream.probe == *query.name()) {
            if !looping.loops.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    dns.upstream = %looping.address,
                    "upstream resolver forwards to this server and is asked no more; change `dns.forward` or the resolver, \
                     then restart"
                );
            }
            return Err(ForwardOutcome::Failed);
        }
        let Ok(_place) = self.in_flight.try_acquire() else { return Err(ForwardOutcome::Overloaded) };
        let mut outcome = ForwardOutcome::Failed;
        for upstream in self.upstreams.iter().filter(|upstream| !upstream.loops.load(Ordering::Relaxed)) {
            match upstream.ask(query, checking_disabled).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    tracing::debug!(dns.upstream = %upstream.address, %error, "upstream resolver failed");
                    outcome = match error {
                        NetError::Timeout => ForwardOutcome::Timeout,
                        _ => ForwardOutcome::Failed,
                    };
                }
            }
            if outcome == ForwardOutcome::Timeout {
                // A loop has the same symptom, and may have been configured since the start.
                let (pool, probe) = (upstream.pool.clone(), upstream.probe.clone());
                tokio::spawn(async move { send(&pool, &Query::query(probe, RecordType::A), false).await.err() });
            }
        }
        Err(outcome)
    }
}

/// One upstream resolver.
struct Upstream {
    address: SocketAddr,
    pool: NameServerPool<TokioRuntimeProvider>,
    /// A random name that identifies a query which comes back.
    probe: Name,
    /// Whether it forwards queries back to this server.
    loops: AtomicBool,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Upstream").field(&self.address).finish()
    }
}

impl Upstream {
    fn new(address: SocketAddr) -> Self {
        let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        connections.iter_mut().for_each(|connection| connection.port = address.port());
        let config = NameServerConfig::new(address.ip(), true, connections.into());
        let mut options = ResolverOpts::default();
        options.timeout = TIMEOUT;
        let tls = TlsConfig::new().expect("nothing can fail without TLS");
        let context = Arc::new(PoolContext::new(options, tls));
        let pool = NameServerPool::from_config([config], context, TokioRuntimeProvider::default());
        let random = || RandomState::new().hash_one(address);
        // A random top-level domain, as in CoreDNS's `loop`: resolvers answer `test` and `invalid` themselves.
        let probe = Name::from_ascii(format!("{:016x}.{:016x}.", random(), random())).expect("two short labels");
        Self { address, pool, probe, loops: AtomicBool::new(false) }
    }

    async fn probe(&self) {
        // Only whether the query comes back matters, not its answer.
        let _ = send(&self.pool, &Query::query(self.probe.clone(), RecordType::A), false).await;
    }

    async fn ask(&self, query: &Query, checking_disabled: bool) -> Result<UpstreamAnswer, NetError> {
        match send(&self.pool, query, checking_disabled).await {
            Ok(answer) => {
                Ok(UpstreamAnswer::of(query, answer.metadata.response_code, answer.answers, &answer.authorities))
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, authorities, .. }))) => {
                Ok(UpstreamAnswer::of(query, response_code, Vec::new(), authorities.as_deref().unwrap_or_default()))
            }
            Err(error) => Err(error),
        }
    }
}

/// Sends a query without an OPT record, like the stub resolvers of C libraries: the gateway does not use what EDNS
/// offers (DO is not forwarded, long answers come over TCP), and resolvers that fail on EDNS or drop it need no second
/// attempt (RFC 6891 §6.2.2).
async fn send(
    pool: &NameServerPool<TokioRuntimeProvider>,
    query: &Query,
    checking_disabled: bool,
) -> Result<Message, NetError> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = checking_disabled;
    message.add_query(query.clone());
    let mut options = DnsRequestOptions::default();
    options.use_edns = false;
    let asked = timeout(TIMEOUT, pool.send(DnsRequest::new(message, options)).next()).await;
    Ok(asked.ok().flatten().ok_or(NetError::Timeout)??.into_message())
}

impl UpstreamAnswer {
    /// Keeps only the records that belong to `query`: the chain of aliases from its name, the records at its end, and
    /// the SOA record of a zone that contains this end. A client might cache any other record under a name that it did
    /// not ask for.
    fn of(query: &Query, code: ResponseCode, answers: Vec<Record>, authorities: &[Record]) -> Self {
        let kind = query.query_type();
        let mut owner = query.name().clone();
        let mut kept = Vec::new();
        for _ in 0..MAXIMUM_CHAIN {
            let at_owner = || answers.iter().filter(|record| record.name == owner);
            let is_wanted = |record: &&Record| kind == RecordType::ANY || record.record_type() == kind;
            let alias = at_owner().find_map(|record| match &record.data {
                RData::CNAME(target) if !is_wanted(&record) => Some((record.clone(), target.0.clone())),
                _ => None,
            });
            kept.extend(at_owner().filter(is_wanted).cloned());
            let Some((record, target)) = alias else { break };
            kept.push(record);
            owner = target;
        }
        let of_zone = |record: &&Record| record.record_type() == RecordType::SOA && record.name.zone_of(&owner);
        let authorities = authorities.iter().filter(of_zone).cloned().collect();
        let code = if code == ResponseCode::NXDomain { Rcode::NxDomain } else { Rcode::NoError };
        Self { code, answers: kept, authorities }
    }
}

#[cfg(test)]
mod tests {
    use hickory_server::proto::op::{Edns, MessageType, OpCode};
    use hickory_server::proto::rr::rdata;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UdpSocket};
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    #[tokio::test]
    async fn messages_that_do_not_answer_the_question_are_ignored() {
        let (address, _upstream) = upstream(|question| {
            let mut other_id = answer(question);
            other_id.metadata.id = question.metadata.id.wrapping_add(1);
            let mut other_name = answer(question);
            other_name.queries[0].set_name(name("other.example."));
            vec![b"x".to_vec(), bytes(&other_id), bytes(&other_name), bytes(&answer(question))]
        })
        .await;
        let found = ask(&[address]).await.expect("the last packet");
        assert_eq!((found.code, found.answers.len()), (Rcode::NoError, 1));
    }

    #[tokio::test]
    async fn a_truncated_answer_is_requested_again_over_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let socket = UdpSocket::bind(address).await.expect("the same port for UDP");
        let _udp = serve(socket, |question| {
            let mut cut = answer(question);
            cut.metadata.truncation = true;
            cut.answers.clear();
            vec![bytes(&cut)]
        });
        let _tcp = AbortOnDropHandle::new(tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut question = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
            stream.read_exact(&mut question).await.expect("a question");
            let answer = bytes(&answer(&Message::from_vec(&question).expect("a message")));
            stream.write_u16(u16::try_from(answer.len()).expect("short")).await.expect("still open");
            stream.write_all(&answer).await.expect("still open");
            std::future::pending::<()>().await;
        }));
        assert_eq!(ask(&[address]).await.expect("over TCP").answers.len(), 1);
    }

    #[tokio::test]
    async fn the_next_resolver_is_queried_when_one_fails_or_is_silent() {
        let (failing, _failing) = upstream(|question| vec![bytes(&with_code(question, ResponseCode::ServFail))]).await;
        let (refusing, _refusing) = upstream(|question| vec![bytes(&with_code(question, ResponseCode::Refused))]).await;
        let (silent, _silent) = upstream(|_| Vec::new()).await;
        let (right, _right) = upstream(|question| vec![bytes(&answer(question))]).await;
        assert_eq!(ask(&[failing, refusing, silent, right]).await.expect("the last one").answers.len(), 1);
        assert_eq!(ask(&[right, silent, failing]).await.expect("the first one").answers.len(), 1);
        assert_eq!(ask(&[silent, failing]).await.expect_err("none"), ForwardOutcome::Failed);
        assert_eq!(ask(&[failing, silent]).await.expect_err("none"), ForwardOutcome::Timeout);
    }

    /// RFC 6891 §6.2.2: every way in which a resolver fails on EDNS.
    #[tokio::test]
    async fn resolvers_that_do_not_support_edns_answer() {
        fn unless_edns(question: &Message, reaction: Option<ResponseCode>) -> Vec<Vec<u8>> {
            match (question.edns.is_some(), reaction) {
                (false, _) => vec![bytes(&answer(question))],
                (true, Some(code)) => vec![bytes(&with_code(question, code))],
                (true, None) => Vec::new(),
            }
        }
        type Answers = fn(&Message) -> Vec<Vec<u8>>;
        let resolvers: [Answers; 4] = [
            |question| unless_edns(question, Some(ResponseCode::FormErr)),
            |question| unless_edns(question, Some(ResponseCode::NotImp)),
            |question| unless_edns(question, Some(ResponseCode::ServFail)),
            |question| unless_edns(question, None),
        ];
        for replies in resolvers {
            let (address, _upstream) = upstream(replies).await;
            assert_eq!(ask(&[address]).await.expect("an answer").answers.len(), 1);
        }
    }

    #[tokio::test]
    async fn records_that_do_not_belong_to_the_question_are_dropped() {
        let (address, _upstream) = upstream(|question| {
            let mut message = with_code(question, ResponseCode::NoError);
            let alias = |owner, target| Record::from_rdata(name(owner), 30, RData::CNAME(rdata::CNAME(name(target))));
            // The chain may come in any order.
            message.add_answer(address_of("end.example.net."));
            message.add_answer(alias("www.example.com.", "end.example.net."));
            message.add_answer(address_of("bank.example."));
            message.add_answer(alias("pl-0-us-east-1-k45tj.mongodb.net.", "bank.example."));
            message.add_authority(Record::from_rdata(name("net."), 30, RData::NS(rdata::NS(name("ns.bank.example.")))));
            message.add_authority(soa("bank.example."));
            message.add_additional(address_of("ns.bank.example."));
            vec![bytes(&message)]
        })
        .await;
        let found = ask(&[address]).await.expect("an answer");
        let names: Vec<_> = found.answers.iter().map(|record| record.name.to_ascii()).collect();
        assert_eq!(names, ["www.example.com.", "end.example.net."]);
        assert!(found.authorities.is_empty(), "{:?}", found.authorities);
    }

    #[tokio::test]
    async fn negative_answers_are_passed_on_with_their_soa() {
        let (absent, _absent) = upstream(|question| {
            let mut message = with_code(question, ResponseCode::NXDomain);
            message.add_authority(soa("example.com."));
            vec![bytes(&message)]
        })
        .await;
        let (empty, _empty) = upstream(|question| {
            let mut message = with_code(question, ResponseCode::NoError);
            message.add_authority(soa("example.com."));
            vec![bytes(&message)]
        })
        .await;
        for (address, code) in [(absent, Rcode::NxDomain), (empty, Rcode::NoError)] {
            let found = ask(&[address]).await.expect("an answer");
            assert_eq!((found.code, found.answers.len(), found.authorities.len()), (code, 0, 1));
        }
    }

    #[tokio::test]
    async fn a_resolver_that_sends_a_probe_back_is_not_used_again() {
        let (address, _upstream) = upstream(|question| vec![bytes(&answer(question))]).await;
        let forwarder = Forwarder::new(&[address]);
        assert!(forwarder.ask(&query(), false).await.is_ok());
        let probe = Query::query(forwarder.upstreams[0].probe.clone(), RecordType::A);
        assert_eq!(forwarder.ask(&probe, false).await.expect_err("a loop"), ForwardOutcome::Failed);
        assert_eq!(forwarder.ask(&query(), false).await.expect_err("a loop"), ForwardOutcome::Failed);
    }

    #[tokio::test]
    async fn questions_beyond_the_limit_are_not_forwarded() {
        let (address, _upstream) = upstream(|question| vec![bytes(&answer(question))]).await;
        let forwarder = Forwarder::new(&[address]);
        let held = forwarder.in_flight.acquire_many(MAXIMUM_IN_FLIGHT as u32).await.expect("never closed");
        assert_eq!(forwarder.ask(&query(), false).await.expect_err("full"), ForwardOutcome::Overloaded);
        drop(held);
        assert!(forwarder.ask(&query(), false).await.is_ok());
    }

    async fn ask(upstreams: &[SocketAddr]) -> Result<UpstreamAnswer, ForwardOutcome> {
        Forwarder::new(upstreams).ask(&query(), false).await
    }

    /// A resolver that answers each question with `replies`.
    async fn upstream(replies: fn(&Message) -> Vec<Vec<u8>>) -> (SocketAddr, AbortOnDropHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        (socket.local_addr().expect("bound"), serve(socket, replies))
    }

    fn serve(socket: UdpSocket, replies: fn(&Message) -> Vec<Vec<u8>>) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut packet = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut packet).await.expect("a question");
                let question = Message::from_vec(&packet[..length]).expect("a message");
                for reply in replies(&question) {
                    socket.send_to(&reply, from).await.expect("sent");
                }
            }
        }))
    }

    fn query() -> Query {
        Query::query(name("www.example.com."), RecordType::A)
    }

    fn answer(question: &Message) -> Message {
        let mut message = with_code(question, ResponseCode::NoError);
        message.add_answer(address_of(&question.queries[0].name().to_ascii()));
        message
    }

    fn with_code(question: &Message, code: ResponseCode) -> Message {
        let mut message = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        message.add_queries(question.queries.iter().cloned());
        if question.edns.is_some() {
            message.set_edns(Edns::new());
        }
        message
    }

    fn address_of(owner: &str) -> Record {
        Record::from_rdata(name(owner), 30, RData::A(std::net::Ipv4Addr::new(192, 0, 2, 7).into()))
    }

    fn soa(zone: &str) -> Record {
        let soa = rdata::SOA::new(name("ns.example."), name("admin.example."), 1, 2, 3, 4, 5);
        Record::from_rdata(name(zone), 30, RData::SOA(soa))
    }

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn bytes(message: &Message) -> Vec<u8> {
        message.to_vec().expect("a message")
    }
}
