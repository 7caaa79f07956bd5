//! Cut zones: their list, and their effect on DNS.
//!
//! If an address of a load balancer stops responding, AWS's health checks of it fail, and its zone is removed from DNS.
//! In the lab the link is cut on the router, which the gateway's probes do not cross. So the gateway reads the list,
//! and applies each change after the time that health checks at its pace would need.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{CUT_FILE, LabError};
use crate::control::Control;
use crate::files;
use crate::model::{Desired, HealthCheck, Zone};

/// Polling interval of the list.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// How long health checks need to detect that a zone is out, and that it is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DetectionTimes {
    out: Duration,
    back: Duration,
}

/// The times of the fastest health check of `desired`.
pub(super) fn detection_times(desired: &Desired) -> DetectionTimes {
    let services = desired.projects.iter().flat_map(|project| &project.services);
    let quickest = services.map(|service| service.attributes.health_check.clone()).min_by_key(|check| check.interval);
    let check: HealthCheck = quickest.unwrap_or_default();
    DetectionTimes {
        out: check.interval * u32::from(check.unhealthy_threshold),
        back: check.interval * u32::from(check.healthy_threshold),
    }
}

/// Reads the list at `path`.
pub(super) fn read(path: &Path) -> Vec<String> {
    let text = files::read_trusted(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Writes the list to the lab's directory atomically.
pub(super) fn write(dir: &Path, zones: &[String]) -> Result<(), LabError> {
    let path = dir.join(CUT_FILE);
    let text = serde_json::to_string(zones).expect("names are JSON");
    files::replace(&path, files::PUBLIC, text.as_bytes()).map_err(|source| LabError::File {
        what: "write",
        path,
        source,
    })
}

/// Applies cuts and their ends to the gateway's DNS, until the handle is dropped.
pub(super) fn follow(path: PathBuf, control: Control, notice: DetectionTimes) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut zones: BTreeMap<String, ZoneSilence> = BTreeMap::new();
        let mut tick = tokio::time::interval(POLL_INTERVAL);
        loop {
            tick.tick().await;
            let cut = read(&path);
            let now = Instant::now();
            for zone in &cut {
                zones.entry(zone.clone()).or_insert(ZoneSilence { silent: false, other_since: None });
            }
            for (name, state) in &mut zones {
                let Ok(zone) = name.parse::<Zone>() else { continue };
                if let Some(silent) = state.look(cut.contains(name), now, notice)
                    && let Err(error) = control.set_zone_silent(zone, silent).await
                {
                    tracing::warn!(
                        zone = name,
                        error = crate::control::chain(&error),
                        "lab: failed to apply a zone outage to DNS"
                    );
                }
            }
        }
    }))
}

/// The state of one zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ZoneSilence {
    /// Whether the zone is out of DNS.
    silent: bool,
    /// Since when the link's state has differed.
    other_since: Option<Instant>,
}

impl ZoneSilence {
    /// The new state, if a change is due; `cut` is the current state of the link.
    fn look(&mut self, cut: bool, now: Instant, notice: DetectionTimes) -> Option<bool> {
        if cut == self.silent {
            self.other_since = None;
            return None;
        }
        let since = *self.other_since.get_or_insert(now);
        if now - since < if cut { notice.out } else { notice.back } {
            return None;
        }
        *self = Self { silent: cut, other_since: None };
        Some(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTICE: DetectionTimes = DetectionTimes { out: Duration::from_secs(10), back: Duration::from_secs(20) };

    #[test]
    fn an_outage_is_noticed_after_its_time_and_a_shorter_one_never() {
        let (mut state, began) = (ZoneSilence { silent: false, other_since: None }, Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(state.look(true, after(0), NOTICE), None);
        assert_eq!(state.look(true, after(9), NOTICE), None);
        assert_eq!(state.look(false, after(9), NOTICE), None);
        assert_eq!(state.look(true, after(12), NOTICE), None, "counted from its own start");
        assert_eq!(state.look(true, after(22), NOTICE), Some(true));
        assert_eq!(state.look(true, after(23), NOTICE), None, "once");
        assert_eq!(state.look(false, after(24), NOTICE), None);
        assert_eq!(state.look(false, after(44), NOTICE), Some(false));
    }
}
