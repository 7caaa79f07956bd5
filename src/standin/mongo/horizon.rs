//! Split horizons: a set whose members have different names for different clients.
//!
//! A member remembers the host name in the TLS client's SNI and answers `hello` with the addresses of that horizon
//! (MongoDB, `src/mongo/db/repl/split_horizon/README.md`). So clients that connect through a private endpoint get
//! `pl-0-…:1024`, and those on other paths get the members' own addresses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::DnsName;

/// The members' addresses by the host name that clients connect to.
///
/// A client with another SNI or none gets the members' own addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Horizons(BTreeMap<DnsName, Arc<[String]>>);

impl Horizons {
    /// Adds a horizon: clients that connect to `host` get `members`, a `host:port` for each node of the set, in the
    /// nodes' order.
    ///
    /// In a set over several regions every region's host name has its own entry with the same members.
    pub fn insert(&mut self, host: DnsName, members: impl IntoIterator<Item = String>) {
        self.0.insert(host, members.into_iter().collect());
    }

    /// The members' addresses for a client with this SNI; `own` without a matching horizon.
    pub(super) fn hosts(&self, own: &[SocketAddr], sni: Option<&DnsName>) -> Vec<String> {
        match sni.and_then(|sni| self.0.get(sni)).filter(|members| members.len() == own.len()) {
            Some(members) => members.to_vec(),
            None => own.iter().map(ToString::to_string).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialled_host_name_chooses_the_addresses() {
        let own: Vec<SocketAddr> = vec!["127.1.0.11:27017".parse().unwrap(), "127.1.0.12:27017".parse().unwrap()];
        let private: DnsName = "pl-0-us-east-1-k45tj.mongodb.net".parse().unwrap();
        let (other, short): (DnsName, DnsName) = ("other.net".parse().unwrap(), "short.net".parse().unwrap());
        let mut horizons = Horizons::default();
        horizons.insert(private.clone(), ["pl-0:1024".to_owned(), "pl-0:1025".to_owned()]);
        horizons.insert(short.clone(), ["pl-0:1024".to_owned()]);
        assert_eq!(horizons.hosts(&own, Some(&private)), ["pl-0:1024", "pl-0:1025"]);
        for sni in [None, Some(&other), Some(&short)] {
            assert_eq!(horizons.hosts(&own, sni), ["127.1.0.11:27017", "127.1.0.12:27017"]);
        }
    }
}
