//! Asks upstream resolvers for names that are not ours.
//!
//! A stub resolver's part and no more: UDP first, TCP when the answer was cut, the next resolver when one fails. Nothing
//! is cached, so that an answer is never older than upstream's.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::serialize::binary::DecodeError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::wire::UDP_PAYLOAD;

/// How long one resolver may take, TCP included. Stub resolvers give up after 5 s, so that a second one is still heard.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Questions asked upstream at once. Each holds a socket; a loop of resolvers ends here too.
const MAXIMUM_IN_FLIGHT: usize = 256;

/// How a question asked upstream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ForwardOutcome {
    /// A resolver answered.
    Answered,
    /// The last resolver said nothing in time.
    Timeout,
    /// The last resolver refused, failed, or could not be reached.
    Failed,
    /// Too many questions were under way.
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

/// Why one resolver gave no answer.
#[derive(Debug, thiserror::Error)]
enum UpstreamError {
    #[error("cannot reach the resolver")]
    Io(#[from] io::Error),
    #[error("cannot read the resolver's answer")]
    Decode(#[from] DecodeError),
    #[error("cannot write the question")]
    Encode(#[from] hickory_proto::ProtoError),
    #[error("the resolver answered another question over TCP")]
    Mismatch,
    #[error("the resolver answered {0}")]
    Code(ResponseCode),
}

/// The upstream resolvers.
#[derive(Debug)]
pub(super) struct Forwarder {
    upstreams: Vec<SocketAddr>,
    timeout: Duration,
    in_flight: Arc<Semaphore>,
}

impl Forwarder {
    pub(super) fn new(upstreams: Vec<SocketAddr>) -> Self {
        Self { upstreams, timeout: TIMEOUT, in_flight: Arc::new(Semaphore::new(MAXIMUM_IN_FLIGHT)) }
    }

    /// A place for one more question; `None` when all are taken. Waiting would only answer clients that have given up.
    pub(super) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.in_flight).try_acquire_owned().ok()
    }

    /// Asks the resolvers in turn.
    ///
    /// # Errors
    ///
    /// The last resolver's outcome, when none answered.
    pub(super) async fn ask(&self, question: &Question) -> Result<Message, ForwardOutcome> {
        let mut outcome = ForwardOutcome::Failed;
        for &upstream in &self.upstreams {
            match timeout(self.timeout, ask(upstream, question)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => {
                    tracing::debug!(dns.upstream = %upstream, error = %Chain(&error), "upstream resolver failed");
                    outcome = ForwardOutcome::Failed;
                }
                Err(_) => {
                    tracing::debug!(dns.upstream = %upstream, "upstream resolver said nothing in time");
                    outcome = ForwardOutcome::Timeout;
                }
            }
        }
        Err(outcome)
    }
}

/// What is asked upstream.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// Name, type and class.
    pub(super) query: Query,
    /// The client's DO bit: it wants signatures.
    pub(super) dnssec_ok: bool,
    /// The client's CD bit: it checks them by itself.
    pub(super) checking_disabled: bool,
}

impl Question {
    /// The question under a new random id.
    fn message(&self) -> Message {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.add_query(self.query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(self.dnssec_ok);
        message.set_edns(edns);
        message
    }
}

async fn ask(upstream: SocketAddr, question: &Question) -> Result<Message, UpstreamError> {
    let message = question.message();
    let mut answer = ask_udp(upstream, &message).await?;
    if answer.metadata.truncation {
        answer = ask_tcp(upstream, &message).await?;
    }
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
        code => Err(UpstreamError::Code(code)),
    }
}

/// Asks from a port of its own, chosen by the kernel, and hears that resolver alone: the socket is connected.
async fn ask_udp(upstream: SocketAddr, question: &Message) -> Result<Message, UpstreamError> {
    let any: SocketAddr = match upstream {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(&question.to_vec()?).await?;
    let mut packet = vec![0; 4096];
    loop {
        let length = socket.recv(&mut packet).await?;
        // What is no answer to this question is passed over, as it may be forged; the true one may still come.
        if let Some(answer) = Message::from_vec(&packet[..length]).ok().filter(|answer| answers(answer, question)) {
            return Ok(answer);
        }
    }
}

async fn ask_tcp(upstream: SocketAddr, question: &Message) -> Result<Message, UpstreamError> {
    let mut stream = TcpStream::connect(upstream).await?;
    let question_bytes = question.to_vec()?;
    let length = u16::try_from(question_bytes.len()).expect("one question is shorter than 64 KiB");
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&question_bytes);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    let answer = Message::from_vec(&answer)?;
    if answers(&answer, question) { Ok(answer) } else { Err(UpstreamError::Mismatch) }
}

/// Whether `answer` is one to `question`: same id, same question (names without regard to case).
fn answers(answer: &Message, question: &Message) -> bool {
    answer.metadata.message_type == MessageType::Response
        && answer.metadata.op_code == OpCode::Query
        && answer.metadata.id == question.metadata.id
        && answer.queries == question.queries
}

