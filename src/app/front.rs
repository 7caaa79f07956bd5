//! The App Services front end, started when the first app needs it, so that a gateway without apps has no cost.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::Recorder;
use tokio::sync::watch;

use crate::appservices::{
    AppFront, AppFrontParts, AppOptions, BoundListeners, CertificateFiles, CertificateSource, Certificates,
};
use crate::control::chain;
use crate::data::FlowView;
use crate::lifecycle::Losses;
use crate::limits::{Connections, Refusals};
use crate::model::FlowId;
use crate::plan::{AppsView, Snapshot};
use crate::tls::{LabCa, TlsError};

/// The parts that the front end is started with.
pub(super) struct FrontParts {
    pub(super) options: AppOptions,
    /// Certificates; empty: the lab's CA issues them.
    pub(super) files: Vec<CertificateFiles>,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) lab_dir: PathBuf,
    pub(super) recorder: Arc<dyn Recorder + Send + Sync>,
    /// Refused clients that are held, shared with the data plane.
    pub(super) held: Arc<Connections>,
    /// Counts refused connections.
    pub(super) refusals: Arc<Refusals>,
    /// Receives the names of essential threads that panicked.
    pub(super) losses: Losses,
}

/// An App Services front end that may not have been started yet.
pub(super) struct LazyFront {
    parts: FrontParts,
    front: Mutex<Option<Arc<AppFront>>>,
}

impl LazyFront {
    pub(super) fn new(parts: FrontParts) -> Self {
        Self { parts, front: Mutex::default() }
    }

    /// Binds the addresses of `view` that are not open yet, or none. `None`: there is nothing to bind.
    pub(super) fn bind(&self, view: &AppsView) -> Result<Option<BoundListeners>, Vec<String>> {
        if view.listeners.is_empty() && self.started().is_none() {
            return Ok(None);
        }
        let front = self.start().map_err(|error| vec![error])?;
        front.bind(view).map(Some).map_err(|errors| errors.iter().map(|error| chain(error)).collect())
    }

    /// Starts accepting on bound sockets.
    pub(super) async fn open(&self, bound: Option<BoundListeners>, snapshot: &Arc<Snapshot>) {
        if let Some((front, bound)) = self.started().zip(bound) {
            front.open(bound, snapshot).await;
        }
    }

    /// Closes the addresses that are not in `view`, the current snapshot's.
    pub(super) async fn retire(&self, view: &AppsView) {
        if let Some(front) = self.started() {
            front.retire(view).await;
        }
    }

    /// Closes everything, drains connections for `grace`, and joins the threads.
    pub(super) async fn stop(&self, grace: Duration) {
        let front = self.front.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(front) = front.and_then(Arc::into_inner) {
            front.stop(grace).await;
        }
    }

    /// The WebSockets that are open.
    pub(super) fn websockets(&self) -> Vec<FlowView> {
        self.started().map(|front| front.websockets()).unwrap_or_default()
    }

    /// Ends a WebSocket at once; false if there is no WebSocket with this id.
    pub(super) fn kill(&self, id: FlowId) -> bool {
        self.started().is_some_and(|front| front.kill(id))
    }

    /// Reloads certificate files. No effect before the front end is started.
    pub(super) fn reload_certificates(&self) -> Result<(), TlsError> {
        self.started().map_or(Ok(()), |front| front.reload_certificates())
    }

    fn started(&self) -> Option<Arc<AppFront>> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn start(&self) -> Result<Arc<AppFront>, String> {
        let mut front = self.front.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(front) = front.as_ref() {
            return Ok(Arc::clone(front));
        }
        let FrontParts { options, files, snapshots, lab_dir, recorder, held, refusals, losses } = &self.parts;
        let ca = Arc::new(LabCa::open_or_create(lab_dir).map_err(|error| chain(&error))?);
        let source = if files.is_empty() {
            CertificateSource::LabCa(Arc::clone(&ca))
        } else {
            CertificateSource::Files(files.clone())
        };
        let certificates = Certificates::new(source).map_err(|error| chain(&error))?;
        let started = AppFront::start(
            options.clone(),
            AppFrontParts {
                snapshots: snapshots.clone(),
                certificates,
                lab_ca: Some(ca.certificate()),
                held: Arc::clone(held),
                refusals: Arc::clone(refusals),
                recorder: Arc::clone(recorder),
                losses: losses.clone(),
            },
        )
        .map_err(|error| chain(&error))?;
        Ok(Arc::clone(front.insert(Arc::new(started))))
    }
}

impl std::fmt::Debug for LazyFront {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LazyFront").field("front", &self.front).finish_non_exhaustive()
    }
}
