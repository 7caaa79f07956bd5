//! Converts between messages of the DNS library and [`answer()`](super::answer()).

use std::iter::Empty;
use std::net::SocketAddr;
use std::slice::Iter;
use std::sync::LazyLock;

use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Name, RData, Record as WireRecord, RecordType, rdata};
use hickory_server::proto::serialize::binary::{BinDecoder, BinEncoder};
use hickory_server::server::Request;
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder, Queries};

use super::answer::{HOSTMASTER, NAME_SERVERS, SOA_NUMBERS};
use super::question::name_text;
use super::{Answer, QueryType, Question, Rcode, RecordData, RecordOwner, answer};
use crate::config::DnsSettings;
use crate::plan::DnsView;

/// Maximum UDP payload, also advertised: it fits one packet on every IPv6 path (1280 bytes minus 48 of headers), so no
/// answer is lost with a fragment (DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1232;

/// Maximum UDP payload for clients without EDNS (RFC 1035 §4.2.1).
const PLAIN_UDP_PAYLOAD: u16 = 512;

/// Size of an OPT record without options.
const OPT_BYTES: u16 = 11;

/// The question section of a reply to a message without a valid question.
static NO_QUERIES: LazyLock<Queries> =
    LazyLock::new(|| Queries::read(&mut BinDecoder::new(&[]), 0).expect("no query is read"));

/// A request's question.
#[derive(Debug)]
pub(super) struct ParsedQuestion<'r> {
    /// As it was received.
    pub(super) query: &'r Query,
    pub(super) name: String,
    pub(super) kind: QueryType,
}

impl ParsedQuestion<'_> {
    pub(super) fn question(&self) -> Question<'_> {
        Question { name: &self.name, kind: self.kind }
    }
}

/// The question of `request`.
///
/// # Errors
///
/// The response code when it has no question that can be answered, and the type under which to count it.
pub(super) fn read(request: &Request) -> Result<ParsedQuestion<'_>, (QueryType, Rcode)> {
    if request.metadata.op_code != OpCode::Query {
        return Err((QueryType::Other, Rcode::NotImp));
    }
    // A message with several questions is invalid (RFC 9619).
    let [query] = request.queries.queries() else { return Err((QueryType::Other, Rcode::FormErr)) };
    let query = query.original();
    let name = name_text(query.name().iter());
    // The library repeats the question's bytes in the reply, so they must not point outside the question. A name without
    // pointers takes a length byte for each label, and one for the root.
    let plain_bytes = if name.is_empty() { 1 } else { name.len() + 2 };
    if request.queries.as_bytes().len() != plain_bytes + 4 || query.query_type() == RecordType::OPT {
        return Err((QueryType::Other, Rcode::FormErr));
    }
    let kind = QueryType::from_code(query.query_type().into());
    if request.version() != 0 {
        return Err((kind, Rcode::BadVers));
    }
    let is_served = matches!(query.query_class(), DNSClass::IN | DNSClass::ANY);
    let is_transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
    if !is_served || is_transfer {
        return Err((kind, Rcode::Refused));
    }
    Ok(ParsedQuestion { query, name, kind })
}

/// Response code and records of a reply.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) code: Rcode,
    pub(super) answers: Vec<WireRecord>,
    pub(super) authorities: Vec<WireRecord>,
}

impl Content {
    pub(super) fn error(code: Rcode) -> Self {
        Self { code, answers: Vec::new(), authorities: Vec::new() }
    }

    /// The content of `answer` for a question with the spelling `name`, which the records repeat (0x20).
    pub(super) fn of(answer: &Answer<'_>, name: &Name) -> Self {
        let record = |record: &super::Record<'_>| {
            let owner = match record.owner {
                RecordOwner::Question => name.clone(),
                RecordOwner::Name(name) => wire_name(name.as_str()),
            };
            WireRecord::from_rdata(owner, record.ttl, wire_data(&record.data))
        };
        Self {
            code: answer.code,
            answers: answer.records.iter().map(record).collect(),
            authorities: answer.authority.iter().map(record).collect(),
        }
    }
}

/// A reply as the library sends it.
pub(super) type Message<'r> =
    MessageResponse<'r, 'r, Iter<'r, WireRecord>, Iter<'r, WireRecord>, Empty<&'r WireRecord>, Empty<&'r WireRecord>>;

/// A reply that fits its transport.
#[derive(Debug)]
pub(super) struct WireReply<'r> {
    queries: &'r Queries,
    metadata: Metadata,
    edns: Option<Edns>,
    content: Content,
}

