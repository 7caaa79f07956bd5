//! Aggregation of one interval, by interface, source, destination and ports.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::event::{EndedFlow, Interface, OpenFlow, Packets, RefusedFlow};
use super::record::{Action, Flow, FlowDirection, FlowLogRecord, LogStatus, flags};
use crate::model::{ConnectError, FlowEnd, FlowId, Origin, Refusal, Side};
use crate::plan::EndpointAccess;

/// Maximum number of aggregated flows per window, some 20 MB; further ones are skipped.
const MAX_FLOWS: usize = 65_536;

/// Payload of a full segment: 1500 bytes less the headers of IPv4 and TCP with timestamps.
const SEGMENT: u64 = 1448;

/// The aggregation key; each key gives one record per direction. As in AWS, `accepted` is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct FlowKey {
    local: SocketAddr,
    client: SocketAddr,
    accepted: bool,
}

#[derive(Debug)]
struct FlowTotals {
    access: Arc<EndpointAccess>,
    origin: Origin,
    first: SystemTime,
    last: SystemTime,
    /// From the client, to the client.
    bytes: [u64; 2],
    packets: [u64; 2],
    flags: [u8; 2],
    reason: &'static str,
}

/// The amounts of an open flow that earlier windows have recorded.
#[derive(Debug, Clone, Copy, Default)]
struct Recorded {
    bytes: [u64; 2],
    packets: [u64; 2],
}

/// The current window.
#[derive(Debug)]
pub(super) struct Window {
    since: SystemTime,
    flows: BTreeMap<FlowKey, FlowTotals>,
    /// Open flows that earlier windows have recorded.
    recorded: HashMap<FlowId, Recorded>,
    /// Flows that ended in this window; a list of open flows may still contain them.
    ended_ids: HashSet<FlowId>,
    skipped: HashSet<IpAddr>,
}

impl Window {
    pub(super) fn new(since: SystemTime) -> Self {
        Self {
            since,
            flows: BTreeMap::new(),
            recorded: HashMap::new(),
            ended_ids: HashSet::new(),
            skipped: HashSet::new(),
        }
    }

    /// Adds the traffic of an ended flow since the last window. Flows on the public path have no interface and are
    /// ignored.
    pub(super) fn ended(&mut self, EndedFlow { flow, ended, end, .. }: &EndedFlow) {
        let Some(access) = &flow.access else { return };
        let recorded = self.recorded.remove(&flow.id);
        if self.ended_ids.len() < MAX_FLOWS {
            self.ended_ids.insert(flow.id);
        }
        let mut marks = if recorded.is_none() { [flags::SYN, flags::SYN_ACK] } else { [0, 0] };
        let [from_client, to_client] = match *end {
            FlowEnd::Completed => [flags::FIN, flags::FIN],
            // Idle expiry sends no segment.
            FlowEnd::Idle => [0, 0],
            FlowEnd::Failed { side: Side::Client, reset } => [if reset { flags::RST } else { 0 }, 0],
            FlowEnd::Failed { side: Side::Target, .. } | FlowEnd::Drained(_) | FlowEnd::Unreachable(_) => {
                [0, flags::RST]
            }
        };
        marks[0] |= from_client;
        marks[1] |= to_client;
        let reason = match *end {
            FlowEnd::Unreachable(ConnectError::PortAllocation) => "port_allocation",
            end => end.label(),
        };
        let now = recorded.unwrap_or_default();
        let so_far = Recorded {
            bytes: [flow.bytes_to_target, flow.bytes_to_client],
            packets: packets(flow.packets, [flow.bytes_to_target, flow.bytes_to_client]),
        };
        let key = FlowKey { local: flow.local, client: flow.client, accepted: true };
        self.add(key, access, flow.origin, [flow.opened, *ended], less(so_far, now), marks, reason);
    }

