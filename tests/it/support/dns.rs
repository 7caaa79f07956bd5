//! Questions over UDP, as a stub resolver asks them.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::SOON;

/// A client's resolver.
pub(crate) struct Resolver(UdpSocket);

impl Resolver {
    pub(crate) async fn new(source: IpAddr, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((source, 0)).await.expect("a free port");
        socket.connect(server).await.expect("an address");
        Self(socket)
    }

    /// The whole answer.
    pub(crate) async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let mut question = Message::new(7, MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        self.0.send(&question.to_vec().expect("it encodes")).await.expect("sent");
        let mut answer = vec![0; 4096];
        let n = timeout(SOON, self.0.recv(&mut answer)).await.expect("in time").expect("read");
        Message::from_vec(&answer[..n]).expect("it decodes")
    }

    /// Whether a question gets no answer in a while.
    pub(crate) async fn is_unanswered(&self, name: &str) -> bool {
        let mut question = Message::new(8, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
        self.0.send(&question.to_vec().expect("it encodes")).await.expect("sent");
        timeout(std::time::Duration::from_millis(200), self.0.recv(&mut [0; 4096])).await.is_err()
    }

    /// The A records that a name leads to.
    pub(crate) async fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let answer = self.ask(name, RecordType::A).await;
        let address = |record: &hickory_proto::rr::Record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            _ => None,
        };
        answer.answers.iter().filter_map(address).collect()
    }

    /// Hosts and ports of a seed list.
    pub(crate) async fn seeds(&self, name: &str) -> Vec<(String, u16)> {
        let answer = self.ask(&format!("_mongodb._tcp.{name}"), RecordType::SRV).await;
        let seed = |record: &hickory_proto::rr::Record| match &record.data {
            RData::SRV(srv) => Some((srv.target.to_ascii(), srv.port)),
            _ => None,
        };
        answer.answers.iter().filter_map(seed).collect()
    }
}
