//! What the workers share with each other and with the data plane's handle.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::Carried;
use super::counters::{AddressTotals, Series, SeriesKey};
use super::fault::LiveFault;
use super::metrics::{DataMetrics, Owner};
use super::peak::Peaks;
use super::shape::Bucket;
use super::table::FlowTable;
use crate::flowlog::FlowLog;
use crate::lifecycle::Losses;
use crate::model::{Fault, TargetId, VpceServiceId};
use crate::plan::{Listener, TargetGroup};

/// What endpoints count, by endpoint and zone.
pub(crate) type AllTotals = BTreeMap<(String, String), AddressTotals>;

/// Which process: load balancer, addressable target, member.
type MemberKey = (VpceServiceId, TargetId, String);

/// Who counts what.
#[derive(Debug, Default)]
struct Book {
    series: HashMap<SeriesKey, Arc<Series>>,
    /// What series that are forgotten have counted, by endpoint; as long as the endpoint has others.
    gone: AllTotals,
    carried: Carried,
}

/// Tables that outlive listeners.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) table: FlowTable,
    pub(crate) metrics: DataMetrics,
    pub(crate) flow_log: Option<FlowLog>,
    workers: usize,
    series: Mutex<Book>,
    held_flows: Mutex<HashMap<MemberKey, Arc<AtomicUsize>>>,
    faults: Mutex<HashMap<String, LiveFault>>,
    caps: Mutex<HashMap<IpAddr, [Arc<Bucket>; 2]>>,
    /// Whether a flow ever was told to stand still.
    frozen: AtomicBool,
    /// How many drains wait for flows to end; while 0, nobody is told.
    draining: AtomicUsize,
    pub(crate) peaks: Mutex<Peaks>,
    ended: Notify,
    /// Hears of what broke and can't be done without.
    pub(crate) losses: Losses,
    failed_dials: mpsc::Sender<SocketAddr>,
}

impl Shared {
    pub(crate) fn new(
        workers: usize,
        metrics: DataMetrics,
        flow_log: Option<FlowLog>,
        losses: Losses,
        failed_dials: mpsc::Sender<SocketAddr>,
    ) -> Self {
        Self {
            table: FlowTable::default(),
            metrics,
            flow_log,
            workers,
            series: Mutex::default(),
            held_flows: Mutex::default(),
            faults: Mutex::default(),
            caps: Mutex::default(),
            frozen: AtomicBool::new(false),
            draining: AtomicUsize::new(0),
            peaks: Mutex::default(),
            ended: Notify::new(),
            losses,
            failed_dials,
        }
    }

    /// Where flows of `listener` are counted: the same series when its port moved or it was opened again.
    pub(crate) fn series(&self, listener: &Listener) -> Arc<Series> {
        let key = SeriesKey {
            endpoint: listener.gate.label().to_owned(),
            zone: listener.zone.to_string(),
            target: listener.group.target.to_string(),
        };
        let mut book = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(book.series.entry(key.clone()).or_insert_with(|| {
            let histograms = self.metrics.histograms(&listener.group);
            Series::new(key, histograms, self.workers)
        }))
    }

    /// Every series that there is, in order, and what those that there were add to their endpoints'.
    pub(crate) fn all_series(&self) -> (Vec<Arc<Series>>, AllTotals) {
        let book = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = book.series.values().cloned().collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        (all, book.gone.clone())
    }

    /// What was carried since the start.
    pub(crate) fn carried(&self) -> Carried {
        let book = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let mut carried = book.carried;
        book.series.values().for_each(|series| carried.add(series));
        carried
    }

    /// Whether there is something to forget; a look at counts of references, so that it may be asked now and then.
    pub(crate) fn has_absent(&self) -> bool {
        let book = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        // What is in `gone` alone goes once its last neighbour does, which is in `series`.
        let series = book.series.values().any(|series| Arc::strong_count(series) == 1);
        drop(book);
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let faults = faults.values().any(|live| Arc::strong_count(&live.struck) == 1);
        let held = self.held_flows.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.values().any(|held| Arc::strong_count(held) == 1);
        let caps = self.caps.lock().unwrap_or_else(PoisonError::into_inner);
        series || faults || held || caps.values().any(|[cap, _]| Arc::strong_count(cap) == 1)
    }

