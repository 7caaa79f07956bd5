//! App Services' apps: listeners, and the rules of each app.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::dns::managed_zones;
use super::rules::is_paired;
use super::snapshot::EndpointAccess;
use super::survey::Survey;
use crate::model::{
    App, AppEndpointKind, AppId, BackendUrl, CidrSet, ClaimId, DeploymentModel, DnsName, EndpointState, Lease,
    ProjectId, VpceId, Zone,
};

/// The domain for clients of global apps. Source: App Services, *Domain Migration*.
const GLOBAL_DOMAIN: &str = "services.cloud.mongodb.com";
/// The domain of the Data API and of custom HTTPS endpoints. Source: App Services, *Data API*.
const DATA_DOMAIN: &str = "data.mongodb-api.com";

/// The apps, and their listeners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppsView {
    /// Apps by client app id.
    pub apps: BTreeMap<AppId, Arc<AppView>>,
    /// Listening addresses. An address appears once, however many apps it serves.
    pub listeners: BTreeMap<SocketAddr, Arc<AppListener>>,
}

/// The settings of an app that affect its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppView {
    /// Its client app id.
    pub id: AppId,
    /// Its project.
    pub project: ProjectId,
    /// Whether requests from outside the VPC get 404: it has a private endpoint, and the restriction was not lifted.
    pub restricted: bool,
    /// The IP access list of the public path while it isn't restricted; empty: all clients.
    pub access_list: CidrSet,
    /// The backend of its requests; `None`: the configured value is not a valid backend.
    pub backend: Option<Arc<BackendUrl>>,
    /// The names that its clients use.
    pub hosts: BTreeSet<DnsName>,
}

impl AppView {
    /// Whether its IP access list contains `source`.
    #[must_use]
    pub fn admits(&self, source: std::net::IpAddr) -> bool {
        self.access_list.is_empty() || self.access_list.contains(source)
    }
}

/// A listening address of the App Services front end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppListener {
    /// The address.
    pub address: SocketAddr,
    /// Whether it is public or private.
    pub kind: AppListenerKind,
    /// The apps behind it.
    pub apps: BTreeMap<AppId, ListenerApp>,
    /// Every name of its apps, for its certificates.
    pub hosts: BTreeSet<DnsName>,
    /// The lease under which this gateway may accept connections here.
    pub lease: Lease,
    /// Whether its zone is in outage: new connections get no answer, and open ones pause.
    pub outage: bool,
}

impl AppListener {
    /// The endpoint's id for logs and labels; `public` on the public path.
    #[must_use]
    pub fn label(&self) -> &str {
        match &self.kind {
            AppListenerKind::Private { access, .. } => access.id.as_str(),
            AppListenerKind::Public => "public",
        }
    }
}

/// The path of a listener's clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppListenerKind {
    /// An address of a private endpoint.
    Private {
        /// The access rules of the endpoint.
        access: Arc<EndpointAccess>,
        /// The kind of the endpoint.
        kind: AppEndpointKind,
        /// The zone of the address.
        zone: Zone,
    },
    /// The public address.
    Public,
}

/// An app behind a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerApp {
    /// The app.
    pub app: Arc<AppView>,
    /// Whether it can be used through this listener.
    pub readiness: AppReadiness,
}

/// Whether an app can be used through one of its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AppReadiness {
    /// It can be used.
    Ready,
    /// A Sync endpoint without the General one that it requires.
    Unpaired,
    /// The app is deployed to another region than the endpoint's service.
    OtherRegion,
}

impl AppReadiness {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Ready, Self::Unpaired, Self::OtherRegion];
}