    /// Adds a refused connection, of which an interface in AWS would see only the SYN.
    ///
    /// REJECT if the interface refuses it, ACCEPT if the load balancer behind the interface does.
    pub(super) fn refused(&mut self, flow: &RefusedFlow) {
        let Some(access) = &flow.access else { return };
        let accepted = match flow.refusal {
            Refusal::EndpointState
            | Refusal::OneWay
            | Refusal::Origin
            | Refusal::SecurityGroup
            | Refusal::AccessList => false,
            Refusal::FlowLimit
            | Refusal::ConnectionLimit
            | Refusal::SourceLimit
            | Refusal::ClaimLost
            | Refusal::NoTarget
            | Refusal::ProxyHeader
            | Refusal::FaultReset
            | Refusal::FaultDropped => true,
        };
        let resets = flow.refusal.mode() == crate::model::RefusalMode::Reset;
        let seen = Recorded { bytes: [0, 0], packets: [1, u64::from(resets)] };
        let marks = [flags::SYN, if resets { flags::RST } else { 0 }];
        let key = FlowKey { local: flow.local, client: flow.client, accepted };
        let origin = access.origin(flow.client.ip().to_canonical(), &crate::model::CidrSet::default());
        self.add(key, access, origin, [flow.at, flow.at], seen, marks, flow.refusal.label());
    }

    /// Marks the interface with the address `ip` as SKIPDATA.
    pub(super) fn skipped(&mut self, ip: IpAddr) {
        self.skipped.insert(ip);
    }

    /// Closes the window at `now` and starts the next. Returns the records of ended flows, of `open` flows, and of
    /// interfaces without traffic.
    pub(super) fn close(&mut self, now: SystemTime, open: &[OpenFlow], interfaces: &[Interface]) -> Vec<FlowLogRecord> {
        let ended_ids = std::mem::take(&mut self.ended_ids);
        let mut recorded = HashMap::with_capacity(open.len());
        for flow in open.iter().filter(|flow| !ended_ids.contains(&flow.id)) {
            let Some(access) = &flow.access else { continue };
            let bytes = [flow.bytes_to_target, flow.bytes_to_client];
            let before = self.recorded.get(&flow.id).copied();
            let so_far = Recorded { bytes, packets: packets(flow.packets, bytes) };
            let moved = less(so_far, before.unwrap_or_default());
            recorded.insert(flow.id, so_far);
            if before.is_some() && moved.bytes == [0, 0] && (flow.packets.is_none() || moved.packets == [0, 0]) {
                continue;
            }
            let marks = if before.is_none() { [flags::SYN, flags::SYN_ACK] } else { [0, 0] };
            let key = FlowKey { local: flow.local, client: flow.client, accepted: true };
            self.add(key, access, flow.origin, [flow.opened, now], moved, marks, "open");
        }
        // Also drops flows whose end event was lost because the queue was full.
        self.recorded = recorded;
        let mut records = Vec::new();
        let mut busy = HashSet::new();
        for (key, totals) in std::mem::take(&mut self.flows) {
            let Some(interface) = Interface::at(&totals.access, key.local.ip()) else { continue };
            let interface = Arc::new(interface);
            busy.insert(interface.eni.clone());
            // An event may arrive after its window was closed, and the clock may be set back.
            let start = totals.first.max(self.since).min(now);
            let [start, end] = [start, totals.last.clamp(start, now)].map(seconds);
            for (n, direction) in [FlowDirection::Ingress, FlowDirection::Egress].into_iter().enumerate() {
                if totals.packets[n] == 0 {
                    continue;
                }
                let flow = Flow {
                    direction,
                    client: key.client,
                    local: key.local,
                    origin: totals.origin,
                    packets: totals.packets[n],
                    bytes: totals.bytes[n],
                    flags: totals.flags[n],
                    action: if key.accepted { Action::Accept } else { Action::Reject },
                    reason: totals.reason,
                };
                records.push(FlowLogRecord {
                    interface: Arc::clone(&interface),
                    start,
                    end,
                    status: LogStatus::Ok(flow),
                });
            }
        }
        let [start, end] = [self.since, now].map(seconds);
        for interface in interfaces {
            let status = if self.skipped.contains(&interface.ip) {
                LogStatus::SkipData
            } else if !busy.insert(interface.eni.clone()) {
                // The interface's other address already has a record.
                continue;
            } else {
                LogStatus::NoData
            };
            records.push(FlowLogRecord { interface: Arc::new(interface.clone()), start, end, status });
        }
        self.skipped.clear();
        self.since = now;
        records
    }

