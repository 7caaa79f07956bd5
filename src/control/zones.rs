//! Zonal shifts, and registration of processes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::draft::EditError;
use super::events::{EventKind, Severity};
use super::inventory::Timestamp;
use super::overrides::ZonalShift;
use super::owner::{ChangeError, Command, Owner, RETRY_DELAY, Refused};
use super::plane::Plane;
use crate::model::{TargetId, VpceServiceId, Zone};
use crate::plan::{Generation, ZoneView};

impl<P: Plane> Owner<P> {
    /// Starts or ends a zonal shift on one or all load balancers. An active shift gets the new expiry.
    pub(super) async fn shift(
        &mut self,
        service: Option<VpceServiceId>,
        zone: Zone,
        away: bool,
        lasts: Option<Duration>,
    ) -> Result<Generation, ChangeError> {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let meant = |view: &&ZoneView| service.as_ref().is_none_or(|wanted| view.service == *wanted);
        let there: Vec<_> = snapshot.zones.iter().filter(meant).collect();
        let now = Timestamp::now();
        let mut overrides = self.overrides.clone();
        let mut found = false;
        if !away {
            // A shift may exist for a zone in which no endpoint has an address any more.
            let before = overrides.shifts.len();
            let is_meant = |of: &VpceServiceId, at: &Zone| *at == zone && service.as_ref().is_none_or(|s| s == of);
            overrides.shifts.retain(|(of, at), _| !is_meant(of, at));
            found = overrides.shifts.len() < before;
        }
        for view in there.iter().filter(|view| view.zone == zone) {
            found = true;
            if away {
                let key = (view.service.clone(), zone.clone());
                let other = overrides.shifts.keys().find(|(of, at)| *of == view.service && *at != zone);
                if let Some((service, shifted)) = other {
                    let text = format!(
                        "{service} is shifted away from zone `{shifted}`; end that first, one zone at a time can be shifted \
                         away from"
                    );
                    return Err(ChangeError::Refused(Refused::ShiftedAlready, text));
                }
                let since = overrides.shifts.get(&key).map_or(now, |shift| shift.since);
                let expires = lasts.map(|lasts| now.plus(lasts));
                let (service, zone) = key.clone();
                overrides.shifts.insert(key, ZonalShift { service, zone, since, expires, epoch: 0 });
            }
        }
        if !found {
            let services = service.map_or_else(|| "any load balancer".to_owned(), |service| service.to_string());
            let known: BTreeSet<_> = there.iter().map(|view| view.zone.as_str()).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            let text =
                format!("no endpoint of {services} has an address in zone `{zone}`; zones with addresses: {known}");
            return Err(ChangeError::Refused(Refused::NoSuchZone, text));
        }
        let generation = self.set_overrides(overrides).await?;
        tracing::info!(%zone, away, "zonal shift");
        let message = match (away, lasts) {
            (true, Some(lasts)) => format!("traffic is shifted away from {zone} for {} s", lasts.as_secs()),
            (true, None) => format!("traffic is shifted away from {zone}"),
            (false, _) => format!("the shift away from {zone} was ended"),
        };
        self.events.record(EventKind::Zone, Severity::Info, zone.as_str(), message);
        self.start_clocks();
        Ok(generation)
    }

    pub(super) fn start_shift_clocks(&mut self, now: Timestamp) {
        let mut due = Vec::new();
        for shift in self.overrides.shifts.values_mut().filter(|shift| shift.epoch == 0) {
            self.epoch += 1;
            shift.epoch = self.epoch;
            due.extend(shift.expires.map(|end| (end, shift.clone())));
        }
        for (end, ZonalShift { service, zone, epoch, .. }) in due {
            self.send_after(now.until(end), Command::ShiftEnds { service, zone, epoch });
        }
    }

    pub(super) async fn shift_ends(&mut self, service: VpceServiceId, zone: Zone, epoch: u64) {
        let key = (service, zone);
        if self.overrides.is_shift(&key, epoch) {
            tracing::info!(service = %key.0, zone = %key.1, "zonal shift ends");
            let message = format!("the shift of {} away from {} is over", key.0, key.1);
            self.events.record(EventKind::Zone, Severity::Info, key.1.as_str(), message);
            let mut overrides = self.overrides.clone();
            overrides.shifts.remove(&key);
            if !self.set_overrides_or_log(overrides).await {
                let (service, zone) = key;
                self.send_after(RETRY_DELAY, Command::ShiftEnds { service, zone, epoch });
            }
        }
    }

    /// Registers or deregisters a target's processes.
    pub(super) async fn register(
        &mut self,
        target: TargetId,
        service: Option<VpceServiceId>,
        member: Option<String>,
        registered: bool,
    ) -> Result<Vec<String>, ChangeError> {
        let view = self.find(&target, service.as_ref())?;
        let meant = view.members.iter().map(|other| other.name.clone());
        let meant: Vec<String> = meant.filter(|name| member.as_ref().is_none_or(|wanted| wanted == name)).collect();
        if meant.is_empty() {
            let known: Vec<_> = view.members.iter().map(|member| member.name.as_str()).collect();
            let member = member.unwrap_or_default();
            let text = format!("target `{target}` has no member `{member}`; it has: {}", known.join(", "));
            return Err(EditError::Invalid(text).into());
        }
        let mut overrides = self.overrides.clone();
        for name in &meant {
            let key = (view.service.clone(), target.clone(), name.clone());
            let _ = if registered { overrides.deregistered.remove(&key) } else { overrides.deregistered.insert(key) };
        }
        self.set_overrides(overrides).await?;
        if !registered {
            // A registered member starts as `initial`.
            self.desired
                .health
                .retain(|(of, id, name), _| !(*of == view.service && *id == target && meant.contains(name)));
        }
        tracing::info!(target.id = %target, members = meant.join(" "), registered, "targets registered or deregistered");
        let word = if registered { "registered" } else { "deregistered" };
        let message = format!("{} of {target} {word}", meant.join(", "));
        self.events.record(EventKind::Registration, Severity::Info, target.as_str(), message);
        Ok(meant)
    }
}
