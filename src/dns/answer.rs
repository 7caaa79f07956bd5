//! The answer to a question. Pure: a view, a source address and a question in, records out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::view::{NameEntry, ViewZone, ViewZones, choose};
use super::{QueryType, Question, ViewKind};
use crate::config::DnsSettings;
use crate::model::DnsName;
use crate::plan::{DnsView, RecordSets};

/// Aliases followed for one question. Real chains have two; a longer one than this is a loop.
const MAXIMUM_CHAIN: usize = 16;

/// How long Route 53's default NS records live: two days.
pub(super) const NS_TTL: u32 = 172_800;

/// The name servers of every zone: those that Route 53 gives private hosted zones.
pub(super) const NAME_SERVERS: [&str; 4] =
    ["ns-1536.awsdns-00.co.uk", "ns-0.awsdns-00.com", "ns-1024.awsdns-00.org", "ns-512.awsdns-00.net"];

/// The mailbox of the zones' administrator, as written in the SOA record.
pub(super) const HOSTMASTER: &str = "awsdns-hostmaster.amazon.com";

/// Serial, refresh, retry, expire and minimum of Route 53's default SOA.
pub(super) const SOA_NUMBERS: [u32; 5] = [1, 7200, 900, 1_209_600, 86_400];

/// The response codes in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rcode {
    /// Records, or no records of that type at a name that exists.
    NoError,
    /// The message is malformed.
    FormErr,
    /// No upstream resolver answered, or a chain of aliases does not end.
    ServFail,
    /// The name does not exist.
    NxDomain,
    /// The operation is not implemented.
    NotImp,
    /// The source or the name is not served.
    Refused,
    /// An unknown version of EDNS (RFC 6891 §6.1.3).
    BadVers,
}

impl Rcode {
    /// Every code.
    pub const ALL: [Self; 7] =
        [Self::NoError, Self::FormErr, Self::ServFail, Self::NxDomain, Self::NotImp, Self::Refused, Self::BadVers];

    /// The lower-case name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoError => "noerror",
            Self::FormErr => "formerr",
            Self::ServFail => "servfail",
            Self::NxDomain => "nxdomain",
            Self::NotImp => "notimp",
            Self::Refused => "refused",
            Self::BadVers => "badvers",
        }
    }
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<'v> {
    /// The view that it was taken from.
    pub view: ViewKind,
    /// The response code.
    pub code: Rcode,
    /// The chain of aliases and the records at its end.
    pub records: Vec<Record<'v>>,
    /// The zone's SOA record of a negative answer: it limits how long that may be cached (RFC 2308).
    pub authority: Option<Record<'v>>,
    /// The name to ask an upstream resolver for, to complete the answer.
    pub upstream: Option<RecordOwner<'v>>,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'v> {
    /// The owner name.
    pub owner: RecordOwner<'v>,
    /// The TTL in seconds.
    pub ttl: u32,
    /// Type and value.
    pub data: RecordData<'v>,
}

/// A record's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOwner<'v> {
    /// The name in the question, in the question's spelling.
    Question,
    /// The target of an alias, or a zone's name.
    Name(&'v DnsName),
}

