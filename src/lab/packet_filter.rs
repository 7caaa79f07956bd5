//! Closed ports: the load balancer drops packets to them, while a host's kernel would refuse them.
//!
//! So in the gateway's namespace a packet filter (nf_tables) drops all packets to an endpoint's address except
//! connections to its open ports: exactly the addresses on which the gateway listens. A port whose target refuses
//! counts as open, as the refusal is the target's. Configured over netlink, so no external program is needed.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use crate::model::IpFamily;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// The names in `nft list ruleset`.
const TABLE: &str = "plgw";
const CHAIN: &str = "endpoints";
const ADDRESSES: &str = "addresses";
const OPEN: &str = "open";

/// `linux/netlink.h`, `linux/netfilter/nfnetlink.h`: flags, the bounds of a batch, and the subsystem.
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NF_TABLES: u16 = 10;
const NESTED: u16 = 0x8000;
/// A response with the result of a message: `NLMSG_ERROR`.
const VERDICT: u16 = 2;

/// `linux/netfilter/nf_tables.h`: messages.
const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;
/// Attributes of lists and data.
const ELEMENT: u16 = 1;
const VALUE: u16 = 1;
/// Packet headers.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// The first register. Registers have four bytes; a key of several parts uses consecutive ones.
const FIRST: u32 = 8;
/// `NFT_META_L4PROTO`.
const PROTOCOL: u32 = 16;
const EQUAL: u32 = 0;
const UNEQUAL: u32 = 1;
const GREATER: u32 = 4;

const TCP: u8 = 6;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;

/// Maximum number of elements of one message, as an attribute's length has 16 bits.
const ELEMENTS: usize = 1000;

/// The packets of an address family, and the offsets of the inspected fields.
#[derive(Debug, Clone, Copy)]
struct HeaderLayout {
    family: IpFamily,
    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    number: u8,
    /// Offset and length of the destination address in the header.
    destination: (u32, u32),
    /// `nft`'s type of an address, used for printing: `ipv4_addr`, `ipv6_addr`.
    kind: u32,
    /// ICMP, ICMPv6.
    icmp: u8,
    /// The first dropped type, or the comparison. Of ICMP, the load balancer accepts type 3 only (*Listeners*,
    /// unintended traffic); the equivalent types of ICMPv6 are 1 and 2 (RFC 4443).
    unintended: (u32, u8),
}

impl HeaderLayout {
    const ALL: [Self; 2] = [
        Self { family: IpFamily::Ipv4, number: 2, destination: (16, 4), kind: 7, icmp: 1, unintended: (UNEQUAL, 3) },
        Self { family: IpFamily::Ipv6, number: 10, destination: (24, 16), kind: 8, icmp: 58, unintended: (GREATER, 2) },
    ];

    /// The register after an address.
    fn second(self) -> u32 {
        FIRST + self.destination.1 / 4
    }