/// An error with its causes, on one line.
struct Chain<'e>(&'e dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    #[tokio::test]
    async fn what_is_no_answer_to_the_question_is_passed_over() {
        let (address, upstream) = upstream(|question| {
            let mut other_id = answer(question);
            other_id.metadata.id = question.metadata.id.wrapping_add(1);
            let mut other_name = answer(question);
            other_name.queries[0].set_name(Name::from_ascii("other.example.").expect("a name"));
            let mut no_reply = answer(question);
            no_reply.metadata.message_type = MessageType::Query;
            vec![b"noise".to_vec(), bytes(&other_id), bytes(&other_name), bytes(&no_reply), bytes(&answer(question))]
        })
        .await;
        let found = Forwarder::new(vec![address]).ask(&question()).await.expect("the last packet");
        assert_eq!(found.answers.len(), 1);
        assert!(found.metadata.message_type == MessageType::Response);
        upstream.abort();
    }

    #[tokio::test]
    async fn a_cut_answer_is_asked_for_again_over_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let socket = UdpSocket::bind(address).await.expect("the same port for UDP");
        let udp = serve(socket, |question| {
            let mut cut = answer(question);
            cut.metadata.truncation = true;
            cut.answers.clear();
            vec![bytes(&cut)]
        });
        let tcp = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut question = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
            stream.read_exact(&mut question).await.expect("a question");
            let answer = bytes(&answer(&Message::from_vec(&question).expect("a message")));
            stream.write_u16(u16::try_from(answer.len()).expect("short")).await.expect("still open");
            stream.write_all(&answer).await.expect("still open");
        });
        let found = Forwarder::new(vec![address]).ask(&question()).await.expect("over TCP");
        assert_eq!((found.metadata.truncation, found.answers.len()), (false, 1));
        udp.abort();
        tcp.await.expect("served");
    }

    #[tokio::test]
    async fn the_next_resolver_is_asked_when_one_fails_refuses_or_is_silent() {
        let (failing, _a) = upstream(|question| vec![bytes(&with_code(question, ResponseCode::ServFail))]).await;
        let (refusing, _b) = upstream(|question| vec![bytes(&with_code(question, ResponseCode::Refused))]).await;
        let (silent, _c) = upstream(|_| Vec::new()).await;
        let (answering, _d) = upstream(|question| vec![bytes(&answer(question))]).await;
        let closed = UdpSocket::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");

        let ask = async |upstreams: &[SocketAddr]| {
            let forwarder = Forwarder { timeout: Duration::from_millis(50), ..Forwarder::new(upstreams.to_vec()) };
            forwarder.ask(&question()).await.map(|answer| answer.answers.len())
        };
        assert_eq!(ask(&[failing, refusing, closed, silent, answering]).await, Ok(1));
        assert_eq!(ask(&[silent, failing]).await, Err(ForwardOutcome::Failed));
        assert_eq!(ask(&[failing, silent]).await, Err(ForwardOutcome::Timeout));
    }

    #[tokio::test]
    async fn ids_are_not_to_be_guessed() {
        let ids: std::collections::BTreeSet<_> = (0..64).map(|_| question().message().metadata.id).collect();
        assert!(ids.len() > 32, "{ids:?}");
    }

    #[test]
    fn no_more_questions_are_under_way_than_there_are_places() {
        let forwarder = Forwarder::new(Vec::new());
        let mut held: Vec<_> = (0..MAXIMUM_IN_FLIGHT).map(|_| forwarder.admit().expect("a place")).collect();
        assert!(forwarder.admit().is_none());
        held.pop();
        assert!(forwarder.admit().is_some());
    }

    /// A resolver that sends what `replies` makes of a question.
    async fn upstream(replies: fn(&Message) -> Vec<Vec<u8>>) -> (SocketAddr, JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        (socket.local_addr().expect("bound"), serve(socket, replies))
    }

    fn serve(socket: UdpSocket, replies: fn(&Message) -> Vec<Vec<u8>>) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut packet = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut packet).await.expect("a question");
                let question = Message::from_vec(&packet[..length]).expect("a message");
                for reply in replies(&question) {
                    socket.send_to(&reply, from).await.expect("sent");
                }
            }
        })
    }

    fn question() -> Question {
        let name = Name::from_ascii("www.example.com.").expect("a name");
        Question { query: Query::query(name, RecordType::A), dnssec_ok: false, checking_disabled: false }
    }

    fn answer(question: &Message) -> Message {
        let mut message = with_code(question, ResponseCode::NoError);
        let address = std::net::Ipv4Addr::new(192, 0, 2, 7).into();
        message.add_answer(Record::from_rdata(question.queries[0].name().clone(), 30, RData::A(address)));
        message
    }

    fn with_code(question: &Message, code: ResponseCode) -> Message {
        let mut message = Message::error_msg(question.metadata.id, OpCode::Query, code);
        message.add_queries(question.queries.iter().cloned());
        message
    }

    fn bytes(message: &Message) -> Vec<u8> {
        message.to_vec().expect("a message")
    }
}