impl<'r> WireReply<'r> {
    /// The reply to `request`.
    ///
    /// It looks like a recursive resolver's: RA set, AA not (`nslookup` prints *Non-authoritative answer*); DO is never
    /// set, as nothing is signed. Over UDP, records that do not fit are omitted and TC is set, so that clients retry
    /// over TCP; the rest is kept, because old clients without TCP (musl before 1.2.4) can connect with some of the
    /// addresses.
    pub(super) fn new(request: &'r Request, content: Content) -> Self {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        metadata.response_code = wire_code(content.code);
        let payload = match request.protocol() {
            Protocol::Udp => request.max_payload().clamp(PLAIN_UDP_PAYLOAD, UDP_PAYLOAD),
            _ => UDP_PAYLOAD,
        };
        // The library truncates UDP messages to the payload size in the reply's own OPT record.
        let edns = request.edns.as_ref().map(|_| {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            edns
        });
        let queries = if content.code == Rcode::FormErr { &NO_QUERIES } else { &request.queries };
        let mut reply = Self { queries, metadata, edns, content };
        if request.protocol() == Protocol::Udp {
            reply.cut(payload);
        }
        reply
    }

    pub(super) fn message(&self) -> Message<'_> {
        self.build(self.edns.as_ref())
    }

    fn build<'s>(&'s self, edns: Option<&'s Edns>) -> Message<'s> {
        let Content { answers, authorities, .. } = &self.content;
        let builder = MessageResponseBuilder::new(self.queries, edns);
        builder.build(self.metadata, answers, authorities, std::iter::empty(), std::iter::empty())
    }

    /// Removes records until the message fits `payload`. The library would do it too, but without space for OPT.
    fn cut(&mut self, payload: u16) {
        if self.content.answers.is_empty() && self.content.authorities.is_empty() {
            return;
        }
        let opt = if self.edns.is_some() { OPT_BYTES } else { 0 };
        let mut bytes = Vec::with_capacity(usize::from(payload));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(payload - opt);
        let fitted = match self.build(None).destructive_emit(&mut encoder) {
            Ok(info) if !info.truncation => return,
            Ok(info) => info.counts().answers,
            Err(_) => 0,
        };
        self.content.answers.truncate(usize::from(fitted));
        self.content.authorities.clear();
        self.metadata.truncation = true;
    }
}

/// The reply to a `message` received from `source` over UDP, without forwarding; `None` when there is none.
///
/// Pure; for fuzzing and tests.
#[must_use]
pub fn reply(message: &[u8], source: SocketAddr, view: &DnsView, options: &DnsSettings) -> Option<Vec<u8>> {
    let request = Request::from_bytes(message.to_vec(), source, Protocol::Udp).ok()?;
    if request.metadata.message_type == MessageType::Response {
        return None;
    }
    let content = match read(&request) {
        Err((_, code)) => Content::error(code),
        Ok(asked) => Content::of(&answer(&asked.question(), source.ip(), view, options, 0), asked.query.name()),
    };
    let reply = WireReply::new(&request, content);
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(reply.edns.as_ref().map_or(PLAIN_UDP_PAYLOAD, Edns::max_payload));
    reply.message().destructive_emit(&mut encoder).ok()?;
    Some(bytes)
}

/// A name of the snapshot, for the library.
pub(super) fn wire_name(name: &str) -> Name {
    let mut name = Name::from_ascii(name).expect("a DnsName is a name");
    name.set_fqdn(true);
    name
}

fn wire_data(data: &RecordData<'_>) -> RData {
    match *data {
        RecordData::A(address) => RData::A(address.into()),
        RecordData::Aaaa(address) => RData::AAAA(address.into()),
        RecordData::Cname(target) => RData::CNAME(rdata::CNAME(wire_name(target.as_str()))),
        RecordData::Srv(port, target) => RData::SRV(rdata::SRV::new(0, 0, port, wire_name(target.as_str()))),
        // A string of a text holds 255 bytes at most (RFC 1035 §3.3).
        RecordData::Txt("") => RData::TXT(rdata::TXT::new(vec![String::new()])),
        RecordData::Txt(text) => RData::TXT(rdata::TXT::from_bytes(text.as_bytes().chunks(255).collect())),
        RecordData::Soa => {
            let [serial, refresh, retry, expire, minimum] = SOA_NUMBERS;
            let [refresh, retry, expire] =
                [refresh, retry, expire].map(|seconds| i32::try_from(seconds).expect("a month at most"));
            let (server, mailbox) = (wire_name(NAME_SERVERS[0]), wire_name(HOSTMASTER));
            RData::SOA(rdata::SOA::new(server, mailbox, serial, refresh, retry, expire, minimum))
        }
        RecordData::Ns(server) => RData::NS(rdata::NS(wire_name(server))),
    }
}

fn wire_code(code: Rcode) -> ResponseCode {
    match code {
        Rcode::NoError => ResponseCode::NoError,
        Rcode::FormErr => ResponseCode::FormErr,
        Rcode::ServFail => ResponseCode::ServFail,
        Rcode::NxDomain => ResponseCode::NXDomain,
        Rcode::NotImp => ResponseCode::NotImp,
        Rcode::Refused => ResponseCode::Refused,
        Rcode::BadVers => ResponseCode::BADVERS,
    }
}

