//! Admission: who may use a listener. Pure functions of their arguments.

use std::net::{IpAddr, SocketAddr};

use crate::model::{CidrSet, EndpointState, ListenerPort, Origin, Refusal};
use crate::plan::{EndpointAccess, Listener, ListenerAccess};

/// Decides whether a connection from `client` to `listener` is admitted, and returns its origin.
///
/// The checks run in a fixed order: one-way (the service's side is never admitted), endpoint state, origin, security
/// group.
///
/// # Errors
///
/// The one [`Refusal`] that applies first.
pub(crate) fn admit(listener: &Listener, client: SocketAddr, service_side: &CidrSet) -> Result<Origin, Refusal> {
    let source = client.ip().to_canonical();
    match &listener.access {
        ListenerAccess::Endpoint(endpoint) => admit_private(endpoint, listener.address, source, service_side),
        ListenerAccess::Public { access_list } => {
            if service_side.contains(source) {
                Err(Refusal::OneWay)
            } else if access_list.contains(source) {
                Ok(Origin::Public)
            } else {
                Err(Refusal::AccessList)
            }
        }
    }
}

/// Decides whether a connection from `source` to `address` of an interface endpoint is admitted.
///
/// # Errors
///
/// The one [`Refusal`] that applies first.
pub(crate) fn admit_private(
    endpoint: &EndpointAccess,
    address: SocketAddr,
    source: IpAddr,
    service_side: &CidrSet,
) -> Result<Origin, Refusal> {
    let origin = endpoint.origin(source, service_side);
    match origin {
        Origin::Service => return Err(Refusal::OneWay),
        _ if endpoint.state != EndpointState::Available => return Err(Refusal::EndpointState),
        Origin::Public => return Err(Refusal::Origin),
        Origin::Vpc | Origin::Peered | Origin::OnPremises => {}
    }
    if passes_groups(endpoint, address, source) { Ok(origin) } else { Err(Refusal::SecurityGroup) }
}

/// The ingress rules of the endpoint's groups must allow the client; if the client has security groups,
/// their egress rules must allow the endpoint.
fn passes_groups(endpoint: &EndpointAccess, address: SocketAddr, source: IpAddr) -> bool {
    let Ok(port) = ListenerPort::try_from(address.port()) else { return false };
    let lets_in = endpoint.rules.ingress.iter().any(|rule| rule.ports.contains(port) && rule.cidrs.contains(source));
    let mut carried = endpoint.rules.clients.iter().filter(|group| group.members.contains(source)).peekable();
    let lets_out = carried.peek().is_none()
        || carried.any(|group| {
            group.egress.iter().any(|rule| rule.ports.contains(port) && rule.cidrs.contains(address.ip()))
        });
    lets_in && lets_out
}
