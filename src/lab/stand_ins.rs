//! Stand-ins for the config's nodes and apps, where the config says that these are.
//!
//! They run on the service's side, from where the gateway cannot be asked anything. What their members are called depends
//! on the gateway's ports, and which of them are lost on its faults, so they look at what it has saved, and at the config,
//! whenever one of the two files changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::error::Doing;
use super::{LabError, holder};
use crate::config::{self, Config, StateLocation};
use crate::lifecycle::{SignalEvent, Signals};
use crate::plan::Snapshot;
use crate::quickstart::{StandIns, Timing, planned};
use crate::tls::LabCa;

/// How soon a moved port is known to the members: well before the old one closes (`move_grace`).
const LOOK: Duration = Duration::from_millis(200);

/// When the files last changed, and how long they are.
type Look = Vec<Option<(SystemTime, u64)>>;

pub(super) async fn serve(config: Config, path: &Path) -> Result<(), LabError> {
    let failed = |error: &dyn std::error::Error| LabError::Build(crate::control::chain(error));
    let mut signals = Signals::listen().doing("listen for signals")?;
    let ca = LabCa::open_or_create(&config.settings.lab_dir).map_err(|error| failed(&error))?;
    let files = files(&config, path);
    let mut seen = look(&files);
    let snapshot = Arc::new(planned(&config).await.map_err(|error| failed(&error))?);
    let stand_ins = StandIns::start(&config.desired, &snapshot, &ca, Timing::default()).await;
    let mut stand_ins = stand_ins.map_err(|error| failed(&error))?;
    let (sender, receiver) = watch::channel(snapshot);
    let _follower = stand_ins.follow(receiver);
    holder::say(holder::SERVES)?;
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            event = signals.next() => match event {
                SignalEvent::Stop | SignalEvent::StopNow => return Ok(()),
                SignalEvent::Reload => {}
            },
            _ = tick.tick() => {}
        }
        let now = look(&files);
        // A file that cannot be read just now is being written: the next look finds it whole.
        if now != seen
            && let Some(snapshot) = plan(path).await
        {
            seen = now;
            sender.send_replace(Arc::new(snapshot));
        }
    }
}

/// What the gateway goes by now.
async fn plan(path: &Path) -> Option<Snapshot> {
    planned(&config::load(path).ok()?).await.ok()
}

fn files(config: &Config, path: &Path) -> Vec<PathBuf> {
    let state = match &config.settings.state {
        StateLocation::File(path) => Some(path.clone()),
        StateLocation::Memory => None,
    };
    [path.to_owned()].into_iter().chain(state).collect()
}

fn look(files: &[PathBuf]) -> Look {
    let stamp = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    files.iter().map(stamp).collect()
}
