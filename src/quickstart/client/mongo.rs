//! A MongoDB client with one TLS connection, for commands in `OP_MSG` (MongoDB wire protocol).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bson::Document;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::TlsConnectError;
use crate::model::DnsName;

const OP_MSG: i32 = 2013;
const HEADER: usize = 16;
/// Header, flags and the kind of the one section.
const BEFORE_BODY: usize = HEADER + 4 + 1;
/// Longest message from a server.
const MAX_MESSAGE_SIZE: usize = 48_000_000;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::quickstart) enum MongoError {
    /// The connection could not be opened.
    #[error(transparent)]
    Connect(#[from] TlsConnectError),
    /// The connection broke.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// A malformed message.
    #[error("the reply can't be read: {0}")]
    Reply(String),
    /// Malformed BSON.
    #[error("the reply can't be read")]
    Bson(#[from] bson::error::Error),
    /// The server returned an error.
    #[error("{command} was refused: {message} (code {code})")]
    Command {
        /// Which.
        command: String,
        /// MongoDB's code.
        code: i32,
        /// Its message.
        message: String,
    },
}

/// A connection to a server whose certificate was verified.
pub(in crate::quickstart) struct MongoClient {
    stream: TlsStream<TcpStream>,
    requests: i32,
}

impl MongoClient {
    /// Connects, verifying with the lab's CA that the server is `host`, which is also sent as SNI.
    pub(in crate::quickstart) async fn connect(
        source: Option<IpAddr>,
        to: SocketAddr,
        host: &DnsName,
        tls: &Arc<ClientConfig>,
    ) -> Result<Self, MongoError> {
        Ok(Self { stream: super::tls(source, to, host, tls).await?, requests: 0 })
    }

    /// Runs `command` on the database `db`.
    pub(in crate::quickstart) async fn run(&mut self, db: &str, mut command: Document) -> Result<Document, MongoError> {
        let name = command.keys().next().cloned().unwrap_or_default();
        command.insert("$db", db);
        self.requests += 1;
        self.stream.write_all(&message(self.requests, &command.to_vec()?)).await?;
        self.stream.flush().await?;
        let reply = self.reply().await?;
        if number(&reply, "ok") == Some(1.0) {
            return Ok(reply);
        }
        let text = reply.get_str("errmsg").unwrap_or("no reason given");
        Err(MongoError::Command {
            command: name,
            code: reply.get_i32("code").unwrap_or_default(),
            message: text.to_owned(),
        })
    }

    async fn reply(&mut self) -> Result<Document, MongoError> {
        let mut header = [0; HEADER];
        self.stream.read_exact(&mut header).await?;
        let field = |at: usize| i32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length =
            usize::try_from(field(0)).ok().filter(|length| (BEFORE_BODY + 5..=MAX_MESSAGE_SIZE).contains(length));
        let length = length.ok_or_else(|| MongoError::Reply(format!("it announces {} bytes", field(0))))?;
        if (field(8), field(12)) != (self.requests, OP_MSG) {
            return Err(MongoError::Reply(format!("operation {} in answer to request {}", field(12), field(8))));
        }
        let mut rest = vec![0; length - HEADER];
        self.stream.read_exact(&mut rest).await?;
        match rest.get(4) {
            Some(0) => Ok(Document::from_reader(&rest[5..])?),
            other => Err(MongoError::Reply(format!("its first section is of kind {other:?}, expected 0"))),
        }
    }
}

/// A message of one section, without flags.
fn message(id: i32, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(BEFORE_BODY + body.len()).expect("a check's commands are short");
    let mut bytes = Vec::with_capacity(BEFORE_BODY + body.len());
    for field in [length, id, 0, OP_MSG, 0] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(body);
    bytes
}

/// A number of any BSON type.
fn number(document: &Document, field: &str) -> Option<f64> {
    match document.get(field)? {
        bson::Bson::Double(number) => Some(*number),
        bson::Bson::Int32(number) => Some(f64::from(*number)),
        _ => None,
    }
}