    /// A register that no key uses.
    fn scratch(self) -> u32 {
        self.second() + 1
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The packet filter of the namespace in which it was created; it ends with the namespace.
#[derive(Debug)]
pub(super) struct PacketFilter {
    socket: OwnedFd,
    /// The address families of the endpoints.
    layouts: Vec<HeaderLayout>,
}

impl PacketFilter {
    /// Drops all packets to `endpoints`, until ports are opened.
    ///
    /// # Errors
    ///
    /// The kernel's, for example without nf_tables.
    pub(super) fn build(endpoints: impl Iterator<Item = IpAddr>) -> io::Result<Self> {
        let endpoints: Vec<IpAddr> = endpoints.collect();
        let has = |layout: &HeaderLayout| endpoints.iter().any(|ip| IpFamily::of(*ip) == layout.family);
        let layouts: Vec<HeaderLayout> = HeaderLayout::ALL.into_iter().filter(has).collect();
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
        let mut batch = NetfilterBatch::new();
        for layout in &layouts {
            Self::add_table(&mut batch, *layout, &endpoints);
        }
        let filter = Self { socket, layouts };
        filter.send(batch)?;
        Ok(filter)
    }

    fn add_table(batch: &mut NetfilterBatch, layout: HeaderLayout, endpoints: &[IpAddr]) {
        batch.family = layout.number;
        let ((destination, length), scratch) = (layout.destination, layout.scratch());
        batch.add(NEW_TABLE, CREATE, &[text(1, TABLE)]);
        // A hook on packets to this host, before its sockets; packets that match no rule are accepted.
        let hook = nest(4, &[word(1, 1), word(2, 0)]);
        batch.add(NEW_CHAIN, CREATE, &[text(1, TABLE), text(3, CHAIN), hook, word(5, 1), text(7, "filter")]);
        let kinds = [(ADDRESSES, length, layout.kind), (OPEN, length + 4, layout.kind << 6 | 13)];
        for (id, (name, length, kind)) in (1..).zip(kinds) {
            // The type is for `nft`'s output: ipv4_addr, ipv4_addr . inet_service.
            let set = [text(1, TABLE), text(2, name), word(3, 0), word(4, kind), word(5, length), word(10, id)];
            batch.add(NEW_SET, CREATE, &set);
        }
        let own = endpoints.iter().filter(|ip| IpFamily::of(**ip) == layout.family);
        batch.elements(ADDRESSES, own.map(|ip| octets(*ip)));
        let to_endpoint = [load(NETWORK, destination, length, FIRST), look_up(ADDRESSES, false)];
        let is = |protocol: u8, how: u32| [meta(PROTOCOL, scratch), compare(scratch, how, &[protocol])];
        let begins = [load(TRANSPORT, 13, 1, scratch), mask(scratch, SYN_ACK), compare(scratch, EQUAL, &[SYN])];
        let not_open = [load(TRANSPORT, 2, 2, layout.second()), look_up(OPEN, true)];
        let (how, kind) = layout.unintended;
        let unintended = [load(TRANSPORT, 0, 1, scratch), compare(scratch, how, &[kind])];
        for parts in [
            [&to_endpoint[..], &is(TCP, EQUAL), &begins, &not_open].concat(),
            [&to_endpoint[..], &is(layout.icmp, EQUAL), &unintended].concat(),
            [&to_endpoint[..], &is(TCP, UNEQUAL), &is(layout.icmp, UNEQUAL)].concat(),
        ] {
            let expressions = nest(4, &[parts, vec![drop_packet()]].concat());
            batch.add(NEW_RULE, CREATE | APPEND, &[text(1, TABLE), text(2, CHAIN), expressions]);
        }
    }

    /// Accepts connections to exactly the addresses `open`.
    ///
    /// # Errors
    ///
    /// The kernel's; the filter is unchanged.
    pub(super) fn open(&self, open: &BTreeSet<SocketAddr>) -> io::Result<()> {
        let mut batch = NetfilterBatch::new();
        for layout in &self.layouts {
            batch.family = layout.number;
            // Without elements: removes all.
            batch.add(DELETE_ELEMENTS, 0, &[text(1, TABLE), text(2, OPEN)]);
            let own = open.iter().filter(|address| IpFamily::of(address.ip()) == layout.family);
            let key = |to: &SocketAddr| [&octets(to.ip())[..], &to.port().to_be_bytes(), &[0, 0]].concat();
            batch.elements(OPEN, own.map(key));
        }
        self.send(batch)
    }

    /// Sends a batch, which is applied completely or not at all.
    fn send(&self, batch: NetfilterBatch) -> io::Result<()> {
        send(&self.socket, &batch.end(), SendFlags::empty())?;
        // The kernel has responded when `send` returns.
        let mut answers = vec![0; 64 << 10];
        loop {
            let n = match recv(&self.socket, &mut answers[..], RecvFlags::DONTWAIT) {
                Ok((n, _)) => n,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let mut rest = &answers[..n];
            while let Some((answer, more)) = next(rest) {
                rest = more;
                let code = i32::from_ne_bytes(answer[16..20].try_into().expect("four bytes"));
                if answer[4..6] == VERDICT.to_ne_bytes() && code != 0 {
                    return Err(io::Error::from_raw_os_error(-code));
                }
            }
        }
    }
}

/// The first message of `bytes`, if it is long enough for an error code, and the rest.
fn next(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let message = bytes.get(..length).filter(|_| length >= 20)?;
    Some((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// A batch of messages.
struct NetfilterBatch {
    bytes: Vec<u8>,
    /// The address family of the tables, as a number.
    family: u8,
}

impl NetfilterBatch {
    fn new() -> Self {
        let mut batch = Self { bytes: Vec::new(), family: 0 };
        batch.put(BATCH_BEGIN, 0, NF_TABLES, &[]);
        batch
    }

    fn add(&mut self, message: u16, flags: u16, attributes: &[Vec<u8>]) {
        self.put(NF_TABLES << 8 | message, flags | ACK, 0, &attributes.concat());
    }

    fn elements(&mut self, set: &str, keys: impl Iterator<Item = Vec<u8>>) {
        let keys: Vec<_> = keys.map(|key| nest(ELEMENT, &[data(1, &key)])).collect();
        for keys in keys.chunks(ELEMENTS) {
            self.add(NEW_ELEMENTS, CREATE, &[text(1, TABLE), text(2, set), nest(3, keys)]);
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.family = 0;
        self.put(BATCH_END, 0, NF_TABLES, &[]);
        self.bytes
    }

    /// `struct nlmsghdr`, `struct nfgenmsg`, attributes.
    fn put(&mut self, kind: u16, flags: u16, resource: u16, attributes: &[u8]) {
        let length = u32::try_from(20 + attributes.len()).expect("messages are far shorter");
        let bytes = &mut self.bytes;
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        // Neither a sequence number nor a port is needed, as there is one batch at a time.
        bytes.extend([0; 8]);
        bytes.extend([self.family, 0]);
        bytes.extend(resource.to_be_bytes());
        bytes.extend(attributes);
    }
}

/// `struct nlattr` and its value, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("attributes are shorter: lists are cut into chunks");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nest(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &parts.concat())
}

fn text(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

fn word(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn data(kind: u16, bytes: &[u8]) -> Vec<u8> {
    nest(kind, &[attribute(VALUE, bytes)])
}

fn expression(name: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    nest(ELEMENT, &[text(1, name), nest(2, parts)])
}

/// Reads `length` bytes of a header.
fn load(header: u32, offset: u32, length: u32, register: u32) -> Vec<u8> {
    expression("payload", &[word(1, register), word(2, header), word(3, offset), word(4, length)])
}

/// Continues if the key that begins in the first register is in the set (or, inverted, is not).
fn look_up(set: &str, inverted: bool) -> Vec<u8> {
    expression("lookup", &[text(1, set), word(2, FIRST), word(5, u32::from(inverted))])
}

fn meta(key: u32, register: u32) -> Vec<u8> {
    expression("meta", &[word(1, register), word(2, key)])
}

fn compare(register: u32, how: u32, bytes: &[u8]) -> Vec<u8> {
    expression("cmp", &[word(1, register), word(2, how), data(3, bytes)])
}

fn mask(register: u32, bits: u8) -> Vec<u8> {
    expression("bitwise", &[word(1, register), word(2, register), word(3, 1), data(4, &[bits]), data(5, &[0])])
}

/// Sets the verdict register to `NF_DROP`.
fn drop_packet() -> Vec<u8> {
    expression("immediate", &[word(1, 0), nest(2, &[nest(2, &[word(1, 0)])])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_count_their_own_length_without_the_padding() {
        assert_eq!(text(1, "plgw"), [&9_u16.to_ne_bytes()[..], &1_u16.to_ne_bytes(), b"plgw\0\0\0\0"].concat());
        let nested = nest(3, &[word(1, 7)]);
        assert_eq!(nested[..4], [&12_u16.to_ne_bytes()[..], &(NESTED | 3).to_ne_bytes()].concat());
        assert_eq!(nested[8..], [0, 0, 0, 7]);
    }

    #[test]
    fn many_ports_are_sent_in_several_messages_of_one_batch() {
        let mut batch = NetfilterBatch::new();
        batch.elements(OPEN, (0..2500_u32).map(|n| n.to_be_bytes().to_vec()));
        let bytes = batch.end();
        let mut kinds = Vec::new();
        let mut rest = &bytes[..];
        while let Some((message, more)) = next(rest) {
            kinds.push(u16::from_ne_bytes([message[4], message[5]]));
            rest = more;
        }
        let elements = NF_TABLES << 8 | NEW_ELEMENTS;
        assert_eq!(kinds, [BATCH_BEGIN, elements, elements, elements, BATCH_END]);
        assert_eq!(next(&bytes[..12]), None, "cut short");
    }
}
