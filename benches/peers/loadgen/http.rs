//! An HTTP backend: 1 KiB for every request, and an echo for WebSockets. It parses only the HTTP that proxies send.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::poll::would_block;

/// Bytes of every answer's body.
pub(crate) const BODY: usize = 1024;
/// The suffix to a client's key by RFC 6455 §1.3.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a message's head, from a client: a length of one byte, and the mask.
const FRAME_HEAD: usize = 6;

/// Whether a connection's first bytes are a request's.
pub(crate) fn is_request(first: &[u8]) -> bool {
    first.starts_with(b"GET ")
}

/// A proxy's connection.
pub(crate) struct Exchange {
    got: Vec<u8>,
    owed: Vec<u8>,
    is_websocket: bool,
}

impl Exchange {
    pub(crate) fn new(first: &[u8]) -> Self {
        Self { got: first.to_vec(), owed: Vec::new(), is_websocket: false }
    }

    /// Answers the input; false when the proxy has closed. `ended`: the input has ended, and there will be no edge.
    pub(crate) fn turn(&mut self, mut stream: &TcpStream, buffer: &mut [u8], ended: bool) -> io::Result<bool> {
        loop {
            let n = match would_block(stream.read(buffer))? {
                None => return self.pay(stream).map(|()| true),
                Some(0) => return Ok(false),
                Some(n) => n,
            };
            self.got.extend_from_slice(&buffer[..n]);
            while self.is_websocket && self.echo() || !self.is_websocket && self.answer() {}
            self.pay(stream)?;
            if n < buffer.len() && !ended {
                return Ok(true);
            }
        }
    }

    /// Sends as much pending data as possible; the rest follows at the next edge.
    fn pay(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        while !self.owed.is_empty() {
            match would_block(stream.write(&self.owed))? {
                None => break,
                Some(n) => drop(self.owed.drain(..n)),
            }
        }
        Ok(())
    }

    fn answer(&mut self) -> bool {
        let Some(end) = self.got.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
        let head = &self.got[..end];
        if let Some(key) = field(head, "sec-websocket-key") {
            let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{MAGIC}").as_bytes()));
            let told = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            self.owed.extend_from_slice(told.as_bytes());
            self.is_websocket = true;
        } else {
            self.owed.extend_from_slice(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\r\n",
            );
            self.owed.resize(self.owed.len() + BODY, b'x');
        }
        self.got.drain(..end + 4);
        true
    }

    fn echo(&mut self) -> bool {
        let bytes = match self.got.as_slice() {
            [_, masked, ..] => usize::from(masked & 0x7f),
            _ => return false,
        };
        if self.got.len() < FRAME_HEAD + bytes {
            return false;
        }
        self.owed.extend_from_slice(&[self.got[0], bytes as u8]);
        let mask = [self.got[2], self.got[3], self.got[4], self.got[5]];
        let payload = &self.got[FRAME_HEAD..FRAME_HEAD + bytes];
        self.owed.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.got.drain(..FRAME_HEAD + bytes);
        true
    }
}

/// The value of a header field, whatever the case of its name.
fn field(head: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}
