//! Message framing: decodes requests, encodes replies.
//!
//! `OP_MSG` in full (document sequences, checksums, the flags); `OP_QUERY` and `OP_REPLY` as far as the handshake of
//! older drivers needs them. `OP_COMPRESSED` is never offered in `hello`, so no client sends it. Sources: MongoDB wire
//! protocol, and `source/message/OP_MSG.md` of the driver specifications.

use std::io;

use bson::raw::{RawBsonRef, RawDocument};
use bson::{Bson, Document};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{MAX_DEPTH, MAX_MESSAGE};

const HEADER: usize = 16;
const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;

const CHECKSUM_PRESENT: u32 = 1 << 0;
const MORE_TO_COME: u32 = 1 << 1;
const EXHAUST_ALLOWED: u32 = 1 << 16;
/// Flags that a server must understand to go on: an unknown one is an error.
const REQUIRED_FLAGS: u32 = 0xFFFF;
/// `OP_REPLY`: the server can await data; set on every reply.
const AWAIT_CAPABLE: i32 = 8;
/// Maximum buffer allocated before the data arrives.
const READ_AHEAD: usize = 64 * 1024;

/// Why a message is malformed. The connection is closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("cannot read from the connection")]
    Io(#[from] std::io::Error),
    #[error("a message of {0} bytes, expected {HEADER} to {MAX_MESSAGE}")]
    Length(i32),
    #[error("a message ends before what it announces")]
    Cut,
    #[error("operation {0}, expected OP_MSG ({OP_MSG}) or OP_QUERY ({OP_QUERY})")]
    Operation(i32),
    #[error("unknown required flags in {0:#x}")]
    Flags(u32),
    #[error("section of kind {0}, expected 0 or 1")]
    Section(u8),
    #[error("{0} body sections, expected one")]
    Bodies(usize),
    #[error("two sections named `{0}`")]
    SectionTwice(String),
    #[error("checksum {found:08x}, the bytes give {computed:08x}")]
    Checksum { found: u32, computed: u32 },
    #[error("documents nested deeper than {MAX_DEPTH}")]
    Depth,
    #[error("malformed BSON")]
    Bson(#[from] bson::error::Error),
}

/// A client's request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// The client's number for it.
    pub(super) id: i32,
    /// The command, with document sequences inserted as arrays.
    pub(super) body: Document,
    /// The form of the request, which determines that of the reply.
    pub(super) form: Form,
}

/// The form of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `OP_MSG`.
    Msg {
        /// The client expects no reply.
        unacknowledged: bool,
        /// The client accepts several replies (`exhaustAllowed`).
        exhaust: bool,
        /// The client sent a checksum, so the reply has one.
        checksum: bool,
    },
    /// `OP_QUERY` on a `$cmd` collection.
    Query,
}

/// Reads one message, header and all. `None`: the client closed the connection between two messages.
///
/// The buffer grows with the received bytes, not with the announced length.
pub(super) async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Option<Vec<u8>>, WireError> {
    let mut bytes = Vec::with_capacity(HEADER);
    reader.take(4).read_to_end(&mut bytes).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let announced = i32::from_le_bytes(*bytes.first_chunk().ok_or(WireError::Cut)?);
    let length = usize::try_from(announced).ok().filter(|length| (HEADER..=MAX_MESSAGE).contains(length));
    let length = length.ok_or(WireError::Length(announced))?;
    bytes.reserve(length.min(READ_AHEAD));
    reader.take(length as u64 - 4).read_to_end(&mut bytes).await?;
    if bytes.len() < length { Err(WireError::Cut) } else { Ok(Some(bytes)) }
}

/// Parses a complete message.
pub(super) fn parse(message: &[u8]) -> Result<Request, WireError> {
    let mut rest = MessageReader { bytes: message };
    let [length, id, _response_to, operation] = [rest.i32()?, rest.i32()?, rest.i32()?, rest.i32()?];
    if usize::try_from(length).ok() != Some(message.len()) {
        return Err(WireError::Length(length));
    }
    match operation {
        OP_MSG => parse_msg(id, message),
        OP_QUERY => {
            let _flags = rest.i32()?;
            let _collection = rest.cstring()?;
            let (_skip, _return) = (rest.i32()?, rest.i32()?);
            let mut body = rest.document()?;
            // Older drivers wrap the command to put a read preference beside it.
            if let Ok(inner) = body.get_document_mut("$query") {
                body = std::mem::take(inner);
            }
            Ok(Request { id, body, form: Form::Query })
        }
        other => Err(WireError::Operation(other)),
    }
}

