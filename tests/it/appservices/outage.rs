//! A4: a zone outage at the addresses of App Services' endpoints.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use plgw::model::{Desired, Fault, FaultKind, FaultScope, Share};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, Http, get, tls};
use super::lab::*;
use super::recorder::Recorder;
use super::websockets::{open, says_back};

const PATH: &str = "/api/client/v2.0/app/myapp-abcde/functions/call";
/// Long enough for an answer on loopback, where none may come.
const BRIEF: Duration = Duration::from_millis(200);

/// That of `GENERAL` and `SYNC`.
fn lose_zone(desired: &mut Desired) {
    let fault = Fault {
        name: "loss".to_owned(),
        kind: FaultKind::ZoneOutage,
        scope: FaultScope { zone: Some("us-east-1a".parse().expect("a zone")), ..FaultScope::default() },
        share: Share::default(),
        seed: 0,
        after: Duration::ZERO,
        lasts: None,
    };
    desired.faults.insert(fault.name.clone(), Arc::new(fault));
}

#[tokio::test]
async fn what_goes_through_a_lost_zone_stands_still_until_the_outage_is_over_and_the_other_zone_serves() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    let mut raw = tls(&lab, VPC, GENERAL, HOST, &[b"http/1.1"]).await.expect("TLS");
    let mut http2 = Client::connect(&lab, Http::Two, VPC, GENERAL).await;
    assert_eq!(http2.get(PATH).await.status, 200);
    let (mut socket, _) = open(&lab, VPC, SYNC, WS_SDK, "").await.expect("a WebSocket");
    says_back(&mut socket).await;

    lab.change(lose_zone).await;
    // A worker hears of it in its next turn; a handshake that the kernel dropped shows that it has.
    let refused = async || {
        let connecting = TcpSocket::new_v4().expect("a socket");
        connecting.bind(format!("{VPC}:0").parse().expect("an address")).expect("bound");
        timeout(BRIEF, connecting.connect(lab.at(GENERAL))).await.is_err()
    };
    timeout(Duration::from_secs(10), async { while !refused().await {} }).await.expect("the lost zone goes silent");

    raw.write_all(format!("GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
        .await
        .expect("the kernel takes it");
    socket.send(Message::text("late")).await.expect("the kernel takes it");
    let mut first = [0; 12];
    let mut late = Box::pin(async {
        let read = raw.read_exact(&mut first).map(|read| read.expect("an answer"));
        tokio::join!(read, http2.get(PATH), socket.next()).1
    });
    assert!(timeout(BRIEF, &mut late).await.is_err());
    assert_eq!(get(&lab, Http::One, VPC, GENERAL_B, PATH).await.status, 200);

    lab.change(|desired| desired.faults.clear()).await;
    assert_eq!(timeout(Duration::from_secs(10), &mut late).await.expect("it goes on").status, 200);
    drop(late);
    assert_eq!(&first, b"HTTP/1.1 200");
    assert_eq!(get(&lab, Http::Two, VPC, GENERAL, PATH).await.status, 200);
}

/// Removed while its zone is lost, an endpoint leaves nothing behind.
#[tokio::test]
async fn what_stands_still_ends_with_its_listener() {
    let backend = Recorder::start().await;
    let mut lab = Lab::start(&backend.url).await;
    let mut client = tls(&lab, VPC, SYNC, HOST, &[b"http/1.1"]).await.expect("TLS");
    lab.change(lose_zone).await;
    lab.change(|desired| desired.apps[0].endpoints.truncate(1)).await;
    let read = timeout(Duration::from_secs(10), client.read(&mut [0])).await.expect("it ends");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}
