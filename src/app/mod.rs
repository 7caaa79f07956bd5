//! Builds and wires all modules, binds all sockets, and provides their addresses. Tests start here too.

mod admin_tls;
mod background;
mod front_end;
mod logs;
mod plane;
mod refusals;
mod reload;
mod store;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::admin_tls::{AdminCertificate, admin_certificate};
use self::background::Background;
use self::front_end::{FrontEndParts, OnDemandFrontEnd};
use self::plane::GatewayFlows;
pub(crate) use self::store::open_store;
use crate::api::{self, ApiParts, Credentials, FlowsView, StandInControl, iso8601};
use crate::appservices::{AppOptions, CertificateFiles, Certificates};
use crate::config::{self, Config, Settings};
use crate::control::health::TcpProbe;
use crate::control::store::OpenError;
use crate::control::{ChangeError, Control, ControlParts, GatewayParts, HostLock, SharedStatus};
use crate::data::{Carried, DataOptions, DataPlane, FlowView};
use crate::dns::{DnsError, DnsMetrics, DnsServer, DnsSockets};
use crate::flowlog::{FlowLog, FlowLogError, Interface};
use crate::lifecycle::{
    Alarm, BindError, Condition, Phase, Readiness, STILL_STOPPING, ServiceManager, SignalEvent, Signals, bind_tcp,
};
use crate::limits::{Refusals, budget};
use crate::model::{DnsName, FlowId};
use crate::plan::{Listener, ListenerAccess, Snapshot};
use crate::telemetry::{LogHandle, PageStatus, Pages, Registry};
use crate::tls::TlsError;

/// How often histogram samples are moved to their buckets; a sample takes 16 bytes until then.
const UPKEEP: Duration = Duration::from_secs(5);

/// Number of upkeeps between removals of ended series, which use little memory.
const UPKEEPS_PER_REMOVAL: u32 = 12;

/// How often the admin API's certificate files are checked for changes.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);

/// Time limit for DNS, admin and metrics to stop after the last flow.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Called with all listening addresses, before another is opened and after one was closed. It must not block. Used by the
/// lab's packet filter.
pub type PortWatch = Arc<dyn Fn(&BTreeSet<SocketAddr>) + Send + Sync>;

/// Options that are not in the config.
#[derive(Clone, Default)]
pub struct GatewayOptions {
    /// The config file, for reloads; `None`: reloads are refused.
    pub source: Option<PathBuf>,
    /// The length of the data plane's tick; `None`: 1 s. Shorter in tests.
    pub tick: Option<Duration>,
    /// Receives the open ports.
    pub ports: Option<PortWatch>,
    /// The flags that change the addresses, for error messages: (DNS, metrics, admin); `None`: the config's keys.
    pub flags: Option<AddressFlags>,
    /// Use any free ports for DNS, metrics and the admin API.
    pub free_ports: bool,
    /// The process' log, whose levels the config sets; `None`: they are not changed.
    pub logs: Option<LogHandle>,
    /// The stand-ins behind the gateway, for the admin API; `None`: there are none.
    pub stand_ins: Option<StandInControl>,
    /// The service manager, which is notified about readiness, reloads and stops.
    pub manager: ServiceManager,
}

/// The options that change an address, for error messages.
#[derive(Debug, Clone, Copy)]
pub struct AddressFlags {
    /// For the DNS server.
    pub dns: &'static str,
    /// For the metrics exporter.
    pub metrics: &'static str,
    /// For the admin API.
    pub admin: &'static str,
}

