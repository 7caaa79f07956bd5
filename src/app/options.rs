//! The config's settings in the words of the rooms that take them.

use std::time::Duration;

use crate::appservices::AppOptions;
use crate::config::{DnsSettings, Settings};
use crate::data::DataOptions;
use crate::dns::DnsOptions;

pub(super) fn data(settings: &Settings, tick: Option<Duration>) -> DataOptions {
    let defaults = DataOptions::default();
    let (relay, limits) = (&settings.relay, &settings.limits);
    DataOptions {
        workers: if settings.workers == 0 { defaults.workers } else { settings.workers },
        scratch: relay.scratch,
        pipes_per_worker: if relay.splice { relay.pipes_per_worker } else { 0 },
        pipe_size: relay.pipe_size,
        backlog: i32::try_from(limits.backlog).unwrap_or(i32::MAX),
        accepts_per_wake: u32::try_from(limits.accepts_per_wake).unwrap_or(u32::MAX),
        held_refusals: limits.held_refusals,
        hold_time: limits.hold_time,
        keepalive: settings.keepalive,
        congestion: relay.congestion.clone(),
        tick: tick.unwrap_or(defaults.tick),
    }
}

pub(super) fn front(settings: &Settings, tick: Option<Duration>) -> AppOptions {
    let limits = &settings.limits;
    let defaults = AppOptions::default();
    AppOptions {
        workers: if settings.workers == 0 { defaults.workers } else { settings.workers },
        backlog: i32::try_from(limits.backlog).unwrap_or(i32::MAX),
        accepts_per_wake: u32::try_from(limits.accepts_per_wake).unwrap_or(u32::MAX),
        keepalive: settings.keepalive,
        held_refusals: limits.held_refusals,
        hold_time: limits.hold_time,
        tick: tick.unwrap_or(defaults.tick),
        ..defaults
    }
}

pub(super) fn dns(settings: &DnsSettings) -> DnsOptions {
    DnsOptions {
        ttl: settings.ttl,
        negative_ttl: settings.negative_ttl,
        forward: settings.forward.clone(),
        public_clients: settings.public_clients.clone(),
    }
}
