//! Stand-ins for the config's nodes and apps, at their addresses in the config.
//!
//! They run on the service's side, from which the gateway can't be called. The names of their members depend on the
//! gateway's ports, and their isolation on its faults and the cut zones, so they read the saved state, the config and
//! the list of those zones whenever one of the three files changes.
//!
//! The operator's commands arrive over a Unix socket in the lab's directory: the gateway, whose admin API receives
//! them, has no access to the service's side except to the backends' ports.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::error::IoContext;
use super::{CUT_FILE, LabError, holder, outages};
use crate::api::StandInControl;
use crate::config::{self, Config, StateLocation};
use crate::lifecycle::{SignalEvent, Signals};
use crate::model::{Node, StandInCommand, StandInMember, StandInRefusal};
use crate::plan::Snapshot;
use crate::quickstart::{RunningStandIns, Timing, planned};
use crate::tls::LabCa;

/// Polling interval: the members learn of a moved port well before the old one closes (`move_grace`).
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The socket for commands, in the lab's directory. A relative name, as the lab's processes run in there: the path of a
/// socket has at most 107 bytes.
const SOCKET: &str = "stand-ins.sock";

/// Time limit of a command; each takes effect at once.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// The modification times and lengths of the files.
type FileStamps = Vec<Option<(SystemTime, u64)>>;

pub(super) async fn serve(config: Config, path: &Path) -> Result<(), LabError> {
    let failed = |error: &dyn std::error::Error| LabError::Build(crate::control::chain(error));
    let mut signals = Signals::listen().context("listen for signals")?;
    let ca = LabCa::open_or_create(&config.settings.lab_dir).map_err(|error| failed(&error))?;
    let files = files(&config, path);
    let mut seen = look(&files);
    let snapshot = Arc::new(planned(&config).await.map_err(|error| failed(&error))?);
    let stand_ins = RunningStandIns::start(&config.desired, &snapshot, &ca, Timing::default()).await;
    let mut stand_ins = stand_ins.map_err(|error| failed(&error))?;
    let (sender, receiver) = watch::channel(snapshot);
    let cut = path.with_file_name(CUT_FILE);
    let is_cut = move |node: &Node| outages::read(&cut).iter().any(|zone| zone == node.zone.as_str());
    let _follower = stand_ins.follow(receiver, is_cut);
    let commands = UnixListener::bind(SOCKET).context("listen for commands to the stand-ins")?;
    holder::report_to_parent(holder::SERVES)?;
    let mut tick = tokio::time::interval(POLL_INTERVAL);
    loop {
        tokio::select! {
            event = signals.next() => match event {
                SignalEvent::Stop | SignalEvent::StopNow => return Ok(()),
                SignalEvent::Reload => {}
            },
            Ok((stream, _)) = commands.accept() => {
                tokio::spawn(answer(stream, stand_ins.control()));
                continue;
            }
            _ = tick.tick() => {}
        }
        let now = look(&files);
        // A file that can't be read is being written; the next poll finds it complete.
        if now != seen
            && let Some(snapshot) = plan(path).await
        {
            seen = now;
            sender.send_replace(Arc::new(snapshot));
        }
    }
}

/// The gateway's current state.
async fn plan(path: &Path) -> Option<Snapshot> {
    planned(&config::load(path).ok()?).await.ok()
}

fn files(config: &Config, path: &Path) -> Vec<PathBuf> {
    let state = match &config.settings.state {
        StateLocation::File(path) => Some(path.clone()),
        StateLocation::Memory | StateLocation::Etcd(_) => None,
    };
    [path.to_owned(), path.with_file_name(CUT_FILE)].into_iter().chain(state).collect()
}

fn look(files: &[PathBuf]) -> FileStamps {
    let stamp = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    files.iter().map(stamp).collect()
}

type StandInResult = Result<Vec<StandInMember>, StandInRefusal>;

/// Runs a single command from `stream`: JSON to the end of the input, and JSON back.
async fn answer(mut stream: UnixStream, control: StandInControl) -> std::io::Result<()> {
    let mut command = Vec::new();
    stream.read_to_end(&mut command).await?;
    let answer: StandInResult = control(serde_json::from_slice(&command)?).await;
    stream.write_all(&serde_json::to_vec(&answer)?).await
}

/// The channel for the operator's commands to the stand-ins of this process' lab; `None` if it has none.
pub(super) fn control() -> Option<StandInControl> {
    // They are started before the gateway.
    Path::new(SOCKET).exists().then(|| -> StandInControl { Arc::new(|command| Box::pin(ask(command))) })
}

/// Runs the command in the process of the stand-ins.
async fn ask(command: StandInCommand) -> StandInResult {
    let asked = async {
        let mut stream = UnixStream::connect(SOCKET).await?;
        stream.write_all(&serde_json::to_vec(&command)?).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(serde_json::from_slice(&answer)?)
    };
    let asked: std::io::Result<StandInResult> =
        timeout(COMMAND_TIMEOUT, asked).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    asked.unwrap_or_else(|error| {
        let message = format!("the lab's stand-ins do not answer: {error}; `plgw lab status` says whether they run");
        Err(StandInRefusal::Unavailable(message))
    })
}
