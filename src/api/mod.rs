//! The admin listener: the gateway's own `/v1`, and APIs with the vendors' protocols.
//!
//! An API only translates: it turns a request into a command of control, and control's answer into its own format. The
//! rules are in control and plan. Every request takes the same path: source, Host and Origin (`crate::http`), a bounded
//! body (`serve`), the API for its path (`route`).

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
mod text;
mod unique_keys;
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
pub(crate) use self::text::{iso8601, random_hex};
use crate::control::{ChangeError, Control};
use crate::data::{Carried, FlowView};
use crate::http::Tls;
use crate::lifecycle::Readiness;
use crate::limits::Refusals;
use crate::model::{FlowId, StandInCommand, StandInMember, StandInRefusal, TargetId, VpceServiceId};
use crate::telemetry::LogHandle;

/// Access to the data plane's flows, implemented by the wiring.
pub trait FlowsView: Send + Sync + 'static {
    /// Every open flow, oldest first.
    fn flows(&self) -> Vec<FlowView>;
    /// The number of open flows.
    fn open_flows(&self) -> usize;
    /// Ends one flow at once; false when there is no such flow.
    fn kill(&self, id: FlowId) -> bool;
    /// Traffic since the start.
    fn carried(&self) -> Carried;
    /// Traffic since the start, by target.
    fn carried_by_target(&self) -> BTreeMap<String, Carried>;
    /// The number of flows that each fault affected, by its name.
    fn affected_flows(&self) -> BTreeMap<String, u64>;
    /// The number of flows of each process, by load balancer, target and member.
    fn flows_by_member(&self) -> BTreeMap<(VpceServiceId, TargetId, String), usize>;
    /// Why a flow log or the access log can't be written; `None`: it can.
    fn flow_log_problem(&self) -> Option<String>;
}

/// Reloads the config; completes when it has been applied or refused.
pub type ReloadFn = Arc<dyn Fn() -> BoxFuture<'static, Result<(), ChangeError>> + Send + Sync>;

/// Executes an operator's command to the stand-ins, and returns the members' state afterwards. Provided by the quickstart
/// and the lab.
pub type StandInControl =
    Arc<dyn Fn(StandInCommand) -> BoxFuture<'static, Result<Vec<StandInMember>, StandInRefusal>> + Send + Sync>;

/// The keys of settings that were changed and need a restart.
pub type PendingSettings = watch::Receiver<Vec<String>>;

/// The parts that the API is built from.
pub struct ApiParts {
    /// Handles every change.
    pub control: Control,
    /// The open flows.
    pub flows: Arc<dyn FlowsView>,
    /// Reloads the config.
    pub reload: ReloadFn,
    /// Settings that need a restart.
    pub pending_settings: PendingSettings,
    /// The gateway's readiness.
    pub readiness: Readiness,
    /// The process' log; `None`: it can't be changed here.
    pub logs: Option<LogHandle>,
    /// The stand-ins behind the gateway; `None`: there are none.
    pub stand_ins: Option<StandInControl>,
    /// The metrics recorder.
    pub recorder: Arc<dyn ::metrics::Recorder + Send + Sync>,
}

/// State for all requests.
struct ApiState {
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

/// Serves the API over `parts` on a bound listener, over TLS with `tls`, until `stop` is cancelled, and then completes
/// responses in progress. With `credentials` each API requires them by its own scheme; without, every client that the
/// listener accepts is authorized. Refused connections are counted in `refusals`.
pub(crate) async fn serve(
    parts: ApiParts,
    credentials: Option<Credentials>,
    listener: TcpListener,
    tls: Option<Tls>,
    refusals: Arc<Refusals>,
    stop: CancellationToken,
) {
    let ApiParts { control, flows, reload, pending_settings, readiness, logs, stand_ins, recorder } = parts;
    let (metrics, sessions, auth) = (ApiMetrics::new(recorder), Sessions::default(), Auth::new(credentials));
    let state =
        ApiState { control, flows, reload, pending_settings, readiness, logs, stand_ins, metrics, sessions, auth };
    crate::http::serve(Arc::new(state), listener, tls, refusals, stop).await;
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
