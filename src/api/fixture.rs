//! For tests: an API without sockets, over control with a store in memory and a plane that binds nothing.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::NoopRecorder;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::{ApiResponse, Client};
use super::{ApiParts, Credentials, FlowsView};
use crate::config;
use crate::control::store::{MemoryStore, StateStore, Txn};
use crate::control::{Control, ControlParts, Plane};
use crate::data::{Carried, FlowView};
use crate::lifecycle::Readiness;
use crate::model::{
    Desired, DrainReason, FlowId, GatewayId, Origin, StandInCommand, StandInMember, StandInRefusal, StandInState,
    TargetId, VpceServiceId,
};
use crate::plan::{Changes, Listener, Snapshot};
use crate::telemetry::LogSettings;

/// A plane that binds nothing and always succeeds.
#[derive(Debug, Default)]
pub(super) struct NullPlane;

impl Plane for NullPlane {
    type Bound = ();
    type Open = ();

    fn bind(&self, _: &Changes, _: &Arc<Snapshot>) -> ((), BTreeMap<SocketAddr, String>) {
        ((), BTreeMap::new())
    }

    async fn open(&self, (): (), _: &Arc<Snapshot>) {}

    async fn retarget(&self, _: &Changes, _: &Arc<Snapshot>) {}

    async fn close(&self, _: &Arc<Listener>) {}

    async fn drain(&self, (): (), _: Duration, _: Option<DrainReason>) {}
}

/// Two flows that can be ended.
struct FakeFlows(Mutex<Vec<FlowView>>);

impl FlowsView for FakeFlows {
    fn flows(&self) -> Vec<FlowView> {
        self.0.lock().expect("no test panics in here").clone()
    }

    fn open_flows(&self) -> usize {
        self.0.lock().expect("no test panics in here").len()
    }

    fn kill(&self, id: FlowId) -> bool {
        let mut flows = self.0.lock().expect("no test panics in here");
        let before = flows.len();
        flows.retain(|flow| flow.id != id);
        flows.len() < before
    }

    fn affected_flows(&self) -> std::collections::BTreeMap<String, u64> {
        [("slow".to_owned(), 3)].into()
    }

    fn flows_by_member(&self) -> BTreeMap<(VpceServiceId, TargetId, String), usize> {
        let service = "vpce-svc-02863655456245e5c".parse().expect("an id");
        let target = "Cluster0/shard-00-00".parse().expect("a target");
        BTreeMap::from([((service, target, "shard-00-00".to_owned()), 2)])
    }

    fn flow_log_problem(&self) -> Option<String> {
        None
    }

    fn carried(&self) -> Carried {
        Carried { flows: 7, ..Carried::default() }
    }

    fn carried_by_target(&self) -> BTreeMap<String, Carried> {
        let carried = Carried { flows: 7, bytes_to_target: 10, ..Carried::default() };
        BTreeMap::from([("Cluster0/shard-00-00".to_owned(), carried)])
    }
}

/// One stand-in replica set with a single member, `Cluster0/shard-00-00`, that stays primary.
fn fake_stand_ins(command: StandInCommand) -> BoxFuture<'static, Result<Vec<StandInMember>, StandInRefusal>> {
    let member = StandInMember {
        cluster: "Cluster0".to_owned(),
        member: "shard-00-00".to_owned(),
        zone: "us-east-1a".parse().expect("a zone"),
        address: "127.1.0.11:27017".parse().expect("an address"),
        state: StandInState::Primary,
        isolated: false,
    };
    let is_known = match &command {
        StandInCommand::List => true,
        StandInCommand::StepDown { cluster } => *cluster == member.cluster,
        StandInCommand::Stop { cluster, member: name } | StandInCommand::Start { cluster, member: name } => {
            (cluster, name) == (&member.cluster, &member.member)
        }
    };
    let unknown =
        || StandInRefusal::Unknown { wanted: format!("{command:?}"), known: "Cluster0/shard-00-00".to_owned() };
    Box::pin(std::future::ready(if is_known { Ok(vec![member]) } else { Err(unknown()) }))
}

/// A gateway with the quickstart's inventory, behind a served API.
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    pub(super) control: Control,
    /// The log that `/v1/logs` changes; its handle is valid while this exists.
    _log: Box<dyn Send + Sync>,
    stop: CancellationToken,
}

impl Gateway {
    pub(super) async fn start() -> Self {
        Self::start_on(Arc::new(MemoryStore::new())).await
    }

