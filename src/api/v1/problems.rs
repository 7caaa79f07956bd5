//! Current problems in one list, which `/v1/status`, `plgw status` and the console show first.

use schemars::JsonSchema;
use serde::Serialize;

use super::limits::LimitsOut;
use crate::api::text::iso8601;
use crate::control::events::Severity;
use crate::control::{FaultRecord, GatewayState, GatewaysView, NodeName, SharedStatus, ZonalShift};
use crate::lifecycle::ReadinessView;
use crate::model::{ConnectError, Fault, FaultScope, ListenerPort, TargetState, VpceServiceId};
use crate::plan::{DnsAnswer, Member, Snapshot, TargetView, ZoneView};

/// The share of a limit, in percent, from which it is reported as nearly reached.
const NEAR_LIMIT_PERCENT: usize = 80;

/// Maximum number of names in a sentence; the others are counted.
const MAX_NAMES: usize = 3;

/// A current problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct StatusProblem {
    severity: Severity,
    /// The problem, in a sentence without a full stop.
    message: String,
    /// The kind of the affected objects.
    kind: SubjectKind,
    /// The names of the affected objects; none: the whole gateway.
    ids: Vec<String>,
    /// The console's page for it.
    console: &'static str,
}

impl StatusProblem {
    pub(super) fn is_info(&self) -> bool {
        self.severity == Severity::Info
    }
}

/// The kind of object that a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum SubjectKind {
    /// A readiness condition.
    Readiness,
    /// The config file.
    Config,
    /// A setting, by its key.
    Setting,
    /// The state store.
    StateStore,
    /// A flow log or the access log.
    FlowLog,
    /// An addressable target.
    Target,
    /// The host name of a node.
    NodeName,
    /// A zone.
    Zone,
    /// A fault.
    Fault,
    /// A load balancer, by its endpoint service.
    Service,
    /// A gateway that shares the state.
    Gateway,
}

impl SubjectKind {
    fn console(self) -> &'static str {
        match self {
            Self::Readiness | Self::Config | Self::Setting | Self::StateStore | Self::FlowLog => "/console#overview",
            Self::Target | Self::NodeName => "/console#targets",
            Self::Zone => "/console#zones",
            Self::Fault => "/console#faults",
            Self::Service => "/console#limits",
            Self::Gateway => "/console#gateways",
        }
    }
}

/// The inputs of the list.
pub(super) struct ProblemInputs<'a> {
    pub(super) readiness: &'a ReadinessView,
    pub(super) reload_problem: Option<&'a str>,
    pub(super) pending_settings: &'a [String],
    pub(super) store_problem: Option<&'a str>,
    pub(super) shared_status: &'a SharedStatus,
    pub(super) flow_log_problem: Option<&'a str>,
    pub(super) node_names: &'a [NodeName],
    pub(super) snapshot: &'a Snapshot,
    pub(super) faults: &'a [FaultRecord],
    pub(super) shifts: &'a [ZonalShift],
    pub(super) draining_ports: &'a [(VpceServiceId, ListenerPort)],
    pub(super) limits: &'a [LimitsOut],
    pub(super) gateways: Option<&'a GatewaysView>,
}

/// The problems, the most severe ones first; of one severity, in the order of the checks.
pub(super) fn problems(facts: &ProblemInputs<'_>) -> Vec<StatusProblem> {
    let mut list = ProblemList::default();
    not_ready(facts, &mut list);
    shared_state(facts.shared_status, &mut list);
    node_names(facts.node_names, &mut list);
    targets(facts.snapshot, &mut list);
    zones(facts, &mut list);
    faults(facts.faults, &mut list);
    limits(facts.limits, &mut list);
    changes(facts, &mut list);
    gateways(facts.gateways, &mut list);
    draining(facts, &mut list);
    list.0.sort_by_key(|problem| problem.severity);
    list.0
}

#[derive(Default)]
struct ProblemList(Vec<StatusProblem>);

impl ProblemList {
    fn add(&mut self, severity: Severity, kind: SubjectKind, ids: Vec<String>, message: String) {
        self.0.push(StatusProblem { severity, message, kind, ids, console: kind.console() });
    }
}

fn not_ready(facts: &ProblemInputs<'_>, list: &mut ProblemList) {
    for condition in facts.readiness.conditions.iter().filter(|condition| !condition.ready) {
        let message = format!("not ready: {}: {}", condition.name, condition.detail);
        list.add(Severity::Critical, SubjectKind::Readiness, vec![condition.name.to_owned()], message);
    }
}

