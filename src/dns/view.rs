//! Which zones a source sees, and which records a zone has for a name.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;

use crate::config::DnsSettings;
use crate::model::DnsName;
use crate::plan::{DnsView, DnsZone, RecordSets};

/// The kind of view that answered, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ViewKind {
    /// A VPC's resolver.
    Vpc,
    /// The public names alone.
    Public,
    /// No view: the source is on the service's side or unknown, or the message was not a valid question.
    None,
}

impl ViewKind {
    /// Every view.
    pub const ALL: [Self; 3] = [Self::Vpc, Self::Public, Self::None];

    /// The lower-case name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Vpc => "vpc",
            Self::Public => "public",
            Self::None => "none",
        }
    }
}

/// The zones that a source sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct ViewZones<'v> {
    /// A VPC's private hosted zones.
    private: Option<&'v BTreeMap<DnsName, DnsZone>>,
    /// The public zones.
    public: &'v BTreeMap<DnsName, DnsZone>,
}

/// The view and the zones for `source`; without zones it is refused.
///
/// The service's side comes first: it must not learn the consumer's addresses. A VPC without
/// `enableDnsSupport` has no resolver at all, so its hosts do not fall back to the public view.
pub(super) fn choose<'v>(
    source: IpAddr,
    view: &'v DnsView,
    options: &DnsSettings,
) -> (ViewKind, Option<ViewZones<'v>>) {
    if view.refused.contains(source) {
        return (ViewKind::None, None);
    }
    if let Some(vpc) = view.vpcs.iter().find(|vpc| vpc.clients.contains(source)) {
        let zones = vpc.enabled.then_some(ViewZones { private: Some(&vpc.private), public: &view.public });
        return (ViewKind::Vpc, zones);
    }
    if options.public_clients.contains(source) {
        return (ViewKind::Public, Some(ViewZones { private: None, public: &view.public }));
    }
    (ViewKind::None, None)
}

impl<'v> ViewZones<'v> {
    /// The public zones, hidden by `private` ones.
    pub(super) fn new(private: Option<&'v BTreeMap<DnsName, DnsZone>>, public: &'v BTreeMap<DnsName, DnsZone>) -> Self {
        Self { private, public }
    }

    /// The zone that `name` is looked up in: the most specific one, private before public.
    ///
    /// Only that zone is consulted, never a less specific one (Route 53, *considerations when working
    /// with a private hosted zone*).
    pub(super) fn zone_of(&self, name: &str) -> Option<ViewZone<'v>> {
        ancestors(name).find_map(|apex| {
            let private = self.private.and_then(|zones| zones.get_key_value(apex)).map(|found| (found, true));
            let ((apex, zone), private) =
                private.or_else(|| self.public.get_key_value(apex).map(|found| (found, false)))?;
            Some(ViewZone { apex, zone, private })
        })
    }

    /// Whether a zone is below `name`; every zone is below the root.
    pub(super) fn any_below(&self, name: &str) -> bool {
        let is_below = |apex: &DnsName| {
            let above = apex.as_str().strip_suffix(name);
            above.is_some_and(|rest| name.is_empty() || rest.ends_with('.'))
        };
        self.private.into_iter().flatten().chain(self.public).any(|(apex, _)| is_below(apex))
    }

    /// Every zone in which a name can be looked up, by apex: a private zone hides the public one of the same apex.
    pub(super) fn all(&self) -> Vec<ViewZone<'v>> {
        let private = self.private.into_iter().flatten().map(|(apex, zone)| ViewZone { apex, zone, private: true });
        let public = self.public.iter().map(|(apex, zone)| ViewZone { apex, zone, private: false });
        let seen = public.filter(|found| self.private.is_none_or(|private| !private.contains_key(found.apex)));
        let mut all: Vec<_> = private.chain(seen).collect();
        all.sort_by(|a, b| a.apex.cmp(b.apex));
        all
    }
}

/// A zone of a view.
#[derive(Debug, Clone, Copy)]
pub(super) struct ViewZone<'v> {
    /// The zone's name.
    pub(super) apex: &'v DnsName,
    /// Its records.
    pub(super) zone: &'v DnsZone,
    /// Whether it is a private hosted zone.
    pub(super) private: bool,
}

/// The content of a zone for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameEntry<'v> {
    /// Records, possibly a wildcard's.
    Records(&'v RecordSets),
    /// No records, but the name exists: it is the apex, or there are names below it.
    Empty,
    /// No such name.
    Absent,
}

impl<'v> ViewZone<'v> {
    /// The zone's content for `name`, which is within it.
    pub(super) fn node(&self, name: &str) -> NameEntry<'v> {
        if let Some(sets) = self.zone.records.get(name).filter(|sets| !is_empty(sets)) {
            NameEntry::Records(sets)
        } else if self.exists(name) {
            NameEntry::Empty
        } else {
            self.wildcard(name).map_or(NameEntry::Absent, NameEntry::Records)
        }
    }

    /// Whether `name` exists: it is the apex, has records, or is an ancestor of a name with records (an empty
    /// non-terminal).
    fn exists(&self, name: &str) -> bool {
        let records = &self.zone.records;
        name == self.apex.as_str()
            || records.contains_key(name)
            || records.keys().any(|owner| owner.as_str().strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
    }

    /// The wildcard's records for a `name` that does not exist: those of `*` below its closest encloser, the longest
    /// existing ancestor (RFC 4592 §3.3.1).
    fn wildcard(&self, name: &str) -> Option<&'v RecordSets> {
        // Wildcards are adjacent in the map, as '/' follows '.'. Most zones have none, which makes the check below
        // cheap.
        self.zone.records.range::<str, _>((Bound::Included("*."), Bound::Excluded("*/"))).next()?;
        let encloser = ancestors(name).skip(1).find(|ancestor| self.exists(ancestor))?;
        self.zone.records.get(format!("*.{encloser}").as_str()).filter(|sets| !is_empty(sets))
    }
}

/// `name` and its ancestors, up to the last label.
fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, rest)| rest))
}

fn is_empty(sets: &RecordSets) -> bool {
    sets.addresses.is_empty() && sets.cname.is_none() && sets.srv.is_empty() && sets.txt.is_none()
}
