//! A connection's first bytes: a letter, and for two of them numbers, little-endian.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};

/// Bytes of every preamble.
pub(crate) const PREAMBLE: usize = 16;

/// The purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For every `request` bytes, `response` bytes come back.
    Echo { request: u32, response: u32 },
    /// The server discards its input.
    Sink,
    /// The server sends without end.
    Source,
    /// The server compares its input with the pattern of `seed`, sends `bytes` of its own, and reports the result.
    Check { seed: u32, bytes: u32 },
}

impl Purpose {
    /// As the first bytes of a connection.
    pub(crate) fn encode(self) -> [u8; PREAMBLE] {
        let (letter, first, second) = match self {
            Self::Echo { request, response } => (b'E', request, response),
            Self::Sink => (b'U', 0, 0),
            Self::Source => (b'D', 0, 0),
            Self::Check { seed, bytes } => (b'C', seed, bytes),
        };
        let mut preamble = [0; PREAMBLE];
        preamble[0] = letter;
        preamble[4..8].copy_from_slice(&first.to_le_bytes());
        preamble[8..12].copy_from_slice(&second.to_le_bytes());
        preamble
    }

    /// From the first bytes of a connection.
    pub(crate) fn decode(preamble: &[u8; PREAMBLE]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([preamble[at], preamble[at + 1], preamble[at + 2], preamble[at + 3]]);
        match preamble[0] {
            b'E' if word(4) > 0 && word(8) > 0 => Some(Self::Echo { request: word(4), response: word(8) }),
            b'U' => Some(Self::Sink),
            b'D' => Some(Self::Source),
            b'C' => Some(Self::Check { seed: word(4), bytes: word(8) }),
            _ => None,
        }
    }
}

/// A connection with a known purpose, still blocking.
pub(crate) fn open(target: SocketAddr, purpose: Purpose) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.write_all(&purpose.encode())?;
    Ok(stream)
}

/// The byte at `at` of the pattern of `seed`: differs from its neighbours, so that a lost or doubled one shows.
pub(crate) fn pattern(seed: u32, at: usize) -> u8 {
    ((at as u32 ^ seed).wrapping_mul(2_654_435_761) >> 13) as u8
}
