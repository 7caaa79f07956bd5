//! The PROXY protocol: the header in front of a flow that names the client.
//!
//! Written by hand; `ppp` 2.3 was tried. It treats everything after the fixed part of an UNSPEC header as addresses, so
//! the TLVs (the endpoint's id, the checksum) cannot be read; it refuses LOCAL headers of an unknown family, which the
//! specification requires to be accepted; and it has no support for the checksum, MongoDB's limits or AWS's TLVs.
//!
//! [`encode`] writes version 2 as the network load balancer does, with the interface endpoint's id in a TLV of AWS's own
//! (*Edit target group attributes*, Proxy protocol); [`parse`] reads versions 1 and 2 with the limits of MongoDB's own
//! parser. Sources: the specification in HAProxy's `doc/proxy-protocol.txt`; AWS's parser test with a header captured
//! from a load balancer (`elastic-load-balancing-tools`, `Compatibility_AwsNetworkLoadBalancerTest`).
//!
//! A header is only as trustworthy as its path: the load balancer puts its own in front of everything that the client
//! sends, so a client's forged header comes second and is payload.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::model::{Cloud, VpceId};

/// The signature of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The start of a version 1 header.
const V1_START: &[u8] = b"PROXY ";
/// Signature, version and command, family and transport, length of the rest.
const FIXED: usize = 16;
/// Bytes after the fixed part in the one header of AWS's that is published: a NOOP TLV pads to this length.
///
/// Unconfirmed for headers without an endpoint id and for IPv6, as no capture is published. Both fit in 84 bytes, so
/// the same padding is used.
const PADDED: usize = 84;
/// Longest accepted version 2 header in total: MongoDB's limit (`proxy_protocol_header_parser.cpp`).
const V2_LIMIT: usize = 536;
/// Longest version 1 header, with its CRLF: the specification's limit.
const V1_LIMIT: usize = 107;

const TLV_CRC32C: u8 = 0x03;
const TLV_NOOP: u8 = 0x04;
const TLV_AWS: u8 = 0xEA;
const TLV_AZURE: u8 = 0xEE;
const TLV_GCP: u8 = 0xE0;
/// `PP2_SUBTYPE_AZURE_PRIVATEENDPOINT_LINKID`.
const AZURE_LINK_ID: u8 = 0x01;
/// `PP2_SUBTYPE_AWS_VPCE_ID`.
const AWS_VPCE_ID: u8 = 0x01;

/// Length of every header that [`encode`] writes.
pub const HEADER_LEN: usize = FIXED + PADDED;
/// Length of the header that [`local`] writes.
pub const LOCAL_LEN: usize = FIXED;

/// Encodes the header of a client's flow, byte for byte as the network load balancer does for IPv4.
///
/// `destination` is the address that `client` connected to (of the endpoint's network interface). IPv4-mapped addresses
/// count as IPv4; if only one of the two is IPv4, it is written as an IPv4-mapped address.
#[must_use]
pub fn encode(client: SocketAddr, destination: SocketAddr, vpce: Option<&VpceId>) -> [u8; HEADER_LEN] {
    let mut out = HeaderWriter { bytes: [0; HEADER_LEN], at: 0 };
    out.put(&SIGNATURE);
    out.put(&[0x21]);
    match (client.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            out.put(&[0x11, 0, PADDED as u8]);
            out.put(&source.octets());
            out.put(&target.octets());
        }
        (source, target) => {
            out.put(&[0x21, 0, PADDED as u8]);
            out.put(&as_v6(source).octets());
            out.put(&as_v6(target).octets());
        }
    }
    out.put(&client.port().to_be_bytes());
    out.put(&destination.port().to_be_bytes());
    out.put(&[TLV_CRC32C, 0, 4]);
    let checksum = out.at;
    out.put(&[0; 4]);
    if let Some(id) = vpce {
        put_endpoint(&mut out, id);
    }
    let padding = HEADER_LEN - out.at - 3;
    out.put(&[TLV_NOOP, 0, padding as u8]);
    let sum = crc32c::crc32c(&out.bytes);
    out.bytes[checksum..checksum + 4].copy_from_slice(&sum.to_be_bytes());
    out.bytes
}