    /// Forgets what neither a listener nor a flow counts into any more, so that whoever makes and removes endpoints,
    /// targets and faults all day long does not fill the memory.
    pub(crate) fn forget_absent(&self) {
        let mut book = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let Book { series, gone, carried } = &mut *book;
        series.retain(|key, series| {
            // Nobody but the book has it, and nobody can take it while the book is locked.
            let is_held = Arc::strong_count(series) > 1;
            if !is_held {
                carried.add(series);
                gone.entry(key.address()).or_default().add(series);
                self.metrics.forget(&Owner::Series(key.clone()));
            }
            is_held
        });
        let present: BTreeSet<_> = series.keys().map(SeriesKey::address).collect();
        gone.retain(|address, _| {
            let is_present = present.contains(address);
            if !is_present {
                self.metrics.forget(&Owner::Address(address.0.clone(), address.1.clone()));
                self.metrics.forget(&Owner::Peak(address.0.clone(), address.1.clone()));
            }
            is_present
        });
        drop(book);
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, live| {
            let is_set = Arc::strong_count(&live.struck) > 1;
            if !is_set {
                self.metrics.forget(&Owner::Fault(name.clone(), live.fault.kind.label()));
            }
            is_set
        });
        self.held_flows.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, held| Arc::strong_count(held) > 1);
        self.caps.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, [cap, _]| Arc::strong_count(cap) > 1);
    }

    /// Counts of the flows that each member of `group` holds.
    pub(crate) fn held_flows(&self, group: &TargetGroup) -> Arc<[Arc<AtomicUsize>]> {
        let mut held = self.held_flows.lock().unwrap_or_else(PoisonError::into_inner);
        group
            .members
            .iter()
            .map(|member| {
                let key = (group.service.clone(), group.target.clone(), member.name.clone());
                Arc::clone(held.entry(key).or_default())
            })
            .collect()
    }

    /// A fault with its counts. Set anew with other values, it numbers flows from 0 again; what it struck is counted on.
    pub(crate) fn live_fault(&self, fault: &Arc<Fault>) -> LiveFault {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let known = faults.get(&fault.name);
        let live = match known {
            Some(live) if live.fault == *fault => live.clone(),
            known => LiveFault {
                fault: Arc::clone(fault),
                seen: Arc::default(),
                struck: known.map(|live| Arc::clone(&live.struck)).unwrap_or_default(),
            },
        };
        faults.insert(fault.name.clone(), live.clone());
        live
    }

    /// Every fault that there is, with the number of flows that it befell.
    pub(crate) fn struck(&self) -> Vec<(String, &'static str, u64)> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let of =
            |live: &LiveFault| (live.fault.name.clone(), live.fault.kind.label(), live.struck.load(Ordering::Relaxed));
        faults.values().map(of).collect()
    }

    /// What an endpoint address may carry: to targets, to clients.
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

    /// A flow is out of the table.
    pub(crate) fn flow_ended(&self) {
        if self.draining.load(Ordering::Relaxed) > 0 {
            self.ended.notify_waiters();
        }
    }

    /// Waits until `over` holds; it is asked again whenever a flow ends.
    pub(crate) async fn until(&self, mut over: impl FnMut(&FlowTable) -> bool) {
        let _waiting = Waiting::new(&self.draining);
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if over(&self.table) {
                break;
            }
            // A worker that looked before `draining` was raised tells nobody, hence the second look.
            let _ = tokio::time::timeout(Duration::from_millis(200), ended).await;
        }
    }

    /// Accepting failed.
    pub(crate) fn accept_error(&self, error: &io::Error) {
        self.metrics.accept_error(error);
    }

    /// A target did not take a connection.
    pub(crate) fn failed_dial(&self, target: SocketAddr) {
        // A full queue says as much as one more would.
        let _ = self.failed_dials.try_send(target);
    }

    /// A listener can't go on. It is essential: whoever watches takes the process down.
    pub(crate) fn lost_listener(&self, address: SocketAddr) {
        // Nobody listens any more only when the process stops anyway.
        let _ = self.losses.send(format!("the listener at {address} stopped"));
    }
}

/// Somebody waits for flows to end; given up with the wait, also when that is cut short.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