/// A record's type and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordData<'v> {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name.
    Cname(&'v DnsName),
    /// Priority and weight 0, a port, a host.
    Srv(u16, &'v DnsName),
    /// A text.
    Txt(&'v str),
    /// The zone's parameters, Route 53's defaults.
    Soa,
    /// A name server.
    Ns(&'static str),
}

/// Answers `question` from `source` out of `view`.
///
/// `rotation` rotates several addresses and several services, so that clients that take the first one spread over all.
/// The whole chain of aliases goes into one answer, as recursive resolvers give it.
///
/// A name that exists without records of the wanted type gets an empty answer (NODATA), and only a name that does not
/// exist gets NXDOMAIN (RFC 2308 §2.2, RFC 4592 §2.2.2, RFC 8020), in private hosted zones as in public ones. AWS's page
/// (considerations when working with a private hosted zone) says NXDOMAIN for a missing type too; resolvers in front of
/// the gateway would take that as the absence of the whole name and of every name below it.
///
/// Public zones have only a few of their names (`mongodb.net`), so with forwarding, a missing name there is forwarded.
/// A private hosted zone hides the public one.
#[must_use]
pub fn answer<'v>(
    question: &Question<'_>,
    source: IpAddr,
    view: &'v DnsView,
    options: &DnsSettings,
    rotation: u64,
) -> Answer<'v> {
    let (kind, zones) = choose(source, view, options);
    let Some(zones) = zones else {
        return Answer::of(kind, Rcode::Refused);
    };
    let outside = match kind {
        ViewKind::Vpc if options.forward.is_empty() => OutsideZones::Absent,
        ViewKind::Vpc => OutsideZones::Forwarded,
        ViewKind::Public | ViewKind::None => OutsideZones::Refused,
    };
    Answer { view: kind, ..resolve(question, zones, outside, options, rotation) }
}

/// How names outside every zone are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutsideZones {
    /// Forwarded to an upstream resolver.
    Forwarded,
    /// As names that do not exist, as by an isolated resolver: stub resolvers stop at NXDOMAIN, and retry after
    /// REFUSED.
    Absent,
    /// Refused to this source.
    Refused,
}

/// Follows `question` through `zones` to its end.
pub(super) fn resolve<'v>(
    question: &Question<'_>,
    zones: ViewZones<'v>,
    outside: OutsideZones,
    options: &DnsSettings,
    rotation: u64,
) -> Answer<'v> {
    let answer = Answer::of(ViewKind::None, Rcode::NoError);
    let mut walk = AliasChain { kind: question.kind, outside, options, rotation, answer };
    let mut owner = RecordOwner::Question;
    for _ in 0..MAXIMUM_CHAIN {
        let name = match owner {
            RecordOwner::Question => question.name,
            RecordOwner::Name(name) => name.as_str(),
        };
        match zones.zone_of(name) {
            None => walk.leave(owner, zones.any_below(name)),
            Some(found) => {
                if let Some(target) = walk.visit(owner, name, found) {
                    owner = RecordOwner::Name(target);
                    continue;
                }
            }
        }
        return walk.answer;
    }
    // A loop of aliases: part of it would not help a client.
    Answer::of(ViewKind::None, Rcode::ServFail)
}

impl<'v> Answer<'v> {
    /// An answer without records.
    pub(super) fn of(view: ViewKind, code: Rcode) -> Self {
        Self { view, code, records: Vec::new(), authority: None, upstream: None }
    }
}

/// Seconds as a record has them: at most 2³¹ − 1, as a TTL with the top bit set counts as zero (RFC 2181 §8).
pub(super) fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs())
}

/// Follows a question's chain of aliases.
struct AliasChain<'v, 'o> {
    kind: QueryType,
    outside: OutsideZones,
    options: &'o DnsSettings,
    rotation: u64,
    answer: Answer<'v>,
}