/// Writes the cloud's TLV that identifies an endpoint: AWS's id, Azure's link id (four bytes, little-endian), Google's
/// `pscConnectionId` (eight bytes, network order). Source: Azure, *What is Azure Private Link service?*; Google, *About
/// published services*. The numbers are derived from the endpoint's id, so they do not change between starts.
fn put_endpoint<const N: usize>(out: &mut HeaderWriter<N>, id: &VpceId) {
    let number = || ring::digest::digest(&ring::digest::SHA256, id.as_str().as_bytes());
    match id.cloud() {
        None => {
            let id = id.as_str().as_bytes();
            out.put(&[TLV_AWS, 0, 1 + id.len() as u8, AWS_VPCE_ID]);
            out.put(id);
        }
        Some(Cloud::Azure) => {
            out.put(&[TLV_AZURE, 0, 5, AZURE_LINK_ID]);
            out.put(&number().as_ref()[..4]);
        }
        Some(Cloud::Gcp) => {
            out.put(&[TLV_GCP, 0, 8]);
            out.put(&number().as_ref()[..8]);
        }
    }
}

/// The header of a health probe: LOCAL, without a client.
///
/// With the attribute on, the load balancer's probes start with "a header without client information" (*Edit target
/// group attributes*); its bytes are not published. LOCAL without addresses is the form of the specification.
#[must_use]
pub fn local() -> [u8; LOCAL_LEN] {
    let mut out = HeaderWriter { bytes: [0; LOCAL_LEN], at: 0 };
    out.put(&SIGNATURE);
    out.put(&[0x20, 0, 0, 0]);
    out.bytes
}

/// The result of parsing the first bytes of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Incomplete,
    /// A valid header.
    Header(Header),
    /// Not a valid header, with the reason. The connection should be closed, as the specification forbids guessing.
    Invalid(String),
}

/// A parsed header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Length in bytes; payload starts after it.
    pub len: usize,
    /// Whether the header describes a client.
    pub command: Command,
    /// The client, where the header names an IP address.
    pub source: Option<SocketAddr>,
    /// The address that the client connected to, where the header names an IP address.
    pub destination: Option<SocketAddr>,
    /// The interface endpoint that the client came through.
    pub vpce: Option<VpceId>,
}

/// The client of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// The load balancer itself, for a health probe. The header's addresses are ignored.
    Local,
    /// The client that the header names.
    Proxy,
}

/// Parses the header at the start of `bytes`, of version 1 or 2.
///
/// Strict: a wrong checksum, a truncated TLV and a length beyond the limits are [`Parsed::Invalid`]. TLVs of unknown
/// types are skipped, as the specification requires. More bytes never change a result other than
/// [`Parsed::Incomplete`].
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    let result = if starts_like(bytes, &SIGNATURE) {
        parse_v2(bytes)
    } else if starts_like(bytes, V1_START) {
        parse_v1(bytes)
    } else {
        Err("the connection does not start with a PROXY protocol header".to_owned())
    };
    match result {
        Ok(Some(header)) => Parsed::Header(header),
        Ok(None) => Parsed::Incomplete,
        Err(reason) => Parsed::Invalid(reason),
    }
}

/// Whether one of `bytes` and `start` is a prefix of the other.
fn starts_like(bytes: &[u8], start: &[u8]) -> bool {
    let shared = bytes.len().min(start.len());
    bytes[..shared] == start[..shared]
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, String> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(None);
    };
    if fixed[12] >> 4 != 2 {
        return Err(format!("version {} in a PROXY protocol header, expected 2", fixed[12] >> 4));
    }
    let command = match fixed[12] & 0x0F {
        0 => Command::Local,
        1 => Command::Proxy,
        other => {
            return Err(format!("command {other} in a PROXY protocol header, expected 0 (LOCAL) or 1 (PROXY)"));
        }
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let len = FIXED + length;
    if len > V2_LIMIT {
        return Err(format!("a PROXY protocol header of {len} bytes, expected at most {V2_LIMIT}"));
    }
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    if command == Command::Local {
        return Ok(Some(Header { len, command, source: None, destination: None, vpce: None }));
    }
    let (source, destination, taken) = addresses(fixed[13], body)?;
    let vpce = tlvs(&bytes[..len], FIXED + taken)?;
    Ok(Some(Header { len, command, source, destination, vpce }))
}

/// Client, destination, and the length of the address block.
type Addresses = (Option<SocketAddr>, Option<SocketAddr>, usize);

