//! Decides whether a request to an app is served. Pure.
//!
//! The order is fixed: origin (from the listener and the source address), app, path class, restriction, and, on the
//! public path only, IP access list. Of the request's content only host and path matter.

use std::net::IpAddr;

use hyper::StatusCode;

use super::path::{PathClass, Route};
use crate::model::{AppEndpointKind, Origin};
use crate::plan::{AppListener, AppListenerKind, AppReadiness, AppView, ListenerApp};

/// The path by which a request arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccessPath {
    /// Through a private endpoint of this kind.
    Private(AppEndpointKind),
    /// Through the public address.
    Public,
}

impl From<&AppListenerKind> for AccessPath {
    fn from(way: &AppListenerKind) -> Self {
        match way {
            AppListenerKind::Private { kind, .. } => Self::Private(*kind),
            AppListenerKind::Public => Self::Public,
        }
    }
}

/// The settings of an app that apply to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AppRules {
    /// Whether it can be used through the listener.
    pub readiness: AppReadiness,
    /// Requests from outside the VPC get 404.
    pub restricted: bool,
    /// Whether its IP access list contains the client.
    pub listed: bool,
}

/// The decision about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Forwarded to the backend.
    Served,
    /// Ambiguous or not a valid request.
    Malformed,
    /// The listener does not serve its host.
    Misdirected,
    /// From the service's side: connectivity is one-way.
    OneWay,
    /// Through an endpoint, from a network that is not connected to its VPC.
    Origin,
    /// App Services has no such path.
    UnknownPath,
    /// The Admin API, which has a separate address.
    AdminApi,
    /// There is no such app here.
    UnknownApp,
    /// On the public path, and the app is restricted to its private endpoints.
    Restricted,
    /// On the public path, and the client is not on the app's IP access list.
    AccessList,
    /// The endpoint leads to a region that the app has left.
    OtherRegion,
    /// Through a Sync endpoint without the General one that it requires.
    Unpaired,
    /// The Data API, which private endpoints don't serve.
    DataApi,
    /// A custom HTTPS endpoint, which private endpoints don't serve.
    CustomHttps,
    /// Client HTTP through a Sync endpoint, or Sync through a General one.
    WrongEndpoint,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 15] = [
        Self::Served,
        Self::Malformed,
        Self::Misdirected,
        Self::OneWay,
        Self::Origin,
        Self::UnknownPath,
        Self::AdminApi,
        Self::UnknownApp,
        Self::Restricted,
        Self::AccessList,
        Self::OtherRegion,
        Self::Unpaired,
        Self::DataApi,
        Self::CustomHttps,
        Self::WrongEndpoint,
    ];

    /// The name in logs, metrics and tests.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Malformed => "malformed",
            Self::Misdirected => "misdirected",
            Self::OneWay => "one_way",
            Self::Origin => "origin",
            Self::UnknownPath => "unknown_path",
            Self::AdminApi => "admin_api",
            Self::UnknownApp => "unknown_app",
            Self::Restricted => "restricted",
            Self::AccessList => "access_list",
            Self::OtherRegion => "other_region",
            Self::Unpaired => "unpaired",
            Self::DataApi => "data_api",
            Self::CustomHttps => "custom_https",
            Self::WrongEndpoint => "wrong_endpoint",
        }
    }

    /// The status code of a refusal; `None` if served.
    ///
    /// A client outside the VPC gets the 404 of an app that doesn't exist (*Use a VPC Private Endpoint*); a client
    /// inside gets a status that names the problem.
    #[must_use]
    pub fn refusal(self) -> Option<StatusCode> {
        match self {
            Self::Served => None,
            Self::Malformed => Some(StatusCode::BAD_REQUEST),
            Self::Misdirected => Some(StatusCode::MISDIRECTED_REQUEST),
            Self::OneWay
            | Self::Origin
            | Self::UnknownPath
            | Self::AdminApi
            | Self::UnknownApp
            | Self::Restricted
            | Self::OtherRegion => Some(StatusCode::NOT_FOUND),
            Self::AccessList | Self::Unpaired | Self::DataApi | Self::CustomHttps | Self::WrongEndpoint => {
                Some(StatusCode::FORBIDDEN)
            }
        }
    }
}

