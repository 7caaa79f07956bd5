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
    in_flight: Arc<Semaphore>,
}

impl Forwarder {
    pub(super) fn new(upstreams: Vec<SocketAddr>) -> Self {
        Self { upstreams, in_flight: Arc::new(Semaphore::new(MAXIMUM_IN_FLIGHT)) }
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
            match timeout(TIMEOUT, ask(upstream, question)).await {
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
