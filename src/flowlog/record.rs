//! Flow log records and their format.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use super::event::Interface;
use crate::model::{FlowLogField, FlowLogFormat, Origin};

/// TCP flags in records; ACK and PSH are not recorded (*Flow log records*, `tcp-flags`).
pub(super) mod flags {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const SYN_ACK: u8 = 18;
}

/// The IANA protocol number of TCP.
const TCP: u8 = 6;

/// The direction from the interface's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlowDirection {
    /// From the client.
    Ingress,
    /// To the client.
    Egress,
}

/// Whether the interface accepted the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Accept,
    Reject,
}

impl Action {
    fn label(self) -> &'static str {
        match self {
            Self::Accept => "ACCEPT",
            Self::Reject => "REJECT",
        }
    }
}

/// The traffic in one direction between a client and an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) direction: FlowDirection,
    pub(super) client: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) origin: Origin,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) flags: u8,
    pub(super) action: Action,
    pub(super) reason: &'static str,
}

/// The `log-status` of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogStatus {
    Ok(Flow),
    /// The interface had no traffic.
    NoData,
    /// Records of the interface were lost.
    SkipData,
}

/// A flow log record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FlowLogRecord {
    pub(super) interface: Arc<Interface>,
    /// Start and end in seconds since 1970.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) status: LogStatus,
}

impl FlowLogRecord {
    /// The action; `None` without data.
    pub(super) fn action(&self) -> Option<Action> {
        match &self.status {
            LogStatus::Ok(flow) => Some(flow.action),
            LogStatus::NoData | LogStatus::SkipData => None,
        }
    }

    /// Formats the record as a line without its newline.
    pub(super) fn line(&self, format: &FlowLogFormat, account: &str) -> String {
        let mut line = String::with_capacity(160);
        for (n, field) in format.fields().iter().enumerate() {
            if n > 0 {
                line.push(' ');
            }
            self.write(&mut line, *field, format, account);
        }
        line
    }

    fn write(&self, line: &mut String, field: FlowLogField, format: &FlowLogFormat, account: &str) {
        let interface = &self.interface;
        // Writing to a `String` cannot fail.
        let _ = match field {
            FlowLogField::Version => write!(line, "{}", format.version()),
            FlowLogField::AccountId => write!(line, "{account}"),
            FlowLogField::InterfaceId => write!(line, "{}", interface.eni),
            FlowLogField::Start => write!(line, "{}", self.start),
            FlowLogField::End => write!(line, "{}", self.end),
            FlowLogField::LogStatus => line.write_str(match self.status {
                LogStatus::Ok(_) => "OK",
                LogStatus::NoData => "NODATA",
                LogStatus::SkipData => "SKIPDATA",
            }),
            FlowLogField::VpcId => write!(line, "{}", interface.vpc),
            FlowLogField::SubnetId => write!(line, "{}", interface.subnet),
            FlowLogField::Region => write!(line, "{}", interface.region()),
            FlowLogField::AzId => write!(line, "{}", interface.zone.id()),
            FlowLogField::PlgwEndpointId => write!(line, "{}", interface.endpoint),
            _ => match &self.status {
                LogStatus::Ok(flow) => flow.write(line, field),
                LogStatus::NoData | LogStatus::SkipData => line.write_str("-"),
            },
        };
    }
}

impl Flow {
    fn write(&self, line: &mut String, field: FlowLogField) -> std::fmt::Result {
        let (source, destination) = match self.direction {
            FlowDirection::Ingress => (self.client, self.local),
            FlowDirection::Egress => (self.local, self.client),
        };
        match field {
            // No NAT between a client and the interface, so the packet-level addresses are the same.
            FlowLogField::SrcAddr | FlowLogField::PktSrcAddr => write!(line, "{}", source.ip().to_canonical()),
            FlowLogField::DstAddr | FlowLogField::PktDstAddr => write!(line, "{}", destination.ip().to_canonical()),
            FlowLogField::SrcPort => write!(line, "{}", source.port()),
            FlowLogField::DstPort => write!(line, "{}", destination.port()),
            FlowLogField::Protocol => write!(line, "{TCP}"),
            FlowLogField::Packets => write!(line, "{}", self.packets),
            FlowLogField::Bytes => write!(line, "{}", self.bytes),
            FlowLogField::Action => line.write_str(self.action.label()),
            FlowLogField::TcpFlags => write!(line, "{}", self.flags),
            FlowLogField::Type => {
                line.write_str(if self.local.ip().to_canonical().is_ipv4() { "IPv4" } else { "IPv6" })
            }
            FlowLogField::FlowDirection => line.write_str(match self.direction {
                FlowDirection::Ingress => "ingress",
                FlowDirection::Egress => "egress",
            }),
            FlowLogField::TrafficPath => line.write_str(match (self.direction, self.origin) {
                (FlowDirection::Ingress, _) => "-",
                (FlowDirection::Egress, Origin::Vpc) => "1",
                (FlowDirection::Egress, Origin::OnPremises) => "3",
                (FlowDirection::Egress, Origin::Peered) => "4",
                (FlowDirection::Egress, Origin::Service | Origin::Public) => "-",
            }),
            FlowLogField::PlgwReason => line.write_str(self.reason),
            FlowLogField::InstanceId
            | FlowLogField::SublocationType
            | FlowLogField::SublocationId
            | FlowLogField::PktSrcAwsService
            | FlowLogField::PktDstAwsService
            | FlowLogField::RejectReason => line.write_str("-"),
            FlowLogField::Version
            | FlowLogField::AccountId
            | FlowLogField::InterfaceId
            | FlowLogField::Start
            | FlowLogField::End
            | FlowLogField::LogStatus
            | FlowLogField::VpcId
            | FlowLogField::SubnetId
            | FlowLogField::Region
            | FlowLogField::AzId
            | FlowLogField::PlgwEndpointId => unreachable!("`FlowLogRecord::write` handles these fields"),
        }
    }
}