/// Decides about a request of `class` from `origin` by the path `way`. `app` are the app's settings, if it exists.
#[must_use]
pub fn decide(origin: Origin, way: AccessPath, app: Option<AppRules>, class: PathClass) -> Verdict {
    match (origin, way) {
        (Origin::Service, _) => return Verdict::OneWay,
        (Origin::Public, AccessPath::Private(_)) => return Verdict::Origin,
        (Origin::Vpc | Origin::Peered | Origin::OnPremises | Origin::Public, _) => {}
    }
    match class {
        PathClass::Unknown => return Verdict::UnknownPath,
        PathClass::Admin => return Verdict::AdminApi,
        PathClass::ClientHttp | PathClass::Sync | PathClass::DataApi | PathClass::CustomHttps => {}
    }
    let Some(app) = app else { return Verdict::UnknownApp };
    match way {
        AccessPath::Private(kind) => decide_private(kind, app.readiness, class),
        AccessPath::Public if app.restricted => Verdict::Restricted,
        AccessPath::Public if !app.listed => Verdict::AccessList,
        AccessPath::Public => Verdict::Served,
    }
}

fn decide_private(kind: AppEndpointKind, readiness: AppReadiness, class: PathClass) -> Verdict {
    match readiness {
        AppReadiness::OtherRegion => return Verdict::OtherRegion,
        AppReadiness::Unpaired => return Verdict::Unpaired,
        AppReadiness::Ready => {}
    }
    match (class, kind) {
        (PathClass::DataApi, _) => Verdict::DataApi,
        (PathClass::CustomHttps, _) => Verdict::CustomHttps,
        (PathClass::ClientHttp, AppEndpointKind::General) | (PathClass::Sync, AppEndpointKind::Sync) => Verdict::Served,
        (PathClass::ClientHttp, AppEndpointKind::Sync) | (PathClass::Sync, AppEndpointKind::General) => {
            Verdict::WrongEndpoint
        }
        (PathClass::Admin, _) => Verdict::AdminApi,
        (PathClass::Unknown, _) => Verdict::UnknownPath,
    }
}

/// The decision about a request, with its app.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AppDecision<'a> {
    pub(crate) verdict: Verdict,
    /// The requested app, whatever the verdict; for the log and the label.
    pub(crate) app: Option<&'a AppView>,
}

