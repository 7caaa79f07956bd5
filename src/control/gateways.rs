//! Membership of gateways that share a state: which ones live, and which one serves each zone.
//!
//! A gateway with `gateway.zones` listens at the addresses of the zones whose claims it holds (`membership` decides
//! this, and is pure). One task renews the registration each second and takes free claims. Another one requests the
//! owner to listen or to stop, so that a slow store and an owner that waits for it do not block each other. A listener
//! observes its [`Lease`] directly: after the end of the lease it accepts no connection, whether or not the owner has
//! closed it.

mod membership;
#[cfg(test)]
mod membership_tests;
mod metrics;
mod records;
pub(super) mod serving;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::membership::{LEASE, Membership, RENEWAL};
use self::metrics::GatewayMetrics;
use self::records::{GatewayRegistration, PREFIX};
use self::serving::{Served, Serving};
pub use self::view::{ClaimView, GatewayState, GatewayView, GatewaysView};
use super::chain::chain;
use super::config_base::ConfigBase;
use super::holder::{self, HostLock};
use super::inventory::Timestamp;
use super::owner::{ChangeError, Command, Decision, Owner, RETRY_DELAY, Refused};
use super::plane::Plane;
use super::saved::Loaded;
use super::shared::KNOWN;
use super::store::{StateStore, StoreError};
use crate::model::{ClaimId, GatewayId, Lease};

/// Time limit of one read or one renewal.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The time from sending one renewal to the response of the next: its response, a read, and the response.
const _: () = assert!(3 * CALL_TIMEOUT.as_secs() <= LEASE.as_secs());

/// Settings of a gateway that shares its state.
#[derive(Debug, Clone, Default)]
pub struct GatewayParts {
    /// The claims that it is configured for: zones, and `public` for the public addresses; `None`: it serves all
    /// addresses.
    pub claims: Option<BTreeSet<ClaimId>>,
    /// The URL of its admin API, for operators of the other gateways.
    pub admin: Option<String>,
    /// Proves to its next process that this one is gone; `None`: the next process waits for a time-out.
    pub lock: Option<HostLock>,
    /// Cancelled when the process is about to end and has nothing open, so that another one may take the id.
    pub left: CancellationToken,
}

/// A request to forget a gateway.
struct ForgetRequest {
    gateway: GatewayId,
    reply: oneshot::Sender<Result<bool, ChangeError>>,
}

/// The handle to this gateway's membership.
#[derive(Debug, Clone)]
pub(super) struct GatewaysHandle {
    view: watch::Receiver<Arc<GatewaysView>>,
    forget: mpsc::UnboundedSender<ForgetRequest>,
    leave: CancellationToken,
    left: CancellationToken,
}

impl GatewaysHandle {
    pub(super) fn view(&self) -> Arc<GatewaysView> {
        Arc::clone(&self.view.borrow())
    }

    /// Removes the registration of `gateway`; returns whether it had one.
    pub(super) async fn forget(&self, gateway: GatewayId) -> Result<bool, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.forget.send(ForgetRequest { gateway, reply }).map_err(|_| ChangeError::Stopping)?;
        answer.await.map_err(|_| ChangeError::Stopping)?
    }

    /// Releases every claim. To be called when no listener is open.
    pub(super) async fn leave(&self) {
        self.leave.cancel();
        self.left.cancelled().await;
    }
}

/// Renews this gateway's registration and takes claims.
pub(super) struct MembershipTask {
    store: Arc<dyn StateStore>,
    id: GatewayId,
    membership: Membership,
    known: BTreeSet<GatewayId>,
    has_claims: bool,
    /// The zero of the clock.
    origin: Instant,
    leases: BTreeMap<ClaimId, Lease>,
    serving: watch::Sender<Serving>,
    served: watch::Sender<Served>,
    view: watch::Sender<Arc<GatewaysView>>,
    /// When the latest renewal succeeded: the others are judged by their state at that time.
    judged: Duration,
    /// Why the latest renewal failed.
    problem: Option<String>,
    metrics: GatewayMetrics,
}

impl MembershipTask {
    /// Registers this gateway and takes free claims.
    pub(super) async fn join(
        store: Arc<dyn StateStore>,
        id: GatewayId,
        parts: GatewayParts,
        recorder: Arc<dyn ::metrics::Recorder + Send + Sync>,
    ) -> Self {
        let started = Timestamp::now();
        let own = GatewayRegistration {
            process: started.0,
            host: holder::host().unwrap_or_default(),
            renewal: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            claims: parts.claims.clone(),
            serving: BTreeSet::new(),
            admin: parts.admin,
            started,
        };
        let mut member = Self {
            store,
            membership: Membership::new(id.clone(), own),
            id,
            known: BTreeSet::new(),
            has_claims: parts.claims.is_some(),
            origin: Instant::now(),
            leases: BTreeMap::new(),
            serving: watch::Sender::default(),
            served: watch::Sender::default(),
            view: watch::Sender::default(),
            judged: Duration::ZERO,
            problem: None,
            metrics: GatewayMetrics::new(recorder, parts.claims),
        };
        member.round().await;
        member
    }

