//! A MongoDB client with one TLS connection, for commands in `OP_MSG` (MongoDB wire protocol).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bson::Document;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::TlsConnectError;
use crate::model::DnsName;
use crate::standin::mongo::exchange;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::quickstart) enum MongoError {
    /// The connection could not be opened.
    #[error(transparent)]
    Connect(#[from] TlsConnectError),
    /// The connection broke, or the reply can't be read.
    #[error("the connection failed")]
    Io(#[from] io::Error),
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
        let reply = exchange(&mut self.stream, self.requests, &command).await?;
        if reply.get("ok").is_some_and(|ok| ok.as_f64() == Some(1.0) || ok.as_i32() == Some(1)) {
            return Ok(reply);
        }
        let text = reply.get_str("errmsg").unwrap_or("no reason given");
        Err(MongoError::Command {
            command: name,
            code: reply.get_i32("code").unwrap_or_default(),
            message: text.to_owned(),
        })
    }
}
