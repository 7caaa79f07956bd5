//! A backend that handles each connection as its test defines, byte by byte.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The bytes that a connection of the backend has received.
pub(super) type Received = Arc<Mutex<String>>;

pub(super) struct RawBackend {
    pub(super) url: String,
    /// By connection.
    received: Arc<Mutex<Vec<Received>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for RawBackend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawBackend {
    /// Serves each connection by `serve`, which records its input.
    pub(super) async fn start<F>(serve: impl Fn(TcpStream, Received) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.1.0.31:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let received = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&received);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let one = Received::default();
                all.lock().expect("no panic").push(Arc::clone(&one));
                tokio::spawn(serve(client, one));
            }
        });
        Self { url, received, task }
    }

    /// Answers every request as soon as its head is there, and reads on without end.
    pub(super) async fn answering(answer: &'static str) -> Self {
        Self::start(move |mut client, received| async move {
            let mut heads = 0;
            while read_some(&mut client, &received).await {
                let found = received.lock().expect("no panic").matches("\r\n\r\n").count();
                for _ in heads..found {
                    let _ = client.write_all(answer.as_bytes()).await;
                }
                heads = found;
            }
        })
        .await
    }

    /// Answers the head of a request and closes at once, leaving the rest unread.
    pub(super) async fn answering_and_closing(answer: &'static str) -> Self {
        Self::start(move |mut client, received| async move {
            while !received.lock().expect("no panic").contains("\r\n\r\n") {
                if !read_some(&mut client, &received).await {
                    return;
                }
            }
            let _ = client.write_all(answer.as_bytes()).await;
        })
        .await
    }

    pub(super) fn received(&self) -> Vec<String> {
        self.received.lock().expect("no panic").iter().map(|one| one.lock().expect("no panic").clone()).collect()
    }
}

/// Reads once and notes it; false at the end.
pub(super) async fn read_some(client: &mut TcpStream, received: &Received) -> bool {
    let mut buffer = [0; 4096];
    match client.read(&mut buffer).await {
        Ok(0) | Err(_) => false,
        Ok(n) => {
            received.lock().expect("no panic").push_str(&String::from_utf8_lossy(&buffer[..n]));
            true
        }
    }
}
