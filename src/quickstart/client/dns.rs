//! A DNS client: one query over UDP or TCP, with the response unchanged.
//!
//! Written by hand over `hickory-proto`: `hickory-resolver` retries, follows aliases and turns response codes into
//! errors, while the checks compare the code and every record of one response.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

/// Receive buffer; larger than the 512 bytes that are allowed without EDNS.
const MAX_DATAGRAM: usize = 4096;

/// The transport of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::quickstart) enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    /// The transport's name.
    pub(in crate::quickstart) fn label(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// A response in comparable form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::quickstart) struct DnsReply {
    /// The response code: `NoError`, `NXDomain`, `Refused`.
    pub(in crate::quickstart) code: ResponseCode,
    /// The records: owner, type (`A` for both kinds of addresses) and data, with names without the trailing dot.
    pub(in crate::quickstart) records: Vec<String>,
}

/// Asks `server` from `source` for the records of `kind` at `name`.
pub(in crate::quickstart) async fn ask(
    transport: Transport,
    source: Option<IpAddr>,
    server: SocketAddr,
    name: &str,
    kind: RecordType,
) -> io::Result<DnsReply> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    let name = Name::from_ascii(format!("{name}.")).map_err(io::Error::other)?;
    question.add_query(Query::query(name, kind));
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let reply = match transport {
        Transport::Udp => over_udp(source, server, &bytes).await?,
        Transport::Tcp => over_tcp(source, server, &bytes).await?,
    };
    let reply = Message::from_vec(&reply).map_err(io::Error::other)?;
    if reply.metadata.id != question.metadata.id {
        return Err(io::Error::other("the response is to another query"));
    }
    let records = reply.answers.iter().map(|record| format!("{} {}", text(&record.name), data(&record.data)));
    Ok(DnsReply { code: reply.metadata.response_code, records: records.collect() })
}

async fn over_udp(source: Option<IpAddr>, server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let source = source.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let socket = UdpSocket::bind(SocketAddr::new(source, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut reply = vec![0; MAX_DATAGRAM];
    let length = socket.recv(&mut reply).await?;
    reply.truncate(length);
    Ok(reply)
}

async fn over_tcp(source: Option<IpAddr>, server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = super::connect(source, server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

fn data(data: &RData) -> String {
    match data {
        RData::A(address) => format!("A {address}"),
        RData::AAAA(address) => format!("A {address}"),
        RData::CNAME(target) => format!("CNAME {}", text(target)),
        RData::SRV(srv) => format!("SRV {} {} {} {}", srv.priority, srv.weight, srv.port, text(&srv.target)),
        RData::TXT(txt) => {
            format!("TXT {:?}", txt.txt_data.iter().map(|piece| String::from_utf8_lossy(piece)).collect::<String>())
        }
        other => other.to_string(),
    }
}

fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}