impl Default for AddressFlags {
    fn default() -> Self {
        Self { dns: "`dns.listen`", metrics: "`metrics.listen`", admin: "`admin.listen`" }
    }
}

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket of the gateway can't be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The DNS server can't start.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The state can't be opened.
    #[error(transparent)]
    State(#[from] OpenError),
    /// The plan refuses it, a listener can't be bound, or the state can't be read.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The admin API would be reachable from other machines without credentials.
    #[error("cannot serve the admin API: {0}")]
    Exposed(String),
    /// The admin API's certificate can't be used.
    #[error("cannot serve the admin API over TLS")]
    Certificate(#[from] TlsError),
    /// A flow log can't be written.
    #[error(transparent)]
    FlowLog(#[from] FlowLogError),
    /// A thread can't be started.
    #[error("cannot start the worker threads")]
    Threads(#[source] std::io::Error),
}

/// A running gateway.
pub struct Gateway {
    control: Control,
    flows: Arc<GatewayFlows>,
    registry: Registry,
    readiness: Readiness,
    dns_addresses: Vec<SocketAddr>,
    metrics_address: Option<SocketAddr>,
    admin_address: Option<SocketAddr>,
    grace: Duration,
    manager: ServiceManager,
    /// Stops control, drains and the file watch.
    stop: CancellationToken,
    /// Stops DNS, admin and metrics at the end.
    last_stop: CancellationToken,
    tasks: TaskTracker,
    servers: Vec<JoinHandle<()>>,
    failed: watch::Receiver<Option<String>>,
    reload: reload::Reloader,
    flow_log: Option<FlowLog>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

impl Gateway {
    /// Starts the gateway. When it returns, every listener accepts and DNS answers.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running.
    pub async fn start(config: Config, options: GatewayOptions) -> Result<Self, StartError> {
        let started_with = config.clone();
        let Config { mut settings, mut desired, notices, .. } = config;
        let GatewayOptions { source, tick, flags, ports, free_ports, logs, stand_ins, manager } = options;
        let flags = flags.unwrap_or_default();
        if free_ports {
            settings.take_free_ports();
        }
        if let Some(logs) = &logs {
            logs::start(logs, &settings.logs);
        }
        let descriptors = budget::raise_limit();
        tracing::debug!(descriptors, "the soft limit of descriptors is raised to the hard one");
        Phase::Starting.enter();
        let readiness = Readiness::new();
        let listeners_ready = readiness.condition("listeners");
        let config_ready = readiness.condition("config");
        let registry = Registry::new();
        let (stop, last_stop, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let (work, last_work) = (Background::new(&tasks, &stop), Background::new(&tasks, &last_stop));

        // Stops the started parts if a later step fails.
        let (undo, undo_last) = (stop.clone().drop_guard(), last_stop.clone().drop_guard());

        // Sockets first, so that an address in use is reported before anything else happens.
        let dns_sockets = bind_dns(&settings, flags.dns)?;
        let metrics_socket =
            settings.metrics.map(|address| bind_tcp(address, "the metrics exporter", flags.metrics)).transpose()?;
        let credentials = Credentials::from_env().map_err(StartError::Exposed)?;
        if let Some(address) = settings.admin {
            config::admin_may_listen(address, credentials.is_some()).map_err(StartError::Exposed)?;
        }
        let admin_certificate = admin_certificate(&settings)?;
        let admin_socket = settings.admin.map(|address| bind_tcp(address, "the admin API", flags.admin)).transpose()?;
        let bound =
            [&metrics_socket, &admin_socket].into_iter().flatten().filter_map(|socket| socket.local_addr().ok());
        desired.own_addresses = settings.own_addresses().into_iter().chain(bound).collect();
        desired.own_names = settings.own_names();
        // Boxed: the connection to etcd is large, and every start would reserve stack for it.
        let store = Box::pin(open_store(&settings.state)).await?;

        let refusals = Arc::<Refusals>::default();
        let flow_log =
            FlowLog::start(settings.flow_logs.clone(), settings.access_log.clone(), &*registry.shared_recorder())?;
        let mut data_options = DataOptions::from(&settings);
        (data_options.flow_log, data_options.refusals) = (flow_log.clone(), Arc::clone(&refusals));
        data_options.tick = tick.unwrap_or(data_options.tick);
        let (losses, lost) = mpsc::unbounded_channel();
        let data = DataPlane::start(data_options, registry.shared_recorder(), losses.clone());
        let data = data.map_err(StartError::Threads)?;
        let failed_dials = data.failed_dials();
        let (snapshots, snapshots_seen) = watch::channel(Arc::new(Snapshot::default()));
        let certificates = settings.app_services.certificates.iter().cloned();
        let front_end = OnDemandFrontEnd::new(FrontEndParts {
            options: AppOptions::from(&settings),
            files: certificates.map(|(certificate, key)| CertificateFiles { certificate, key }).collect(),
            snapshots: snapshots_seen,
            lab_dir: settings.lab_dir.clone(),
            recorder: registry.shared_recorder(),
            held: data.held_refusals(),
            refusals: Arc::clone(&refusals),
            losses: losses.clone(),
        });
        let flows = Arc::new(GatewayFlows::new(data, front_end, ports));
        let gateway_id = store::gateway_id(&settings.state)?;
        let parts = ControlParts {
            plane: Arc::clone(&flows),
            snapshots,
            store,
            gateway_parts: GatewayParts {
                claims: store::gateway_claims(&settings.state),
                admin: admin_socket
                    .as_ref()
                    .and_then(|socket| socket.local_addr().ok())
                    .map(|address| admin_url(address, admin_certificate.is_some(), &settings.admin_names)),
                lock: gateway_id.as_ref().and_then(HostLock::take),
                left: last_stop.clone(),
            },
            gateway: gateway_id,
            probe: Arc::new(TcpProbe),
            name_servers: settings.name_servers.clone(),
            recorder: registry.shared_recorder(),
            move_grace: settings.move_grace,
            pace: settings.pace,
            stop: stop.clone(),
        };
        let control = Box::pin(Control::start(parts, desired, &tasks)).await?;
        if let Some(failed_dials) = failed_dials {
            report_failed_dials(failed_dials, &control, &work);
        }
        let (refused, events) = (Arc::clone(&refusals), control.events().clone());
        last_work.spawn(async move { refusals::report(&refused, &events).await });
        work.follow(control.snapshots(), move |snapshot| {
            listeners_ready.set_ready(format!("{} listeners accept", snapshot.listeners.len()));
        });
        config_ready.set_ready("the config is applied");
        if control.shared_status().borrow().gateway.is_some() {
            show_shared_state(readiness.condition("shared_state"), &control, &work);
        }
        if let Some(logs) = &logs {
            crate::telemetry::count_lines(&registry, logs.clone());
        }
        // Weak, as the data plane already holds the registry.
        let publishing = Arc::downgrade(&flows);
        registry.on_render(Box::new(move || {
            if let Some(flows) = publishing.upgrade() {
                flows.data().publish_metrics();
            }
        }));

        let (fail, failed) = watch::channel(None);
        let fail = Arc::new(fail);
        watch_losses(lost, Arc::clone(&fail), &work);
        watch_control(&control, Arc::clone(&fail), &work);
        let mut servers = Vec::new();
        let mut dns_addresses = Vec::new();
        if let Some((dns, sockets)) = settings.dns.as_ref().zip(dns_sockets) {
            let dns_ready = readiness.condition("dns");
            let metrics = DnsMetrics::new(&*registry.shared_recorder());
            let server = DnsServer::start(sockets, dns.clone(), control.snapshots(), metrics, &last_stop)?;
            dns_addresses.extend_from_slice(server.addresses());
            dns_ready.set_ready("the DNS server answers");
            let fail = Arc::clone(&fail);
            servers.push(tasks.spawn(async move {
                if let Err(error) = server.stopped().await {
                    dns_ready.set_not_ready(error.to_string());
                    fail.send_replace(Some(format!("the DNS server stopped: {error}")));
                }
            }));
        }
        let metrics_address = metrics_socket.as_ref().and_then(|socket| socket.local_addr().ok());
        if let Some(socket) = metrics_socket {
            let pages = pages(&registry, &readiness, &failed, &control);
            let alarm = Alarm::new("the metrics exporter", &losses);
            let (refused, until) = (Arc::clone(&refusals), last_stop.clone());
            servers.push(tasks.spawn(async move {
                let _alarm = alarm;
                pages.serve(socket, refused, until).await;
            }));
        }
        let reload = reload::Reloader::new(
            source,
            control.clone(),
            started_with,
            logs.clone(),
            manager.clone(),
            Arc::clone(&flows),
        );
        reload.show_problems(config_ready, &work);
        let admin_address = admin_socket.as_ref().and_then(|socket| socket.local_addr().ok());
        if let Some(address) = admin_address {
            log_admin(address, admin_certificate.as_ref());
        }
        if let Some(socket) = admin_socket {
            let again = reload.clone();
            let parts = ApiParts {
                control: control.clone(),
                flows: Arc::clone(&flows) as Arc<dyn FlowsView>,
                reload: Arc::new(move || {
                    let again = again.clone();
                    Box::pin(async move { again.reload().await })
                }),
                pending_settings: reload.pending(),
                readiness: readiness.clone(),
                logs,
                stand_ins,
                recorder: registry.shared_recorder(),
            };
            let tls = admin_certificate.map(|AdminCertificate { tls, files, .. }| {
                if let Some(files) = files {
                    watch_certificate(files, &last_work);
                }
                tls
            });
            let alarm = Alarm::new("the admin API", &losses);
            let (refused, until) = (Arc::clone(&refusals), last_stop.clone());
            servers.push(tasks.spawn(async move {
                let _alarm = alarm;
                api::serve(parts, credentials, socket, tls, refused, until).await;
            }));
        }
        if settings.watch_file {
            reload.watch_file(&work);
        }
        notices.iter().for_each(|notice| tracing::warn!(notice, "config notice"));
        log_addresses(&dns_addresses, metrics_address, &control.snapshot());
        Phase::Running.enter();
        run_upkeep(&registry, &flows, &last_work);
        notify_watchdog(&manager, &flows, &failed, &last_work);
        manager.ready(&format!("{} listeners accept", control.snapshot().listeners.len()));
        sample_rates(&flows, &last_work);
        if let Some(flow_log) = &flow_log {
            close_windows(flow_log, &flows, control.snapshots(), &work);
        }
        undo.disarm();
        undo_last.disarm();
        Ok(Self {
            control,
            flows,
            registry,
            readiness,
            dns_addresses,
            metrics_address,
            admin_address,
            grace: settings.shutdown_grace,
            manager,
            stop,
            last_stop,
            tasks,
            servers,
            failed,
            reload,
            flow_log,
        })
    }

    /// The handle for changes.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The current snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.control.snapshot()
    }

    /// The addresses of DNS; empty if it is disabled.
    #[must_use]
    pub fn dns_addresses(&self) -> &[SocketAddr] {
        &self.dns_addresses
    }

    /// The address of `/metrics`.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The address of the admin API.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The text of `/metrics`.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.registry.render()
    }

    /// The readiness.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Open flows, oldest first.
    #[must_use]
    pub fn flows(&self) -> Vec<FlowView> {
        FlowsView::flows(&*self.flows)
    }

    /// Ends a flow at once; false if there is no such flow.
    #[must_use]
    pub fn kill(&self, id: FlowId) -> bool {
        self.flows.kill(id)
    }

    /// The traffic since the start.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.flows.carried()
    }

    /// Reloads the config file.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; the current snapshot stays.
    pub async fn reload(&self) -> Result<(), ChangeError> {
        self.reload.reload().await
    }

    /// Completes when an essential part has failed, with its name.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The sender is dropped with the gateway: nothing has failed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until a signal requests a stop, or until an essential part has failed; returns that part's name. Reloads when a
    /// signal requests it, and once more if a reload was requested meanwhile. The result is logged, counted, and shown at
    /// `/readyz`; without a config file a reload does nothing.
    pub async fn until_stopped(&self, signals: &mut Signals) -> Option<String> {
        loop {
            tokio::select! {
                what = self.failed() => return Some(what),
                event = signals.next() => if event != SignalEvent::Reload { return None },
            }
            let mut again = true;
            while std::mem::take(&mut again) {
                let mut reload = pin!(self.reload());
                loop {
                    tokio::select! {
                        _ = &mut reload => break,
                        event = signals.next() => match event {
                            SignalEvent::Reload => again = true,
                            SignalEvent::Stop | SignalEvent::StopNow => return None,
                        }
                    }
                }
            }
        }
    }

    /// Stops: no new connections; flows may end within the grace period, then the rest is reset; DNS, admin and metrics
    /// are last.
    pub async fn stop(self) -> Carried {
        let grace = self.grace;
        self.stop_within(grace).await
    }

    /// Like [`stop`](Self::stop), with another grace period.
    pub async fn stop_within(self, grace: Duration) -> Carried {
        self.readiness.condition("running").set_not_ready("the gateway is stopping");
        Phase::Draining.enter();
        self.manager.stopping();
        // Control first, so that no listener is opened any more.
        self.stop.cancel();
        self.control.ended().await;
        if self.control.gateways().is_some() {
            // The listeners first, so that another gateway can bind their addresses while flows drain here.
            self.flows.close_listeners().await;
            let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.control.leave_gateways()).await;
        }
        tokio::select! {
            () = self.flows.drain_all(grace) => {}
            () = notify_draining(&self.manager, &self.flows) => {}
        }
        if let Some(flow_log) = self.flow_log.clone() {
            let (flows, snapshot) = (Arc::clone(&self.flows), self.control.snapshot());
            // Records that can't be written in time are lost with the process. A separate thread: a runtime waits for
            // its blocking threads at exit, and a blocked log pipe must not delay the end of the process.
            let (done, written) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || {
                close_window(&flow_log, &flows, &snapshot);
                flow_log.flush();
                let _ = done.send(());
            });
            let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, written).await;
        }
        Phase::Stopping.enter();
        let carried = self.flows.carried();
        self.last_stop.cancel();
        self.tasks.close();
        // A client that keeps its connection open does not delay the process.
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.tasks.wait()).await;
        for server in self.servers {
            server.abort();
        }
        self.flows.data().stop();
        carried
    }
}