fn parse_msg(id: i32, message: &[u8]) -> Result<Request, WireError> {
    let flags = MessageReader { bytes: &message[HEADER..] }.i32()?.cast_unsigned();
    if flags & REQUIRED_FLAGS & !(CHECKSUM_PRESENT | MORE_TO_COME) != 0 {
        return Err(WireError::Flags(flags));
    }
    let checksum = flags & CHECKSUM_PRESENT != 0;
    let mut end = message.len();
    if checksum {
        let (covered, found) = message.split_last_chunk::<4>().ok_or(WireError::Cut)?;
        end = covered.len();
        let (found, computed) = (u32::from_le_bytes(*found), crc32c::crc32c(covered));
        if found != computed {
            return Err(WireError::Checksum { found, computed });
        }
    }
    let mut rest = MessageReader { bytes: message.get(HEADER + 4..end).ok_or(WireError::Cut)? };
    let mut bodies = Vec::new();
    let mut sequences: Vec<(String, Vec<Bson>)> = Vec::new();
    while !rest.bytes.is_empty() {
        match rest.u8()? {
            0 => bodies.push(rest.document()?),
            1 => {
                let size = usize::try_from(rest.i32()?).ok().and_then(|size| size.checked_sub(4));
                let mut section = MessageReader { bytes: rest.take(size.ok_or(WireError::Cut)?)? };
                let name = section.cstring()?;
                let mut documents = Vec::new();
                while !section.bytes.is_empty() {
                    documents.push(Bson::Document(section.document()?));
                }
                sequences.push((name, documents));
            }
            kind => return Err(WireError::Section(kind)),
        }
    }
    let count = bodies.len();
    let [mut body] = <[Document; 1]>::try_from(bodies).map_err(|_| WireError::Bodies(count))?;
    for (name, documents) in sequences {
        if body.contains_key(&name) {
            return Err(WireError::SectionTwice(name));
        }
        body.insert(name, documents);
    }
    let form = Form::Msg { unacknowledged: flags & MORE_TO_COME != 0, exhaust: flags & EXHAUST_ALLOWED != 0, checksum };
    Ok(Request { id, body, form })
}

/// Encodes a reply in the request's form. `more`: another reply follows without a request.
pub(super) fn reply(form: Form, id: i32, response_to: i32, more: bool, body: &Document) -> Result<Vec<u8>, WireError> {
    let body = body.to_vec()?;
    let mut out = Vec::with_capacity(HEADER + 24 + body.len());
    let start = |out: &mut Vec<u8>, operation: i32| {
        for number in [0, id, response_to, operation] {
            out.extend(number.to_le_bytes());
        }
    };
    let checksum = matches!(form, Form::Msg { checksum: true, .. });
    match form {
        Form::Msg { .. } => {
            start(&mut out, OP_MSG);
            let more = if more { MORE_TO_COME } else { 0 };
            out.extend((more | u32::from(checksum)).to_le_bytes());
            out.push(0);
        }
        Form::Query => {
            start(&mut out, OP_REPLY);
            out.extend(AWAIT_CAPABLE.to_le_bytes());
            out.extend(0_i64.to_le_bytes());
            out.extend(0_i32.to_le_bytes());
            out.extend(1_i32.to_le_bytes());
        }
    }
    out.extend(body);
    let length = (out.len() + if checksum { 4 } else { 0 }) as i32;
    out[..4].copy_from_slice(&length.to_le_bytes());
    if checksum {
        out.extend(crc32c::crc32c(&out).to_le_bytes());
    }
    Ok(out)
}