/// Problems with the shared state.
fn shared_state(status: &SharedStatus, list: &mut ProblemList) {
    for message in status.problems(|moment| iso8601(moment, false)) {
        let severity = if status.is_severe() { Severity::Critical } else { Severity::Warning };
        list.add(severity, SubjectKind::StateStore, Vec::new(), message);
    }
}

/// Host names without an address, then those that keep their last address.
fn node_names(names: &[NodeName], list: &mut ProblemList) {
    for node in names {
        let severity = if node.address.is_none() { Severity::Critical } else { Severity::Warning };
        if let Some(problem_text) = node.problem_text() {
            list.add(severity, SubjectKind::NodeName, vec![node.name.to_string()], problem_text);
        }
    }
}

fn is_serving(member: &Member) -> bool {
    matches!(member.state, TargetState::Healthy | TargetState::Initial) && member.reach.is_none()
}

/// Targets without a working member, then those with some that don't work.
fn targets(snapshot: &Snapshot, list: &mut ProblemList) {
    let all = snapshot.targets.len();
    // A member that an operator deregistered drains as intended.
    let is_bad = |member: &&Member| !is_serving(member) && member.state != TargetState::Draining;
    let unwell = |target: &&TargetView| !target.paused && target.members.iter().any(|member| is_bad(&member));
    let (down, impaired): (Vec<_>, Vec<_>) =
        snapshot.targets.iter().filter(unwell).partition(|target| !target.members.iter().any(is_serving));
    for (targets, severity, what) in
        [(down, Severity::Critical, "no healthy member"), (impaired, Severity::Warning, "unhealthy members")]
    {
        let [first, rest @ ..] = targets.as_slice() else { continue };
        let ids: Vec<_> = targets.iter().map(|target| target.id.to_string()).collect();
        let why = if rest.is_empty() { member_states(first) } else { String::new() };
        let verb = if rest.is_empty() { "has" } else { "have" };
        let message = format!("{} of {all} targets {verb} {what}: {}{why}", ids.len(), names(&ids));
        list.add(severity, SubjectKind::Target, ids, message);
    }
    let taken_out: Vec<_> = snapshot
        .targets
        .iter()
        .filter(|target| target.members.iter().any(|member| member.state == TargetState::Draining))
        .map(|target| target.id.to_string())
        .collect();
    if !taken_out.is_empty() {
        let message = format!("members are deregistered or drain: {}", names(&taken_out));
        list.add(Severity::Info, SubjectKind::Target, taken_out, message);
    }
}

/// The states of a target's members that don't work.
fn member_states(target: &TargetView) -> String {
    let state = |member: &Member| {
        let reach = member.reach.map(|reach| format!(", {}", ConnectError::label(reach))).unwrap_or_default();
        format!("{} {}{reach}", member.name, member.state.label())
    };
    let states: Vec<_> = target.members.iter().filter(|member| !is_serving(member)).map(state).collect();
    format!(" ({})", names(&states))
}

/// Zones that are shifted away from, in outage, or out of DNS; and load balancers whose DNS fails open.
fn zones(facts: &ProblemInputs<'_>, list: &mut ProblemList) {
    for ZonalShift { service, zone, expires, .. } in facts.shifts {
        let until = expires.map(|at| format!(" until {}", iso8601(at, false))).unwrap_or_default();
        let message = format!("traffic of {service} is shifted away from {zone}{until}");
        list.add(Severity::Warning, SubjectKind::Zone, vec![zone.to_string()], message);
    }
    let views = &facts.snapshot.zones;
    let is_in_dns = |view: &ZoneView| view.addresses.iter().any(|address| address.in_dns);
    let (mut open, mut out): (Vec<&ZoneView>, Vec<&ZoneView>) = (Vec::new(), Vec::new());
    for view in views.iter().filter(|view| !view.addresses.is_empty()) {
        if view.fail_open().is_some() {
            open.push(view);
        } else if !view.shifted && !is_in_dns(view) {
            out.push(view);
        }
    }
    for view in out {
        let why = view.reason().unwrap_or_default();
        let message = format!("{} of {} is out of DNS{why}", view.zone, view.service);
        list.add(Severity::Warning, SubjectKind::Zone, vec![view.zone.to_string()], message);
    }
    for same in open.chunk_by(|a, b| a.service == b.service) {
        let ids: Vec<_> = same.iter().map(|view| view.zone.to_string()).collect();
        let why = same[0].reason().unwrap_or_default();
        let cause = same[0].fail_open().map_or("", DnsAnswer::reason).trim_start_matches("fail-open: ");
        let message = format!("DNS of {} fails open, as {cause}{why}", same[0].service);
        list.add(Severity::Critical, SubjectKind::Zone, ids, message);
    }
}

