//! `--all`: sends a request to every gateway that shares the state, at its published admin address.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{AdminOptions, Failure, cell, list, wait};
use crate::api::client::{Client, ClientError};
use crate::control::chain;

/// The response of one gateway.
pub(super) struct GatewayAnswer {
    /// Its id; empty if the state is not shared.
    pub(super) id: String,
    /// The response, or why there is none.
    pub(super) answer: Result<Value, String>,
}

impl GatewayAnswer {
    /// As JSON, with the response under `name`.
    pub(super) fn json(&self, name: &str) -> Value {
        match &self.answer {
            Ok(answer) => json!({ "gateway": self.id, name: answer }),
            Err(error) => json!({ "gateway": self.id, "error": error }),
        }
    }
}

impl AdminOptions {
    /// Sends a request to every gateway, with the caller's credentials.
    pub(super) fn call_all(&self, path: &str) -> Result<Vec<GatewayAnswer>, Failure> {
        let client = self.client()?;
        wait(async {
            let gateways: Value = client.get("/v1/gateways").await?;
            if gateways["shared"] != true {
                return Ok(vec![GatewayAnswer { id: String::new(), answer: Ok(client.get(path).await?) }]);
            }
            let asked = list(&gateways, "gateways").iter().map(|gateway| async {
                let answer = call_gateway(client, gateway, path).await;
                GatewayAnswer { id: cell(&gateway["id"]), answer }
            });
            Ok(join_all(asked).await)
        })
    }
}

/// The response of a gateway in the list.
async fn call_gateway(client: &Client, gateway: &Value, path: &str) -> Result<Value, String> {
    let words = |error: ClientError| chain(&error);
    if gateway["is_this"] == true {
        return client.get(path).await.map_err(words);
    }
    let Some(admin) = gateway["admin"].as_str() else {
        return Err("it names no admin API: it is gone, or `admin.enabled` is false there".to_owned());
    };
    client.at(admin.parse()?).get(path).await.map_err(words)
}
