//! Puts an answer into the bytes of a message (RFC 1035 §4), into a buffer that is used again and again.
//!
//! The library's own encoder would do, but it keeps a copied key for every suffix that it might compress against, and
//! wants every name as a type of its own: dozens of allocations for three SRV records. This one allocates nothing, and
//! points record owners at the question, so that they carry the client's own spelling (0x20).

use super::answer::{HOSTMASTER, NAME_SERVERS, SOA_NUMBERS};
use super::{Answer, Code, Data, Owner, Record, ViewKind};

/// Largest UDP payload sent, and the one advertised: it fits one packet on every path of IPv6 (1280 less 48 bytes of
/// headers), so no answer is ever lost as a fragment. DNS flag day 2020.
pub(super) const UDP_PAYLOAD: u16 = 1232;

/// Largest UDP answer to a client that does not say what it can take (RFC 1035 §4.2.1).
const PLAIN_UDP_PAYLOAD: u16 = 512;

/// How long a message may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit(u16);

impl Limit {
    /// Over TCP, as long as its length prefix can say.
    pub(super) const TCP: Self = Self(u16::MAX);

    /// Over UDP, for a client whose OPT record, if it sent one, advertises `payload`.
    pub(super) fn udp(payload: Option<u16>) -> Self {
        Self(payload.unwrap_or(PLAIN_UDP_PAYLOAD).clamp(PLAIN_UDP_PAYLOAD, UDP_PAYLOAD))
    }

    /// In bytes.
    pub(super) fn bytes(self) -> u16 {
        self.0
    }
}

/// What a reply repeats of its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Echo<'r> {
    /// The request's id.
    pub(super) id: u16,
    /// Its operation.
    pub(super) opcode: u8,
    /// Recursion desired.
    pub(super) recursion_desired: bool,
    /// Checking disabled.
    pub(super) checking_disabled: bool,
    /// The question's bytes, as they came, and its name as text; `None` when it was not understood.
    pub(super) question: Option<(&'r [u8], &'r str)>,
    /// The DO bit, when the request has an OPT record: then the reply has one too (RFC 6891 §6.1.1, RFC 3225 §3).
    pub(super) edns: Option<bool>,
}

const HEADER_BYTES: usize = 12;
const OPT_BYTES: usize = 11;
const CLASS_IN: u16 = 1;
const TYPE_OPT: u16 = 41;

/// Writes the reply behind whatever `out` holds, at most `limit` bytes.
///
/// It looks like a resolver's: RA set, AA not (`nslookup` says *Non-authoritative answer*). Records that do not fit are
/// cut off at a record's boundary and TC is set, so that clients ask again over TCP; what fits is left in, because old
/// clients that cannot (musl before 1.2.4) still connect with a part of the addresses.
pub(super) fn encode(out: &mut Vec<u8>, echo: &Echo<'_>, answer: &Answer<'_>, limit: Limit) {
    let start = out.len();
    let opt = if echo.edns.is_some() { OPT_BYTES } else { 0 };
    let mut writer =
        Writer { end: start + usize::from(limit.bytes()) - opt, start, out, seen: [("", 0); 24], known: 0 };
    writer.out.resize(start + HEADER_BYTES, 0);
    if let Some((bytes, name)) = echo.question {
        writer.question(bytes, name);
    }
    let answers = answer.records.iter().take_while(|record| writer.record(record)).count();
    let mut truncated = answers < answer.records.len();
    let mut authorities = 0;
    if let Some(soa) = answer.authority.as_ref().filter(|_| !truncated) {
        authorities = usize::from(writer.record(soa));
        truncated = authorities == 0;
    }
    let code = answer.code.number();
    if let Some(dnssec_ok) = echo.edns {
        writer.opt(code, dnssec_ok);
    }

    let flags = 0x8000
        | u16::from(echo.opcode & 0xf) << 11
        | u16::from(truncated) << 9
        | u16::from(echo.recursion_desired) << 8
        | 0x0080
        | u16::from(echo.checking_disabled) << 4
        | (code & 0xf);
    let count = |records: usize| u16::try_from(records).expect("a message of 64 KiB has fewer records");
    let head = [
        echo.id,
        flags,
        u16::from(echo.question.is_some()),
        count(answers),
        count(authorities),
        u16::from(echo.edns.is_some()),
    ];
    for (slot, field) in out[start..start + HEADER_BYTES].chunks_exact_mut(2).zip(head) {
        slot.copy_from_slice(&field.to_be_bytes());
    }
}

/// Writes the reply to a message of which only the header was understood; `packet` has at least that.
pub(super) fn encode_error(out: &mut Vec<u8>, packet: &[u8], code: Code) {
    let echo = Echo {
        id: u16::from_be_bytes([packet[0], packet[1]]),
        opcode: packet[2] >> 3 & 0xf,
        recursion_desired: packet[2] & 1 != 0,
        checking_disabled: packet[3] & 0x10 != 0,
        question: None,
        edns: None,
    };
    encode(out, &echo, &Answer::of(ViewKind::None, code), Limit(PLAIN_UDP_PAYLOAD));
}