/// Compiles the apps of `desired` and their listeners; `endpoint_access` has the endpoints.
///
/// Each address of an available endpoint is a listener at the port of the app's public address, so that one URL works
/// on both paths. An endpoint that became unusable keeps its listener, where clients get an error response.
pub(super) fn compile_apps(survey: &Survey<'_>, endpoint_access: &BTreeMap<VpceId, Arc<EndpointAccess>>) -> AppsView {
    let (mut view, desired) = (AppsView::default(), survey.desired);
    for app in &desired.apps {
        let seen = Arc::new(app_view(app));
        if let Some(lease) = desired.lease(ClaimId::PUBLIC) {
            view.add(app.public_address, (AppListenerKind::Public, lease, false), &seen, AppReadiness::Ready);
        }
        for registered in &app.endpoints {
            let available =
                endpoint_access.get(&registered.endpoint).filter(|access| access.state == EndpointState::Available);
            let Some(access) = available else { continue };
            let readiness = if *access.service.region() != app.region {
                AppReadiness::OtherRegion
            } else if registered.kind == AppEndpointKind::Sync && !is_paired(app) {
                AppReadiness::Unpaired
            } else {
                AppReadiness::Ready
            };
            for at in &access.addresses {
                let Some(lease) = desired.lease(at.zone.as_str()) else { continue };
                let kind = AppListenerKind::Private {
                    access: Arc::clone(access),
                    kind: registered.kind,
                    zone: at.zone.clone(),
                };
                let outage = survey.is_in_outage(access.service.service(), &at.zone, Some(&access.id));
                view.add(SocketAddr::new(at.ip, app.public_address.port()), (kind, lease, outage), &seen, readiness);
            }
        }
        view.apps.insert(app.id.clone(), seen);
    }
    view
}

impl AppsView {
    /// Adds an app to a listener. The first path to an address applies; the rules of a second one do not.
    fn add(
        &mut self,
        address: SocketAddr,
        (kind, lease, outage): (AppListenerKind, Lease, bool),
        app: &Arc<AppView>,
        readiness: AppReadiness,
    ) {
        let listener = self.listeners.entry(address).or_insert_with(|| {
            Arc::new(AppListener {
                address,
                kind: kind.clone(),
                apps: BTreeMap::new(),
                hosts: BTreeSet::new(),
                lease,
                outage,
            })
        });
        if listener.kind != kind {
            return;
        }
        let listener = Arc::make_mut(listener);
        listener.hosts.extend(app.hosts.iter().cloned());
        listener.apps.insert(app.id.clone(), ListenerApp { app: Arc::clone(app), readiness });
    }
}

fn app_view(app: &App) -> AppView {
    AppView {
        id: app.id.clone(),
        project: app.project.clone(),
        restricted: !app.endpoints.is_empty() && !app.allow_non_vpc_requests,
        access_list: app.access_list.clone(),
        backend: app.backend.parse().ok().map(Arc::new),
        hosts: app_hosts(app),
    }
}