impl<'v> AliasChain<'v, '_> {
    /// Handles a name outside every zone. Without forwarding, the aliases that lead there are the answer.
    fn leave(&mut self, owner: RecordOwner<'v>, has_zones_below: bool) {
        match self.outside {
            OutsideZones::Forwarded => self.answer.upstream = Some(owner),
            _ if !self.answer.records.is_empty() => {}
            // NXDOMAIN would deny the zones below as well (RFC 8020).
            OutsideZones::Absent if has_zones_below => {}
            OutsideZones::Absent => self.answer.code = Rcode::NxDomain,
            OutsideZones::Refused => self.answer.code = Rcode::Refused,
        }
    }

    /// Handles a name of a zone: adds the requested records, or returns the target of an alias.
    fn visit(&mut self, owner: RecordOwner<'v>, name: &str, found: ViewZone<'v>) -> Option<&'v DnsName> {
        let sets = match found.node(name) {
            NameEntry::Records(sets) => Some(sets),
            NameEntry::Empty => None,
            NameEntry::Absent => {
                if found.private || !self.forwards() {
                    self.deny(Rcode::NxDomain, found);
                } else {
                    self.answer.upstream = Some(owner);
                }
                return None;
            }
        };
        if let Some(target) = sets.and_then(|sets| sets.cname.as_ref())
            && !matches!(self.kind, QueryType::Cname | QueryType::Any)
        {
            self.push(owner, RecordData::Cname(target));
            return Some(target);
        }
        let is_apex = name == found.apex.as_str();
        let before = self.answer.records.len();
        self.take(owner, self.kind, sets, is_apex);
        let taken = &mut self.answer.records[before..];
        if !taken.is_empty() {
            let turn = self.rotation % taken.len() as u64;
            taken.rotate_left(usize::try_from(turn).expect("less than a length"));
        } else if is_apex && sets.is_none() && !found.private && self.forwards() {
            // The zone exists for names below it: `services.cloud.mongodb.com` itself is a public host.
            self.answer.upstream = Some(owner);
        } else {
            self.deny(Rcode::NoError, found);
        }
        None
    }

    /// Adds the records of `kind`; for ANY, one existing set (RFC 8482 §4.1).
    fn take(&mut self, owner: RecordOwner<'v>, kind: QueryType, sets: Option<&'v RecordSets>, is_apex: bool) {
        match (kind, sets) {
            (QueryType::A, Some(sets)) => {
                for address in &sets.addresses {
                    if let IpAddr::V4(address) = address {
                        self.push(owner, RecordData::A(*address));
                    }
                }
            }
            (QueryType::Aaaa, Some(sets)) => {
                for address in &sets.addresses {
                    if let IpAddr::V6(address) = address {
                        self.push(owner, RecordData::Aaaa(*address));
                    }
                }
            }
            (QueryType::Srv, Some(sets)) => {
                for (port, target) in &sets.srv {
                    self.push(owner, RecordData::Srv(port.get(), target));
                }
            }
            (QueryType::Txt, Some(sets)) => {
                if let Some(text) = &sets.txt {
                    self.push(owner, RecordData::Txt(text));
                }
            }
            (QueryType::Cname, Some(sets)) => {
                if let Some(target) = &sets.cname {
                    self.push(owner, RecordData::Cname(target));
                }
            }
            (QueryType::Soa, _) if is_apex => {
                let ttl = seconds(self.options.negative_ttl);
                self.answer.records.push(Record { owner, ttl, data: RecordData::Soa });
            }
            (QueryType::Ns, _) if is_apex => {
                let records = NAME_SERVERS.map(|server| Record { owner, ttl: NS_TTL, data: RecordData::Ns(server) });
                self.answer.records.extend(records);
            }
            (QueryType::Any, _) => {
                let before = self.answer.records.len();
                for kind in
                    [QueryType::Cname, QueryType::A, QueryType::Aaaa, QueryType::Srv, QueryType::Txt, QueryType::Soa]
                {
                    self.take(owner, kind, sets, is_apex);
                    if self.answer.records.len() > before {
                        break;
                    }
                }
            }
            _ => {}
        }
    }

    fn deny(&mut self, code: Rcode, found: ViewZone<'v>) {
        self.answer.code = code;
        let ttl = seconds(self.options.negative_ttl);
        self.answer.authority = Some(Record { owner: RecordOwner::Name(found.apex), ttl, data: RecordData::Soa });
    }

    fn push(&mut self, owner: RecordOwner<'v>, data: RecordData<'v>) {
        self.answer.records.push(Record { owner, ttl: seconds(self.options.ttl), data });
    }

    fn forwards(&self) -> bool {
        self.outside == OutsideZones::Forwarded
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::super::fixture::{self, REGIONAL, cidrs, name};
    use super::*;

    const APP: &str = "us-east-1.aws.services.cloud.mongodb.com";
    const HOST: &str = "pl-0-us-east-1-k45tj.mongodb.net";
    const SEEDS: &str = "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net";

    /// A9, A11: the `nslookup -type=SRV` of MongoDB's documentation.
    #[test]
    fn a_seed_list_has_one_srv_record_a_node_with_the_port_on_the_load_balancer() {
        let view = fixture::view();
        let found = ask(&view, "10.0.1.1", SEEDS, QueryType::Srv, 2);
        let host = name(HOST);
        assert_eq!(data(&found), [1026, 1024, 1025].map(|port| RecordData::Srv(port, &host)));
        assert!(found.records.iter().all(|record| record.ttl == 60 && record.owner == RecordOwner::Question));
        let text = ask(&view, "10.0.1.1", "cluster0-pl-0-k45tj.mongodb.net", QueryType::Txt, 0);
        assert_eq!(data(&text), [RecordData::Txt("authSource=admin&replicaSet=Cluster0-shard-0-shard-0")]);
    }

    /// A9: the newer dot form; A16: one record for an optimized string.
    #[test]
    fn the_dot_form_is_answered_alike() {
        let view = fixture::view();
        let host = name("pl-0-us-east-1.auylw.mongodb.net");
        let found = ask(&view, "10.0.1.1", "_mongodb._tcp.sharded0-pl-0-lb.auylw.mongodb.net", QueryType::Srv, 0);
        assert_eq!(data(&found), [RecordData::Srv(1027, &host)]);
    }

    /// A12, A13: the `nslookup pl-0-…` of MongoDB's documentation.
    #[test]
    fn a_private_endpoint_host_is_an_alias_of_the_regional_name_with_an_address_a_subnet() {
        let view = fixture::view();
        let regional = name(REGIONAL);
        let found = ask(&view, "10.0.1.1", HOST, QueryType::A, 1);
        assert_eq!(
            data(&found),
            [
                RecordData::Cname(&regional),
                RecordData::A([10, 0, 30, 194].into()),
                RecordData::A([10, 0, 20, 54].into())
            ]
        );
        assert_eq!(found.records[1].owner, RecordOwner::Name(&regional));
        assert_eq!((found.view, found.code), (ViewKind::Vpc, Rcode::NoError));

        let zonal = REGIONAL.replacen("ypwbxwll", "ypwbxwll-us-east-1b", 1);
        assert_eq!(data(&ask(&view, "10.0.1.1", &zonal, QueryType::A, 0)), [RecordData::A([10, 0, 20, 54].into())]);
    }

    #[test]
    fn addresses_take_turns() {
        let view = fixture::view();
        let firsts: Vec<_> =
            (0..4).map(|turn| data(&ask(&view, "10.0.1.1", REGIONAL, QueryType::A, turn))[0]).collect();
        assert_eq!(firsts[0], firsts[2]);
        assert_eq!(firsts[1], firsts[3]);
        assert_ne!(firsts[0], firsts[1]);
    }

    /// Drivers query AAAA first: NXDOMAIN there would hide the A records.
    #[test]
    fn a_name_without_ipv6_addresses_exists_nevertheless() {
        let view = fixture::view();
        for (asked, aliases) in [(REGIONAL, 0), (HOST, 1), (APP, 0)] {
            for kind in [QueryType::Aaaa, QueryType::ServiceBinding] {
                let found = ask(&view, "10.0.1.1", asked, kind, 0);
                assert_eq!((found.code, found.records.len()), (Rcode::NoError, aliases), "{asked} {kind:?}");
                assert_eq!(found.authority.map(|soa| (soa.ttl, soa.data)), Some((900, RecordData::Soa)));
            }
        }
    }

    /// B9: names that a private zone lacks are not looked up in the public zone.
    #[test]
    fn a_private_zone_hides_the_public_one_and_denies_other_names() {
        let view = fixture::view();
        assert_eq!(data(&ask(&view, "10.0.1.1", APP, QueryType::A, 1))[0], RecordData::A([10, 0, 30, 195].into()));
        assert_eq!(data(&ask(&view, "9.9.9.9", APP, QueryType::A, 0)), [RecordData::A([127, 9, 0, 10].into())]);
        let below = format!("below.{APP}");
        let deep = format!("other.below.{APP}");
        for (asked, kind, code) in [
            (APP, QueryType::Txt, Rcode::NoError),
            (below.as_str(), QueryType::A, Rcode::NoError), // an empty non-terminal
            (deep.as_str(), QueryType::A, Rcode::NxDomain), // its closest encloser `below` has no wildcard
        ] {
            let found = forwarding(&view, "10.0.1.1", asked, kind);
            assert_eq!((found.code, found.upstream), (code, None), "{asked} {kind:?}");
            let apex = name(APP);
            assert_eq!(found.authority.map(|soa| soa.owner), Some(RecordOwner::Name(&apex)));
        }
    }

    /// RFC 2308 §2.2, RFC 8020, RFC 4592 §2.2.2: NXDOMAIN only for a name that does not exist.
    #[test]
    fn a_name_that_exists_is_never_denied_whatever_type_is_asked_for() {
        let view = fixture::view();
        let names = [
            APP.to_owned(),                 // an apex, with addresses
            format!("below.{APP}"),         // an empty non-terminal
            format!("deep.below.{APP}"),    // a text
            format!("anything.{APP}"),      // a wildcard's
            format!("alias.{APP}"),         // an alias out of the private zone
            "mongodb.net".to_owned(),       // an apex without records
            "auylw.mongodb.net".to_owned(), // an empty non-terminal of a public zone
            HOST.to_owned(),
            REGIONAL.to_owned(),
            SEEDS.to_owned(),
        ];
        for asked in &names {
            for kind in QueryType::ALL {
                let found = ask(&view, "10.0.1.1", asked, kind, 0);
                assert_eq!(found.code, Rcode::NoError, "{asked} {kind:?}");
                let ends_empty = found.records.iter().all(|record| matches!(record.data, RecordData::Cname(_)));
                let follows = !matches!(kind, QueryType::Cname | QueryType::Any);
                assert_eq!(
                    found.authority.is_some(),
                    ends_empty && (follows || found.records.is_empty()),
                    "{asked} {kind:?}"
                );
            }
        }
    }

    /// Without forwarding, the resolver of a VPC is an isolated one; other sources do not learn which names exist.
    #[test]
    fn names_outside_every_zone_do_not_exist_for_vpc_clients_and_are_refused_to_others() {
        let view = fixture::view();
        let code = |source, asked| ask(&view, source, asked, QueryType::A, 0).code;
        assert_eq!(code("10.0.1.1", "example.com"), Rcode::NxDomain);
        assert_eq!(code("10.0.1.1", "amongodb.net"), Rcode::NxDomain, "a label is compared whole");
        for above in ["", "net", "com", "mongodb.com", "amazonaws.com"] {
            assert_eq!(code("10.0.1.1", above), Rcode::NoError, "{above:?} has zones below it");
        }
        for source in ["9.9.9.9", "172.16.0.1", "10.0.200.7", "10.5.0.1"] {
            for asked in ["example.com", "net", ""] {
                assert_eq!(code(source, asked), Rcode::Refused, "{source} {asked:?}");
            }
        }
    }

    #[test]
    fn a_wildcard_answers_for_names_that_do_not_exist() {
        let view = fixture::view();
        for asked in ["myapp-abcde", "a.b.c", "*"] {
            let asked = format!("{asked}.{APP}");
            assert_eq!(
                data(&ask(&view, "10.0.1.1", &asked, QueryType::A, 0)),
                [RecordData::A([10, 0, 30, 195].into())],
                "{asked}"
            );
        }
        let existing = ask(&view, "10.0.1.1", &format!("deep.below.{APP}"), QueryType::A, 0);
        assert_eq!(data(&existing), [], "a name that exists is not covered (RFC 4592 §2.2.1)");
    }

    #[test]
    fn an_alias_in_a_private_zone_is_followed_into_the_public_ones() {
        let view = fixture::view();
        let found = ask(&view, "10.0.1.1", &format!("alias.{APP}"), QueryType::A, 0);
        assert_eq!(found.records.len(), 4, "two aliases, two addresses: {found:?}");
    }

    #[test]
    fn a_public_zone_distinguishes_a_missing_name_from_a_missing_type() {
        let view = fixture::view();
        let code = |asked, kind| ask(&view, "10.0.1.1", asked, kind, 0).code;
        assert_eq!(code("other.mongodb.net", QueryType::A), Rcode::NxDomain);
        assert_eq!(code("cluster0-pl-0-k45tj.mongodb.net", QueryType::A), Rcode::NoError);
        assert_eq!(code("auylw.mongodb.net", QueryType::A), Rcode::NoError, "an empty non-terminal");
        assert_eq!(code("mongodb.net", QueryType::A), Rcode::NoError, "an apex");
    }

    #[test]
    fn names_without_records_here_are_forwarded_for_vpc_clients_alone() {
        let view = fixture::view();
        let upstream = |asked, kind| forwarding(&view, "10.0.1.1", asked, kind).upstream;
        assert_eq!(upstream("example.com", QueryType::A), Some(RecordOwner::Question));
        assert_eq!(
            upstream("other.mongodb.net", QueryType::A),
            Some(RecordOwner::Question),
            "the public zone has more names"
        );
        assert_eq!(upstream("mongodb.net", QueryType::A), Some(RecordOwner::Question), "the apex is a public host");
        assert_eq!(upstream("mongodb.net", QueryType::Soa), None);
        assert_eq!(upstream(SEEDS, QueryType::A), None, "a name that is held here");
        let target = name("www.example.com");
        assert_eq!(
            upstream("out.mongodb.net", QueryType::A),
            Some(RecordOwner::Name(&target)),
            "an alias that leads out"
        );
        for source in ["9.9.9.9", "172.16.0.1", "10.0.200.7", "10.5.0.1"] {
            let found = forwarding(&view, source, "example.com", QueryType::A);
            assert_eq!((found.code, found.upstream), (Rcode::Refused, None), "{source}");
        }
        let absent = forwarding(&view, "9.9.9.9", "other.mongodb.net", QueryType::A);
        assert_eq!((absent.code, absent.upstream), (Rcode::NxDomain, None));
    }

    #[test]
    fn an_alias_that_leads_out_is_all_that_is_known_without_upstream() {
        let view = fixture::view();
        let target = name("www.example.com");
        let found = ask(&view, "10.0.1.1", "out.mongodb.net", QueryType::A, 0);
        assert_eq!((found.code, data(&found)), (Rcode::NoError, vec![RecordData::Cname(&target)]));
    }

    #[test]
    fn a_loop_of_aliases_ends_in_failure() {
        let found = |kind| ask(&fixture::view(), "10.0.1.1", "loop-a.mongodb.net", kind, 0).code;
        assert_eq!(found(QueryType::A), Rcode::ServFail);
        assert_eq!(found(QueryType::Cname), Rcode::NoError, "the alias itself is a record like any other");
    }

    #[test]
    fn an_apex_has_route_53s_soa_and_name_servers() {
        let view = fixture::view();
        let soa = ask(&view, "10.0.1.1", "mongodb.net", QueryType::Soa, 0);
        assert_eq!(soa.records, [Record { owner: RecordOwner::Question, ttl: 900, data: RecordData::Soa }]);
        assert_eq!(ask(&view, "10.0.1.1", APP, QueryType::Ns, 0).records.len(), 4);
        assert_eq!(ask(&view, "10.0.1.1", HOST, QueryType::Any, 0).records.len(), 1, "the alias");
        assert_eq!(data(&ask(&view, "10.0.1.1", "mongodb.net", QueryType::Any, 0)), [RecordData::Soa]);
    }

    /// A2: the service's side gets no answers; B9: a VPC without DNS support has no resolver.
    #[test]
    fn the_source_decides_the_view() {
        let view = fixture::view();
        let seen = |source| {
            let found = ask(&view, source, APP, QueryType::A, 0);
            (found.view, found.code)
        };
        assert_eq!(seen("10.0.1.1"), (ViewKind::Vpc, Rcode::NoError));
        assert_eq!(seen("::ffff:10.0.1.1"), (ViewKind::Vpc, Rcode::NoError));
        assert_eq!(seen("9.9.9.9"), (ViewKind::Public, Rcode::NoError));
        assert_eq!(
            seen("10.0.200.7"),
            (ViewKind::None, Rcode::Refused),
            "the service's side, though in the VPC's range"
        );
        assert_eq!(seen("10.5.0.1"), (ViewKind::Vpc, Rcode::Refused));
        assert_eq!(seen("172.16.0.1"), (ViewKind::None, Rcode::Refused));
    }

    proptest! {
        /// Each record belongs to the question or to the target of an alias before it.
        #[test]
        fn records_belong_to_the_questions_chain(asked in arbitrary_name(), kind in 0..QueryType::ALL.len(), turn: u64) {
            let view = fixture::view();
            for source in ["10.0.1.1", "9.9.9.9"] {
                let found = ask(&view, source, &asked, QueryType::ALL[kind], turn);
                let mut reached = RecordOwner::Question;
                for record in &found.records {
                    prop_assert_eq!(record.owner, reached);
                    if let RecordData::Cname(target) = record.data {
                        reached = RecordOwner::Name(target);
                    }
                }
                prop_assert!(found.records.is_empty() || found.code != Rcode::Refused);
                prop_assert_eq!(found.upstream, None);
            }
        }
    }

    /// Names of the fixture, and names near them.
    fn arbitrary_name() -> impl Strategy<Value = String> {
        let view = fixture::view();
        let private = view.vpcs.iter().flat_map(|vpc| vpc.private.values());
        let owners: Vec<_> =
            view.public.values().chain(private).flat_map(|zone| zone.records.keys().map(ToString::to_string)).collect();
        (proptest::sample::select(owners), "([a-z*!]{1,3}\\.){0,2}", 0usize..3).prop_map(|(owner, prefix, cut)| {
            let kept = owner.splitn(cut + 1, '.').last().unwrap_or_default().to_owned();
            prefix + &kept
        })
    }

    fn ask<'v>(view: &'v DnsView, source: &str, name: &str, kind: QueryType, rotation: u64) -> Answer<'v> {
        answer(&Question { name, kind }, source.parse().expect(source), view, &options(&[]), rotation)
    }

    fn forwarding<'v>(view: &'v DnsView, source: &str, name: &str, kind: QueryType) -> Answer<'v> {
        let upstream = SocketAddr::from(([127, 0, 0, 1], 53));
        answer(&Question { name, kind }, source.parse().expect(source), view, &options(&[upstream]), 0)
    }

    fn options(forward: &[SocketAddr]) -> DnsSettings {
        DnsSettings { forward: forward.to_vec(), public_clients: cidrs(&["9.0.0.0/8"]), ..DnsSettings::default() }
    }

    fn data<'v>(answer: &Answer<'v>) -> Vec<RecordData<'v>> {
        answer.records.iter().map(|record| record.data).collect()
    }
}
