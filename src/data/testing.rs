//! Drives sockets without a worker, for tests of what is between them.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::poll::{Inbox, Key, Poller, PutOff, Token};
use super::socket::Socket;
use crate::model::Side;

/// A connection: the peer's end, which blocks, and the gateway's.
pub(crate) fn pair() -> (TcpStream, Socket) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (far, _) = listener.accept().expect("accepted");
    far.set_nonblocking(true).expect("a live socket");
    (near, Socket::new(far.into()))
}

/// Polls `go` whenever there is news of either socket, or the time has come that it asked for, until it is ready.
pub(crate) fn drive<T>(
    client: &mut Socket,
    target: &mut Socket,
    mut go: impl FnMut(&mut Context<'_>, &mut Socket, &mut Socket) -> (Poll<T>, Option<Instant>),
) -> T {
    let (poller, mut inbox, put_off) = (Poller::new().expect("epoll"), Inbox::new(), Arc::new(PutOff::default()));
    let waker = Waker::from(Arc::clone(&put_off));
    let key = Key { slot: 0, generation: 0 };
    client.watch(&poller, Token::Connection(key, Side::Client)).expect("watched");
    target.watch(&poller, Token::Connection(key, Side::Target)).expect("watched");
    loop {
        let (done, call_at) = go(&mut Context::from_waker(&waker), client, target);
        if let Poll::Ready(done) = done {
            return done;
        }
        let until = call_at.map(|at| at.saturating_duration_since(Instant::now()));
        poller.wait(&mut inbox, if put_off.take() { Some(Duration::ZERO) } else { until }).expect("it waits");
        while let Some((token, news)) = inbox.take() {
            match token {
                Token::Connection(_, Side::Client) => client.hear(news),
                _ => target.hear(news),
            }
        }
    }
}
