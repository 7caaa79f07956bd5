//! State shared by all workers and by the threads that control them: the flow table, counters, faults, bandwidth caps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use super::counters::{AddressTotals, Carried, Series, SeriesKey};
use super::fault::LiveFault;
use super::metrics::{DataMetrics, SeriesOwner};
use super::peak::Peaks;
use super::shape::Bucket;
use super::table::FlowTable;
use crate::flowlog::FlowLog;
use crate::lifecycle::Losses;
use crate::limits::{Connections, Refusals, SourceCounts, budget};
use crate::model::{CidrSet, Fault, Refusal, TargetId, VpceServiceId};
use crate::plan::{Listener, TargetGroup};

/// Totals of endpoints, by endpoint and zone.
pub(crate) type AllTotals = BTreeMap<(String, String), AddressTotals>;

/// A target process: load balancer, addressable target, member.
pub(crate) type MemberId = (VpceServiceId, TargetId, String);

/// Events of the data plane for other modules.
#[derive(Debug)]
pub(crate) struct Reports {
    /// Targets that could not be connected to. The queue is bounded and drops events when full: the first ones suffice.
    pub(crate) failed_dials: mpsc::Sender<SocketAddr>,
    pub(crate) refusals: Arc<Refusals>,
}

/// All series, and the totals of removed ones.
#[derive(Debug, Default)]
struct SeriesTable {
    series: HashMap<SeriesKey, Arc<Series>>,
    /// Totals of removed series, by endpoint, kept while the endpoint has other series.
    gone: AllTotals,
    carried: Carried,
}

/// The data plane's shared state, which outlives listeners.
#[derive(Debug)]
pub(crate) struct DataPlaneState {
    pub(crate) table: FlowTable,
    pub(crate) metrics: DataMetrics,
    pub(crate) flow_log: Option<FlowLog>,
    /// Blackholed clients of every listener of the process.
    pub(crate) held: Arc<Connections>,
    /// Open flows by source.
    pub(crate) sources: SourceCounts,
    workers: usize,
    series: Mutex<SeriesTable>,
    flows_of_members: Mutex<HashMap<MemberId, Arc<AtomicUsize>>>,
    faults: Mutex<HashMap<String, LiveFault>>,
    caps: Mutex<HashMap<IpAddr, [Arc<Bucket>; 2]>>,
    /// Sources on the service's side, which every listener refuses.
    pub(crate) service_side: watch::Sender<Arc<CidrSet>>,
    /// Whether any flow was ever frozen.
    frozen: AtomicBool,
    /// The number of drains that wait for flows to end; while it is 0, ends are not notified.
    draining: AtomicUsize,
    pub(crate) peaks: Mutex<Peaks>,
    ended: Notify,
    /// Reports the loss of essential threads and listeners.
    pub(crate) losses: Losses,
    reports: Reports,
}

impl DataPlaneState {
    pub(crate) fn new(
        workers: usize,
        metrics: DataMetrics,
        flow_log: Option<FlowLog>,
        held: Arc<Connections>,
        losses: Losses,
        reports: Reports,
    ) -> Self {
        Self {
            table: FlowTable::default(),
            metrics,
            flow_log,
            held,
            sources: SourceCounts::new(budget::flows_of_one_source()),
            workers,
            series: Mutex::default(),
            flows_of_members: Mutex::default(),
            faults: Mutex::default(),
            caps: Mutex::default(),
            service_side: watch::Sender::default(),
            frozen: AtomicBool::new(false),
            draining: AtomicUsize::new(0),
            peaks: Mutex::default(),
            ended: Notify::new(),
            losses,
            reports,
        }
    }

    /// The series of `listener`, which stays the same when its port moves or it is reopened.
    pub(crate) fn series(&self, listener: &Listener) -> Arc<Series> {
        let key = SeriesKey {
            endpoint: listener.access.label().to_owned(),
            zone: listener.zone.to_string(),
            target: listener.group.target.to_string(),
        };
        let mut table = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(table.series.entry(key.clone()).or_insert_with(|| {
            let histograms = self.metrics.histograms(&listener.group);
            Series::new(key, histograms, self.workers)
        }))
    }

    /// All series, sorted, and the totals of removed series by endpoint.
    pub(crate) fn all_series(&self) -> (Vec<Arc<Series>>, AllTotals) {
        let table = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = table.series.values().cloned().collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        (all, table.gone.clone())
    }

    /// The traffic since the start.
    pub(crate) fn carried(&self) -> Carried {
        let table = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let mut carried = table.carried;
        table.series.values().for_each(|series| carried.add(series));
        carried
    }

    /// Whether [`forget_absent`](Self::forget_absent) would remove something. Cheap: it only compares reference counts.
    pub(crate) fn has_absent(&self) -> bool {
        let table = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        // Entries of `gone` are removed together with the endpoint's last entry of `series`.
        let series = table.series.values().any(|series| Arc::strong_count(series) == 1);
        drop(table);
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let faults = faults.values().any(|live| Arc::strong_count(&live.affected) == 1);
        let members = self.flows_of_members.lock().unwrap_or_else(PoisonError::into_inner);
        let members = members.values().any(|flows| Arc::strong_count(flows) == 1);
        let caps = self.caps.lock().unwrap_or_else(PoisonError::into_inner);
        series || faults || members || caps.values().any(|[cap, _]| Arc::strong_count(cap) == 1)
    }