/// Reports to the service manager, if it has a watchdog, that the process is alive: its workers respond and nothing has
/// failed.
fn notify_watchdog(
    manager: &ServiceManager,
    flows: &Arc<GatewayFlows>,
    failed: &watch::Receiver<Option<String>>,
    background: &Background,
) {
    let Some(every) = manager.watchdog() else { return };
    let (manager, flows, failed) = (manager.clone(), Arc::clone(flows), failed.clone());
    background.spawn(async move {
        let mut ticks = tokio::time::interval(every);
        loop {
            ticks.tick().await;
            // If a worker never responds, the watchdog is not notified, and the manager restarts the process.
            flows.data().workers_respond().await;
            if failed.borrow().is_none() {
                manager.alive();
            }
        }
    });
}

/// Reports to the service manager that the drain continues, as long as it does.
async fn notify_draining(manager: &ServiceManager, flows: &GatewayFlows) {
    let mut ticks = tokio::time::interval(STILL_STOPPING);
    loop {
        ticks.tick().await;
        manager.still_stopping(&format!("draining: {} flows are open", flows.open_flows()));
    }
}

/// Logs the address of the admin API, and the CA that its clients have to trust.
fn log_admin(address: SocketAddr, certificate: Option<&AdminCertificate>) {
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let console = format!("{scheme}://{address}/console");
    match certificate.and_then(|certificate| certificate.ca.as_ref()) {
        Some(ca) => tracing::info!(
            listen.addr = %address,
            console,
            ca = %ca.display(),
            "admin API listens over TLS with a certificate of the lab CA, which clients have to trust (`admin.tls`)"
        ),
        None => tracing::info!(listen.addr = %address, console, "admin API listens"),
    }
    if certificate.is_none() && !address.ip().is_loopback() {
        tracing::warn!(listen.addr = %address, "the admin API's token and answers are sent unencrypted: `admin.tls` is `off`");
    }
}