fn faults(records: &[FaultRecord], list: &mut ProblemList) {
    for record in records.iter().filter(|record| record.begun) {
        let Fault { name, kind, scope, .. } = &*record.fault;
        let until = record.ends().map(|at| format!(" until {}", iso8601(at, false))).unwrap_or_default();
        let message = format!("fault `{name}` is on{until}: {} {}", kind.label(), scope_text(scope));
        list.add(Severity::Warning, SubjectKind::Fault, vec![name.clone()], message);
    }
}

/// The scope of a fault.
fn scope_text(FaultScope { service, target, member, endpoint, zone }: &FaultScope) -> String {
    let parts = [
        ("target", target.as_ref().map(ToString::to_string)),
        ("member", member.clone()),
        ("endpoint", endpoint.as_ref().map(ToString::to_string)),
        ("zone", zone.as_ref().map(ToString::to_string)),
        ("service", service.as_ref().map(ToString::to_string)),
    ];
    let parts: Vec<_> = parts.into_iter().filter_map(|(kind, name)| Some(format!("{kind} {}", name?))).collect();
    if parts.is_empty() { "everywhere".to_owned() } else { format!("at {}", parts.join(", ")) }
}

/// Limits of which at least [`NEAR_LIMIT_PERCENT`] percent are used.
fn limits(limits: &[LimitsOut], list: &mut ProblemList) {
    for of in limits {
        let used =
            [("addressable targets", &of.targets_per_region), ("flows of the fullest target", &of.flows_per_target)];
        for (what, used) in used {
            let percent = used.used * 100 / used.limit.max(1);
            if percent >= NEAR_LIMIT_PERCENT {
                let message =
                    format!("{percent} % of the limit of {what} of {}: {} of {}", of.service, used.used, used.limit);
                list.add(Severity::Warning, SubjectKind::Service, vec![of.service.to_string()], message);
            }
        }
    }
}

/// Refused or pending changes, and failed writes.
fn changes(facts: &ProblemInputs<'_>, list: &mut ProblemList) {
    if let Some(problem) = facts.reload_problem {
        let message = format!("the last reload was refused, the former config stays in force: {problem}");
        list.add(Severity::Warning, SubjectKind::Config, Vec::new(), message);
    }
    if !facts.pending_settings.is_empty() {
        let keys = facts.pending_settings.join(", ");
        let message = format!("changed settings take effect at the next start: {keys}");
        list.add(Severity::Warning, SubjectKind::Setting, facts.pending_settings.to_vec(), message);
    }
    if let Some(problem) = facts.store_problem {
        let message = format!("the state store did not take the last change: {problem}");
        list.add(Severity::Critical, SubjectKind::StateStore, Vec::new(), message);
    }
    if let Some(problem) = facts.flow_log_problem {
        list.add(Severity::Warning, SubjectKind::FlowLog, Vec::new(), problem.to_owned());
    }
}

/// Problems of gateways that share the state.
fn gateways(view: Option<&GatewaysView>, list: &mut ProblemList) {
    let Some(view) = view else { return };
    if let Some(problem) = &view.problem {
        let own = view.gateways.iter().filter(|gateway| gateway.is_this).map(|gateway| gateway.id.to_string());
        list.add(Severity::Critical, SubjectKind::Gateway, own.collect(), problem.clone());
    }
    let gone = view.gateways.iter().filter(|gateway| gateway.state == GatewayState::Gone && !gateway.is_this);
    let gone: Vec<_> = gone.map(|gateway| gateway.id.to_string()).collect();
    if !gone.is_empty() {
        let message = format!(
            "gateways are gone: {}; ports that they may have open are kept until they come back or `plgw gateways forget`",
            names(&gone)
        );
        list.add(Severity::Warning, SubjectKind::Gateway, gone, message);
    }
}

fn draining(facts: &ProblemInputs<'_>, list: &mut ProblemList) {
    if !facts.draining_ports.is_empty() {
        let ports: Vec<_> = facts.draining_ports.iter().map(|(_, port)| port.to_string()).collect();
        let message = format!("flows drain on ports that were given up: {}", names(&ports));
        list.add(Severity::Info, SubjectKind::Target, Vec::new(), message);
    }
}

