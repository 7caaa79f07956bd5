//! The gateway's relay with nothing around it: no admission, flow table, counters, idle rules, metrics or logs.
//!
//! `bare FRONT TARGET`. The very sources of `src/data` are compiled in, so the difference to the gateway is the price of
//! what the gateway does besides.

#![allow(clippy::disallowed_methods, reason = "no tokio here: there is no clock to pause")]
#![allow(dead_code, reason = "the sources offer more than a bare relay uses")]

mod model {
    pub(crate) use plgw::model::Side;
}
#[path = "../../../src/data/leg.rs"]
mod leg;
#[path = "../../../src/data/pipes.rs"]
mod pipes;
#[path = "../../../src/data/relay.rs"]
mod relay;
#[path = "../../../src/data/scratch.rs"]
mod scratch;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Counts nothing.
struct Nobody;

impl relay::Meter for Nobody {
    fn to_target(&self, _: usize) {}
    fn to_client(&self, _: usize) {}
}

fn main() -> std::io::Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(front), Some(target)) = (words.next(), words.next()) else {
        println!("bare FRONT TARGET");
        return Ok(());
    };
    let Ok(front) = front.parse::<SocketAddr>() else { return Ok(()) };
    let target: SocketAddr = target.parse().map_err(std::io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        // Accepted sockets inherit it.
        socket.set_nodelay(true)?;
        socket.bind(front)?;
        let listener = socket.listen(4096)?;
        let tools = Rc::new(relay::Tools {
            scratch: scratch::Scratch::new(128 << 10),
            pipes: pipes::Pipes::new(64, 256 << 10),
        });
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            let tools = Rc::clone(&tools);
            tokio::task::spawn_local(flow(client, target, tools));
        }
    })
}

async fn flow(mut client: TcpStream, target: SocketAddr, tools: Rc<relay::Tools>) {
    let Ok(mut target) = TcpStream::connect(target).await else { return };
    // Fails only on a socket that is gone already.
    let _ = target.set_nodelay(true);
    let mut relay = relay::Relay::new();
    if poll_fn(|cx| relay.poll(cx, &mut client, &mut target, &tools, &Nobody)).await.is_err() {
        let _ = client.set_zero_linger();
        let _ = target.set_zero_linger();
    }
}
