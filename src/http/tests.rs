use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;

/// Responds with the path; to `/slow` only after `release`.
#[derive(Default)]
struct Echo {
    refused: [AtomicUsize; 2],
    slow: AtomicUsize,
    release: Notify,
}

impl Site for Echo {
    const NAME: &'static str = "test";
    const CONNECTION_LIMIT: usize = 64;
    const DESCRIPTOR_PART: usize = 16;
    const HOSTS: Hosts = Hosts::Own;

    fn is_service_side(&self, source: IpAddr) -> bool {
        source == IpAddr::from([127, 1, 0, 11])
    }

    fn count_refused(&self, reason: ConnectionRefusal) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn forbidden(&self, _: RejectedRequest) -> Reply {
        let mut reply = Reply::default();
        *reply.status_mut() = StatusCode::FORBIDDEN;
        reply
    }

    type Call = String;

    async fn read(&self, request: Request<Incoming>, _: SocketAddr) -> Result<String, Reply> {
        let path = request.uri().path().to_owned();
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        Ok(path)
    }

    async fn answer(self: Arc<Self>, path: String) -> Reply {
        if path == "/slow" {
            self.slow.fetch_add(1, Ordering::Relaxed);
            self.release.notified().await;
        }
        Reply::new(Full::from(path))
    }
}

struct TestServer {
    site: Arc<Echo>,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl TestServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (site, address, stop) = (Arc::<Echo>::default(), listener.local_addr().unwrap(), CancellationToken::new());
        let serving = tokio::spawn(serve(Arc::clone(&site), listener, None, Arc::default(), stop.clone()));
        Self { site, address, stop, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect_from(&self, source: &str) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(source.parse().unwrap()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// The status line of the response to one request on a new connection.
    async fn status(&self, path: &str) -> String {
        let mut stream = self.connect().await;
        ask(&mut stream, path).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_source_on_the_services_side_gets_no_byte_and_is_counted() {
    let fixture = TestServer::start().await;
    let mut stream = fixture.connect_from("127.1.0.11:0").await;
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert_eq!(answer, b"");
    assert_eq!(fixture.site.refused[ConnectionRefusal::OneWay as usize].load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_closed() {
    // A real socket and a paused clock, which advances once the bytes are read.
    let fixture = TestServer::start().await;
    let mut stream = fixture.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").await.unwrap();
    fixture.status("/").await;
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(before.elapsed() <= HEAD_TIMEOUT + Duration::from_secs(1), "{:?}", before.elapsed());
    assert!(!String::from_utf8_lossy(&answer).contains("200"));
}

#[tokio::test]
async fn above_the_limit_the_connection_that_was_idle_for_longest_is_closed() {
    let fixture = TestServer::start().await;
    let mut held = Vec::new();
    for _ in 0..Echo::CONNECTION_LIMIT {
        held.push(fixture.connect().await);
    }
    assert_eq!(fixture.status("/new").await, "HTTP/1.1 200 OK");
    assert_eq!(held[0].read(&mut [0; 1]).await.unwrap(), 0, "it was evicted");
    ask(&mut held[1], "/second").await;
    let mut answer = [0; 12];
    held[1].read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn above_the_limit_a_connection_is_refused_while_every_other_one_is_being_answered() {
    let fixture = TestServer::start().await;
    let mut busy = Vec::new();
    for _ in 0..Echo::CONNECTION_LIMIT {
        let mut stream = fixture.connect().await;
        ask(&mut stream, "/slow").await;
        busy.push(stream);
    }
    while fixture.site.slow.load(Ordering::Relaxed) < Echo::CONNECTION_LIMIT {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.connect().await.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(fixture.site.refused[ConnectionRefusal::ConnectionLimit as usize].load(Ordering::Relaxed), 1);
    fixture.site.release.notify_waiters();
    for mut stream in busy {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_sends_its_body_slowly_can_be_evicted() {
    let fixture = TestServer::start().await;
    let mut slow = Vec::new();
    for _ in 0..Echo::CONNECTION_LIMIT {
        let mut stream = fixture.connect().await;
        stream.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(fixture.status("/new").await, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn invalid_requests_do_not_affect_other_clients() {
    let fixture = TestServer::start().await;
    for noise in [&b"\x16\x03\x01\x02\x00"[..], b"\r\n\r\n\r\n", b"GET\r\n\r\n", &[0xff; 300]] {
        let mut stream = fixture.connect().await;
        stream.write_all(noise).await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(fixture.status("/").await, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let fixture = TestServer::start().await;
    let mut stream = fixture.connect().await;
    ask(&mut stream, &format!("/{}", "a".repeat(400_000))).await;
    let mut answer = Vec::new();
    // hyper checks the limit between two reads, so a head may exceed it by one read. Unread bytes may reset the
    // connection and lose the response.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_rebound_name_reaches_no_site() {
    let fixture = TestServer::start().await;
    let mut stream = fixture.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: attacker.example\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test]
async fn stopping_closes_the_listener_and_idle_connections_and_lets_answers_end() {
    let fixture = TestServer::start().await;
    let mut idle = fixture.connect().await;
    idle.write_all(b"GET /kept HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    idle.read_exact(&mut [0; 12]).await.unwrap();
    let mut slow = fixture.connect().await;
    ask(&mut slow, "/slow").await;
    while fixture.site.slow.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    fixture.stop.cancel();
    idle.read_to_end(&mut Vec::new()).await.expect("an orderly end");
    fixture.site.release.notify_waiters();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("/slow"), "{answer}");
    fixture.serving.await.unwrap();
    let error = TcpStream::connect(fixture.address).await.expect_err("closed");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}