    /// The claims that this gateway should serve.
    pub(super) fn serving(&self) -> Serving {
        self.serving.borrow().clone()
    }

    /// Continues in the background, with the claims that are already `served`.
    pub(super) fn start(
        self,
        served: Served,
        commands: mpsc::UnboundedSender<Command>,
        tasks: &tokio_util::task::TaskTracker,
    ) -> GatewaysHandle {
        let mut wanted = self.serving.subscribe();
        if served.problem.is_some() {
            // Retried.
            wanted.mark_changed();
        }
        self.served.send_replace(served);
        let (forget, requests) = mpsc::unbounded_channel();
        let (leave, left) = (CancellationToken::new(), CancellationToken::new());
        let gateways = GatewaysHandle { view: self.view.subscribe(), forget, leave: leave.clone(), left: left.clone() };
        tasks.spawn(listen(wanted, commands, self.served.clone()));
        tasks.spawn(async move {
            let _left = left.drop_guard();
            self.run(requests, leave).await;
        });
        gateways
    }

    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<ForgetRequest>, leave: CancellationToken) {
        let mut served = self.served.subscribe();
        // The first renewal is due at once, as it publishes what the gateway serves since its start.
        let mut renewals = interval(RENEWAL);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = leave.cancelled() => return self.leave().await,
                Some(ForgetRequest { gateway, reply }) = requests.recv() => {
                    let _ = reply.send(self.forget(&gateway).await);
                }
                // A change of it is published at once too.
                _ = served.changed() => {}
                _ = renewals.tick() => {}
            }
            self.round().await;
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// One renewal, with a read of the others' state.
    async fn round(&mut self) {
        let outcome = self.renew().await;
        self.metrics.renewed(outcome.is_ok());
        let now = self.now();
        self.limit_leases();
        let mut current = self.membership.leases();
        current.retain(|_, end| end.is_none_or(|end| now < end));
        self.leases.retain(|claim, _| current.contains_key(claim));
        for (claim, end) in current {
            let end = end.map(|end| (self.origin + end).into_std());
            self.leases.entry(claim).or_insert_with(|| Lease::until(end));
        }
        let here = self.has_claims.then(|| self.leases.clone());
        let elsewhere = match &outcome {
            // It serves all addresses itself.
            _ if !self.has_claims => None,
            Ok(()) => self.membership.served_by_others(now),
            // A gateway that can't reach the store does not expire others.
            Err(_) => self.serving.borrow().elsewhere.clone(),
        };
        let serving = Serving { here, elsewhere };
        self.serving.send_if_modified(|before| {
            let changes = *before != serving;
            *before = serving;
            changes
        });
        if outcome != self.problem.clone().map_or(Ok(()), Err) {
            match &outcome {
                Ok(()) => tracing::info!("this gateway is registered in the shared state"),
                Err(reason) => {
                    tracing::warn!(reason, "failed to renew this gateway's registration; retrying")
                }
            }
        }
        if outcome.is_ok() {
            self.judged = now;
        }
        self.problem = outcome.err();
        self.publish();
    }

    async fn renew(&mut self) -> Result<(), String> {
        let (entries, known) = within(async {
            let entries = self.store.range(PREFIX).await?.entries;
            // Read after the registrations: as long as one is there, the gateway's key was not deleted with it.
            Ok((entries, self.store.range(KNOWN).await?.entries))
        })
        .await?;
        if known.is_empty() && !self.known.is_empty() {
            return Err("the keys of the shared state were deleted; nothing is judged by what is left".to_owned());
        }
        self.known = known.iter().filter_map(|entry| entry.key.as_str().strip_prefix(KNOWN)?.parse().ok()).collect();
        let now = self.now();
        self.membership.read(&entries, now);
        let Served { claims, unbound, .. } = self.served.borrow().clone();
        let Some(renewal) = self.membership.renewal(&claims, &unbound, now) else {
            return Err(format!(
                "another process has the id `{}` and may live; give this gateway another `gateway.id`",
                self.id
            ));
        };
        self.limit_leases();
        let sent = self.now();
        let revision = within(self.store.commit(renewal.txn.clone())).await?;
        self.membership.renewed(renewal, sent, revision);
        Ok(())
    }

    /// Applies the current leases to the listeners; a claim without a lease has expired.
    fn limit_leases(&self) {
        let current = self.membership.leases();
        for (claim, lease) in &self.leases {
            let end = current.get(claim).copied().unwrap_or(Some(Duration::ZERO));
            lease.set_end(end.map(|end| (self.origin + end).into_std()));
        }
    }

    fn publish(&self) {
        let now = self.now();
        let mut gateways: BTreeMap<GatewayId, GatewayView> = BTreeMap::new();
        for seen in self.membership.gateways(now, self.judged) {
            let of = seen.registration;
            let serves = of.claims.is_none() || !of.serving.is_empty();
            let state = match (seen.lives, serves) {
                (false, _) => GatewayState::Gone,
                (true, true) => GatewayState::Serving,
                (true, false) => GatewayState::Standby,
            };
            let view = GatewayView {
                id: seen.id.clone(),
                is_this: *seen.id == self.id,
                state,
                claims: of.claims.clone(),
                serving: of.serving.clone(),
                version: Some(of.version.clone()),
                admin: of.admin.clone(),
                started: Some(of.started),
                heard: Some(seen.heard),
            };
            gateways.insert(seen.id.clone(), view);
        }
        for id in &self.known {
            gateways.entry(id.clone()).or_insert_with(|| GatewayView {
                id: id.clone(),
                is_this: false,
                state: GatewayState::Gone,
                claims: Some(BTreeSet::new()),
                serving: BTreeSet::new(),
                version: None,
                admin: None,
                started: None,
                heard: None,
            });
        }
        let gateways: Vec<_> = gateways.into_values().collect();
        let problem = self.problem.clone().or_else(|| self.served.borrow().problem.clone());
        let view = GatewaysView { claims: self.claims(&gateways), gateways, problem };
        self.metrics.published(&view);
        self.view.send_replace(Arc::new(view));
    }

    fn claims(&self, gateways: &[GatewayView]) -> Vec<ClaimView> {
        let holders: BTreeMap<_, _> =
            self.membership.holders().map(|(claim, holder, fenced)| (claim, (holder, fenced))).collect();
        let wanted = gateways.iter().filter_map(|gateway| gateway.claims.as_ref()).flatten();
        let all: BTreeSet<_> = holders.keys().copied().chain(wanted).collect();
        let view = |claim: &ClaimId| {
            let holder = holders.get(claim);
            let waits = |gateway: &&GatewayView| {
                gateway.state != GatewayState::Gone
                    && gateway.claims.as_ref().is_some_and(|claims| claims.contains(claim))
                    && holder.is_none_or(|(holder, _)| **holder != gateway.id)
            };
            ClaimView {
                claim: claim.clone(),
                holder: holder.map(|(holder, _)| (*holder).clone()),
                fenced: holder.is_some_and(|(_, fenced)| *fenced),
                standbys: gateways.iter().filter(waits).map(|gateway| gateway.id.clone()).collect(),
            }
        };
        all.into_iter().map(view).collect()
    }

    async fn forget(&mut self, gateway: &GatewayId) -> Result<bool, ChangeError> {
        let lives = |heard: Duration| {
            let seconds = heard.as_secs();
            let text = format!(
                "gateway `{gateway}` renewed its lease {seconds} s ago; stop it first, it is removed when it stops"
            );
            ChangeError::Refused(Refused::GatewayLives, text)
        };
        let Some(txn) = self.membership.forgetting(gateway, self.now()).map_err(lives)? else {
            return Ok(false);
        };
        match self.store.commit(txn).await {
            Ok(_) => Ok(true),
            // The gateway has just renewed its registration.
            Err(StoreError::Conflict { .. }) => Err(lives(Duration::ZERO)),
            Err(error) => Err(ChangeError::Save(error.into())),
        }
    }

    /// Releases every claim; no listener is open any more. A claim that can't be released expires with its lease.
    pub(super) async fn leave(&mut self) {
        for _ in 0..2 {
            let Ok(entries) = within(self.store.range(PREFIX)).await else { return };
            self.membership.read(&entries.entries, self.now());
            let Some(txn) = self.membership.leaving() else { return };
            // A conflict: another gateway has changed a claim meanwhile.
            if within(self.store.commit(txn)).await.is_ok() {
                return;
            }
        }
    }
}

