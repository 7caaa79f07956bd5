//! A4: a zone outage at the addresses of App Services' endpoints.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt, SinkExt, StreamExt};
use plgw::model::{Desired, Fault, FaultKind, FaultScope, Share};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, Http, Tls, get, tls};
use super::lab::*;
use super::recorder::{Manner, Recorder};
use super::websockets::{open, says_back};

const PATH: &str = "/api/client/v2.0/app/myapp-abcde/functions/call";
/// Long enough for an answer on loopback, where none may come.
const BRIEF: Duration = Duration::from_millis(200);
/// More than enough for an expected event.
const SOON: Duration = Duration::from_secs(10);

/// That of `GENERAL` and `SYNC`.
fn lose_zone(desired: &mut Desired) {
    let fault = Fault {
        name: "loss".to_owned(),
        kind: FaultKind::ZoneOutage {},
        scope: FaultScope { zone: Some("us-east-1a".parse().expect("a zone")), ..FaultScope::default() },
        share: Share::default(),
        seed: 0,
        after: Duration::ZERO,
        lasts: None,
    };
    desired.faults.insert(fault.name.clone(), Arc::new(fault));
}

/// Waits until handshakes at `to` are dropped: a worker hears of an outage in its next turn. The lab's front has one
/// worker; of several, a dropped SYN would show only that the one whose socket the kernel chose has heard of it.
async fn until_silent(lab: &Lab, to: &str) {
    let dropped = async || {
        let connecting = TcpSocket::new_v4().expect("a socket");
        connecting.bind(format!("{VPC}:0").parse().expect("an address")).expect("bound");
        timeout(BRIEF, connecting.connect(lab.at(to))).await.is_err()
    };
    timeout(SOON, async { while !dropped().await {} }).await.expect("the lost zone goes silent");
}

/// Asks for `path` over HTTP/1.1, and returns once the response has begun to come.
async fn begin(lab: &Lab, path: &str) -> Tls {
    let mut io = tls(lab, VPC, GENERAL, HOST, &[b"http/1.1"]).await.expect("TLS");
    io.write_all(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.expect("written");
    let mut first = [0; 12];
    io.read_exact(&mut first).await.expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    io
}

#[tokio::test]
async fn traffic_of_a_lost_zone_stalls_until_the_outage_ends_and_the_other_zone_serves() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    let mut raw = tls(&lab, VPC, GENERAL, HOST, &[b"http/1.1"]).await.expect("TLS");
    let mut http2 = Client::connect(&lab, Http::Two, VPC, GENERAL).await;
    assert_eq!(http2.get(PATH).await.status, 200);
    let (mut socket, _) = open(&lab, VPC, SYNC, WS_SDK, "").await.expect("a WebSocket");
    says_back(&mut socket).await;

    lab.change(lose_zone).await;
    until_silent(&lab, GENERAL).await;
    until_silent(&lab, SYNC).await;
    raw.write_all(format!("GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
        .await
        .expect("the kernel takes it");
    socket.send(Message::text("late")).await.expect("the kernel takes it");
    let mut late = [
        async {
            let mut first = [0; 12];
            raw.read_exact(&mut first).await.is_ok() && first == *b"HTTP/1.1 200"
        }
        .boxed_local(),
        async { http2.get(PATH).await.status == 200 }.boxed_local(),
        async { socket.next().await.is_some_and(|next| next.is_ok_and(|next| next == Message::text("late"))) }
            .boxed_local(),
    ];
    for one in &mut late {
        assert!(timeout(BRIEF, one).await.is_err(), "it stands still");
    }
    assert_eq!(get(&lab, Http::One, VPC, GENERAL_B, PATH).await.status, 200);

    lab.change(|desired| desired.faults.clear()).await;
    assert_eq!(timeout(SOON, join_all(late)).await.expect("they go on"), [true; 3]);
    assert_eq!(get(&lab, Http::Two, VPC, GENERAL, PATH).await.status, 200);
}

/// Where an endpoint is removed or the front end stops while a zone is lost, nothing is left behind.
#[tokio::test]
async fn stalled_connections_end_with_their_listener() {
    for is_removed in [true, false] {
        let backend = Recorder::start().await;
        let mut lab = Lab::start(&backend.url).await;
        let mut client = tls(&lab, VPC, SYNC, HOST, &[b"http/1.1"]).await.expect("TLS");
        lab.change(lose_zone).await;
        until_silent(&lab, SYNC).await;
        assert!(timeout(BRIEF, client.read(&mut [0])).await.is_err(), "it stands still");
        if is_removed {
            lab.change(|desired| desired.apps[0].endpoints.truncate(1)).await;
        } else {
            timeout(SOON, lab.front.stop(6 * SOON)).await.expect("it does not wait for the outage's end");
        }
        let read = timeout(SOON, client.read(&mut [0])).await.expect("it ends");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
}

#[tokio::test]
async fn a_stalled_websocket_is_ended_by_command() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    let (mut socket, _) = open(&lab, VPC, SYNC, WS_SDK, "").await.expect("a WebSocket");
    says_back(&mut socket).await;
    lab.change(lose_zone).await;
    until_silent(&lab, SYNC).await;
    assert!(lab.front.kill(lab.front.websockets()[0].id));
    let end = timeout(SOON, socket.next()).await.expect("at once");
    assert!(end.is_none_or(|end| end.is_err()), "it breaks off");
    lab.expect_metric(&["plgw_app_websockets_closed_total", "end=\"killed\""], 1.0).await;
    assert!(lab.front.websockets().is_empty());
}

/// Responses that clients of the lost zone do not take use up no HTTP/2 window that the other zone's need.
#[tokio::test]
async fn bodies_of_a_lost_zone_stall_and_those_of_the_other_zone_pass() {
    const BIG: &str = "/api/client/v2.0/app/myapp-abcde/big";
    let backend = Recorder::start_as(Manner { h2c: true, ..Manner::default() }).await;
    let mut lab = Lab::start(&backend.url).await;
    let mut suspended = Vec::new();
    for _ in 0..4 {
        suspended.push(begin(&lab, BIG).await);
    }
    lab.change(lose_zone).await;
    until_silent(&lab, GENERAL).await;
    let answer = timeout(SOON, get(&lab, Http::One, VPC, GENERAL_B, BIG)).await.expect("the other zone serves");
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 8 << 20));
    drop(suspended);
}