/// Sends a command as message `id`, and reads the reply.
pub(crate) async fn exchange<S>(stream: &mut S, id: i32, command: &Document) -> io::Result<Document>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let form = Form::Msg { unacknowledged: false, exhaust: false, checksum: false };
    stream.write_all(&reply(form, id, 0, false, command).map_err(io::Error::other)?).await?;
    stream.flush().await?;
    let message = read(stream).await.map_err(|error| match error {
        WireError::Io(error) => error,
        error => io::Error::other(error),
    })?;
    let message = message.ok_or(io::ErrorKind::UnexpectedEof)?;
    // Bytes 8 to 16 of the header: `responseTo` and the operation.
    if message.get(8..16) != Some(&[id.to_le_bytes(), OP_MSG.to_le_bytes()].concat()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the message is not a reply to message {id}")));
    }
    Ok(parse(&message).map_err(io::Error::other)?.body)
}

/// The unread rest of a message.
struct MessageReader<'a> {
    bytes: &'a [u8],
}

impl<'a> MessageReader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(WireError::Cut)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    fn i32(&mut self) -> Result<i32, WireError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(WireError::Cut)?;
        self.bytes = rest;
        Ok(i32::from_le_bytes(*taken))
    }

    fn cstring(&mut self) -> Result<String, WireError> {
        let end = self.bytes.iter().position(|byte| *byte == 0).ok_or(WireError::Cut)?;
        let text = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn document(&mut self) -> Result<Document, WireError> {
        let announced = i32::from_le_bytes(*self.bytes.first_chunk().ok_or(WireError::Cut)?);
        let bytes = self.take(usize::try_from(announced).map_err(|_| WireError::Cut)?)?;
        let raw = RawDocument::from_bytes(bytes)?;
        check_depth(raw)?;
        Ok(Document::try_from(raw)?)
    }
}