/// Appends parts of a message and remembers where names stand.
struct Writer<'o, 'n> {
    out: &'o mut Vec<u8>,
    /// Where the message starts in `out`.
    start: usize,
    /// Where it must have ended.
    end: usize,
    /// Names already written, whole or from one of their labels on, by offset.
    seen: [(&'n str, u16); 24],
    known: usize,
}

impl<'n> Writer<'_, 'n> {
    fn question(&mut self, bytes: &[u8], name: &'n str) {
        // A label's length byte stands where the dot before it stands in the text.
        let mut at = 0;
        for label in name.split('.').filter(|label| !label.is_empty()) {
            self.remember(&name[at..], HEADER_BYTES + at);
            at += label.len() + 1;
        }
        self.out.extend_from_slice(bytes);
    }

    /// Adds a record; `false`, with nothing added, when it does not fit.
    fn record(&mut self, record: &Record<'n>) -> bool {
        let rollback = self.out.len();
        match record.owner {
            Owner::Question => self.u16(0xc000 | u16::try_from(HEADER_BYTES).expect("twelve")),
            Owner::Name(name) => self.name(name.as_str()),
        }
        self.u16(type_code(&record.data));
        self.u16(CLASS_IN);
        self.u32(record.ttl);
        let length_at = self.out.len();
        self.u16(0);
        self.data(&record.data);
        if self.out.len() > self.end {
            // Names remembered from here on are not pointed at again: nothing follows but OPT.
            self.out.truncate(rollback);
            return false;
        }
        let length = u16::try_from(self.out.len() - length_at - 2).expect("the whole message is shorter");
        self.out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        true
    }

    fn data(&mut self, data: &Data<'n>) {
        match *data {
            Data::A(address) => self.out.extend_from_slice(&address.octets()),
            Data::Aaaa(address) => self.out.extend_from_slice(&address.octets()),
            Data::Cname(target) => self.name(target.as_str()),
            Data::Srv(port, target) => {
                self.u32(0);
                self.u16(port);
                // Never compressed (RFC 2782).
                self.plain_name(target.as_str());
            }
            Data::Txt("") => self.out.push(0),
            Data::Txt(text) => {
                for string in text.as_bytes().chunks(255) {
                    self.out.push(u8::try_from(string.len()).expect("at most 255"));
                    self.out.extend_from_slice(string);
                }
            }
            Data::Soa => {
                self.name(NAME_SERVERS[0]);
                self.name(HOSTMASTER);
                for number in SOA_NUMBERS {
                    self.u32(number);
                }
            }
            Data::Ns(server) => self.name(server),
        }
    }

    fn opt(&mut self, code: u16, dnssec_ok: bool) {
        self.out.push(0);
        self.u16(TYPE_OPT);
        self.u16(UDP_PAYLOAD);
        self.u32(u32::from(code >> 4) << 24 | u32::from(dnssec_ok) << 15);
        self.u16(0);
    }

    /// A name, ending in a pointer where its end was written before (RFC 1035 §4.1.4).
    fn name(&mut self, name: &'n str) {
        let mut rest = name;
        while !rest.is_empty() {
            if let Some((_, offset)) = self.seen[..self.known].iter().find(|(seen, _)| *seen == rest) {
                self.u16(0xc000 | offset);
                return;
            }
            self.remember(rest, self.out.len() - self.start);
            let (label, tail) = rest.split_once('.').unwrap_or((rest, ""));
            self.label(label);
            rest = tail;
        }
        self.out.push(0);
    }

    fn plain_name(&mut self, name: &str) {
        for label in name.split('.') {
            self.label(label);
        }
        self.out.push(0);
    }

    fn label(&mut self, label: &str) {
        self.out.push(u8::try_from(label.len()).expect("a DnsName's labels have at most 63 bytes"));
        self.out.extend_from_slice(label.as_bytes());
    }

    fn remember(&mut self, name: &'n str, offset: usize) {
        if let (Some(slot), Ok(offset @ ..0x4000)) = (self.seen.get_mut(self.known), u16::try_from(offset)) {
            *slot = (name, offset);
            self.known += 1;
        }
    }

    fn u16(&mut self, number: u16) {
        self.out.extend_from_slice(&number.to_be_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.out.extend_from_slice(&number.to_be_bytes());
    }
}

fn type_code(data: &Data<'_>) -> u16 {
    match data {
        Data::A(_) => 1,
        Data::Ns(_) => 2,
        Data::Cname(_) => 5,
        Data::Soa => 6,
        Data::Txt(_) => 16,
        Data::Aaaa(_) => 28,
        Data::Srv(..) => 33,
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, OpCode, ResponseCode};
    use hickory_proto::rr::{Name, RData, RecordType};

    use super::super::fixture::{self, REGIONAL};
    use super::super::{DnsOptions, Kind, Question, answer};
    use super::*;

    /// The question's bytes: `name` in its own spelling, type and class.
    fn question_bytes(name: &str, kind: RecordType) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).expect("a label"));
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend_from_slice(&u16::from(kind).to_be_bytes());
        bytes.extend_from_slice(&1u16.to_be_bytes());
        bytes
    }

    fn reply(name: &str, kind: RecordType, edns: Option<bool>, limit: Limit, seeds: u16) -> (usize, Message) {
        let bytes = question_bytes(name, kind);
        let name = name.to_ascii_lowercase();
        let view = fixture::with_srv(fixture::view(), "_mongodb._tcp.big.mongodb.net", seeds);
        let question = Question { name: &name, kind: Kind::from_code(kind.into()) };
        let given = answer(&question, [10, 0, 1, 1].into(), &view, &DnsOptions::default(), 0);
        let question = Some((bytes.as_slice(), name.as_str()));
        let echo = Echo { id: 7, opcode: 0, recursion_desired: true, checking_disabled: true, question, edns };
        // Something before it, as the length is over TCP: offsets count from the message's start.
        let mut out = vec![0xff; 2];
        encode(&mut out, &echo, &given, limit);
        let message = Message::from_vec(&out[2..]).expect("a whole message");
        (out.len() - 2, message)
    }

    #[test]
    fn a_reply_looks_like_a_resolvers_and_keeps_the_questions_spelling() {
        let asked = "pL-0-us-EAST-1-k45tj.mongodb.net";
        let (_, message) = reply(asked, RecordType::A, None, Limit::udp(None), 1);
        let head = message.metadata;
        assert_eq!((head.id, head.op_code, head.response_code), (7, OpCode::Query, ResponseCode::NoError));
        assert!(!head.authoritative && head.recursion_available && head.recursion_desired && head.checking_disabled);
        assert!(!head.truncation && !head.authentic_data);
        assert!(message.edns.is_none());
        assert_eq!(message.queries[0].name().to_ascii(), format!("{asked}."));

        let regional = Name::from_ascii(format!("{REGIONAL}.")).expect("a name");
        let [alias, first, second] = &message.answers[..] else { panic!("{message}") };
        assert_eq!(alias.name.to_ascii(), format!("{asked}."));
        assert_eq!(alias.data, RData::CNAME(hickory_proto::rr::rdata::CNAME(regional.clone())));
        for (record, address) in [(first, [10, 0, 20, 54]), (second, [10, 0, 30, 194])] {
            assert_eq!((&record.name, record.ttl), (&regional, 60));
            assert_eq!(record.data, RData::A(std::net::Ipv4Addr::from(address).into()));
        }
    }

    #[test]
    fn an_absent_record_comes_with_the_soa_that_says_for_how_long() {
        let (_, message) = reply("other.mongodb.net", RecordType::A, None, Limit::udp(None), 1);
        assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
        let soa = &message.authorities[0];
        assert_eq!((soa.name.to_ascii().as_str(), soa.ttl), ("mongodb.net.", 900));
        assert_eq!(
            soa.data.to_string(),
            "ns-1536.awsdns-00.co.uk. awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"
        );
    }

    #[test]
    fn fifty_seeds_are_cut_over_udp_and_whole_over_tcp() {
        let asked = "_mongodb._tcp.big.mongodb.net";
        for (limit, edns, bytes) in [
            (Limit::udp(None), None, 512),
            (Limit::udp(Some(100)), Some(false), 512),
            (Limit::udp(Some(4096)), Some(true), 1232),
        ] {
            let (length, message) = reply(asked, RecordType::SRV, edns, limit, 50);
            assert!(message.metadata.truncation && length <= bytes, "{length} of {bytes}");
            assert!(!message.answers.is_empty() && message.answers.len() < 50);
            assert_eq!(message.edns.as_ref().map(|edns| edns.flags().dnssec_ok), edns, "OPT is never cut");
        }
        let (_, message) = reply(asked, RecordType::SRV, Some(false), Limit::TCP, 50);
        assert!(!message.metadata.truncation);
        let port = |record: &hickory_proto::rr::Record| match &record.data {
            RData::SRV(srv) => Some(srv.port),
            _ => None,
        };
        let ports: Vec<_> = message.answers.iter().filter_map(port).collect();
        assert_eq!(ports, (1024..1074).collect::<Vec<_>>());
    }

    #[test]
    fn a_long_text_is_one_record_of_several_strings() {
        let (_, message) = reply("long.mongodb.net", RecordType::TXT, None, Limit::udp(None), 1);
        let RData::TXT(text) = &message.answers[0].data else { panic!("{message}") };
        let lengths: Vec<_> = text.txt_data.iter().map(|string| string.len()).collect();
        assert_eq!(lengths, [255, 45]);
    }

    #[test]
    fn a_version_of_edns_to_come_is_refused_in_the_opt_record() {
        let bytes = question_bytes("mongodb.net", RecordType::A);
        let echo = Echo {
            id: 1,
            opcode: 0,
            recursion_desired: false,
            checking_disabled: false,
            question: Some((&bytes, "mongodb.net")),
            edns: Some(false),
        };
        let mut out = Vec::new();
        encode(&mut out, &echo, &Answer::of(ViewKind::None, Code::BadVers), Limit::udp(None));
        let message = Message::from_vec(&out).expect("a message");
        assert_eq!(u16::from(message.metadata.response_code), 16);
    }
}
