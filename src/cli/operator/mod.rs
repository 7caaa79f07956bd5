//! The operator's commands, which call the admin API of a running gateway.

pub(super) mod app;
pub(super) mod endpoints;
pub(super) mod events;
mod everywhere;
pub(super) mod fault;
pub(super) mod flows;
pub(super) mod gateways;
pub(super) mod limits;
pub(super) mod log_level;
pub(super) mod standin;
pub(super) mod status;
pub(super) mod target;
pub(super) mod targets;
pub(super) mod zone;

use std::cell::OnceCell;
use std::future::Future;
use std::process::ExitCode;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::table::{Terminal, print};
use super::{Failure, FailureKind, Output, json};
use crate::api::client::{AdminAddress, Client, ClientError};
use crate::config::DEFAULT_ADMIN;
use crate::control::chain;
use crate::lab::{self, AdminApi};

/// The gateway that a command calls, and its output format.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AdminOptions {
    /// The gateway's admin API: an address, a name with a port, or a URL
    ///
    /// PLGW_ADMIN_TOKEN is the token to send, or else PLGW_ADMIN_PRIVATE_KEY; PLGW_CA names the CA certificates
    /// that an `https` URL is checked with.
    #[arg(long, value_name = "ADDRESS:PORT", env = "PLGW_ADMIN", hide_env_values = true, default_value_t = DEFAULT_ADMIN.into())]
    admin: AdminAddress,
    /// Call the gateway of this lab instead (`plgw lab list` has their names)
    #[arg(long, value_name = "NAME")]
    lab: Option<String>,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
    /// Created once, as a process can enter a lab's network only once.
    #[arg(skip)]
    client: OnceCell<Client>,
}

impl AdminOptions {
    /// The client of the chosen gateway. To be called before any runtime starts, as it may enter a lab's network.
    pub(super) fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = match &self.lab {
            Some(name) => {
                let AdminApi { address, token, ca } = lab::enter_admin(name)?;
                Client::new(address).with_token(Some(token)).with_ca(ca)
            }
            None if self.is_on_service_side() => {
                let reason = "hosts on the service's side of a lab cannot reach its admin API (one-way); run this on another \
                              host, as with `plgw lab run --at vpc -- plgw …`, or with `--lab NAME` outside of the lab";
                return Err(Failure::new(FailureKind::Unavailable, reason));
            }
            None => {
                // As in the gateway: the token, by default the private key.
                let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
                let token = set("PLGW_ADMIN_TOKEN").or_else(|| set("PLGW_ADMIN_PRIVATE_KEY"));
                Client::new(self.admin.clone()).with_token(token)
            }
        };
        Ok(self.client.get_or_init(|| client))
    }

    /// Whether this runs on a host of a lab without access to the admin API, and no other gateway is chosen.
    fn is_on_service_side(&self) -> bool {
        self.admin == DEFAULT_ADMIN.into() && std::env::var_os(lab::HOST_VARIABLE).is_some_and(|host| host == "service")
    }

    /// Sends a request and prints the response, as the table that `table` creates from it.
    fn show(
        &self,
        method: &str,
        path: &str,
        body: String,
        table: impl Fn(&Value, Terminal) -> String,
    ) -> Result<ExitCode, Failure> {
        let answer: Value = wait(self.client()?.call(method, path, body))?;
        self.print_answer(&answer, &table(&answer, Terminal::of_stdout()))
    }

    /// Prints an answer: as JSON, or `text`.
    pub(super) fn print_answer(&self, answer: &Value, text: &str) -> Result<ExitCode, Failure> {
        match self.output {
            Output::Json => print(&json(answer)?)?,
            Output::Table => print(text)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Runs a request to completion.
pub(super) fn wait<T>(question: impl Future<Output = Result<T, ClientError>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(FailureKind::System, format!("cannot start the runtime: {error}")))?;
    runtime.block_on(question).map_err(|error| {
        let kind = match &error {
            ClientError::Refused { .. } => FailureKind::Failed,
            ClientError::Connect { .. } | ClientError::Broken { .. } => FailureKind::Unavailable,
        };
        Failure::new(kind, chain(&error))
    })
}

/// Encodes text as one segment of a path.
fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tables_tests;

/// A value of a response as a cell: text without quotes, empty for null.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The elements of a list in a response.
pub(super) fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map_or(&[], Vec::as_slice)
}
