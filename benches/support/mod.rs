//! Shared by the benches: a config of any size, an echo server, and a gateway in this process.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use plgw::app::{Gateway, GatewayOptions};
use plgw::config::{self, Config};

/// The project of every config here.
const HEAD: &str = r#"
workers = 1
watch_file = false
[state]
store = "memory"
[dns]
enabled = false
[metrics]
enabled = false
[admin]
enabled = false

[[vpc]]
id = "vpc-0b3f1c9a7d2e84f56"
region = "us-east-1"
cidrs = ["127.0.0.0/16"]
enable_dns_support = true
enable_dns_hostnames = true
[[vpc.subnet]]
id = "subnet-0c1d2e3f4a5b60718"
zone = "us-east-1a"
cidr = "127.0.30.0/24"
[[vpc.subnet]]
id = "subnet-0d2e3f4a5b6c71829"
zone = "us-east-1b"
cidr = "127.0.20.0/24"
[[vpc.security_group]]
id = "sg-0a1b2c3d4e5f60718"
name = "default"
ingress = [{ ports = "1024-65535", cidrs = ["127.0.0.0/16"] }]

[[project]]
id = "5f2a1b3c4d5e6f7081920a3b"
name = "Project0"
"#;

const TAIL: &str = r#"
[[interface_endpoint]]
id = "vpce-024f5b57108c8d3ed"
vpc = "vpc-0b3f1c9a7d2e84f56"
service = "com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c"
dns_suffix = "ypwbxwll"
address = [
    { subnet = "subnet-0c1d2e3f4a5b60718", ip = "127.0.30.194" },
    { subnet = "subnet-0d2e3f4a5b6c71829", ip = "127.0.20.54" },
]
"#;

/// A checked config of `targets` targets in replica sets of three, behind two endpoint addresses. The first target is
/// `first`; ports start at `ports`.
pub(crate) fn config(targets: usize, first: SocketAddr, ports: u16) -> Config {
    let mut text = HEAD.to_owned();
    for target in 0..targets {
        let (cluster, member) = (target / 3, target % 3);
        if member == 0 {
            let _ = write!(
                text,
                "[[project.cluster]]\nname = \"Cluster{cluster:03}\"\nlabel = \"k45tj\"\nnaming = \"dash\"\ntype = \"replica-set\"\n\
                 set_name = \"Cluster{cluster:03}-shard-0\"\n"
            );
        }
        let address = match target {
            0 => first,
            _ => SocketAddr::from(([127, 1, 1, u8::try_from(target).unwrap_or(255)], 27017)),
        };
        let zone = if member == 1 { "us-east-1b" } else { "us-east-1a" };
        let _ = write!(
            text,
            "[[project.cluster.node]]\nname = \"shard-00-{member:02}\"\nzone = \"{zone}\"\naddress = \"{address}\"\n"
        );
    }
    let _ = write!(
        text,
        "[[project.endpoint_service]]\nid = \"vpce-svc-02863655456245e5c\"\nregion = \"us-east-1\"\n\
         cidrs = [\"127.1.0.0/16\"]\ntarget_limit = 100\nports = \"{ports}-65535\"\n"
    );
    text.push_str(TAIL);
    config::parse(&text, "the bench's config").expect("the generated config is sound")
}

/// Starts a server that sends back whatever it gets, and answers with its address.
pub(crate) fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 1, 0, 11), 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { continue };
            std::thread::spawn(move || -> std::io::Result<()> {
                client.set_nodelay(true)?;
                let mut buffer = vec![0; 256 << 10];
                loop {
                    let n = client.read(&mut buffer)?;
                    if n == 0 {
                        return Ok(());
                    }
                    client.write_all(&buffer[..n])?;
                }
            });
        }
    });
    address
}

/// A gateway in a separate thread; returns the address of the first target's listener.
pub(crate) fn gateway(target: SocketAddr) -> SocketAddr {
    let (started, starting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let gateway =
                Gateway::start(config(3, target, 21_024), GatewayOptions::default()).await.expect("the gateway starts");
            let snapshot = gateway.snapshot();
            let (address, _) = snapshot
                .listeners
                .iter()
                .find(|(_, listener)| listener.group.members.iter().any(|member| member.address == target))
                .expect("the first target has a listener");
            started.send(*address).expect("the bench waits");
            gateway.failed().await;
        });
    });
    starting.recv().expect("the gateway says where it is")
}

/// A connection without Nagle's delay.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a listener");
    stream.set_nodelay(true).expect("a live socket");
    stream
}
