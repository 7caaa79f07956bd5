//! Converts the config's settings to the modules' options.

use std::time::Duration;

use crate::appservices::CertificateFiles;
use crate::config::{DnsSettings, LogDestination, Settings, TrafficType};
use crate::data::DataOptions;
use crate::dns::DnsOptions;
use crate::flowlog::{Destination, FlowLogOptions, Options, Traffic};

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
        flow_log: None,
        refusals: defaults.refusals,
    }
}

/// The options of flow logs.
pub(super) fn flow_log(settings: &Settings) -> Options {
    let destination = |destination: &LogDestination| match destination {
        LogDestination::Stdout => Destination::Stdout,
        LogDestination::File { path, rotate_size, keep } => {
            Destination::File { path: path.clone(), rotate_size: *rotate_size as u64, keep: *keep }
        }
    };
    let flow = settings.flow_logs.as_ref().map(|flow| FlowLogOptions {
        destination: destination(&flow.destination),
        interval: flow.interval,
        traffic: match flow.traffic {
            TrafficType::All => Traffic::All,
            TrafficType::Accept => Traffic::Accept,
            TrafficType::Reject => Traffic::Reject,
        },
        format: flow.format.clone(),
        account: flow.account_id.clone(),
    });
    Options { flow, access: settings.access_log.as_ref().map(destination) }
}

pub(super) fn dns(settings: &DnsSettings) -> DnsOptions {
    DnsOptions {
        ttl: settings.ttl,
        negative_ttl: settings.negative_ttl,
        forward: settings.forward.clone(),
        public_clients: settings.public_clients.clone(),
    }
}

/// The certificates of the App Services front end.
pub(super) fn certificates(settings: &Settings) -> Vec<CertificateFiles> {
    let files = settings.app_services.certificates.iter().cloned();
    files.map(|(certificate, key)| CertificateFiles { certificate, key }).collect()
}