/// Logs the gateway's listening addresses, one line for each kind of listener: its own, whose ports may have been
/// chosen by the kernel, and those of the snapshot by address.
fn log_addresses(dns: &[SocketAddr], metrics: Option<SocketAddr>, snapshot: &Snapshot) {
    for address in dns {
        tracing::info!(listen.addr = %address, "DNS listens");
    }
    if let Some(address) = metrics {
        tracing::info!(listen.addr = %address, "metrics listener listens");
    }
    let (private, public): (Vec<_>, Vec<_>) =
        snapshot.listeners.values().partition(|listener| matches!(listener.access, ListenerAccess::Endpoint(_)));
    let apps = snapshot.apps.listeners.keys().copied().collect();
    let addresses = |listeners: Vec<&Arc<Listener>>| listeners.iter().map(|listener| listener.address).collect();
    for (kind, addresses) in
        [("private endpoints", addresses(private)), ("public path", addresses(public)), ("App Services", apps)]
    {
        let addresses: Vec<SocketAddr> = addresses;
        if !addresses.is_empty() {
            let ips: BTreeSet<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            let ports: BTreeSet<_> = addresses.iter().map(SocketAddr::port).collect();
            let ports = (ports.first().copied().unwrap_or_default(), ports.last().copied().unwrap_or_default());
            let ports = if ports.0 == ports.1 { ports.0.to_string() } else { format!("{}-{}", ports.0, ports.1) };
            let ips = ips.into_iter().collect::<Vec<_>>().join(" ");
            tracing::info!(
                kind,
                listeners = addresses.len(),
                listen.addr = ips,
                listen.port = ports,
                "listeners accept"
            );
        }
    }
}