    #[expect(clippy::too_many_arguments, reason = "a record's parts, each with a name where it is called")]
    fn add(
        &mut self,
        key: FlowKey,
        access: &Arc<EndpointAccess>,
        origin: Origin,
        [first, last]: [SystemTime; 2],
        moved: Recorded,
        marks: [u8; 2],
        reason: &'static str,
    ) {
        if self.flows.len() >= MAX_FLOWS && !self.flows.contains_key(&key) {
            self.skipped.insert(key.local.ip());
            return;
        }
        let totals = self.flows.entry(key).or_insert_with(|| FlowTotals {
            access: Arc::clone(access),
            origin,
            first,
            last,
            bytes: [0; 2],
            packets: [0; 2],
            flags: [0; 2],
            reason,
        });
        totals.first = totals.first.min(first);
        totals.last = totals.last.max(last);
        totals.reason = reason;
        for n in [0, 1] {
            totals.packets[n] += moved.packets[n];
            totals.bytes[n] += moved.bytes[n] + moved.packets[n] * headers(key.client);
            totals.flags[n] |= marks[n];
        }
    }
}

/// Size of a packet's headers without options: AWS counts bytes on the wire, the relay counts payload.
fn headers(client: SocketAddr) -> u64 {
    if client.ip().to_canonical().is_ipv4() { 20 + 20 } else { 40 + 20 }
}

/// The kernel's counts. If the connection is already closed, for example after a reset, an estimate: full segments, the
/// handshake, the close, and an acknowledgement for every other segment.
fn packets(counted: Option<Packets>, bytes: [u64; 2]) -> [u64; 2] {
    let [to_target, to_client] = bytes.map(|bytes| bytes.div_ceil(SEGMENT));
    match counted {
        Some(Packets { ingress, egress }) => [ingress, egress],
        None => [3 + to_target + to_client / 2, 2 + to_client + to_target / 2],
    }
}

