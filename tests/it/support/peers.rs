//! The ends of a flow, named for what they do.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Net, SOON};

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) stream: TcpStream,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    Fin,
    Reset,
}

impl Flow {
    pub(crate) async fn connect(source: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source, 0))?;
        let stream = timeout(SOON, socket.connect(to)).await??;
        Ok(Self { stream })
    }

    /// The next command to a target.
    pub(crate) async fn accept(target: &TcpListener) -> Self {
        let (stream, _) = timeout(SOON, target.accept()).await.expect("in time").expect("it listens");
        Self { stream }
    }

    /// Sends `bytes` and reads as many back.
    pub(crate) async fn echo(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.stream.write_all(bytes).await.expect("the flow takes bytes");
        let mut back = vec![0; bytes.len()];
        timeout(SOON, self.stream.read_exact(&mut back)).await.expect("in time").expect("the flow gives bytes");
        back
    }

    /// Waits for the end, discarding any data.
    pub(crate) async fn closed(&mut self) -> Closed {
        let mut sink = [0; 4096];
        loop {
            match timeout(SOON, self.stream.read(&mut sink)).await.expect("the flow ends in time") {
                Ok(0) => return Closed::Fin,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Closed::Reset,
                Err(error) => panic!("neither FIN nor RST: {error}"),
            }
        }
    }

    /// Whether neither bytes nor an end arrive although something was sent, as with a dropped packet.
    pub(crate) async fn is_unanswered(&mut self) -> bool {
        let _ = self.stream.write_all(b"anybody there?").await;
        let mut one = [0; 1];
        // A test waits for time to pass only where nothing is to happen: that can't be seen otherwise.
        timeout(std::time::Duration::from_millis(150), self.stream.read(&mut one)).await.is_err()
    }
}

/// Listens at an address of the test's network. One that the test gave up just now may stay taken for a moment: a process that
/// another test starts has every descriptor until its `exec`.
async fn listen(address: SocketAddr) -> TcpListener {
    let bound = super::eventually("a free address", || match std::net::TcpListener::bind(address) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => panic!("{address}: {error}"),
        bound => bound.map_err(|error| format!("{address}: {error}")),
    });
    let bound = bound.await;
    bound.set_nonblocking(true).expect("a live socket");
    TcpListener::from_std(bound).expect("a live socket")
}

/// Sends back whatever it gets; passes FIN back.
pub(crate) struct EchoTarget(JoinHandle<()>);

impl EchoTarget {
    /// One behind each of the three members of a test's cluster.
    pub(crate) async fn start_three(net: &Net) -> [Self; 3] {
        [Self::start(net.target(0)).await, Self::start(net.target(1)).await, Self::start(net.target(2)).await]
    }

    pub(crate) async fn start(address: SocketAddr) -> Self {
        Self::on(listen(address).await)
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        Self(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    let _ = write.shutdown().await;
                });
            }
        }))
    }
}

impl Drop for EchoTarget {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Hands every connection to the test.
pub(crate) struct HeldTarget {
    connections: mpsc::UnboundedReceiver<TcpStream>,
    task: JoinHandle<()>,
}

impl HeldTarget {
    pub(crate) async fn start(address: SocketAddr) -> Self {
        Self::on(listen(address).await)
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        let (sender, connections) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = sender.send(stream);
            }
        });
        Self { connections, task }
    }

    /// The next connection on which something is sent: a health check sends nothing.
    pub(crate) async fn next(&mut self) -> TcpStream {
        loop {
            let stream = timeout(SOON, self.connections.recv()).await.expect("in time").expect("it listens");
            let mut one = [0; 1];
            if matches!(timeout(SOON, stream.peek(&mut one)).await, Ok(Ok(n)) if n > 0) {
                return stream;
            }
        }
    }
}