/// Runs the registry's upkeep even without scrapes, and drops the data plane's counters of removed targets.
fn run_upkeep(registry: &Registry, flows: &Arc<GatewayFlows>, background: &Background) {
    // Weak, so that a dropped data plane releases its ports even if this task still runs.
    let (registry, flows) = (registry.clone(), Arc::downgrade(flows));
    background.spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP);
        for tick in 0_u32.. {
            ticks.tick().await;
            registry.upkeep();
            if tick.is_multiple_of(UPKEEPS_PER_REMOVAL) {
                if let Some(flows) = flows.upgrade() {
                    flows.data().forget_absent();
                }
                registry.drop_ended();
            }
        }
    });
}

/// Samples the throughput, for its peak.
fn sample_rates(flows: &Arc<GatewayFlows>, background: &Background) {
    let flows = Arc::downgrade(flows);
    background.spawn(async move {
        let mut ticks = tokio::time::interval(DataPlane::RATE_WINDOW);
        loop {
            ticks.tick().await;
            let Some(flows) = flows.upgrade() else { return };
            flows.data().sample_rates();
        }
    });
}

/// Reloads the admin API's certificate when it changes.
fn watch_certificate(certificate: Arc<Certificates>, background: &Background) {
    background.spawn(async move {
        let mut look = tokio::time::interval(CERTIFICATE_INTERVAL);
        loop {
            look.tick().await;
            let certificate = Arc::clone(&certificate);
            let _ = tokio::task::spawn_blocking(move || match certificate.refresh(SystemTime::now()) {
                Ok(false) => {}
                Ok(true) => tracing::info!("the admin API's certificate was reloaded"),
                Err(error) => {
                    tracing::error!(%error, "failed to read the admin API's certificate: the former one stays in use")
                }
            })
            .await;
        }
    });
}