#[cfg(test)]
mod tests {
    use hickory_server::proto::op::Message;

    use super::super::fixture::{self, REGIONAL};
    use super::*;

    #[test]
    fn a_reply_has_a_resolvers_flags_and_keeps_the_questions_spelling() {
        let asked = "pL-0-us-EAST-1-k45tj.mongodb.net.";
        let mut question = question(asked, RecordType::A);
        question.metadata.checking_disabled = true;
        let (_, message) = ask(&question, 1);
        let head = message.metadata;
        assert_eq!(
            (head.id, head.op_code, head.response_code),
            (question.metadata.id, OpCode::Query, ResponseCode::NoError)
        );
        assert!(!head.authoritative && head.recursion_available && head.recursion_desired && head.checking_disabled);
        assert!(!head.truncation && !head.authentic_data);
        assert!(message.edns.is_none());
        assert_eq!(message.queries[0].name().to_ascii(), asked);

        let regional = Name::from_ascii(format!("{REGIONAL}.")).expect("a name");
        let [alias, first, second] = &message.answers[..] else { panic!("{message}") };
        assert_eq!(alias.name.to_ascii(), asked);
        assert_eq!(alias.data, RData::CNAME(rdata::CNAME(regional.clone())));
        for (record, address) in [(first, [10, 0, 20, 54]), (second, [10, 0, 30, 194])] {
            assert_eq!((&record.name, record.ttl), (&regional, 60));
            assert_eq!(record.data, RData::A(std::net::Ipv4Addr::from(address).into()));
        }
    }

    #[test]
    fn a_negative_answer_has_the_soa_that_limits_its_time_in_caches() {
        let (_, message) = ask(&question("other.mongodb.net.", RecordType::A), 1);
        assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
        let soa = &message.authorities[0];
        assert_eq!((soa.name.to_ascii().as_str(), soa.ttl), ("mongodb.net.", 900));
        assert_eq!(
            soa.data.to_string(),
            "ns-1536.awsdns-00.co.uk. awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"
        );
    }

    #[test]
    fn records_are_cut_at_the_clients_payload_size_and_opt_never_is() {
        for (payload, bytes) in [(None, 512), (Some(100), 512), (Some(700), 700), (Some(4096), 1232)] {
            let mut question = question("_mongodb._tcp.big.mongodb.net.", RecordType::SRV);
            if let Some(payload) = payload {
                let mut edns = Edns::new();
                edns.set_max_payload(payload).set_dnssec_ok(true);
                question.set_edns(edns);
            }
            for seeds in 1..50 {
                let (length, message) = ask(&question, seeds);
                assert!(length <= bytes, "{length} of {bytes} bytes");
                assert_eq!(message.metadata.truncation, message.answers.len() < usize::from(seeds));
                assert!(!message.answers.is_empty());
                assert_eq!(message.edns.is_some(), payload.is_some(), "{seeds} seeds, {payload:?}");
                assert!(message.edns.is_none_or(|edns| !edns.flags().dnssec_ok), "nothing is signed");
            }
        }
    }

    #[test]
    fn a_long_text_is_one_record_of_several_strings() {
        let (_, message) = ask(&question("long.mongodb.net.", RecordType::TXT), 1);
        let RData::TXT(text) = &message.answers[0].data else { panic!("{message}") };
        let lengths: Vec<_> = text.txt_data.iter().map(|string| string.len()).collect();
        assert_eq!(lengths, [255, 45]);
    }

    #[test]
    fn a_question_that_points_elsewhere_is_malformed_and_not_repeated() {
        let mut bytes = question("mongodb.net.", RecordType::A).to_vec().expect("a message");
        // The pointer leads to the id, which is the root's name here.
        bytes.truncate(12);
        bytes[..2].fill(0);
        bytes.extend([0xc0, 0, 0, 1, 0, 1]);
        let (length, message) = reply_to(&bytes, 1).expect("a reply");
        assert_eq!((length, message.metadata.response_code), (12, ResponseCode::FormErr));
    }

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        message
    }

    fn ask(question: &Message, seeds: u16) -> (usize, Message) {
        reply_to(&question.to_vec().expect("a message"), seeds).expect("a reply")
    }

    fn reply_to(message: &[u8], seeds: u16) -> Option<(usize, Message)> {
        let view = fixture::with_srv(fixture::view(), "_mongodb._tcp.big.mongodb.net", seeds);
        let bytes = reply(message, ([10, 0, 1, 1], 4242).into(), &view, &DnsSettings::default())?;
        Some((bytes.len(), Message::from_vec(&bytes).expect("a whole message")))
    }
}
