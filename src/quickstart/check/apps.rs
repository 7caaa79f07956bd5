//! Checks that App Services' endpoints lead to the apps, and nobody else does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::try_join_all;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::super::client::{http, tls};
use super::places::Places;
use super::{Bench, Outcome, why};
use crate::model::{App, AppEndpointKind, DnsName};

/// What is sent over a WebSocket, to come back.
const GREETING: &str = "plgw quickstart";

/// A way to an app: where to dial, and under which name.
struct Way<'b> {
    app: &'b App,
    address: SocketAddr,
    host: DnsName,
    source: Option<IpAddr>,
}

impl Way<'_> {
    fn path(&self, call: &str) -> String {
        format!("/api/client/v2.0/app/{}/{call}", self.app.id)
    }

    /// The status and body of the call that SDKs make first.
    async fn location(&self, bench: &Bench) -> Result<(u16, String), String> {
        let connected = tls(self.source, self.address, &self.host, &bench.tls).await;
        let stream = connected.map_err(|error| self.said(&why(&error)))?;
        let authority = format!("{}:{}", self.host, self.address.port());
        let answer = http::get_over(stream, &authority, &self.path("location")).await;
        answer.map_err(|error| self.said(&why(&error)))
    }

    async fn expect_location(&self, bench: &Bench, expected: u16) -> Result<(), String> {
        let (status, body) = self.location(bench).await?;
        let is_location = serde_json::from_str::<serde_json::Value>(&body)
            .is_ok_and(|body| body["deployment_model"] == "LOCAL" && body["hostname"].is_string());
        if status != expected || (expected == 200) != is_location {
            return Err(self.said(&format!("the location call is answered {status} `{body}`, expected {expected}")));
        }
        Ok(())
    }

    /// Opens a Sync WebSocket; an echo is what the stand-in makes of it. `Err` has the status of a refusal.
    async fn websocket(&self, bench: &Bench) -> Result<Result<(), u16>, String> {
        let connected = tls(self.source, self.address, &self.host, &bench.tls).await;
        let stream = connected.map_err(|error| self.said(&why(&error)))?;
        let url = format!("wss://{}:{}{}", self.host, self.address.port(), self.path("realm-sync"));
        let mut socket = match client_async(url, stream).await {
            Ok((socket, _)) => socket,
            Err(Error::Http(refused)) => return Ok(Err(refused.status().as_u16())),
            Err(error) => return Err(self.said(&why(&error))),
        };
        socket.send(Message::text(GREETING)).await.map_err(|error| self.said(&why(&error)))?;
        match socket.next().await {
            Some(Ok(Message::Text(text))) if text == GREETING => {}
            other => return Err(self.said(&format!("a WebSocket message comes back as {other:?}"))),
        }
        // The connection is closed with the task either way.
        let _ = socket.close(None).await;
        Ok(Ok(()))
    }

    fn said(&self, what: &str) -> String {
        let from = self.source.map(|source| format!(" from {source}")).unwrap_or_default();
        format!("{} as {}{from}: {what}", self.address, self.host)
    }
}

/// Client requests come through the General endpoint and Sync WebSockets through the Sync one, from every network that is
/// joined to the VPC (B1, B2); whoever comes by the public address gets 404 (B3).
pub(super) async fn app_services(bench: Arc<Bench>, places: Arc<Places>) -> Outcome {
    let (mut general, mut sync) = (0, 0);
    for app in &bench.desired.apps {
        for source in [None, Some(places.peered), Some(places.on_premises)] {
            let http = private_ways(&bench, app, AppEndpointKind::General, source);
            try_join_all(http.iter().map(|way| way.expect_location(&bench, 200))).await?;
            general += http.len();
            let websockets = private_ways(&bench, app, AppEndpointKind::Sync, source);
            for (way, opened) in
                websockets.iter().zip(try_join_all(websockets.iter().map(|way| way.websocket(&bench))).await?)
            {
                opened.map_err(|status| way.said(&format!("a Sync WebSocket is refused with {status}")))?;
            }
            sync += websockets.len();
        }
        let restricted = !app.endpoints.is_empty() && !app.allow_non_vpc_requests;
        let (address, source) = (app.public_address, Some(places.listed));
        let public = Way { app, address, host: host(app, AppEndpointKind::General)?, source };
        public.expect_location(&bench, if restricted { 404 } else { 200 }).await?;
        let public = Way { app, address, host: host(app, AppEndpointKind::Sync)?, source };
        let opened = public.websocket(&bench).await?;
        if opened != if restricted { Err(404) } else { Ok(()) } {
            return Err(public.said(&format!("a Sync WebSocket is answered {opened:?}")));
        }
    }
    if general == 0 || sync == 0 {
        return Err("no app of the scenario has a General and a Sync endpoint".to_owned());
    }
    Ok("client requests pass the General endpoint, WebSockets the Sync one; by the public address both get 404"
        .to_owned())
}

/// Every address of the app's endpoints of `kind`.
fn private_ways<'b>(bench: &'b Bench, app: &'b App, kind: AppEndpointKind, source: Option<IpAddr>) -> Vec<Way<'b>> {
    let registered = app.endpoints.iter().filter(|endpoint| endpoint.kind == kind);
    let interfaces = registered.filter_map(|endpoint| bench.desired.endpoints.get(&endpoint.endpoint));
    let addresses = interfaces.flat_map(|interface| interface.addresses.iter().map(|at| at.ip));
    addresses
        .filter_map(|ip| {
            let address = SocketAddr::new(ip, app.public_address.port());
            Some(Way { app, address, host: host(app, kind).ok()?, source })
        })
        .collect()
}

/// The name that clients of the app use.
fn host(app: &App, kind: AppEndpointKind) -> Result<DnsName, String> {
    let name = match kind {
        AppEndpointKind::General => format!("{}.aws.services.cloud.mongodb.com", app.region),
        AppEndpointKind::Sync => format!("ws.{}.aws.services.cloud.mongodb.com", app.region),
    };
    name.parse().map_err(|error: crate::model::ParseDnsNameError| error.to_string())
}