/// The store's response, within its time limit.
async fn within<T>(question: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    match timeout(CALL_TIMEOUT, question).await {
        Ok(answer) => answer.map_err(|error| chain(&error)),
        Err(_) => Err(format!("the state store did not answer within {} s", CALL_TIMEOUT.as_secs())),
    }
}

/// Requests the owner to serve these claims, and retries until it does.
async fn listen(
    mut wanted: watch::Receiver<Serving>,
    commands: mpsc::UnboundedSender<Command>,
    served: watch::Sender<Served>,
) {
    while wanted.changed().await.is_ok() {
        loop {
            let serving = wanted.borrow_and_update().clone();
            let (reply, answer) = oneshot::channel();
            if commands.send(Command::Serve { serving, reply }).is_err() {
                return;
            }
            let Ok(answer) = answer.await else { return };
            let is_whole = answer.problem.is_none();
            served.send_if_modified(|before| {
                let changes = *before != answer;
                *before = answer;
                changes
            });
            if is_whole {
                break;
            }
            // Changes in the meantime are included in the next attempt.
            sleep(RETRY_DELAY).await;
        }
    }
}

impl<P: Plane> Owner<P> {
    /// Starts, and serves the claims of `serving`. With several claims, those whose addresses can't be bound are left
    /// out. A gateway that can serve none of them has saved nothing.
    pub(super) async fn start_serving(
        &mut self,
        file: ConfigBase,
        loaded: Loaded,
        serving: Serving,
    ) -> Result<Served, ChangeError> {
        let here = serving.here.clone().unwrap_or_default();
        let refused = match self.start(file.clone(), loaded).await {
            Ok(()) => return Ok(Served { claims: here.into_keys().collect(), ..Served::default() }),
            Err(refused @ ChangeError::Bind(_)) if here.len() > 1 => refused,
            Err(refused) => return Err(refused),
        };
        // Starts with the first claim that can be served, and then adds the others.
        for claim in here {
            // Other gateways may have changed the state since it was loaded.
            let (loaded, known) = self.saved.read().await?;
            self.saved.replace_known(known);
            self.desired.served_here = Some([claim].into());
            match self.start(file.clone(), loaded).await {
                Ok(()) => return Ok(self.serve(serving).await),
                Err(ChangeError::Bind(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    /// Serves exactly these claims. Addresses that can't be bound are left out.
    pub(super) async fn serve(&mut self, serving: Serving) -> Served {
        let Serving { here: Some(wanted), elsewhere } = serving else { return Served::default() };
        let before = self.desired.served_here.clone().unwrap_or_default();
        // Removed claims first, as nothing has to be bound for them.
        let (mut here, new): (BTreeMap<_, _>, BTreeMap<_, _>) =
            wanted.into_iter().partition(|(claim, lease)| before.get(claim) == Some(lease));
        let (mut problems, mut unbound) = (Vec::new(), BTreeSet::new());
        if let Err(error) = self.serve_claims(&here, &elsewhere).await {
            problems.push(chain(&error));
        }
        for (claim, lease) in new {
            here.insert(claim.clone(), lease);
            match self.serve_claims(&here, &elsewhere).await {
                Ok(()) => tracing::info!(%claim, "this gateway serves the claim"),
                Err(error) => {
                    here.remove(&claim);
                    problems.push(format!("cannot serve {claim}: {}", chain(&error)));
                    if matches!(error, ChangeError::Bind(_)) {
                        unbound.insert(claim);
                    }
                }
            }
        }
        for claim in before.keys().filter(|claim| !here.contains_key(*claim)) {
            tracing::warn!(%claim, "this gateway no longer serves the claim");
        }
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        if let Some(reason) = &problem {
            tracing::error!(
                reason,
                "failed to serve all claims of this gateway; a standby takes them, or this gateway retries"
            );
        }
        Served { claims: here.into_keys().collect(), unbound, problem }
    }

    async fn serve_claims(
        &mut self,
        here: &BTreeMap<ClaimId, Lease>,
        elsewhere: &Option<BTreeSet<ClaimId>>,
    ) -> Result<(), ChangeError> {
        let serving = Serving { here: Some(here.clone()), elsewhere: elsewhere.clone() };
        let mut desired = self.desired.clone();
        desired.served_anywhere = serving.served_claims();
        desired.served_here = serving.here;
        if desired == self.desired {
            return Ok(());
        }
        self.apply_decided(desired, Decision::Claims).await.map(drop)
    }

    /// Releases the ports that wait for `gateway`; returns their number.
    pub(super) async fn forget(&mut self, gateway: &GatewayId) -> Result<usize, ChangeError> {
        let waiting: Vec<_> = self.held.waiting_for(gateway).map(|(service, port)| (service.clone(), port)).collect();
        if waiting.is_empty() && !self.saved.has_gateway(gateway) {
            return Err(ChangeError::no_such_gateway(gateway));
        }
        let mut held = self.held.clone();
        waiting.iter().for_each(|(service, port)| held.acknowledge(gateway, service, *port));
        self.saved.forget(gateway, &held, &self.resources, &self.overrides).await?;
        self.held = held;
        tracing::info!(%gateway, ports = waiting.len(), "the gateway is forgotten");
        Ok(waiting.len())
    }
}