    /// A gateway with existing state.
    pub(super) async fn start_on(store: Arc<dyn StateStore>) -> Self {
        Self::build(store, None, None, config::quickstart().desired).await
    }

    /// A gateway with another inventory.
    pub(super) async fn start_with(desired: Desired) -> Self {
        Self::build(Arc::new(MemoryStore::new()), None, None, desired).await
    }

    /// The gateway `a`, which may share `store` with others.
    pub(super) async fn sharing(store: Arc<dyn StateStore>) -> Self {
        Self::build(store, None, Some("a".parse().expect("an id")), config::quickstart().desired).await
    }

    /// The gateway `a` of several that share a state; another one, `gone`, is not running.
    pub(super) async fn sharing_with_one_gone() -> Self {
        let store = MemoryStore::new();
        let known = Txn::new().put("known/gone".parse().expect("a key"), "{}");
        store.commit(known).await.expect("memory takes it");
        Self::sharing(Arc::new(store)).await
    }

    /// A gateway with credentials.
    pub(super) async fn with_credentials(credentials: Credentials) -> Self {
        Self::build(Arc::new(MemoryStore::new()), Some(credentials), None, config::quickstart().desired).await
    }

    async fn build(
        store: Arc<dyn StateStore>,
        credentials: Option<Credentials>,
        gateway: Option<GatewayId>,
        desired: Desired,
    ) -> Self {
        let stop = CancellationToken::new();
        let parts = ControlParts { gateway, stop: stop.clone(), ..ControlParts::for_test(Arc::new(NullPlane), store) };
        let control = Control::start(parts, desired, &TaskTracker::new()).await.expect("the inventory can be planned");
        let again = control.clone();
        let (log, logs) = LogSettings::default().subscriber(io::sink).expect("the default levels are levels");
        let parts = ApiParts {
            control: control.clone(),
            flows: Arc::new(FakeFlows(Mutex::new(vec![flow(0xa1, "127.0.3.9:50001"), flow(0xa2, "127.3.0.9:50002")]))),
            reload: Arc::new(move || {
                let control = again.clone();
                Box::pin(async move { control.replace_inventory(Ok(config::quickstart().desired)).await.map(|_| ()) })
            }),
            pending_settings: tokio::sync::watch::channel(Vec::new()).1,
            readiness: Readiness::new(),
            logs: Some(logs),
            stand_ins: Some(Arc::new(fake_stand_ins)),
            recorder: Arc::new(NoopRecorder),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let until = stop.clone();
        tokio::spawn(super::serve(parts, credentials, listener, None, Arc::default(), until));
        Self { address, control, _log: Box::new(log), stop }
    }

    /// Sends a request; returns the response with any status.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &str) -> ApiResponse {
        Client::new(self.address).send(method, path, &[], body.to_owned()).await.expect("an answer")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn flow(id: u64, client: &str) -> FlowView {
    FlowView {
        id: FlowId(id),
        protocol: "tcp",
        client: client.parse().expect("an address"),
        origin: Origin::Vpc,
        endpoint: "vpce-024f5b57108c8d3ed".to_owned(),
        listener: "127.0.30.194:1024".parse().expect("an address"),
        target: "Cluster0/shard-00-00".to_owned(),
        member: "shard-00-00".to_owned(),
        target_address: "127.1.0.11:27017".parse().ok(),
        age_seconds: 1.5,
        bytes_to_target: 10,
        bytes_to_client: 20,
        faults: Vec::new(),
    }
}

impl Gateway {
    /// An EC2 call for `us-east-1` without a valid signature; returns the XML.
    pub(super) async fn ec2(&self, form: &str) -> ApiResponse {
        self.ec2_in("us-east-1", form).await
    }

    /// An EC2 call for `region` without a valid signature; returns the XML.
    pub(super) async fn ec2_in(&self, region: &str, form: &str) -> ApiResponse {
        let scope = format!("AWS4-HMAC-SHA256 Credential=a/20260810/{region}/ec2/aws4_request, Signature=x");
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("authorization", scope.as_str())];
        Client::new(self.address).send("POST", "/", &headers, form.to_owned()).await.expect("an answer")
    }
}

/// The text of the first element with this tag.
pub(super) fn element(xml: &str, tag: &str) -> String {
    let rest = xml.split_once(&format!("<{tag}>")).map_or("", |(_, rest)| rest);
    rest.split_once("</").map_or("", |(text, _)| text).to_owned()
}
