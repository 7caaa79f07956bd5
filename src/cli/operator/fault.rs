//! `plgw fault`: fault injection.

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::Failure;
use super::super::table::{Table, Terminal};
use super::{AdminOptions, cell, list, segment, wait};
use crate::model::{
    DnsFailure, Fault, FaultDirection, FaultKind, FaultScope, HumanDuration, SCOPE_KEYS, Share, TargetId, VpceId,
    VpceServiceId, Zone,
};

/// Inject faults
#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum Command {
    /// Add a fault
    ///
    /// It affects new flows that match every option given; without one, all new flows. It is kept when the gateway restarts,
    /// and its times continue.
    ///
    /// zone-outage and target-down also cut the stand-in members off from each other, so a set that loses its primary elects
    /// another after about 10 seconds. All other faults are on the clients' path alone and elect nothing, however long they
    /// last.
    #[command(after_help = "\
Examples:
  plgw fault add latency --delay 100ms --jitter 20ms --zone us-east-1a
  plgw fault add reset --bytes 4096 --share 0.1 --seed 7
  plgw fault add target-down --target Cluster0/shard-00-00 --for 30s
  plgw fault add dns-failure --answer servfail --after 1m --for 10s")]
    Add(Box<Add>),
    /// List the faults
    #[command(after_help = "Example:\n  plgw fault list --output json | jq '.faults[].flows'")]
    List(AdminOptions),
    /// Remove a fault
    #[command(after_help = "Example:\n  plgw fault remove latency-1")]
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        ask: AdminOptions,
    },
    /// Remove all faults
    #[command(after_help = "Example:\n  plgw fault clear")]
    Clear(AdminOptions),
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct Add {
    #[command(subcommand)]
    kind: FaultCommand,
}

#[derive(Debug, clap::Subcommand)]
enum FaultCommand {
    /// Delay bytes
    Latency {
        /// The delay
        #[arg(long)]
        delay: HumanDuration,
        /// The largest random deviation from it
        #[arg(long, default_value = "0s")]
        jitter: HumanDuration,
        /// The direction
        #[arg(long, default_value = "both", value_parser = words::<FaultDirection>(["both", "to-target", "to-client"]))]
        direction: FaultDirection,
        #[command(flatten)]
        common: FaultOptions,
    },
    /// Limit bytes per second, for each flow and direction
    Bandwidth {
        /// The limit
        #[arg(long, value_name = "BYTES")]
        bytes_per_second: u64,
        /// The direction
        #[arg(long, default_value = "both", value_parser = words::<FaultDirection>(["both", "to-target", "to-client"]))]
        direction: FaultDirection,
        #[command(flatten)]
        common: FaultOptions,
    },
    /// Reset both sides after a number of bytes, in both directions together, or a time
    #[command(group(clap::ArgGroup::new("when").required(true).multiple(true).args(["bytes", "time"])))]
    Reset {
        /// The number of bytes
        #[arg(long)]
        bytes: Option<u64>,
        /// The time
        #[arg(long)]
        time: Option<HumanDuration>,
        #[command(flatten)]
        common: FaultOptions,
    },
    /// Answer nothing; for all flows of a port not even the SYN
    BlackHole {
        #[command(flatten)]
        common: FaultOptions,
    },
    /// Reset connections at once; for all flows of a port it refuses
    Refuse {
        #[command(flatten)]
        common: FaultOptions,
    },
    /// End the target's side after a while, without a FIN or RST to the client
    HalfOpen {
        /// The time
        #[arg(long)]
        time: HumanDuration,
        #[command(flatten)]
        common: FaultOptions,
    },
    /// Delay a side's FIN
    SlowClose {
        /// The delay
        #[arg(long)]
        delay: HumanDuration,
        #[command(flatten)]
        common: FaultOptions,
    },
    /// Lose a zone: its addresses, its targets, and flows through either
    ZoneOutage {
        #[command(flatten)]
        common: FaultOptions,
    },
    /// Take targets down: they refuse, or are silent
    TargetDown {
        /// Packets are dropped, as when a host is down
        #[arg(long)]
        silent: bool,
        #[command(flatten)]
        common: FaultOptions,
    },
    /// Move a target to another port, once or repeatedly
    PortMove {
        /// The time between two moves
        #[arg(long)]
        every: Option<HumanDuration>,
        #[command(flatten)]
        common: FaultOptions,
    },
    /// Make the resolver fail
    DnsFailure {
        /// The response
        #[arg(long, value_parser = words::<DnsFailure>(["servfail", "nxdomain", "refused", "timeout"]))]
        answer: DnsFailure,
        #[command(flatten)]
        common: FaultOptions,
    },
}

/// Parses these words, which are the names in JSON with hyphens.
fn words<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    words: impl IntoIterator<Item = &'static str>,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words).try_map(|word| serde_json::from_value::<T>(word.replace('-', "_").into()))
}