/// Closes the windows of the flow logs at their interval.
fn close_windows(
    flow_log: &FlowLog,
    flows: &Arc<GatewayFlows>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    background: &Background,
) {
    let Some(interval) = flow_log.interval() else { return };
    let (flow_log, flows) = (flow_log.clone(), Arc::downgrade(flows));
    background.spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let (Some(flows), flow_log) = (flows.upgrade(), flow_log.clone()) else { return };
            let snapshot = Arc::clone(&snapshots.borrow());
            // It makes system calls for every open flow, and may wait for space in the queue.
            let _ = tokio::task::spawn_blocking(move || close_window(&flow_log, &flows, &snapshot)).await;
        }
    });
}

/// Closes the current window.
fn close_window(flow_log: &FlowLog, flows: &GatewayFlows, snapshot: &Snapshot) {
    if flow_log.interval().is_none() {
        return;
    }
    let mut interfaces = std::collections::BTreeMap::new();
    for listener in snapshot.listeners.values() {
        if let ListenerAccess::Endpoint(access) = &listener.access {
            let ip = listener.address.ip();
            interfaces.entry(ip).or_insert_with(|| Interface::at(access, ip));
        }
    }
    flow_log.close_window(flows.data().open_for_flow_log(), interfaces.into_values().flatten().collect());
}

fn bind_dns(settings: &Settings, flag: &str) -> Result<Option<DnsSockets>, StartError> {
    let Some(dns) = &settings.dns else { return Ok(None) };
    let mut sockets = DnsSockets::default();
    for address in &dns.listen {
        sockets.extend(crate::dns::bind(*address, flag.trim_matches('`'))?);
    }
    Ok(Some(sockets))
}

