//! Reloads the config: on request, and when its file changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::background::Background;
use super::plane::GatewayFlows;
use crate::config::{self, Config, LoggingSettings};
use crate::control::{ChangeError, Control, chain};
use crate::lifecycle::{Condition, ServiceManager};
use crate::telemetry::LogHandle;

/// How long a file must be unchanged before it is read, as editors write in several steps.
const QUIET_PERIOD: Duration = Duration::from_millis(200);

/// The maximum wait for that.
const MAX_QUIET_WAIT: Duration = Duration::from_secs(1);

/// Reads the config again.
#[derive(Clone)]
pub(super) struct Reloader {
    source: Option<Arc<Path>>,
    control: Control,
    /// The config at the start.
    started_with: Arc<Config>,
    /// The keys of changed settings that need a restart.
    pending: watch::Sender<Vec<String>>,
    logs: Option<LogHandle>,
    manager: ServiceManager,
    flows: Arc<GatewayFlows>,
    /// Serializes reloads, so that the config that was read last is applied last.
    turn: Arc<tokio::sync::Mutex<LastReload>>,
}

/// The result of the last reload.
#[derive(Debug)]
struct LastReload {
    logs: LoggingSettings,
}

impl Reloader {
    pub(super) fn new(
        source: Option<PathBuf>,
        control: Control,
        started_with: Config,
        logs: Option<LogHandle>,
        manager: ServiceManager,
        flows: Arc<GatewayFlows>,
    ) -> Self {
        let turn = LastReload { logs: started_with.settings.logs.clone() };
        let (source, started_with) = (source.map(Arc::from), Arc::new(started_with));
        let (pending, turn) = (watch::Sender::default(), Arc::new(tokio::sync::Mutex::new(turn)));
        Self { source, control, started_with, pending, logs, manager, flows, turn }
    }

    /// The keys of settings that were changed and need a restart.
    pub(super) fn pending(&self) -> watch::Receiver<Vec<String>> {
        self.pending.subscribe()
    }

    /// Reads the file and applies it: all or nothing; also the certificates of the apps.
    pub(super) async fn reload(&self) -> Result<(), ChangeError> {
        let Some(source) = self.source.clone() else {
            return Err(ChangeError::Config("there is no config file to read again".to_owned()));
        };
        let mut turn = self.turn.lock().await;
        let flows = Arc::clone(&self.flows);
        match tokio::task::spawn_blocking(move || flows.reload_certificates()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "failed to read App Services certificates: the former ones stay in use")
            }
            Err(panic) => tracing::error!(%panic, "failed to read App Services certificates"),
        }
        self.manager.reloading();
        let outcome = self.read_and_apply(&mut turn, source).await;
        self.manager.reloaded(&match &outcome {
            Ok(()) => format!("{} listeners accept", self.control.snapshot().listeners.len()),
            Err(error) => format!("the last reload was refused, the former config stays in force: {}", chain(error)),
        });
        outcome
    }

    async fn read_and_apply(&self, turn: &mut LastReload, source: Arc<Path>) -> Result<(), ChangeError> {
        let path = Arc::clone(&source);
        let loaded = tokio::task::spawn_blocking(move || config::load(&path)).await;
        let (mut logging, mut pending) = (None, Vec::new());
        let inventory = match loaded {
            Ok(Ok(config)) => {
                logging = Some(config.settings.logs.clone());
                pending = self.started_with.settings.differing_keys(&config.settings);
                Ok(config.desired)
            }
            Ok(Err(problems)) => Err(problems.to_string()),
            Err(panic) => Err(format!("cannot read {}: {panic}", source.display())),
        };
        self.control.replace_inventory(inventory).await?;
        if !pending.is_empty() {
            let (file, keys) = (source.display(), pending.join(", "));
            tracing::warn!(%file, keys, "settings changed that take effect at the next start");
        }
        self.pending.send_replace(pending);
        if let (Some(logs), Some(now)) = (&self.logs, logging) {
            super::logs::change(logs, &std::mem::replace(&mut turn.logs, now.clone()), &now);
        }
        Ok(())
    }

    /// Shows the reason of a refused reload in the readiness details. The gateway stays ready, as the current snapshot
    /// stays.
    pub(super) fn show_problems(&self, condition: Condition, background: &Background) {
        background.follow(self.control.last_problem(), move |problem| match problem {
            None => condition.set_ready("the config is applied"),
            Some(reason) => {
                condition.set_ready(format!("the last reload was refused, the former config stays in force: {reason}"));
            }
        });
    }

    /// Reloads whenever the file changes. The directory is watched, as editors and Kubernetes replace the file.
    pub(super) fn watch_file(&self, background: &Background) {
        let Some(source) = self.source.clone() else { return };
        let (changed, mut changes) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
                // Full: a check is already due. Closed: the process is stopping.
                let _ = changed.try_send(());
            }
        });
        let directory = match source.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(&directory, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let watcher = match watcher {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(%error, "failed to watch the config file; SIGHUP still reloads it");
                return;
            }
        };
        let reloader = self.clone();
        background.spawn(async move {
            // The watcher is dropped with the task.
            let _watcher = watcher;
            let mut seen = read(&source).await;
            // The file may have changed between the first read and the start of the watch.
            if !reloader.is_started_with(seen.as_deref()) {
                let _ = reloader.reload().await;
            }
            while changes.recv().await.is_some() {
                let quiet =
                    async { while timeout(QUIET_PERIOD, changes.recv()).await.is_ok_and(|more| more.is_some()) {} };
                // If other files in the directory change all the time, as logs do, it never becomes quiet.
                let _ = timeout(MAX_QUIET_WAIT, quiet).await;
                let now = read(&source).await;
                // An empty file is one that is being written: its writer has truncated it.
                let is_cut = now.as_ref().is_some_and(|bytes| bytes.is_empty());
                if now != seen && !is_cut {
                    seen = now;
                    // Control logs, counts and shows the reason of a refusal.
                    let _ = reloader.reload().await;
                }
            }
        });
    }

    /// Whether `bytes` are the config at the start.
    fn is_started_with(&self, bytes: Option<&[u8]>) -> bool {
        bytes
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .and_then(|text| config::parse(text, "").ok())
            .is_some_and(|config| config == *self.started_with)
    }
}

/// The file's bytes; `None` when it can't be read.
async fn read(path: &Path) -> Option<Vec<u8>> {
    tokio::fs::read(path).await.ok()
}
