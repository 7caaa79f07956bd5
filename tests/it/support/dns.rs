//! Questions over UDP, as a stub resolver asks them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
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

/// The answer of a [`NameServer`] to queries for a name that it has.
#[derive(Clone)]
enum Named {
    Addresses(Vec<IpAddr>),
    Silence,
}

/// A name server with answers that a test can change. Names that it does not have do not exist; TTLs are 0.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    names: Arc<Mutex<BTreeMap<String, Named>>>,
    task: JoinHandle<()>,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let names = Arc::<Mutex<BTreeMap<String, Named>>>::default();
        let known = Arc::clone(&names);
        let task = tokio::spawn(async move {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let question = Message::from_vec(&packet[..length]).expect("a question");
                let query = question.queries[0].clone();
                let name = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
                let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
                answer.add_query(query.clone());
                match known.lock().expect("no panic").get(&name).cloned() {
                    None => answer.metadata.response_code = ResponseCode::NXDomain,
                    Some(Named::Silence) => continue,
                    Some(Named::Addresses(addresses)) => {
                        let data = |ip: IpAddr| match (ip, query.query_type()) {
                            (IpAddr::V4(ip), RecordType::A) => Some(RData::A(ip.into())),
                            (IpAddr::V6(ip), RecordType::AAAA) => Some(RData::AAAA(ip.into())),
                            _ => None,
                        };
                        for data in addresses.into_iter().filter_map(data) {
                            answer.add_answer(Record::from_rdata(query.name().clone(), 0, data));
                        }
                    }
                }
                socket.send_to(&answer.to_vec().expect("it encodes"), from).await.expect("sent");
            }
        });
        Self { address, names, task }
    }

    /// From now on `name` has these addresses.
    pub(crate) fn set(&self, name: &str, addresses: &[IpAddr]) {
        self.names.lock().expect("no panic").insert(name.to_owned(), Named::Addresses(addresses.to_vec()));
    }

    /// From now on `name` does not exist.
    pub(crate) fn remove(&self, name: &str) {
        self.names.lock().expect("no panic").remove(name);
    }

    /// From now on questions for `name` are not answered.
    pub(crate) fn ignore(&self, name: &str) {
        self.names.lock().expect("no panic").insert(name.to_owned(), Named::Silence);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
