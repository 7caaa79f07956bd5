//! What the workers share with each other and with the data plane's handle.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::counters::{Series, SeriesKey};
use super::metrics::DataMetrics;
use super::table::FlowTable;
use crate::model::{TargetId, VpceServiceId};
use crate::plan::{Listener, TargetGroup};

/// Which process: load balancer, addressable target, member.
type MemberKey = (VpceServiceId, TargetId, String);

/// Tables that outlive listeners.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) table: FlowTable,
    pub(crate) metrics: DataMetrics,
    workers: usize,
    series: Mutex<HashMap<SeriesKey, Arc<Series>>>,
    held_flows: Mutex<HashMap<MemberKey, Arc<AtomicUsize>>>,
    /// How many drains wait for flows to end; while 0, nobody is told.
    draining: AtomicUsize,
    ended: Notify,
    lost: mpsc::UnboundedSender<SocketAddr>,
    failed_dials: mpsc::Sender<SocketAddr>,
}

impl Shared {
    pub(crate) fn new(
        workers: usize,
        metrics: DataMetrics,
        lost: mpsc::UnboundedSender<SocketAddr>,
        failed_dials: mpsc::Sender<SocketAddr>,
    ) -> Self {
        Self {
            table: FlowTable::default(),
            metrics,
            workers,
            series: Mutex::default(),
            held_flows: Mutex::default(),
            draining: AtomicUsize::new(0),
            ended: Notify::new(),
            lost,
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
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(series.entry(key.clone()).or_insert_with(|| {
            let connect_time = self.metrics.connect_time(&listener.group.target);
            Series::new(key, connect_time, self.workers)
        }))
    }

    /// Every series that there ever was, in order.
    pub(crate) fn all_series(&self) -> Vec<Arc<Series>> {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = series.values().cloned().collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
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

    /// A flow is out of the table.
    pub(crate) fn flow_ended(&self) {
        if self.draining.load(Ordering::Relaxed) > 0 {
            self.ended.notify_waiters();
        }
    }

    /// Waits until `over` holds; it is asked again whenever a flow ends.
    pub(crate) async fn until(&self, mut over: impl FnMut(&FlowTable) -> bool) {
        self.draining.fetch_add(1, Ordering::SeqCst);
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
        self.draining.fetch_sub(1, Ordering::SeqCst);
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
        let _ = self.lost.send(address);
    }
}