impl Drop for HeldTarget {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Resets every connection on its first byte.
pub(crate) struct ResettingTarget(JoinHandle<()>);

impl ResettingTarget {
    pub(crate) async fn start(address: SocketAddr) -> Self {
        let listener = listen(address).await;
        Self(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut one = [0; 1];
                    if matches!(stream.read(&mut one).await, Ok(1)) {
                        stream.set_zero_linger().expect("a live socket");
                    }
                });
            }
        }))
    }
}

impl Drop for ResettingTarget {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns the bytes of each read separately, so that a test can check their boundaries.
pub(crate) struct RecordingTarget {
    reads: mpsc::UnboundedReceiver<Vec<u8>>,
    task: JoinHandle<()>,
}

impl RecordingTarget {
    pub(crate) async fn start(address: SocketAddr) -> Self {
        let listener = listen(address).await;
        let (sender, reads) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let sender = sender.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 4096];
                    while let Ok(n) = stream.read(&mut buffer).await {
                        if n == 0 {
                            break;
                        }
                        let _ = sender.send(buffer[..n].to_vec());
                    }
                });
            }
        });
        Self { reads, task }
    }

    /// The next read of any connection.
    pub(crate) async fn next(&mut self) -> Vec<u8> {
        timeout(SOON, self.reads.recv()).await.expect("in time").expect("it listens")
    }
}

impl Drop for RecordingTarget {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An echo server that can stop listening while its connections stay open, as a process with a stuck listener.
pub(crate) struct DyingTarget {
    listening: JoinHandle<()>,
    stop: tokio_util::sync::CancellationToken,
}

impl DyingTarget {
    pub(crate) async fn start(address: SocketAddr) -> Self {
        let listener = listen(address).await;
        let stop = tokio_util::sync::CancellationToken::new();
        let stopped = stop.clone();
        let listening = tokio::spawn(async move {
            while let Some(Ok((mut stream, _))) = stopped.run_until_cancelled(listener.accept()).await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    let _ = write.shutdown().await;
                });
            }
        });
        Self { listening, stop }
    }

    /// Refuses new connections; open ones continue.
    pub(crate) fn stop_listening(&self) {
        self.stop.cancel();
    }
}

impl Drop for DyingTarget {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Answers no SYN: its queue of one is full, and the kernel drops further SYNs.
pub(crate) struct SilentTarget {
    queue: TcpListener,
    filling: Vec<TcpStream>,
}

impl SilentTarget {
    pub(crate) async fn start(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let queue = socket.listen(0).expect("it listens");
        let mut filling = Vec::new();
        // The queue takes one more than its size; the next SYN gets no answer.
        while let Ok(stream) = timeout(std::time::Duration::from_millis(200), TcpStream::connect(address)).await {
            filling.push(stream.expect("it is taken"));
        }
        Self { queue, filling }
    }

    /// Waits until a flow of the gateway dials: it is open, and a SYN to this target is unanswered.
    pub(crate) async fn is_dialed(&self, gateway: &super::TestGateway) {
        let address = self.queue.local_addr().expect("bound");
        super::eventually("a flow that dials", || {
            let flows = gateway.gateway.flows().len();
            (flows > 0 && is_asked(address)).then_some(()).ok_or(flows)
        })
        .await;
    }

    /// Accepts from now on, so that it answers the next SYN: one that was dropped before comes again after a second.
    pub(crate) async fn answer(self) -> TcpListener {
        rustix::net::listen(&self.queue, 128).expect("a longer queue");
        for _ in self.filling {
            self.queue.accept().await.expect("it is in the queue");
        }
        self.queue
    }
}

/// Whether a connection to `address` waits for an answer (`SYN_SENT`), by the kernel's table (proc(5), `/proc/net/tcp`).
fn is_asked(address: SocketAddr) -> bool {
    const SYN_SENT: &str = "02";
    let IpAddr::V4(ip) = address.ip() else { return false };
    let wanted = format!("{:08X}:{:04X}", u32::from(ip).swap_bytes(), address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    table.lines().any(|line| line.split_whitespace().skip(2).take(2).eq([wanted.as_str(), SYN_SENT]))
}