    /// Removes counters that neither a listener nor a flow uses, so that creating and deleting endpoints, targets and
    /// faults does not leak memory.
    pub(crate) fn forget_absent(&self) {
        let mut table = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let SeriesTable { series, gone, carried } = &mut *table;
        series.retain(|key, series| {
            // A count of 1 is the table's own reference; no other can be created while the table is locked.
            let is_used = Arc::strong_count(series) > 1;
            if !is_used {
                carried.add(series);
                gone.entry(key.address()).or_default().add(series);
                self.metrics.forget(&SeriesOwner::Series(key.clone()));
            }
            is_used
        });
        let present: BTreeSet<_> = series.keys().map(SeriesKey::address).collect();
        gone.retain(|address, _| {
            let is_present = present.contains(address);
            if !is_present {
                self.metrics.forget(&SeriesOwner::Address(address.0.clone(), address.1.clone()));
                self.metrics.forget(&SeriesOwner::Peak(address.0.clone(), address.1.clone()));
            }
            is_present
        });
        drop(table);
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, live| {
            let is_set = Arc::strong_count(&live.affected) > 1;
            if !is_set {
                self.metrics.forget(&SeriesOwner::Fault(name.clone(), live.fault.kind.label()));
            }
            is_set
        });
        self.flows_of_members
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, flows| Arc::strong_count(flows) > 1);
        self.caps.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, [cap, _]| Arc::strong_count(cap) > 1);
    }

    /// The flow counters of the members of `group`.
    pub(crate) fn flows_of_members(&self, group: &TargetGroup) -> Arc<[Arc<AtomicUsize>]> {
        let mut flows = self.flows_of_members.lock().unwrap_or_else(PoisonError::into_inner);
        group
            .members
            .iter()
            .map(|member| {
                let key = (group.service.clone(), group.target.clone(), member.name.clone());
                Arc::clone(flows.entry(key).or_default())
            })
            .collect()
    }

    /// The number of flows of each member.
    pub(crate) fn flows_by_member(&self) -> BTreeMap<MemberId, usize> {
        let flows = self.flows_of_members.lock().unwrap_or_else(PoisonError::into_inner);
        flows.iter().map(|(member, flows)| (member.clone(), flows.load(Ordering::Relaxed))).collect()
    }

    /// A fault with its counters. A fault that is set with other values starts its sequence numbers from 0, but keeps
    /// its count of affected flows.
    pub(crate) fn live_fault(&self, fault: &Arc<Fault>) -> LiveFault {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let known = faults.get(&fault.name);
        let live = match known {
            Some(live) if live.fault == *fault => live.clone(),
            known => LiveFault {
                fault: Arc::clone(fault),
                seen: Arc::default(),
                affected: known.map(|live| Arc::clone(&live.affected)).unwrap_or_default(),
            },
        };
        faults.insert(fault.name.clone(), live.clone());
        live
    }

    /// All faults, with the number of flows that each affected.
    pub(crate) fn affected(&self) -> Vec<(String, &'static str, u64)> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |live: &LiveFault| {
            (live.fault.name.clone(), live.fault.kind.label(), live.affected.load(Ordering::Relaxed))
        };
        faults.values().map(of).collect()
    }

    /// The bandwidth cap of an endpoint's address: to targets, to clients.
    pub(crate) fn cap(&self, address: IpAddr, bytes_per_second: u64) -> [Arc<Bucket>; 2] {
        let mut caps = self.caps.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || [(); 2].map(|()| Arc::new(Bucket::new(bytes_per_second)));
        let cap = caps.entry(address).or_insert_with(new);
        if cap[0].rate() != bytes_per_second {
            *cap = new();
        }
        cap.clone()
    }

    pub(crate) fn note_frozen(&self) {
        self.frozen.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }

    /// Notifies drains that a flow was removed from the table.
    pub(crate) fn flow_ended(&self) {
        if self.draining.load(Ordering::Relaxed) > 0 {
            self.ended.notify_waiters();
        }
    }

    /// Waits until `over` returns true; it is called again whenever a flow ends.
    pub(crate) async fn until(&self, mut over: impl FnMut(&FlowTable) -> bool) {
        let _waiting = DrainGuard::new(&self.draining);
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if over(&self.table) {
                break;
            }
            // A worker that read `draining` before it was incremented does not notify, hence the time-out.
            let _ = tokio::time::timeout(Duration::from_millis(200), ended).await;
        }
    }

    /// Counts a failed accept.
    pub(crate) fn accept_error(&self, error: &io::Error) {
        self.metrics.accept_errors.count(error);
    }

    /// Reports a target that could not be connected to.
    pub(crate) fn failed_dial(&self, target: SocketAddr) {
        let _ = self.reports.failed_dials.try_send(target);
    }

    /// Counts a refused connection; see [`Refusals::is_first`].
    pub(crate) fn is_first_refusal(&self, listener: &Listener, client: SocketAddr, refusal: Refusal) -> bool {
        self.reports.refusals.is_first("flows", client.ip(), refusal.label(), listener.group.target.as_str())
    }

    /// Reports a listener that cannot continue, which ends the process.
    pub(crate) fn lost_listener(&self, address: SocketAddr) {
        // Fails only if the process is stopping anyway.
        let _ = self.losses.send(format!("the listener at {address} stopped"));
    }
}

/// Counts a drain until it is dropped.
struct DrainGuard<'a>(&'a AtomicUsize);

impl<'a> DrainGuard<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for DrainGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