/// The first few names, and how many more there are.
fn names(all: &[String]) -> String {
    match all.len().saturating_sub(MAX_NAMES) {
        0 => all.join(", "),
        more => format!("{} and {more} more", all[..MAX_NAMES].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::config;
    use crate::control::inventory::Timestamp;
    use crate::lifecycle::Readiness;
    use crate::model::{Desired, FaultKind, Health, TargetId, Zone};
    use crate::plan::{Generation, PortAllocations, compile};

    const SERVICE: &str = "vpce-svc-02863655456245e5c";

    fn snapshot(desired: &Desired) -> Snapshot {
        compile(desired, &PortAllocations::default(), Generation(1)).expect("the quickstart can be planned").0
    }

    /// The quickstart, with the health that `state` gives for each target and member.
    fn with_health(state: impl Fn(&str, &str) -> TargetState) -> Snapshot {
        let mut desired = config::quickstart().desired;
        let members: Vec<(TargetId, String)> = {
            let snapshot = snapshot(&desired);
            let of =
                |view: &TargetView| view.members.iter().map(|member| (view.id.clone(), member.name.clone())).collect();
            snapshot.targets.iter().flat_map(|view| -> Vec<_> { of(view) }).collect()
        };
        for (target, member) in members {
            let health = Health::from(state(target.as_str(), &member));
            desired.health.insert((SERVICE.parse().unwrap(), target, member), health);
        }
        snapshot(&desired)
    }

    /// A gateway without problems.
    fn well() -> ProblemInputs<'static> {
        static READINESS: LazyLock<ReadinessView> = LazyLock::new(|| Readiness::new().view());
        static SHARED: LazyLock<SharedStatus> = LazyLock::new(SharedStatus::default);
        static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| with_health(|_, _| TargetState::Healthy));
        ProblemInputs {
            readiness: &READINESS,
            reload_problem: None,
            pending_settings: &[],
            store_problem: None,
            shared_status: &SHARED,
            flow_log_problem: None,
            node_names: &[],
            snapshot: &SNAPSHOT,
            faults: &[],
            shifts: &[],
            draining_ports: &[],
            limits: &[],
            gateways: None,
        }
    }

    /// All problems as `severity kind: message`.
    fn lines(facts: &ProblemInputs<'_>) -> Vec<String> {
        let line = |problem: StatusProblem| {
            let problem = serde_json::to_value(&problem).expect("JSON");
            let text = |field: &str| problem[field].as_str().expect("a text").to_owned();
            format!("{} {}: {}", text("severity"), text("kind"), text("message"))
        };
        problems(facts).into_iter().map(line).collect()
    }

    #[test]
    fn a_gateway_that_is_well_has_no_problem() {
        assert_eq!(lines(&well()), [""; 0]);
        let initial = with_health(|_, _| TargetState::Initial);
        let facts = ProblemInputs { snapshot: &initial, ..well() };
        assert_eq!(lines(&facts), [""; 0], "what is not checked yet is not wrong");
    }

    #[test]
    fn a_host_name_that_leads_nowhere_is_worse_than_one_that_keeps_its_address() {
        let name = |name: &str, address: Option<&str>| NodeName {
            name: name.parse().expect("a name"),
            address: address.map(|address| address.parse().expect("an address")),
            problem: Some("there is no such name (NXDOMAIN)".to_owned()),
        };
        let names = [name("a.internal", Some("10.1.0.11")), name("b.internal", None)];
        assert_eq!(
            lines(&ProblemInputs { node_names: &names, ..well() }),
            [
                "critical node_name: the host name b.internal is not resolved: there is no such name (NXDOMAIN); its node gets \
                 no connections until it is",
                "warning node_name: the host name a.internal cannot be resolved again: there is no such name (NXDOMAIN); 10.1.0.11 \
                 stays in use",
            ]
        );
    }

    #[test]
    fn unhealthy_targets_are_counted_and_named_those_without_a_healthy_member_first() {
        let snapshot = with_health(|target, member| match (target, member) {
            ("Cluster0/shard-00-01" | "Cluster0/shard-00-02", _) | ("Sharded0/lb", "mongos-00") => {
                TargetState::Unhealthy
            }
            _ => TargetState::Healthy,
        });
        let lines = lines(&ProblemInputs { snapshot: &snapshot, ..well() });
        assert_eq!(
            lines[..2],
            [
                "critical target: 2 of 4 targets have no healthy member: Cluster0/shard-00-01, Cluster0/shard-00-02",
                "critical zone: DNS of vpce-svc-02863655456245e5c fails open, as no zone is healthy: too few healthy targets \
                 of Cluster0/shard-00-01 and 1 more",
            ]
        );
        assert_eq!(
            lines[2], "warning target: 1 of 4 targets has unhealthy members: Sharded0/lb (mongos-00 unhealthy)",
            "{lines:?}"
        );
    }

    #[test]
    fn a_shift_has_its_end_and_its_zone_is_not_reported_as_out_of_dns_too() {
        let mut desired = config::quickstart().desired;
        let (service, zone): (VpceServiceId, Zone) = (SERVICE.parse().unwrap(), "us-east-1a".parse().unwrap());
        desired.shifted_zones.insert((service.clone(), zone.clone()));
        let snapshot = snapshot(&desired);
        let expires = 1_800_000_000_000_u64;
        let shift = serde_json::json!({ "service": service, "zone": zone, "since": 0, "expires": expires });
        let shift: ZonalShift = serde_json::from_value(shift).unwrap();
        let lines = lines(&ProblemInputs { snapshot: &snapshot, shifts: &[shift], ..well() });
        let expected = "warning zone: traffic of vpce-svc-02863655456245e5c is shifted away from us-east-1a until \
                        2027-01-15T08:00:00Z";
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn faults_that_have_begun_are_named_with_their_kind_and_place() {
        let fault = Fault {
            name: "slow".to_owned(),
            scope: FaultScope { target: Some("Cluster0/shard-00-00".parse().unwrap()), ..FaultScope::default() },
            ..serde_json::from_value(serde_json::json!({ "type": "refuse" })).unwrap()
        };
        assert_eq!(fault.kind, FaultKind::Refuse {});
        let record = |fault: Fault| {
            let begun = fault.after.is_zero();
            let record = serde_json::json!({ "fault": fault, "since": 0 });
            let mut record: FaultRecord = serde_json::from_value(record).unwrap();
            record.begun = begun;
            record
        };
        let later = Fault { name: "later".to_owned(), after: std::time::Duration::from_secs(60), ..fault.clone() };
        let records = [record(fault), record(later)];
        let lines = lines(&ProblemInputs { faults: &records, ..well() });
        assert_eq!(lines, ["warning fault: fault `slow` is on: refuse at target Cluster0/shard-00-00"]);
    }

    #[test]
    fn refused_and_pending_changes_are_reported_and_draining_ports_are_info() {
        let ports = [(SERVICE.parse().unwrap(), 1024_u16.try_into().unwrap())];
        let lines = lines(&ProblemInputs {
            reload_problem: Some("line 3: no such key"),
            pending_settings: &["dns.ttl".to_owned(), "workers".to_owned()],
            store_problem: Some("the disk is full"),
            flow_log_problem: Some("the flow log can't be written: the disk is full"),
            draining_ports: &ports,
            ..well()
        });
        assert_eq!(
            lines,
            [
                "critical state_store: the state store did not take the last change: the disk is full",
                "warning config: the last reload was refused, the former config stays in force: line 3: no such key",
                "warning setting: changed settings take effect at the next start: dns.ttl, workers",
                "warning flow_log: the flow log can't be written: the disk is full",
                "info target: flows drain on ports that were given up: 1024",
            ]
        );
    }

    #[test]
    fn an_unreachable_shared_state_is_reported_with_its_start() {
        let status = SharedStatus {
            gateway: Some("a".parse().unwrap()),
            unreachable: Some((Timestamp(1_800_000_000_000), "no etcd member answered".to_owned())),
            unbound: vec!["failed to bind 10.0.1.7:1024: address already in use".to_owned()],
            file_differs: true,
            ..SharedStatus::default()
        };
        let lines = lines(&ProblemInputs { shared_status: &status, ..well() });
        assert_eq!(lines.len(), 3, "{lines:?}");
        let begins = "critical state_store: the state store has not answered since 2027-01-15T08:00:00Z; the current state stays in \
                      force, and changes are refused until it answers: no etcd member answered";
        assert_eq!(lines[0], begins);
        assert!(lines[1].ends_with("failed to bind 10.0.1.7:1024: address already in use"), "{lines:?}");
        assert!(lines[2].contains("to apply the file to all gateways run `plgw reload`"), "{lines:?}");
    }

    #[test]
    fn the_first_of_many_names_are_listed_and_the_others_counted() {
        let all: Vec<_> = (0..50).map(|n| format!("t{n}")).collect();
        assert_eq!((names(&all[..3]), names(&all)), ("t0, t1, t2".to_owned(), "t0, t1, t2 and 47 more".to_owned()));
    }
}
