//! The essential processes of a lab, each on its own host.

use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;

use super::error::IoContext;
use super::packet_filter::PacketFilter;
use super::{CONFIG_FILE, CUT_FILE, Host, LabError, holder, outages};
use crate::app::{Gateway, GatewayOptions, PortWatch};
use crate::config::{self, Config};
use crate::lifecycle::{SignalEvent, Signals};
use crate::model::Desired;

/// An essential process of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Process {
    /// The stand-ins of nodes and apps.
    StandIns,
    /// The proxy to the real nodes and apps.
    Backends,
    /// The gateway.
    Gateway,
}

impl Process {
    /// Its name on the command line and in `status`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::StandIns => "stand-ins",
            Self::Backends => "backends",
            Self::Gateway => "gateway",
        }
    }

    /// Its host; `None`: this machine's own network.
    pub(super) fn host(self) -> Option<Host> {
        match self {
            Self::StandIns => Some(Host::Service),
            Self::Backends => None,
            Self::Gateway => Some(Host::Gateway),
        }
    }

    /// Its log file in the lab's directory.
    pub(super) fn log(self) -> String {
        format!("{}.log", self.name())
    }
}

/// Runs a process until it is stopped; writes a message to standard output when it serves.
pub(super) fn serve(process: Process, dir: &Path) -> Result<(), LabError> {
    let path = dir.join(CONFIG_FILE);
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start a runtime");
    match process {
        Process::Backends => super::backends::serve(dir),
        Process::Gateway => runtime()?.block_on(gateway(config::load(&path)?, &path)),
        Process::StandIns => runtime()?.block_on(super::stand_ins::serve(config::load(&path)?, &path)),
    }
}

async fn gateway(config: Config, path: &Path) -> Result<(), LabError> {
    let failed = |error: &dyn std::error::Error| LabError::Build(crate::control::chain(error));
    let mut signals = Signals::listen().context("listen for signals")?;
    let notice = outages::detection_times(&config.desired);
    let ports = packet_filter(&config.desired);
    let stand_ins = super::stand_ins::control();
    let options = GatewayOptions { source: Some(path.to_owned()), ports, stand_ins, ..GatewayOptions::default() };
    let gateway = Gateway::start(config, options).await.map_err(|error| failed(&error))?;
    holder::report_to_parent(holder::SERVES)?;
    let _outages = outages::follow(path.with_file_name(CUT_FILE), gateway.control().clone(), notice);
    loop {
        tokio::select! {
            event = signals.next() => match event {
                SignalEvent::Stop => break,
                SignalEvent::StopNow => return Ok(()),
                SignalEvent::Reload => {
                    // A refused reload changes nothing; `/readyz` and the log have the reason.
                    if let Err(error) = gateway.reload().await {
                        tracing::warn!(error = crate::control::chain(&error), "lab: failed to apply the config");
                    }
                }
            },
            reason = gateway.failed() => return Err(LabError::Build(reason)),
        }
    }
    gateway.stop().await;
    Ok(())
}

/// Drops packets to the endpoints' closed ports. If the kernel has no packet filter, closed ports refuse instead.
fn packet_filter(desired: &Desired) -> Option<PortWatch> {
    let addresses = desired.endpoints.values().flat_map(|endpoint| &endpoint.addresses);
    let filter = PacketFilter::build(addresses.map(|address| address.ip));
    match filter {
        Ok(filter) => Some(Arc::new(move |open| {
            if let Err(error) = filter.open(open) {
                tracing::error!(%error, "lab: failed to update the ports of the packet filter");
            }
        })),
        Err(error) => {
            tracing::warn!(%error, "lab: no packet filter: ports without a listener refuse connections instead of dropping them");
            None
        }
    }
}
