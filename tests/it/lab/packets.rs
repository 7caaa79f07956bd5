//! Hand-made packets with any source, and captures of an interface.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// `ETH_P_ALL`, in network order as the kernel wants it.
const EVERY_PROTOCOL: i32 = 0x0003_u16.to_be() as i32;

/// `IPPROTO_RAW`: the sender writes the IP header.
const WITH_HEADER: i32 = 255;

/// The time to live of packets made here: what carries it anywhere was made here, or answers nothing of ours.
pub(super) const MARK: u8 = 77;

const ETHERNET_HEADER: usize = 14;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// A TCP segment with SYN.
    Syn,
    /// A UDP datagram.
    Udp,
}

/// Sends packets from the network namespace that it was made in, whatever their source.
pub(super) struct Forge(Socket);

impl Forge {
    pub(super) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(WITH_HEADER))).expect("root may");
        Self(socket)
    }

    /// Sends one packet on its way.
    pub(super) fn send(&self, transport: Transport, from: SocketAddrV4, to: SocketAddrV4) {
        let packet = packet(transport, from, to);
        self.0.send_to(&packet, &SockAddr::from(SocketAddrV4::new(*to.ip(), 0))).expect("there is a route");
    }
}

/// Everything that passes the interfaces of the network namespace that it was made in.
pub(super) struct Capture(Socket);

impl Capture {
    pub(super) fn start() -> Self {
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY_PROTOCOL))).expect("root may");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        // Thousands of packets pass before anybody reads.
        let _ = socket.set_recv_buffer_size(8 << 20);
        Self(socket)
    }

    /// The packets since the last call.
    pub(super) fn seen(&self) -> Vec<Packet> {
        self.frames().iter().filter_map(|frame| Packet::read(frame)).collect()
    }

    /// The same, of whatever family, as it was on the wire.
    pub(super) fn frames(&self) -> Vec<Vec<u8>> {
        let (mut frames, mut frame) = (Vec::new(), [0; 2048]);
        while let Ok(length) = (&self.0).read(&mut frame) {
            frames.extend(frame.get(..length).map(<[u8]>::to_vec));
        }
        frames
    }
}

/// An IPv4 packet that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) ttl: u8,
    pub(super) protocol: u8,
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    /// TCP's flags; 0 for others.
    pub(super) flags: u8,
}

impl Packet {
    fn read(frame: &[u8]) -> Option<Self> {
        let two = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        if two(frame, 12)? != 0x0800 {
            return None;
        }
        let ip = frame.get(ETHERNET_HEADER..)?;
        let payload = ip.get(usize::from(ip.first()? & 0x0f) * 4..)?;
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
        let (protocol, has_ports) = (*ip.get(9)?, matches!(*ip.get(9)?, 6 | 17));
        let port = |at| if has_ports { two(payload, at) } else { Some(0) };
        Some(Self {
            ttl: *ip.get(8)?,
            protocol,
            from: SocketAddrV4::new(address(12)?, port(0)?),
            to: SocketAddrV4::new(address(16)?, port(2)?),
            flags: if protocol == 6 { *payload.get(13)? } else { 0 },
        })
    }
}

/// An IPv4 packet with a SYN, or with a DNS question in a datagram.
fn packet(transport: Transport, from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    /// `a.`, type A, class IN, recursion desired.
    const QUESTION: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01";
    let (protocol, mut segment) = match transport {
        Transport::Syn => {
            let mut tcp = Vec::from(from.port().to_be_bytes());
            tcp.extend(to.port().to_be_bytes());
            // Sequence and acknowledgement; five words, SYN; window; checksum and urgent pointer.
            tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
            (6, tcp)
        }
        Transport::Udp => {
            let mut udp = Vec::from(from.port().to_be_bytes());
            udp.extend(to.port().to_be_bytes());
            udp.extend(u16::try_from(8 + QUESTION.len()).expect("short").to_be_bytes());
            udp.extend([0, 0]);
            udp.extend(QUESTION);
            (17, udp)
        }
    };
    let length = u16::try_from(segment.len()).expect("short");
    let mut pseudo = Vec::from(from.ip().octets());
    pseudo.extend(to.ip().octets());
    pseudo.extend([0, protocol]);
    pseudo.extend(length.to_be_bytes());
    pseudo.extend(&segment);
    let at = if protocol == 6 { 16 } else { 6 };
    segment[at..at + 2].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    // The kernel fills in the header's own checksum and, where it is 0, the identification.
    let mut packet = vec![0x45, 0];
    packet.extend((20 + length).to_be_bytes());
    packet.extend([0, 0, 0, 0, MARK, protocol, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(segment);
    packet
}

/// The Internet's checksum: RFC 1071.
pub(super) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

#[test]
fn the_checksum_is_that_of_rfc_1071s_example() {
    assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
}
