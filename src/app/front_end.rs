//! The App Services front end, started when the first app needs it, so that a gateway without apps has no cost.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::Recorder;
use tokio::sync::watch;

use crate::appservices::{
    AppFrontEnd, AppFrontEndParts, AppOptions, BoundListeners, CertificateFiles, CertificateSource, Certificates,
};
use crate::control::chain;
use crate::data::FlowView;
use crate::lifecycle::Losses;
use crate::limits::{Connections, Refusals};
use crate::model::FlowId;
use crate::plan::{AppsView, Snapshot};
use crate::tls::{LabCa, TlsError};

/// The parts that the front end is started with.
pub(super) struct FrontEndParts {
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
pub(super) struct OnDemandFrontEnd {
    parts: FrontEndParts,
    front_end: Mutex<Option<Arc<AppFrontEnd>>>,
}

impl OnDemandFrontEnd {
    pub(super) fn new(parts: FrontEndParts) -> Self {
        Self { parts, front_end: Mutex::default() }
    }

    /// Binds the addresses of `view` that are not open yet, or none. `None`: there is nothing to bind.
    pub(super) fn bind(&self, view: &AppsView) -> Result<Option<BoundListeners>, Vec<String>> {
        if view.listeners.is_empty() && self.started().is_none() {
            return Ok(None);
        }
        let front_end = self.start().map_err(|error| vec![error])?;
        front_end.bind(view).map(Some).map_err(|errors| errors.iter().map(|error| chain(error)).collect())
    }

    /// Starts accepting on bound sockets.
    pub(super) async fn open(&self, bound: Option<BoundListeners>, snapshot: &Arc<Snapshot>) {
        if let Some((front_end, bound)) = self.started().zip(bound) {
            front_end.open(bound, snapshot).await;
        }
    }

    /// Closes the addresses that are not in `view`, the current snapshot's.
    pub(super) async fn retire(&self, view: &AppsView) {
        if let Some(front_end) = self.started() {
            front_end.retire(view).await;
        }
    }

    /// Closes everything, drains connections for `grace`, and joins the threads.
    pub(super) async fn stop(&self, grace: Duration) {
        let front_end = self.front_end.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(front_end) = front_end.and_then(Arc::into_inner) {
            front_end.stop(grace).await;
        }
    }

    /// The WebSockets that are open.
    pub(super) fn websockets(&self) -> Vec<FlowView> {
        self.started().map(|front_end| front_end.websockets()).unwrap_or_default()
    }

    /// Ends a WebSocket at once; false if there is no WebSocket with this id.
    pub(super) fn kill(&self, id: FlowId) -> bool {
        self.started().is_some_and(|front_end| front_end.kill(id))
    }

    /// Reloads certificate files. No effect before the front end is started.
    pub(super) fn reload_certificates(&self) -> Result<(), TlsError> {
        self.started().map_or(Ok(()), |front_end| front_end.reload_certificates())
    }

    fn started(&self) -> Option<Arc<AppFrontEnd>> {
        self.front_end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn start(&self) -> Result<Arc<AppFrontEnd>, String> {
        let mut front_end = self.front_end.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(front_end) = front_end.as_ref() {
            return Ok(Arc::clone(front_end));
        }
        let FrontEndParts { options, files, snapshots, lab_dir, recorder, held, refusals, losses } = &self.parts;
        let ca = Arc::new(LabCa::open_or_create(lab_dir).map_err(|error| chain(&error))?);
        let source = if files.is_empty() {
            CertificateSource::LabCa(Arc::clone(&ca))
        } else {
            CertificateSource::Files(files.clone())
        };
        let certificates = Certificates::new(source).map_err(|error| chain(&error))?;
        let started = AppFrontEnd::start(
            options.clone(),
            AppFrontEndParts {
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
        Ok(Arc::clone(front_end.insert(Arc::new(started))))
    }
}