/// Decides about a request for `host` (lower case, without port) at `app_listener`.
pub(crate) fn decide_for_host<'a>(
    app_listener: &'a AppListener,
    origin: Origin,
    source: IpAddr,
    host: &str,
    route: Route<'_>,
) -> AppDecision<'a> {
    if !app_listener.hosts.contains(host) {
        let verdict = if origin == Origin::Service { Verdict::OneWay } else { Verdict::Misdirected };
        return AppDecision { verdict, app: None };
    }
    let way = AccessPath::from(&app_listener.kind);
    let rules = |found: &ListenerApp| AppRules {
        readiness: found.readiness,
        restricted: found.app.restricted,
        listed: found.app.admits(source),
    };
    let judge_one = |found: Option<&'a ListenerApp>| AppDecision {
        verdict: decide(origin, way, found.map(rules), route.class),
        app: found.map(|found| found.app.as_ref()),
    };
    if let Some(id) = route.app {
        let found = app_listener.apps.get(id);
        return judge_one(found.filter(|found| found.app.hosts.contains(host)));
    }
    // No app in the path, as when a session is refreshed: any app on this host that may serve it. A backend whose apps
    // may not be used is not asked.
    let here = || app_listener.apps.values().filter(|found| found.app.hosts.contains(host));
    let is_served = |found: &ListenerApp| decide(origin, way, Some(rules(found)), route.class) == Verdict::Served;
    let chosen = here().find(|found| here().filter(|other| other.app.backend == found.app.backend).all(is_served));
    judge_one(chosen.or_else(|| here().find(|found| !is_served(found))))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashSet};
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{CidrSet, DnsName};

    const KINDS: [AppEndpointKind; 2] = [AppEndpointKind::General, AppEndpointKind::Sync];
    const WAYS: [AccessPath; 3] =
        [AccessPath::Private(AppEndpointKind::General), AccessPath::Private(AppEndpointKind::Sync), AccessPath::Public];

    fn rules() -> impl Strategy<Value = AppRules> {
        (prop::sample::select(AppReadiness::ALL.to_vec()), any::<bool>(), any::<bool>())
            .prop_map(|(readiness, restricted, listed)| AppRules { readiness, restricted, listed })
    }

    fn origin() -> impl Strategy<Value = Origin> {
        prop::sample::select(Origin::ALL.to_vec())
    }

    fn class() -> impl Strategy<Value = PathClass> {
        prop::sample::select(PathClass::ALL.to_vec())
    }

    fn way() -> impl Strategy<Value = AccessPath> {
        prop::sample::select(WAYS.to_vec())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_services_side_is_never_served(way in way(), app in prop::option::of(rules()), class in class()) {
            prop_assert_eq!(decide(Origin::Service, way, app, class), Verdict::OneWay);
        }

        #[test]
        fn a_public_source_is_served_by_no_private_endpoint(
            kind in prop::sample::select(KINDS.to_vec()), app in prop::option::of(rules()), class in class()
        ) {
            prop_assert_eq!(decide(Origin::Public, AccessPath::Private(kind), app, class), Verdict::Origin);
        }

        /// B3: whatever its settings and the request, a restricted app looks from outside like one that doesn't exist.
        #[test]
        fn a_restricted_app_looks_absent_from_outside(origin in origin(), app in rules(), class in class()) {
            let restricted = decide(origin, AccessPath::Public, Some(AppRules { restricted: true, ..app }), class);
            let absent = decide(origin, AccessPath::Public, None, class);
            prop_assert_ne!(restricted, Verdict::Served);
            prop_assert_eq!(restricted.refusal(), absent.refusal());
            prop_assert!(restricted == absent || (restricted, absent) == (Verdict::Restricted, Verdict::UnknownApp));
        }

        /// B5: the private path ignores the restriction and the access list.
        #[test]
        fn a_private_endpoint_ignores_restriction_and_access_list(
            origin in origin(), kind in prop::sample::select(KINDS.to_vec()), app in rules(), class in class()
        ) {
            let way = AccessPath::Private(kind);
            let open = AppRules { restricted: false, listed: true, ..app };
            prop_assert_eq!(decide(origin, way, Some(app), class), decide(origin, way, Some(open), class));
        }

        /// B5: without the restriction, the access list alone decides on the public path.
        #[test]
        fn with_the_restriction_lifted_the_access_list_decides(
            readiness in prop::sample::select(AppReadiness::ALL.to_vec()), listed in any::<bool>(), class in class()
        ) {
            let app = AppRules { readiness, restricted: false, listed };
            let expected = match class {
                PathClass::Unknown => Verdict::UnknownPath,
                PathClass::Admin => Verdict::AdminApi,
                _ if listed => Verdict::Served,
                _ => Verdict::AccessList,
            };
            prop_assert_eq!(decide(Origin::Public, AccessPath::Public, Some(app), class), expected);
        }

        /// B1, B2, B6, B8, B11: an available private endpoint serves its own class to clients that may use it.
        #[test]
        fn a_private_endpoint_serves_exactly_its_own_class(
            origin in origin(), kind in prop::sample::select(KINDS.to_vec()), app in prop::option::of(rules()),
            class in class()
        ) {
            let own = match kind {
                AppEndpointKind::General => PathClass::ClientHttp,
                AppEndpointKind::Sync => PathClass::Sync,
            };
            let joined = matches!(origin, Origin::Vpc | Origin::Peered | Origin::OnPremises);
            let stands = app.is_some_and(|app| app.readiness == AppReadiness::Ready);
            let served = decide(origin, AccessPath::Private(kind), app, class) == Verdict::Served;
            prop_assert_eq!(served, joined && stands && class == own);
        }
    }

    /// All combinations: every verdict of `decide` occurs, and each is served or has a status.
    #[test]
    fn every_combination_has_one_verdict_and_every_verdict_a_combination() {
        let mut reached = HashSet::new();
        let mut apps = vec![None];
        for readiness in AppReadiness::ALL {
            for (restricted, listed) in [(false, false), (false, true), (true, false), (true, true)] {
                apps.push(Some(AppRules { readiness, restricted, listed }));
            }
        }
        for origin in Origin::ALL {
            for way in WAYS {
                for app in &apps {
                    for class in PathClass::ALL {
                        let verdict = decide(origin, way, *app, class);
                        assert_eq!(verdict == Verdict::Served, verdict.refusal().is_none());
                        reached.insert(verdict);
                    }
                }
            }
        }
        let by_reading = [Verdict::Malformed, Verdict::Misdirected];
        assert_eq!(reached.len() + by_reading.len(), Verdict::ALL.len());
        let labels: HashSet<_> = Verdict::ALL.iter().map(|verdict| verdict.label()).collect();
        assert_eq!(labels.len(), Verdict::ALL.len());
    }

    const HOST: &str = "us-east-1.aws.services.cloud.mongodb.com";

    fn app(id: &str, restricted: bool, backend: &str) -> ListenerApp {
        let app = AppView {
            id: id.parse().expect("an id"),
            project: "5f0000000000000000000001".parse().expect("an id"),
            restricted,
            access_list: CidrSet::default(),
            backend: backend.parse().ok().map(Arc::new),
            hosts: BTreeSet::from([HOST.parse::<DnsName>().expect("a name")]),
        };
        ListenerApp { app: Arc::new(app), readiness: AppReadiness::Ready }
    }

    fn public(apps: &[ListenerApp]) -> AppListener {
        AppListener {
            address: "127.9.0.10:8443".parse().expect("an address"),
            kind: AppListenerKind::Public,
            apps: apps.iter().map(|found| (found.app.id.clone(), found.clone())).collect::<BTreeMap<_, _>>(),
            hosts: apps.iter().flat_map(|found| found.app.hosts.clone()).collect(),
            lease: crate::model::Lease::default(),
            outage: false,
        }
    }

    fn ask<'a>(app_listener: &'a AppListener, host: &str, app: Option<&str>) -> (Verdict, Option<&'a str>) {
        let route = Route { class: PathClass::ClientHttp, app };
        let judged =
            decide_for_host(app_listener, Origin::Public, "127.9.0.1".parse().expect("an address"), host, route);
        (judged.verdict, judged.app.map(|app| app.id.as_str()))
    }

    #[test]
    fn a_request_without_an_app_goes_to_no_backend_that_has_a_restricted_one() {
        let (open, closed) = (app("open-aaaaa", false, "http://b:1"), app("shut-bbbbb", true, "http://b:1"));
        let elsewhere = app("zzz-ccccc", false, "http://c:1");
        assert_eq!(
            ask(&public(&[open.clone(), closed.clone()]), HOST, None),
            (Verdict::Restricted, Some("shut-bbbbb"))
        );
        let all = [open.clone(), closed, elsewhere];
        assert_eq!(ask(&public(&all), HOST, None), (Verdict::Served, Some("zzz-ccccc")));
        assert_eq!(ask(&public(&[open]), HOST, None), (Verdict::Served, Some("open-aaaaa")));
    }

    #[test]
    fn an_app_is_found_by_its_host_and_its_id_together() {
        let app_listener = public(&[app("open-aaaaa", false, "http://b:1")]);
        assert_eq!(ask(&app_listener, HOST, Some("open-aaaaa")).0, Verdict::Served);
        assert_eq!(ask(&app_listener, HOST, Some("open-aaaab")), (Verdict::UnknownApp, None));
        assert_eq!(
            ask(&app_listener, "us-west-2.aws.services.cloud.mongodb.com", Some("open-aaaaa")).0,
            Verdict::Misdirected
        );
        assert_eq!(ask(&app_listener, "127.9.0.10", Some("open-aaaaa")).0, Verdict::Misdirected);
    }
}