/// Forwards addresses to which the data plane could not connect to the health prober.
fn report_failed_dials(mut failed_dials: mpsc::Receiver<SocketAddr>, control: &Control, background: &Background) {
    let control = control.clone();
    background.spawn(async move {
        while let Some(target) = failed_dials.recv().await {
            control.report_failed_dial(target);
        }
    });
}

/// A failed listener or a panicked thread ends the process, as a port that is open but does not serve would be worse.
fn watch_losses(
    mut lost: mpsc::UnboundedReceiver<String>,
    fail: Arc<watch::Sender<Option<String>>>,
    background: &Background,
) {
    background.spawn(async move {
        if let Some(what) = lost.recv().await {
            tracing::error!(what, "a required task failed: the gateway stops");
            fail.send_replace(Some(what));
        }
    });
}

/// Watches the owner of the desired state: no change is possible after it has ended.
fn watch_control(control: &Control, fail: Arc<watch::Sender<Option<String>>>, background: &Background) {
    let control = control.clone();
    background.spawn(async move {
        control.ended().await;
        let reason = control.shared_status().borrow().behind.clone().map(|reason| format!(": {reason}"));
        let reason = reason.unwrap_or_default();
        fail.send_replace(Some(format!("the owner of the desired state has ended{reason}")));
    });
}

/// Logs each change in the gateway's access to the shared state. The gateway stays ready, as the current snapshot
/// continues to work.
fn show_shared_state(condition: Condition, control: &Control, background: &Background) {
    background.follow(control.shared_status(), move |status: &SharedStatus| {
        let problems = status.problems(|moment| iso8601(moment, false));
        condition.set_ready(match problems.as_slice() {
            [] => format!("change {} of the shared state is in force", status.applied),
            problems => problems.join("; "),
        });
    });
}

/// The URL of the admin API at `address` for other hosts: by the first of its `names`, or by the host's name if it
/// listens on every address.
fn admin_url(address: SocketAddr, tls: bool, names: &BTreeSet<DnsName>) -> String {
    let scheme = if tls { "https" } else { "http" };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    match (names.first(), host) {
        (Some(name), _) => format!("{scheme}://{name}:{}", address.port()),
        (None, Ok(host)) if address.ip().is_unspecified() => format!("{scheme}://{host}:{}", address.port()),
        _ => format!("{scheme}://{address}"),
    }
}

/// The pages of the metrics listener.
fn pages(
    registry: &Registry,
    readiness: &Readiness,
    failed: &watch::Receiver<Option<String>>,
    control: &Control,
) -> Pages {
    let (failed, readiness, snapshots) = (failed.clone(), readiness.clone(), control.snapshots());
    let healthy = move || {
        let failed = failed.borrow().clone();
        PageStatus::new(failed.is_none(), &serde_json::json!({ "healthy": failed.is_none(), "detail": failed }))
    };
    let ready = move || {
        let view = readiness.view();
        PageStatus::new(view.ready, &view)
    };
    let service_side = move |source: IpAddr| snapshots.borrow().service_side.contains(source);
    Pages::new(registry.clone(), Arc::new(healthy), Arc::new(ready), Arc::new(service_side))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::config::StateLocation;

    /// A process that lost a thread does not serve all clients, and must not report that it is healthy.
    #[tokio::test]
    async fn a_thread_that_panics_makes_the_gateway_unhealthy_and_fail() {
        let mut config = crate::config::quickstart();
        (config.settings.state, config.settings.dns, config.settings.admin) = (StateLocation::Memory, None, None);
        config.settings.metrics = Some("127.0.0.1:0".parse().expect("an address"));
        config.desired = crate::model::Desired::default();
        let gateway = Gateway::start(config, GatewayOptions::default()).await.expect("it starts");
        let address = gateway.metrics_address().expect("metrics");
        let healthz = async || {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            answer
        };
        assert!(healthz().await.starts_with("HTTP/1.1 200"));
        gateway.flows.data().run_on_worker(|| panic!("as asked"));
        assert_eq!(gateway.failed().await, "flow thread 0 panicked");
        let answer = healthz().await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("flow thread 0 panicked"), "{answer}");
        gateway.stop_within(Duration::ZERO).await;
    }
}
