//! The operator's commands: they ask a running gateway over its admin API.

pub(super) mod app;
pub(super) mod endpoints;
pub(super) mod fault;
pub(super) mod flows;
pub(super) mod limits;
pub(super) mod log_level;
pub(super) mod status;
pub(super) mod target;
pub(super) mod targets;
pub(super) mod zone;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::table::print;
use super::{Failure, Kind, Output, json};
use crate::api::client::{Client, ClientError};
use crate::control::chain;

/// Which gateway is asked, and how its answer is printed.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Ask {
    /// The gateway's admin API
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8474")]
    admin: SocketAddr,
    /// Ask over TLS: the CA certificate (PEM) that the admin API's certificate is checked by
    #[arg(long, value_name = "FILE")]
    admin_ca: Option<PathBuf>,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

impl Ask {
    pub(super) fn client(&self) -> Client {
        // As the gateway has it: the token, or else the private key.
        let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let token = set("PLGW_ADMIN_TOKEN").or_else(|| set("PLGW_ADMIN_PRIVATE_KEY"));
        Client::new(self.admin).with_token(token).with_ca(self.admin_ca.clone())
    }

    /// Asks once and prints the answer, as a table that `table` makes of it.
    fn show(&self, method: &str, path: &str, body: String, table: impl Fn(&Value) -> String) -> Result<(), Failure> {
        let answer: Value = wait(self.client().call(method, path, body))?;
        match self.output {
            Output::Json => print(&json(&answer)?)?,
            Output::Table => print(&table(&answer))?,
        }
        Ok(())
    }
}

/// Runs one question to its answer.
pub(super) fn wait<T>(question: impl Future<Output = Result<T, ClientError>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Kind::System, format!("cannot start the runtime: {error}")))?;
    runtime.block_on(question).map_err(|error| {
        let kind = match &error {
            ClientError::Refused { .. } => Kind::Failed,
            ClientError::Connect { .. } | ClientError::Broken { .. } => Kind::Unavailable,
        };
        Failure::new(kind, chain(&error))
    })
}

/// A text as one segment of a path.
fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A value of an answer as a cell: text bare, nothing for null.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The elements of a list in an answer.
pub(super) fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map_or(&[], Vec::as_slice)
}