fn less(so_far: Recorded, before: Recorded) -> Recorded {
    let each = |n: [u64; 2], less: [u64; 2]| [n[0].saturating_sub(less[0]), n[1].saturating_sub(less[1])];
    Recorded { bytes: each(so_far.bytes, before.bytes), packets: each(so_far.packets, before.packets) }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::EndpointAddress;
    use crate::model::{CidrSet, EndpointState, FlowLogFormat};
    use crate::plan::SecurityRules;

    const ALL: &str = "${version} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} ${packets} ${bytes} ${start} \
                       ${end} ${action} ${log-status} ${tcp-flags} ${flow-direction} ${traffic-path} ${az-id} ${plgw-reason}";

    fn access() -> Arc<EndpointAccess> {
        let set = |text: &str| [CidrSet::parse_one(text).expect("a network")].into_iter().collect::<CidrSet>();
        let address = |eni: &str, zone: &str, ip: &str| EndpointAddress {
            eni: eni.parse().expect("an id"),
            subnet: "subnet-0c1d2e3f4a5b60718".parse().expect("an id"),
            zone: zone.parse().expect("a zone"),
            ip: ip.parse().expect("an address"),
        };
        Arc::new(EndpointAccess {
            id: "vpce-024f5b57108c8d3ed".parse().expect("an id"),
            vpc: "vpc-0b3f1c9a7d2e84f56".parse().expect("an id"),
            service: "com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c".parse().expect("a name"),
            state: EndpointState::Available,
            addresses: vec![
                address("eni-0aaaaaaaaaaaaaaaa", "us-east-1a", "10.0.30.194"),
                address("eni-0bbbbbbbbbbbbbbbb", "us-east-1b", "10.0.20.54"),
            ],
            regional_name: None,
            vpc_cidrs: set("10.0.0.0/16"),
            peered: set("10.3.0.0/16"),
            on_premises: set("10.2.0.0/16"),
            rules: SecurityRules::default(),
        })
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn local() -> SocketAddr {
        "10.0.30.194:1024".parse().expect("an address")
    }

    fn interfaces() -> Vec<Interface> {
        let access = access();
        access.addresses.iter().filter_map(|address| Interface::at(&access, address.ip)).collect()
    }

    fn ended(id: u64, client: &str, [opened, ended_ids]: [u64; 2], bytes: [u64; 2], end: FlowEnd) -> EndedFlow {
        let packets = Some(Packets { ingress: 6, egress: 5 });
        let flow = OpenFlow { origin: Origin::Vpc, packets, ..open(id, client, opened, bytes, [0, 0]) };
        EndedFlow {
            flow,
            target: "Cluster0/a".parse().expect("an id"),
            target_address: "10.1.0.11:27017".parse().expect("an address"),
            ended: at(ended_ids),
            end,
        }
    }

    fn open(id: u64, client: &str, opened: u64, bytes: [u64; 2], packets: [u64; 2]) -> OpenFlow {
        OpenFlow {
            id: FlowId(id),
            client: client.parse().expect("an address"),
            local: local(),
            access: Some(access()),
            origin: Origin::Peered,
            opened: at(opened),
            bytes_to_target: bytes[0],
            bytes_to_client: bytes[1],
            packets: Some(Packets { ingress: packets[0], egress: packets[1] }),
        }
    }

    fn lines(records: &[FlowLogRecord]) -> Vec<String> {
        let format: FlowLogFormat = ALL.parse().expect("a format");
        records.iter().map(|record| record.line(&format, "unknown")).collect()
    }

    #[test]
    fn a_flow_gives_a_record_per_direction_and_an_idle_interface_nodata() {
        let mut window = Window::new(at(0));
        window.ended(&ended(1, "10.0.1.9:40000", [3, 5], [100, 2000], FlowEnd::Completed));
        assert_eq!(
            lines(&window.close(at(60), &[], &interfaces())),
            [
                "5 eni-0aaaaaaaaaaaaaaaa 10.0.1.9 10.0.30.194 40000 1024 6 340 1700000003 1700000005 ACCEPT OK 3 ingress - \
                 use1-az1 completed",
                "5 eni-0aaaaaaaaaaaaaaaa 10.0.30.194 10.0.1.9 1024 40000 5 2200 1700000003 1700000005 ACCEPT OK 19 egress 1 \
                 use1-az1 completed",
                "5 eni-0bbbbbbbbbbbbbbbb - - - - - - 1700000000 1700000060 - NODATA - - - use1-az2 -",
            ]
        );
        let quiet = lines(&window.close(at(120), &[], &interfaces()));
        assert_eq!(quiet.len(), 2);
        assert!(quiet.iter().all(|line| line.contains(" 1700000060 1700000120 - NODATA ")), "{quiet:?}");
    }

    #[test]
    fn a_long_flow_is_recorded_in_every_window_with_traffic_and_nothing_twice() {
        let mut window = Window::new(at(0));
        let first = lines(&window.close(at(60), &[open(1, "10.3.0.9:40000", 10, [100, 50], [4, 3])], &[]));
        assert!(first[0].contains(" 4 260 1700000010 1700000060 ACCEPT OK 2 ingress - "), "{first:?}");
        assert!(first[1].contains(" 3 170 1700000010 1700000060 ACCEPT OK 18 egress 4 "), "{first:?}");
        assert!(window.close(at(120), &[open(1, "10.3.0.9:40000", 10, [100, 50], [4, 3])], &[]).is_empty());
        // It ends, but a list of open flows that was made just before still contains it.
        let mut last = ended(1, "10.3.0.9:40000", [10, 130], [110, 70], FlowEnd::Completed);
        last.flow.origin = Origin::Peered;
        window.ended(&last);
        let third = lines(&window.close(at(180), &[open(1, "10.3.0.9:40000", 10, [110, 60], [5, 4])], &[]));
        assert_eq!(third.len(), 2);
        assert!(third[0].contains(" 2 90 1700000120 1700000130 ACCEPT OK 1 ingress - "), "{third:?}");
        assert!(third[1].contains(" 2 100 1700000120 1700000130 ACCEPT OK 1 egress 4 "), "{third:?}");
        assert!(window.close(at(240), &[], &[]).is_empty());
        assert!(window.recorded.is_empty() && window.ended_ids.is_empty());
    }

    #[test]
    fn refusals_of_the_interface_are_reject_and_those_of_the_load_balancer_are_accept() {
        let mut window = Window::new(at(0));
        for (port, refusal) in
            [(1, Refusal::SecurityGroup), (2, Refusal::OneWay), (3, Refusal::FlowLimit), (4, Refusal::NoTarget)]
        {
            window.refused(&RefusedFlow {
                client: SocketAddr::from(([10, 0, 1, 9], port)),
                local: local(),
                access: Some(access()),
                target: "Cluster0/a".parse().expect("an id"),
                at: at(1),
                refusal,
            });
        }
        let lines = lines(&window.close(at(60), &[], &[]));
        let recorded: Vec<String> = lines
            .iter()
            .map(|line| {
                let word: Vec<&str> = line.split(' ').collect();
                [word[4], word[10], word[12], word[13], word[16]].join(" ")
            })
            .collect();
        assert_eq!(
            recorded,
            [
                "1 REJECT 2 ingress security_group",
                "2 REJECT 2 ingress one_way",
                "3 ACCEPT 2 ingress flow_limit",
                "4 ACCEPT 2 ingress no_target",
                "1024 ACCEPT 4 egress no_target",
            ]
        );
    }

    #[test]
    fn flags_show_which_side_ended_the_flow() {
        let of = |end| {
            let mut window = Window::new(at(0));
            window.ended(&ended(1, "10.0.1.9:40000", [3, 5], [0, 0], end));
            let lines = lines(&window.close(at(60), &[], &[]));
            lines
                .iter()
                .map(|line| line.split(' ').nth(12).unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(of(FlowEnd::Completed), "3 19");
        assert_eq!(of(FlowEnd::Idle), "2 18");
        assert_eq!(of(FlowEnd::Failed { side: Side::Client, reset: true }), "6 18");
        assert_eq!(of(FlowEnd::Failed { side: Side::Target, reset: true }), "2 22");
        assert_eq!(of(FlowEnd::Unreachable(ConnectError::Refused)), "2 22");
    }

    #[test]
    fn an_interface_with_too_many_flows_in_a_window_is_skipdata() {
        let mut window = Window::new(at(0));
        for n in 0..MAX_FLOWS + 1 {
            let port = u16::try_from(n % 60_000 + 1).expect("a port");
            let client = SocketAddr::from(([10, 0, u8::from(n >= 60_000), 9], port));
            window.ended(&ended(n as u64, &client.to_string(), [1, 2], [1, 1], FlowEnd::Completed));
        }
        let records = window.close(at(60), &[], &interfaces());
        assert_eq!(records.len(), 2 * MAX_FLOWS + 2);
        assert_eq!(records[2 * MAX_FLOWS].status, LogStatus::SkipData);
        assert_eq!(records[2 * MAX_FLOWS + 1].status, LogStatus::NoData);
    }
}