fn addresses(family: u8, body: &[u8]) -> Result<Addresses, String> {
    let length = body.len();
    let cut = || format!("a PROXY protocol header with {length} bytes after the fixed part, too few for its addresses");
    let unknown = || Err(format!("address family and transport {family:#04x} in a PROXY protocol header do not exist"));
    if family & 0x0F > 2 {
        return unknown();
    }
    match family >> 4 {
        0 => Ok((None, None, 0)),
        1 => {
            let (block, _) = body.split_first_chunk::<12>().ok_or_else(cut)?;
            let ip = |at: usize| Ipv4Addr::new(block[at], block[at + 1], block[at + 2], block[at + 3]);
            let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
            Ok((Some((ip(0), port(8)).into()), Some((ip(4), port(10)).into()), 12))
        }
        2 => {
            let (block, _) = body.split_first_chunk::<36>().ok_or_else(cut)?;
            let mut ips = block.as_chunks::<16>().0.iter().map(|octets| Ipv6Addr::from(*octets));
            let mut ip = || ips.next().unwrap_or(Ipv6Addr::UNSPECIFIED);
            let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
            Ok((Some((ip(), port(32)).into()), Some((ip(), port(34)).into()), 36))
        }
        // UNIX socket paths, 108 bytes each: no network address.
        3 if body.len() >= 216 => Ok((None, None, 216)),
        3 => Err(cut()),
        _ => unknown(),
    }
}

