//! Checks that App Services' endpoints lead to the apps, and that nothing else does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::try_join_all;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::super::client::{http, tls};
use super::client_addresses::ClientAddresses;
use super::{CheckContext, CheckResult, why};
use crate::model::{App, AppEndpointKind, DnsName};

/// The message that is sent over a WebSocket and echoed.
const GREETING: &str = "plgw quickstart";

/// A path to an app: the address, and the host name.
struct AppPath<'b> {
    app: &'b App,
    address: SocketAddr,
    host: DnsName,
    source: Option<IpAddr>,
}

impl AppPath<'_> {
    fn path(&self, call: &str) -> String {
        format!("/api/client/v2.0/app/{}/{call}", self.app.id)
    }

    /// The status and body of the `location` call, which SDKs make first.
    async fn location(&self, context: &CheckContext) -> Result<(u16, String), String> {
        let connected = tls(self.source, self.address, &self.host, &context.tls).await;
        let stream = connected.map_err(|error| self.failure(&why(&error)))?;
        let authority = format!("{}:{}", self.host, self.address.port());
        let answer = http::get_over(stream, &authority, &self.path("location")).await;
        answer.map_err(|error| self.failure(&why(&error)))
    }

    async fn expect_location(&self, context: &CheckContext, expected: u16) -> Result<(), String> {
        let (status, body) = self.location(context).await?;
        let is_location = serde_json::from_str::<serde_json::Value>(&body)
            .is_ok_and(|body| body["deployment_model"] == "LOCAL" && body["hostname"].is_string());
        if status != expected || (expected == 200) != is_location {
            return Err(self.failure(&format!("the location call is answered {status} `{body}`, expected {expected}")));
        }
        Ok(())
    }

    /// Opens a Sync WebSocket, which the stand-in echoes. The inner `Err` has the status of a refusal.
    async fn websocket(&self, context: &CheckContext) -> Result<Result<(), u16>, String> {
        let connected = tls(self.source, self.address, &self.host, &context.tls).await;
        let stream = connected.map_err(|error| self.failure(&why(&error)))?;
        let url = format!("wss://{}:{}{}", self.host, self.address.port(), self.path("realm-sync"));
        let mut socket = match client_async(url, stream).await {
            Ok((socket, _)) => socket,
            Err(Error::Http(refused)) => return Ok(Err(refused.status().as_u16())),
            Err(error) => return Err(self.failure(&why(&error))),
        };
        socket.send(Message::text(GREETING)).await.map_err(|error| self.failure(&why(&error)))?;
        match socket.next().await {
            Some(Ok(Message::Text(text))) if text == GREETING => {}
            other => return Err(self.failure(&format!("a WebSocket message comes back as {other:?}"))),
        }
        // The connection is closed with the task in any case.
        let _ = socket.close(None).await;
        Ok(Ok(()))
    }

    fn failure(&self, what: &str) -> String {
        let from = self.source.map(|source| format!(" from {source}")).unwrap_or_default();
        format!("{} as {}{from}: {what}", self.address, self.host)
    }
}

/// Client requests work through the General endpoint and Sync WebSockets through the Sync one, from every network that
/// is connected to the VPC (B1, B2); clients at the public address get 404 (B3).
pub(super) async fn app_services(context: Arc<CheckContext>, clients: Arc<ClientAddresses>) -> CheckResult {
    let (mut general, mut sync) = (0, 0);
    for app in &context.desired.apps {
        for source in [None, Some(clients.peered), Some(clients.on_premises)] {
            let http = private_paths(&context, app, AppEndpointKind::General, source);
            try_join_all(http.iter().map(|way| way.expect_location(&context, 200))).await?;
            general += http.len();
            let websockets = private_paths(&context, app, AppEndpointKind::Sync, source);
            for (way, opened) in
                websockets.iter().zip(try_join_all(websockets.iter().map(|way| way.websocket(&context))).await?)
            {
                opened.map_err(|status| way.failure(&format!("a Sync WebSocket is refused with {status}")))?;
            }
            sync += websockets.len();
        }
        let restricted = !app.endpoints.is_empty() && !app.allow_non_vpc_requests;
        let (address, source) = (app.public_address, Some(clients.listed));
        let public = AppPath { app, address, host: host(app, AppEndpointKind::General)?, source };
        public.expect_location(&context, if restricted { 404 } else { 200 }).await?;
        let public = AppPath { app, address, host: host(app, AppEndpointKind::Sync)?, source };
        let opened = public.websocket(&context).await?;
        if opened != if restricted { Err(404) } else { Ok(()) } {
            return Err(public.failure(&format!("a Sync WebSocket is answered {opened:?}")));
        }
    }
    if general == 0 || sync == 0 {
        return Err("no app of the scenario has a General and a Sync endpoint".to_owned());
    }
    Ok("client requests pass the General endpoint, WebSockets the Sync one; by the public address both get 404"
        .to_owned())
}

/// Every address of the app's endpoints of `kind`.
fn private_paths<'b>(
    context: &'b CheckContext,
    app: &'b App,
    kind: AppEndpointKind,
    source: Option<IpAddr>,
) -> Vec<AppPath<'b>> {
    let registered = app.endpoints.iter().filter(|endpoint| endpoint.kind == kind);
    let interfaces = registered.filter_map(|endpoint| context.desired.endpoints.get(&endpoint.endpoint));
    let addresses = interfaces.flat_map(|interface| interface.addresses.iter().map(|at| at.ip));
    addresses
        .filter_map(|ip| {
            let address = SocketAddr::new(ip, app.public_address.port());
            Some(AppPath { app, address, host: host(app, kind).ok()?, source })
        })
        .collect()
}

/// The name that clients of the app use.
fn host(app: &App, kind: AppEndpointKind) -> Result<DnsName, String> {
    let name = match kind {
        AppEndpointKind::General => format!("{}.aws.services.cloud.mongodb.com", app.region),
        AppEndpointKind::Sync => format!("ws.{}.aws.services.cloud.mongodb.com", app.region),
    };
    name.parse().map_err(|error: crate::model::ParseTextError| error.to_string())
}
