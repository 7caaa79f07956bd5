//! One flow log record, and how it is written.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use super::event::Interface;
use crate::model::{FlowLogField, FlowLogFormat, Origin};

/// TCP flags as records have them; ACK and PSH are not among them (*Flow log records*, `tcp-flags`).
pub(super) mod flags {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const SYN_ACK: u8 = 18;
}

/// The number of TCP.
const TCP: u8 = 6;

/// As the interface sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the client.
    Ingress,
    /// To the client.
    Egress,
}

/// What became of it at the interface.
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

/// What went one way between a client and an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) direction: Direction,
    pub(super) client: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) origin: Origin,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) flags: u8,
    pub(super) action: Action,
    pub(super) reason: &'static str,
}

/// Whether there is anything to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    Ok(Flow),
    /// Nothing came to the interface.
    NoData,
    /// Something did, and is lost.
    SkipData,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) interface: Arc<Interface>,
    /// Seconds since 1970; `end` too.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) status: Status,
}

impl Record {
    /// What became of it; `None` for one without data.
    pub(super) fn action(&self) -> Option<Action> {
        match &self.status {
            Status::Ok(flow) => Some(flow.action),
            Status::NoData | Status::SkipData => None,
        }
    }

    /// The record as a line, without its end.
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
        // Writing to a text can't fail.
        let _ = match field {
            FlowLogField::Version => write!(line, "{}", format.version()),
            FlowLogField::AccountId => write!(line, "{account}"),
            FlowLogField::InterfaceId => write!(line, "{}", interface.eni),
            FlowLogField::Start => write!(line, "{}", self.start),
            FlowLogField::End => write!(line, "{}", self.end),
            FlowLogField::LogStatus => line.write_str(match self.status {
                Status::Ok(_) => "OK",
                Status::NoData => "NODATA",
                Status::SkipData => "SKIPDATA",
            }),
            FlowLogField::VpcId => write!(line, "{}", interface.vpc),
            FlowLogField::SubnetId => write!(line, "{}", interface.subnet),
            FlowLogField::Region => write!(line, "{}", interface.region()),
            FlowLogField::AzId => write!(line, "{}", interface.zone.id()),
            FlowLogField::PlgwEndpointId => write!(line, "{}", interface.endpoint),
            _ => match &self.status {
                Status::Ok(flow) => flow.write(line, field),
                Status::NoData | Status::SkipData => line.write_str("-"),
            },
        };
    }
}

impl Flow {
    fn write(&self, line: &mut String, field: FlowLogField) -> std::fmt::Result {
        let (source, destination) = match self.direction {
            Direction::Ingress => (self.client, self.local),
            Direction::Egress => (self.local, self.client),
        };
        match field {
            // Nothing rewrites addresses between a client and the interface, so a packet's own are the same.
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
                Direction::Ingress => "ingress",
                Direction::Egress => "egress",
            }),
            FlowLogField::TrafficPath => line.write_str(match (self.direction, self.origin) {
                (Direction::Ingress, _) => "-",
                (Direction::Egress, Origin::Vpc) => "1",
                (Direction::Egress, Origin::OnPremises) => "3",
                (Direction::Egress, Origin::Peered) => "4",
                (Direction::Egress, Origin::Service | Origin::Public) => "-",
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
            | FlowLogField::PlgwEndpointId => unreachable!("these are the interface's and the window's"),
        }
    }
}
