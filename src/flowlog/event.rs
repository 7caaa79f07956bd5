//! Events of the data plane.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use crate::model::{EniId, FlowEnd, FlowId, Origin, Refusal, Region, SubnetId, TargetId, VpcId, VpceId, Zone};
use crate::plan::EndpointAccess;

/// Segments of the client's connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packets {
    /// From the client.
    pub ingress: u64,
    /// To the client.
    pub egress: u64,
}

/// A refused connection.
#[derive(Debug, Clone)]
pub struct RefusedFlow {
    /// The client's address.
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The endpoint; `None` on the public path.
    pub access: Option<Arc<EndpointAccess>>,
    /// The addressable target.
    pub target: TargetId,
    /// The time.
    pub at: SystemTime,
    /// The reason.
    pub refusal: Refusal,
}

/// A flow up to now.
#[derive(Debug, Clone)]
pub struct OpenFlow {
    /// Its id.
    pub id: FlowId,
    /// The client's address.
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// Its endpoint; `None` on the public path.
    pub access: Option<Arc<EndpointAccess>>,
    /// The origin of the client.
    pub origin: Origin,
    /// When it was admitted.
    pub opened: SystemTime,
    /// Payload written to the target.
    pub bytes_to_target: u64,
    /// Payload written to the client.
    pub bytes_to_client: u64,
    /// The kernel's counts; `None` if the connection is already closed.
    pub packets: Option<Packets>,
}

/// An ended flow.
#[derive(Debug, Clone)]
pub struct EndedFlow {
    /// The flow at its end.
    pub flow: OpenFlow,
    /// The addressable target.
    pub target: TargetId,
    /// The member's address.
    pub target_address: SocketAddr,
    /// When it ended.
    pub ended: SystemTime,
    /// How it ended.
    pub end: FlowEnd,
}

/// A network interface of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its id.
    pub eni: EniId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its zone.
    pub zone: Zone,
    /// Its address.
    pub ip: IpAddr,
    /// Its endpoint.
    pub endpoint: VpceId,
}

impl Interface {
    /// The interface of `access` with the address `ip`.
    #[must_use]
    pub fn at(access: &EndpointAccess, ip: IpAddr) -> Option<Self> {
        let address = access.addresses.iter().find(|address| address.ip == ip)?;
        Some(Self {
            eni: address.eni.clone(),
            subnet: address.subnet.clone(),
            vpc: access.vpc.clone(),
            zone: address.zone.clone(),
            ip,
            endpoint: access.id.clone(),
        })
    }

    /// Its region.
    pub(super) fn region(&self) -> Region {
        self.zone.region()
    }
}