/// Walks the TLVs of `header` from `at` on: checks the checksum, returns the interface endpoint's id.
fn tlvs(header: &[u8], mut at: usize) -> Result<Option<VpceId>, String> {
    let mut checksum = None;
    let mut vpce = None;
    while at < header.len() {
        let kind = header[at];
        let start = at + 3;
        let cut = || format!("a TLV of type {kind:#04x} runs past the end of a PROXY protocol header");
        let twice = || Err(format!("a second TLV of type {kind:#04x} in a PROXY protocol header"));
        let length = header.get(at + 1..start).ok_or_else(cut)?;
        at = start + usize::from(u16::from_be_bytes([length[0], length[1]]));
        let value = header.get(start..at).ok_or_else(cut)?;
        match (kind, value) {
            (TLV_CRC32C, value) => {
                let found: [u8; 4] = value.try_into().map_err(|_| {
                    format!("a checksum of {} bytes in a PROXY protocol header, expected 4", value.len())
                })?;
                if checksum.replace((start, u32::from_be_bytes(found))).is_some() {
                    return twice();
                }
            }
            (TLV_AWS, [AWS_VPCE_ID, id @ ..]) => {
                let text = String::from_utf8_lossy(id);
                let id = text
                    .parse::<VpceId>()
                    .map_err(|_| format!("`{text}` in a PROXY protocol header is not an interface endpoint id"))?;
                if vpce.replace(id).is_some() {
                    return twice();
                }
            }
            _ => {}
        }
    }
    if let Some((place, found)) = checksum {
        let computed = crc32c::crc32c(&header[..place]);
        let computed = crc32c::crc32c_append(computed, &[0; 4]);
        let computed = crc32c::crc32c_append(computed, &header[place + 4..]);
        if computed != found {
            return Err(format!("a PROXY protocol header with checksum {found:08x}, its bytes give {computed:08x}"));
        }
    }
    Ok(vpce)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, String> {
    let window = &bytes[..bytes.len().min(V1_LIMIT)];
    let invalid = |line: &[u8]| format!("`{}` is not a PROXY protocol version 1 line", String::from_utf8_lossy(line));
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() == V1_LIMIT { Err(invalid(window)) } else { Ok(None) };
    };
    let line = &window[..end];
    let text = std::str::from_utf8(line).map_err(|_| invalid(line))?;
    let mut words = text.split(' ').skip(1);
    let header =
        |source, destination| Header { len: end + 2, command: Command::Proxy, source, destination, vpce: None };
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(Some(header(None, None)));
    }
    let words: Vec<&str> = words.collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Err(invalid(line));
    };
    let ip = |text: &str| {
        let ip = text.parse::<IpAddr>().ok()?;
        (family == Some(if ip.is_ipv4() { "TCP4" } else { "TCP6" })).then_some(ip)
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    match (ip(source), ip(destination), port(source_port), port(destination_port)) {
        (Some(source), Some(destination), Some(source_port), Some(destination_port)) => {
            let source = SocketAddr::new(source, source_port);
            Ok(Some(header(Some(source), Some(SocketAddr::new(destination, destination_port)))))
        }
        _ => Err(invalid(line)),
    }
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Writes a header from its start; the rest is zero.
struct HeaderWriter<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> HeaderWriter<N> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The header that AWS's own parser test has, with the checksum that its bytes give.
    const CAPTURED: &str = "0d0a0d0a000d0a515549540a21110054ac1f0771ac1f0a1fc8f20050030004e8d6892d\
        ea001701767063652d3038643262663135666163353030316339040024\
        000000000000000000000000000000000000000000000000000000000000000000000000";

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pairs = digits.as_chunks::<2>().0.iter();
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    /// A30: each cloud names its endpoints in its own way, behind the checksum.
    #[test]
    fn other_clouds_say_the_endpoint_by_their_own_numbers() {
        let at = |text: &str| text.parse::<SocketAddr>().expect(text);
        for (id, start) in [
            (
                "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/pe0",
                [0xEE_u8, 0, 5, 1].as_slice(),
            ),
            ("projects/p/regions/us-central1/forwardingRules/psc", &[0xE0, 0, 8]),
        ] {
            let bytes = encode(at("10.4.0.9:51222"), at("10.4.0.4:1024"), Some(&vpce(id)));
            assert_eq!(&bytes[FIXED + 12 + 7..][..start.len()], start, "{id}");
            assert!(matches!(parse(&bytes), Parsed::Header(header) if header.vpce.is_none()), "{id}");
        }
    }

    fn vpce(text: &str) -> VpceId {
        text.parse().expect(text)
    }

    fn header(bytes: &[u8]) -> Header {
        match parse(bytes) {
            Parsed::Header(header) => header,
            other => panic!("no header: {other:?}"),
        }
    }

    fn reason(bytes: &[u8]) -> String {
        match parse(bytes) {
            Parsed::Invalid(reason) => reason,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_header_is_byte_for_byte_the_one_that_aws_publishes() {
        let id = vpce("vpce-08d2bf15fac5001c9");
        let bytes = encode(at("172.31.7.113:51442"), at("172.31.10.31:80"), Some(&id));
        assert_eq!(bytes.len(), 100);
        assert_eq!(bytes.to_vec(), hex(CAPTURED));
    }

    #[test]
    fn the_published_header_reads_back() {
        let bytes = [hex(CAPTURED), b"payload".to_vec()].concat();
        assert_eq!(
            header(&bytes),
            Header {
                len: 100,
                command: Command::Proxy,
                source: Some(at("172.31.7.113:51442")),
                destination: Some(at("172.31.10.31:80")),
                vpce: Some(vpce("vpce-08d2bf15fac5001c9")),
            }
        );
    }

    #[test]
    fn an_independent_decoder_reads_the_output() {
        for (client, destination, id) in [
            ("10.0.3.9:51222", "10.0.30.194:1024", Some(vpce("vpce-024f5b57108c8d3ed"))),
            ("10.0.3.9:51222", "10.0.30.194:1024", Some(vpce("vpce-0123abcd"))),
            ("10.0.3.9:1", "10.0.30.194:65535", None),
            ("[2001:db8::9]:51222", "[2001:db8::1]:1024", Some(vpce("vpce-024f5b57108c8d3ed"))),
        ] {
            let (client, destination) = (at(client), at(destination));
            let bytes = encode(client, destination, id.as_ref());
            let seen = ppp::v2::Header::try_from(&bytes[..]).expect("ppp takes the header");
            assert_eq!(seen.addresses, ppp::v2::Addresses::from((client, destination)));
            let tlvs: Vec<_> = seen.tlvs().collect::<Result<_, _>>().expect("whole TLVs");
            let of = |kind: u8| tlvs.iter().find(|tlv| tlv.kind == kind).map(|tlv| tlv.value.to_vec());
            let value = id.map(|id| [&[AWS_VPCE_ID], id.as_str().as_bytes()].concat());
            assert_eq!(of(TLV_AWS), value);
            assert_eq!(of(TLV_CRC32C).map(|sum| sum.len()), Some(4));
            assert!(of(TLV_NOOP).is_some_and(|padding| padding.iter().all(|byte| *byte == 0)));
        }
    }

    #[test]
    fn a_mixed_pair_of_families_is_written_as_ipv6() {
        let bytes = encode(at("10.0.3.9:5"), at("[2001:db8::1]:6"), None);
        assert_eq!(header(&bytes).source, Some(at("[::ffff:10.0.3.9]:5")));
        let both_mapped = encode(at("[::ffff:10.0.3.9]:5"), at("[::ffff:10.0.3.1]:6"), None);
        assert_eq!(header(&both_mapped).source, Some(at("10.0.3.9:5")));
    }

    #[test]
    fn a_probe_has_no_client_address() {
        let bytes = local();
        assert_eq!(bytes.to_vec(), hex("0d0a0d0a000d0a515549540a20000000"));
        let seen = header(&bytes);
        assert_eq!((seen.len, seen.command, seen.source), (16, Command::Local, None));
        assert_eq!(ppp::v2::Header::try_from(&bytes[..]).map(|seen| seen.command), Ok(ppp::v2::Command::Local));
    }

    #[test]
    fn a_local_header_is_skipped_whole_whatever_it_holds() {
        let bytes = hex("0d0a0d0a000d0a515549540a20ff0005ffffffffff");
        assert_eq!(header(&bytes).len, 21);
    }

    #[test]
    fn one_flipped_bit_in_a_header_is_refused() {
        let whole = hex(CAPTURED);
        // At 28 is the checksum's type: flipped, it is a TLV of another type, and the header has no checksum.
        for byte in (16..whole.len()).filter(|byte| *byte != 28) {
            let mut changed = whole.clone();
            changed[byte] ^= 0x10;
            assert!(matches!(parse(&changed), Parsed::Invalid(_)), "byte {byte}");
        }
    }

    #[test]
    fn headers_against_the_rules_are_refused_by_name() {
        let v2 = |rest: &str| hex(&format!("0d0a0d0a000d0a515549540a{rest}"));
        let twice = "ea000e01767063652d3031323361626364";
        for (bytes, expected) in [
            (b"GET / HTTP/1.1\r\n".to_vec(), "does not start with"),
            (v2("31110000"), "version 3"),
            (v2("22110000"), "command 2"),
            (v2("21410000"), "transport 0x41"),
            (v2("21130000"), "transport 0x13"),
            (v2("21110209"), "header of 537 bytes"),
            (v2("21110004ac1f0771"), "with 4 bytes"),
            (v2("211100027f00"), "with 2 bytes"),
            (v2("21000005ea00170176"), "type 0xea runs past"),
            (v2("21000001ea"), "type 0xea runs past"),
            (v2("2100000403000100"), "checksum of 1 bytes"),
            (v2("21000005ea00020178"), "`x`"),
            (v2(&format!("21000022{twice}{twice}")), "second TLV of type 0xea"),
        ] {
            let reason = reason(&bytes);
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn a_version_1_line_is_read_by_its_grammar() {
        let seen = header(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET");
        assert_eq!((seen.len, seen.source), (45, Some(at("192.0.2.1:56324"))));
        assert_eq!(seen.destination, Some(at("198.51.100.2:443")));
        assert_eq!(header(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n").source, Some(at("[2001:db8::1]:1")));
        assert_eq!(header(b"PROXY UNKNOWN what ever\r\n").source, None);
        assert_eq!(parse(b"PROXY TCP4 192.0.2.1"), Parsed::Incomplete);
        for wrong in [
            "PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
            "PROXY TCP4 192.0.2.1  198.51.100.2 56324 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 56324 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        ] {
            assert!(reason(wrong.as_bytes()).contains("version 1 line"), "{wrong}");
        }
        assert!(reason(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat()).contains("version 1 line"));
    }

    #[test]
    fn every_cut_of_a_header_asks_for_more() {
        let whole = hex(CAPTURED);
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), Parsed::Incomplete, "{len} bytes");
        }
    }

    fn any_address() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
    }

    proptest! {
        #[test]
        fn written_headers_parse_to_the_same_value(client in any_address(), destination in any_address(), id in "vpce-([0-9a-f]{8}|[0-9a-f]{17})") {
            let id = vpce(&id);
            let seen = header(&encode(client, destination, Some(&id)));
            let plain = |address: Option<SocketAddr>| address.map(|a| (a.ip().to_canonical(), a.port()));
            prop_assert_eq!(plain(seen.source), Some((client.ip(), client.port())));
            prop_assert_eq!(plain(seen.destination), Some((destination.ip(), destination.port())));
            prop_assert_eq!(seen.vpce, Some(id));
            prop_assert_eq!(seen.len, HEADER_LEN);
        }

        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..700), signed in any::<bool>()) {
            let bytes = if signed { [SIGNATURE.as_slice(), &[0x21, 0x11, 0, 80], &noise].concat() } else { noise };
            if let Parsed::Header(header) = parse(&bytes) {
                prop_assert!(header.len <= bytes.len());
            }
        }

        #[test]
        fn a_noisy_line_never_panics(line in "PROXY [A-Z0-9 .:\r\n]{0,120}") {
            if let Parsed::Header(header) = parse(line.as_bytes()) {
                prop_assert!(line[..header.len].ends_with("\r\n"));
            }
        }
    }
}