/// Refuses documents that are nested too deeply, without recursion, as decoding them would overflow the stack.
fn check_depth(document: &RawDocument) -> Result<(), WireError> {
    let mut open = vec![document.iter()];
    while let Some(level) = open.last_mut() {
        let inner = match level.next().transpose()? {
            None => {
                open.pop();
                continue;
            }
            Some((_, RawBsonRef::Document(inner))) => inner,
            Some((_, RawBsonRef::Array(inner))) => RawDocument::from_bytes(inner.as_bytes())?,
            Some((_, RawBsonRef::JavaScriptCodeWithScope(code))) => code.scope,
            Some(_) => continue,
        };
        if open.len() >= MAX_DEPTH {
            return Err(WireError::Depth);
        }
        open.push(inner.iter());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Form = Form::Msg { unacknowledged: false, exhaust: false, checksum: false };

    /// A message of `operation` with `rest` after its header.
    fn message(operation: i32, rest: &[u8]) -> Vec<u8> {
        let length = (HEADER + rest.len()) as i32;
        [length, 7, 0, operation].iter().flat_map(|number| number.to_le_bytes()).chain(rest.iter().copied()).collect()
    }

    fn section(document: &Document) -> Vec<u8> {
        [vec![0], document.to_vec().unwrap()].concat()
    }

    fn sequence(name: &str, documents: &[Document]) -> Vec<u8> {
        let documents = documents.iter().flat_map(|document| document.to_vec().unwrap());
        let content: Vec<u8> = name.bytes().chain([0]).chain(documents).collect();
        [vec![1], (content.len() as i32 + 4).to_le_bytes().to_vec(), content].concat()
    }

    fn msg(flags: u32, sections: &[Vec<u8>]) -> Vec<u8> {
        message(OP_MSG, &[flags.to_le_bytes().to_vec(), sections.concat()].concat())
    }

    fn error(message: &[u8]) -> String {
        parse(message).expect_err("not refused").to_string()
    }

    #[test]
    fn document_sequences_become_arrays_of_the_command() {
        let body = doc! { "insert": "c", "$db": "d" };
        let bytes = msg(EXHAUST_ALLOWED, &[sequence("documents", &[doc! {"a": 1}, doc! {"a": 2}]), section(&body)]);
        let request = parse(&bytes).expect("a request");
        assert_eq!(request.body, doc! { "insert": "c", "$db": "d", "documents": [{"a": 1}, {"a": 2}] });
        assert_eq!(request.form, Form::Msg { unacknowledged: false, exhaust: true, checksum: false });
    }

    #[test]
    fn a_reply_reads_back_as_a_message() {
        let checked = Form::Msg { unacknowledged: false, exhaust: false, checksum: true };
        for form in [PLAIN, checked] {
            let bytes = reply(form, 3, 7, false, &doc! { "ok": 1.0 }).unwrap();
            let seen = parse(&bytes).expect("a message");
            assert_eq!((seen.id, seen.body, seen.form), (3, doc! { "ok": 1.0 }, form));
        }
        let more = parse(&reply(PLAIN, 3, 7, true, &doc! {}).unwrap()).unwrap();
        assert!(matches!(more.form, Form::Msg { unacknowledged: true, .. }), "moreToCome is the same bit both ways");
    }

    #[test]
    fn a_checksum_covers_every_byte() {
        let checked = Form::Msg { unacknowledged: false, exhaust: false, checksum: true };
        let mut bytes = reply(checked, 3, 7, false, &doc! { "ok": 1.0 }).unwrap();
        bytes[30] ^= 1;
        assert!(error(&bytes).starts_with("checksum"));
    }

    #[test]
    fn the_handshake_of_older_drivers_is_read_with_and_without_a_wrapper() {
        for body in [doc! { "ismaster": 1 }, doc! { "$query": { "ismaster": 1 }, "$readPreference": {} }] {
            let rest = [&[4, 0, 0, 0], b"admin.$cmd\0".as_slice(), &[0; 4], &[0xFF; 4], &body.to_vec().unwrap()];
            let request = parse(&message(OP_QUERY, &rest.concat())).expect("a request");
            assert_eq!((request.body, request.form), (doc! { "ismaster": 1 }, Form::Query));
        }
    }

    #[test]
    fn malformed_messages_are_refused_with_the_reason() {
        let body = section(&doc! { "ping": 1 });
        assert!(error(&msg(1 << 5, std::slice::from_ref(&body))).contains("flags"));
        assert!(error(&msg(0, &[])).contains("0 body sections"));
        assert!(error(&msg(0, &[body.clone(), body.clone()])).contains("2 body sections"));
        assert!(error(&msg(0, &[vec![9]])).contains("kind 9"));
        assert!(error(&msg(0, &[sequence("ping", &[]), body.clone()])).contains("`ping`"));
        assert!(error(&message(2012, &[])).contains("2012"));
        assert!(error(&msg(0, &[vec![0, 200, 0, 0, 0]])).contains("ends before"));
        assert!(error(&msg(0, &[vec![1, 0, 0, 0, 0]])).contains("ends before"));
        assert!(parse(&msg(1 << 20, &[body])).is_ok(), "unknown optional flags are passed over");
    }

    #[test]
    fn deep_nesting_is_refused_before_it_is_followed() {
        let mut bytes = vec![5, 0, 0, 0, 0];
        for _ in 0..100_000 {
            let length = bytes.len() as i32 + 8;
            bytes = [&length.to_le_bytes(), [3, b'a', 0].as_slice(), &bytes, &[0]].concat();
            if bytes.len() > 200_000 {
                break;
            }
        }
        assert!(error(&msg(0, &[[vec![0], bytes].concat()])).contains("nested"));
    }

    #[tokio::test]
    async fn reading_ends_cleanly_between_messages_only() {
        let whole = msg(0, &[section(&doc! { "ping": 1 })]);
        assert!(matches!(read(&mut [].as_slice()).await, Ok(None)));
        assert_eq!(read(&mut [whole.clone(), whole.clone()].concat().as_slice()).await.unwrap(), Some(whole.clone()));
        for len in 1..whole.len() {
            assert!(matches!(read(&mut &whole[..len]).await, Err(WireError::Cut)), "{len} bytes");
        }
        for wrong in [15, 0, -1, 48_000_001] {
            assert!(matches!(read(&mut i32::to_le_bytes(wrong).as_slice()).await, Err(WireError::Length(_))));
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200), operation in prop::sample::select(vec![OP_MSG, OP_QUERY, 0])) {
            let _ = parse(&noise);
            if let Ok(request) = parse(&message(operation, &noise)) {
                prop_assert_eq!(request.id, 7);
            }
        }

        #[test]
        fn a_flipped_byte_never_panics(at in 0_usize..100, flip in 1_u8..) {
            let mut bytes = msg(0, &[
                section(&doc! { "insert": "c", "a": [1, { "b": "text" }], "$db": "d" }),
                sequence("documents", &[doc! { "a": 1 }, doc! { "b": { "c": [true] } }]),
            ]);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            let _ = parse(&bytes);
        }
    }
}