/// The names of an app for its clients: HTTP, WebSocket in both spellings, Data API.
pub(super) fn app_hosts(app: &App) -> BTreeSet<DnsName> {
    let name = |text: String| text.parse::<DnsName>().expect("a region is a DNS label, the rest a constant name");
    let mut hosts = BTreeSet::from([name(DATA_DOMAIN.to_owned())]);
    match app.deployment {
        DeploymentModel::Local => {
            hosts.extend(managed_zones(AppEndpointKind::General, &app.region));
            hosts.extend(managed_zones(AppEndpointKind::Sync, &app.region));
            hosts.insert(name(format!("{}.aws.{DATA_DOMAIN}", app.region)));
        }
        DeploymentModel::Global => {
            hosts.insert(name(GLOBAL_DOMAIN.to_owned()));
            hosts.insert(name(format!("ws.{GLOBAL_DOMAIN}")));
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{app, endpoint, of, outage, plan, with_app};
    use super::*;
    use crate::model::Desired;

    fn listeners(view: &AppsView) -> Vec<(String, &str)> {
        view.listeners.values().map(|listener| (listener.address.to_string(), listener.label())).collect()
    }

    /// B1, B2.
    #[test]
    fn every_address_of_an_apps_endpoints_has_a_listener_and_so_has_its_public_one() {
        let snapshot = plan(&with_app());
        assert_eq!(
            listeners(&snapshot.apps),
            [
                ("10.0.30.195:443".to_owned(), "vpce-0a000000000000001"),
                ("10.0.30.196:443".to_owned(), "vpce-0a000000000000002"),
                ("203.0.113.10:443".to_owned(), "public"),
            ]
        );
        let sync = &snapshot.apps.listeners[&of::<SocketAddr>("10.0.30.196:443")];
        assert!(matches!(&sync.kind, AppListenerKind::Private { kind: AppEndpointKind::Sync, .. }));
        assert_eq!(sync.apps[&of::<AppId>("myapp-abcde")].readiness, AppReadiness::Ready);
    }

    /// B14.
    #[test]
    fn an_apps_names_have_both_websocket_spellings() {
        let snapshot = plan(&with_app());
        let hosts: Vec<_> = snapshot.apps.apps[&of::<AppId>("myapp-abcde")].hosts.iter().map(DnsName::as_str).collect();
        assert_eq!(
            hosts,
            [
                "data.mongodb-api.com",
                "us-east-1.aws.data.mongodb-api.com",
                "us-east-1.aws.services.cloud.mongodb.com",
                "us-east-1.aws.ws.services.cloud.mongodb.com",
                "ws.us-east-1.aws.services.cloud.mongodb.com",
            ]
        );
    }

    /// A4.
    #[test]
    fn a_zone_outage_is_of_the_endpoint_that_it_names_or_of_every_one_in_the_zone() {
        let lost = |endpoint: Option<&str>| {
            let mut desired = with_app();
            desired.faults.insert("lost".to_owned(), outage("lost", "us-east-1a", endpoint));
            let snapshot = plan(&desired);
            let lost = snapshot.apps.listeners.values().filter(|listener| listener.outage);
            lost.map(|listener| listener.label().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(lost(Some("vpce-0a000000000000002")), ["vpce-0a000000000000002"]);
        assert_eq!(lost(None), ["vpce-0a000000000000001", "vpce-0a000000000000002"]);
    }

    /// B3, B4: restricted as soon as there is an endpoint, unless the restriction is lifted.
    #[test]
    fn an_app_is_restricted_as_soon_as_it_has_an_endpoint() {
        let mut desired = with_app();
        let restricted = |desired: &Desired| plan(desired).apps.apps[&of::<AppId>("myapp-abcde")].restricted;
        assert!(restricted(&desired));
        desired.apps[0].allow_non_vpc_requests = true;
        assert!(!restricted(&desired));
        desired.apps[0].allow_non_vpc_requests = false;
        desired.apps[0].endpoints.clear();
        assert!(!restricted(&desired));
    }

    #[test]
    fn apps_share_an_endpoint_and_a_public_address() {
        let mut desired = with_app();
        desired.apps.push(app("other-fghij"));
        let snapshot = plan(&desired);
        assert_eq!(snapshot.apps.listeners.len(), 3);
        assert!(snapshot.apps.listeners.values().all(|listener| listener.apps.len() == 2));
    }

    /// B8, B11.
    #[test]
    fn an_endpoint_without_its_pair_or_its_region_has_a_listener_without_a_usable_app() {
        let mut desired = with_app();
        desired.apps[0].endpoints.remove(0);
        let readiness = |desired: &Desired| {
            let snapshot = plan(desired);
            snapshot.apps.listeners[&of::<SocketAddr>("10.0.30.196:443")].apps[&of::<AppId>("myapp-abcde")].readiness
        };
        assert_eq!(readiness(&desired), AppReadiness::Unpaired);
        desired.apps[0].region = of("us-west-2");
        assert_eq!(readiness(&desired), AppReadiness::OtherRegion);
    }

    #[test]
    fn an_endpoint_that_is_not_available_has_no_listener() {
        let mut desired = with_app();
        endpoint(&mut desired, "vpce-0a000000000000001").state = EndpointState::Pending;
        assert_eq!(plan(&desired).apps.listeners.len(), 2);
    }
}