/// The options of every fault.
#[derive(Debug, Clone, clap::Args)]
struct FaultOptions {
    /// Its name; by default its type and a number
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Only on this load balancer
    #[arg(long, value_name = "VPCE-SVC")]
    service: Option<VpceServiceId>,
    /// Only to this target
    #[arg(long, value_name = "CLUSTER/MEMBER")]
    target: Option<TargetId>,
    /// Only to this process behind it
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    /// Only through this endpoint
    #[arg(long, value_name = "VPCE")]
    endpoint: Option<VpceId>,
    /// Only in this zone
    #[arg(long)]
    zone: Option<Zone>,
    /// The share of flows that it affects, 0 to 1
    #[arg(long, default_value = "1", value_parser = share)]
    share: Share,
    /// With the same seed the n-th flow is affected or not in the same way in every run
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// When it begins
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    after: HumanDuration,
    /// Its duration; by default until it is removed
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<HumanDuration>,
    #[command(flatten)]
    ask: AdminOptions,
}

fn share(text: &str) -> Result<Share, String> {
    text.parse().ok().and_then(Share::new).ok_or_else(|| "write a number from 0 to 1, as 0.25".to_owned())
}

pub(in super::super) fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Add(add) => {
            let (kind, common) = add.kind.split();
            let FaultOptions { name, service, target, member, endpoint, zone, share, seed, after, lasts, ask } = common;
            let scope = FaultScope { service, target, member, endpoint, zone };
            let lasts = lasts.map(|HumanDuration(lasts)| lasts);
            let fault = Fault { name, kind, scope, share, seed, after: after.0, lasts };
            let added = |fault: &Value, _| {
                let how = if fault["state"] == "waiting" { "begins later" } else { "active" };
                let path = if fault["elects"] == true {
                    "members of a set lose each other too: a set that loses its primary elects another"
                } else {
                    "on the clients' path alone: members of a set still reach each other, and nothing is elected"
                };
                let (name, drivers) = (cell(&fault["name"]), cell(&fault["drivers_see"]));
                format!("  fault {name} is set and {how}\n  {path}\n  drivers see: {drivers}\n")
            };
            ask.show("POST", "/v1/faults", serde_json::json!(fault).to_string(), added)
        }
        Command::List(ask) => ask.show("GET", "/v1/faults", String::new(), table),
        Command::Remove { name, ask } => {
            let () = wait(ask.client()?.call("DELETE", &format!("/v1/faults/{}", segment(&name)), String::new()))?;
            ask.print_answer(&serde_json::json!({ "removed": name }), &format!("  fault {name} is removed\n"))
        }
        Command::Clear(ask) => {
            let cleared = |answer: &Value, _| match answer["cleared"].as_u64() {
                Some(1) => "  1 fault is removed\n".to_owned(),
                _ => format!("  {} faults are removed\n", answer["cleared"]),
            };
            ask.show("DELETE", "/v1/faults", String::new(), cleared)
        }
    }
}

impl FaultCommand {
    fn split(self) -> (FaultKind, FaultOptions) {
        match self {
            Self::Latency { delay, jitter, direction, common } => {
                (FaultKind::Latency { delay: delay.0, jitter: jitter.0, direction }, common)
            }
            Self::Bandwidth { bytes_per_second, direction, common } => {
                (FaultKind::Bandwidth { bytes_per_second, direction }, common)
            }
            Self::Reset { bytes, time, common } => {
                (FaultKind::Reset { bytes, time: time.map(|HumanDuration(time)| time) }, common)
            }
            Self::BlackHole { common } => (FaultKind::BlackHole {}, common),
            Self::Refuse { common } => (FaultKind::Refuse {}, common),
            Self::HalfOpen { time, common } => (FaultKind::HalfOpen { time: time.0 }, common),
            Self::SlowClose { delay, common } => (FaultKind::SlowClose { delay: delay.0 }, common),
            Self::ZoneOutage { common } => (FaultKind::ZoneOutage {}, common),
            Self::TargetDown { silent, common } => (FaultKind::TargetDown { silent }, common),
            Self::PortMove { every, common } => {
                (FaultKind::PortMove { every: every.map(|HumanDuration(every)| every) }, common)
            }
            Self::DnsFailure { answer, common } => (FaultKind::DnsFailure { answer }, common),
        }
    }
}

/// The keys of the kinds of faults.
const KIND_KEYS: [&str; 9] =
    ["delay", "jitter", "time", "every", "bytes_per_second", "bytes", "direction", "silent", "answer"];

pub(super) fn table(answer: &Value, terminal: Terminal) -> String {
    let mut table = Table::new(["FAULT", "WHAT", "WHERE", "SHARE", "SEED", "STATE", "ENDS", "FLOWS"]);
    for fault in list(answer, "faults") {
        let state = cell(&fault["state"]);
        let state =
            if state == "active" { terminal.red(&state) } else { format!("{state} {}", cell(&fault["begins_at"])) };
        table.row([
            cell(&fault["name"]),
            format!("{} {}", cell(&fault["type"]), pairs(fault, &KIND_KEYS)).trim_end().to_owned(),
            Some(pairs(fault, &SCOPE_KEYS))
                .filter(|scope| !scope.is_empty())
                .unwrap_or_else(|| "everywhere".to_owned()),
            cell(&fault["share"]),
            cell(&fault["seed"]),
            state,
            cell(&fault["ends_at"]),
            cell(&fault["flows"]),
        ]);
    }
    if table.is_empty() { "  there are no faults\n".to_owned() } else { table.render(terminal) }
}

/// `delay=100ms jitter=20ms`: those of `keys` that the fault has.
fn pairs(fault: &Value, keys: &[&str]) -> String {
    let shown = keys.iter().filter_map(|key| Some(format!("{key}={}", cell(fault.get(key)?))));
    shown.collect::<Vec<_>>().join(" ")
}
