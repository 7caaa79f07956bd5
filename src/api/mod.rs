//! The admin listener: the gateway's own `/v1` and the fronts that speak the vendors' protocols.
//!
//! A front only translates: it turns a request into a command of control, and control's answer into its own shape. Rules
//! live in control and plan alone. Every request takes the same way: source, Host and Origin (`crate::http`), a
//! bounded body (`serve`), the front that its path names (`route`).

mod appservices;
mod atlas;
mod auth;
mod call;
pub mod client;
mod console;
mod digest;
mod ec2;
mod metrics;
mod oauth;
mod openapi;
mod route;
mod routes;
mod serve;
mod sessions;
mod signature;
mod stand_ins;
mod text;
mod v1;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::auth::Auth;
pub use self::auth::Credentials;
use self::metrics::ApiMetrics;
use self::sessions::Sessions;
pub use self::stand_ins::StandInControl;
pub(crate) use self::text::iso8601;
use crate::control::{ChangeError, Control};
use crate::data::{Carried, FlowView};
use crate::http::Tls;
use crate::lifecycle::Readiness;
use crate::limits::Refusals;
use crate::model::{FlowId, TargetId, VpceServiceId};
use crate::telemetry::LogHandle;

/// The flows of the data plane, as the API needs them. The wiring implements it.
pub trait FlowsView: Send + Sync + 'static {
    /// Every open flow, oldest first.
    fn flows(&self) -> Vec<FlowView>;
    /// How many are open, without a view of each.
    fn open_flows(&self) -> usize;
    /// Ends one flow at once; false when there is no such flow.
    fn kill(&self, id: FlowId) -> bool;
    /// What was carried since the start.
    fn carried(&self) -> Carried;
    /// The same by target.
    fn carried_by_target(&self) -> BTreeMap<String, Carried>;
    /// How many flows each fault affected, by its name.
    fn affected_flows(&self) -> BTreeMap<String, u64>;
    /// How many flows each process behind a target carries: by load balancer, target and member.
    fn flows_by_member(&self) -> BTreeMap<(VpceServiceId, TargetId, String), usize>;
    /// Why a flow log or the access log is not written; `None`: it is.
    fn flow_log_problem(&self) -> Option<String>;
}

/// Reads the config again and hands it to control; answers when it is in force or refused.
pub type ReloadFn = Arc<dyn Fn() -> BoxFuture<'static, Result<(), ChangeError>> + Send + Sync>;

/// The keys of settings that changed since the start and take effect at the next one.
pub type PendingSettings = watch::Receiver<Vec<String>>;

/// What the API is built on.
pub struct ApiParts {
    /// Takes every change.
    pub control: Control,
    /// The open flows.
    pub flows: Arc<dyn FlowsView>,
    /// Reads the config again.
    pub reload: ReloadFn,
    /// Settings that wait for a restart.
    pub pending_settings: PendingSettings,
    /// Whether the gateway can do its work.
    pub readiness: Readiness,
    /// The process' log; `None`: it can't be changed from here.
    pub logs: Option<LogHandle>,
    /// The stand-ins behind the gateway; `None`: it has other servers.
    pub stand_ins: Option<StandInControl>,
    /// Where it counts.
    pub recorder: Arc<dyn ::metrics::Recorder + Send + Sync>,
}

/// The admin API over one gateway. Clones are the same API.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

/// What every request reads.
struct Shared {
    control: Control,
    flows: Arc<dyn FlowsView>,
    reload: ReloadFn,
    pending_settings: PendingSettings,
    readiness: Readiness,
    logs: Option<LogHandle>,
    stand_ins: Option<StandInControl>,
    metrics: ApiMetrics,
    sessions: Sessions,
    auth: Auth,
}

impl Api {
    /// An API over `parts`. With `credentials` each front asks for them in its own way; without, every client that the
    /// listener accepts may use it.
    #[must_use]
    pub fn guarded(parts: ApiParts, credentials: Option<Credentials>) -> Self {
        let ApiParts { control, flows, reload, pending_settings, readiness, logs, stand_ins, recorder } = parts;
        let metrics = ApiMetrics::new(recorder);
        Self {
            shared: Arc::new(Shared {
                control,
                flows,
                reload,
                pending_settings,
                readiness,
                logs,
                stand_ins,
                metrics,
                sessions: Sessions::default(),
                auth: Auth::new(credentials),
            }),
        }
    }

    /// Serves an already bound listener, over TLS with `tls`, until `stop` is cancelled, then lets answers that are under
    /// way end. Connections that it refuses are counted in `refusals`.
    pub(crate) async fn serve(
        &self,
        listener: TcpListener,
        tls: Option<Tls>,
        refusals: Arc<Refusals>,
        stop: CancellationToken,
    ) {
        crate::http::serve(Arc::clone(&self.shared), listener, tls, refusals, stop).await;
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod atlas_tests;
#[cfg(test)]
mod clouds_tests;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod lives_tests;
#[cfg(test)]
mod openapi_tests;
#[cfg(test)]
mod regions_tests;
#[cfg(test)]
mod shared_state_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unknown_tests;
#[cfg(test)]
mod v1_tests;
