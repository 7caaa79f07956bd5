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
            Data::Txt(text) if text.is_empty() => self.out.push(0),
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
