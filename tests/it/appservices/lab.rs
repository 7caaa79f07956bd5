//! A front end with the quickstart's inventory on a separate port.

use std::net::SocketAddr;
use std::sync::Arc;

use plgw::appservices::{AppFrontEnd, AppFrontEndParts, AppOptions, CertificateSource, Certificates};
use plgw::config::quickstart;
use plgw::limits::{Connections, Shares};
use plgw::model::{App, Desired};
use plgw::plan::{Generation, PortAllocations, Snapshot, compile};
use plgw::telemetry::Registry;
use plgw::tls::LabCa;
use tokio::sync::watch;

/// The app of the quickstart.
pub(super) const APP: &str = "myapp-abcde";
/// Its names: HTTP, and WebSockets in both spellings.
pub(super) const HOST: &str = "us-east-1.aws.services.cloud.mongodb.com";
pub(super) const WS_SDK: &str = "us-east-1.aws.ws.services.cloud.mongodb.com";
pub(super) const WS_DOCS: &str = "ws.us-east-1.aws.services.cloud.mongodb.com";

/// Where clients are.
pub(super) const VPC: &str = "127.0.0.9";
pub(super) const PEERED: &str = "127.3.0.9";
pub(super) const ON_PREMISES: &str = "127.2.0.9";
pub(super) const INTERNET: &str = "127.9.0.9";
pub(super) const SERVICE_SIDE: &str = "127.1.0.9";

/// Where they go.
pub(super) const GENERAL: &str = "127.0.30.195";
pub(super) const GENERAL_B: &str = "127.0.20.55";
pub(super) const SYNC: &str = "127.0.30.196";
pub(super) const PUBLIC: &str = "127.9.0.10";

pub(super) struct Lab {
    pub(super) front: AppFrontEnd,
    pub(super) port: u16,
    pub(super) ca: Arc<LabCa>,
    pub(super) registry: Registry,
    desired: Desired,
    held: PortAllocations,
    snapshots: watch::Sender<Arc<Snapshot>>,
    _dir: tempfile::TempDir,
}

impl Lab {
    /// The quickstart's app with this backend.
    pub(super) async fn start(backend: &str) -> Self {
        Self::start_with(backend, AppOptions::default(), |_| {}).await
    }

    /// The same, with other options and another inventory.
    pub(super) async fn start_with(backend: &str, options: AppOptions, change: impl Fn(&mut Desired)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = Arc::new(LabCa::open_or_create(dir.path()).expect("a CA"));
        Self::start_under(dir, ca, backend, options, change).await
    }

    /// The same, with a CA that is there already.
    pub(super) async fn start_under(
        dir: tempfile::TempDir,
        ca: Arc<LabCa>,
        backend: &str,
        options: AppOptions,
        change: impl Fn(&mut Desired),
    ) -> Self {
        let source = CertificateSource::LabCa(Arc::clone(&ca));
        Self::start_showing(source, dir, ca, backend, options, change).await
    }

    /// The same, with other certificates than the CA's own.
    pub(super) async fn start_showing(
        source: CertificateSource,
        dir: tempfile::TempDir,
        ca: Arc<LabCa>,
        backend: &str,
        options: AppOptions,
        change: impl Fn(&mut Desired),
    ) -> Self {
        let registry = Registry::new();
        let (snapshots, receiver) = watch::channel(Arc::new(Snapshot::default()));
        let certificates = Certificates::new(source).expect("certificates");
        let options = AppOptions { workers: 1, ..options };
        // Not watched: a front end that breaks fails its test.
        let (losses, _) = tokio::sync::mpsc::unbounded_channel();
        let front = AppFrontEnd::start(
            options,
            AppFrontEndParts {
                snapshots: receiver,
                certificates,
                lab_ca: Some(ca.certificate()),
                held: Connections::new(Shares { limit: 1024, per_source: 512, reserved: 0 }),
                refusals: Arc::default(),
                recorder: registry.shared_recorder(),
                losses,
            },
        )
        .expect("started");
        let mut lab = Self {
            front,
            port: 0,
            ca,
            registry,
            desired: Desired::default(),
            held: PortAllocations::default(),
            snapshots,
            _dir: dir,
        };
        // A port that is free at one address is most likely free at the others; where it isn't, another is tried.
        for _ in 0..20 {
            let free = std::net::TcpListener::bind((PUBLIC, 0)).and_then(|l| l.local_addr()).expect("a free port");
            let mut desired = quickstart().desired;
            desired.apps[0].public_address.set_port(free.port());
            desired.apps[0].backend = backend.to_owned();
            change(&mut desired);
            lab.port = free.port();
            if lab.apply(desired).await.is_ok() {
                return lab;
            }
        }
        panic!("no port is free at all addresses");
    }

    /// Changes the inventory, as control would.
    pub(super) async fn change(&mut self, change: impl FnOnce(&mut Desired)) {
        let mut desired = self.desired.clone();
        change(&mut desired);
        self.apply(desired).await.expect("applied");
    }

    /// Sets the one switch that lets public requests in.
    pub(super) async fn allow_non_vpc_requests(&mut self, allow: bool) {
        self.change(|desired| desired.apps[0].allow_non_vpc_requests = allow).await;
    }

    async fn apply(&mut self, desired: Desired) -> Result<(), String> {
        let generation = Generation(self.snapshots.borrow().generation.0 + 1);
        let (snapshot, held) = compile(&desired, &self.held, generation).map_err(|errors| errors.to_string())?;
        let snapshot = Arc::new(snapshot);
        let bound = self.front.bind(&snapshot.apps).map_err(|errors| format!("{errors:?}"))?;
        self.front.open(bound, &snapshot).await;
        self.snapshots.send_replace(Arc::clone(&snapshot));
        self.front.retire(&snapshot.apps).await;
        (self.desired, self.held) = (desired, held);
        Ok(())
    }

    /// An address of the front.
    pub(super) fn at(&self, ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), self.port)
    }

    /// The value of the first series, in order, with all of `texts`: a metric's whole name, and parts of its labels. `None`
    /// when there is none.
    pub(super) fn metric(&self, texts: &[&str]) -> Option<f64> {
        let page = self.registry.render();
        let has = |line: &str, text: &str| match line.strip_prefix(text) {
            Some(rest) => rest.starts_with(['{', ' ']),
            None => !text.starts_with("plgw_") && line.contains(text),
        };
        let lines = page.lines().filter(|line| !line.starts_with('#') && texts.iter().all(|text| has(line, text)));
        lines.min()?.rsplit_once(' ')?.1.parse().ok()
    }

    /// Waits until a metric has the expected value.
    pub(super) async fn expect_metric(&self, texts: &[&str], value: f64) {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while self.metric(texts) != Some(value) {
            assert!(tokio::time::Instant::now() < deadline, "{texts:?} is not {value}:\n{}", self.registry.render());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

/// Another app like the first, at the same addresses.
pub(super) fn another(first: &App, id: &str, backend: &str) -> App {
    App { id: id.parse().expect("an id"), backend: backend.to_owned(), ..first.clone() }
}
