//! Who may use a listener. Pure: the answer depends on the arguments alone.

use std::net::{IpAddr, SocketAddr};

use crate::model::{CidrSet, EndpointState, ListenerPort, Origin, Refusal};
use crate::plan::{EndpointGate, Gate, Listener};

/// Whether a connection from `client` on `listener` is let through, and where it comes from.
///
/// The order is fixed: endpoint state, origin (one-way first: the service's side is never let in), security group.
///
/// # Errors
///
/// The one [`Refusal`] that applies first.
pub(crate) fn admit(listener: &Listener, client: SocketAddr, service_side: &CidrSet) -> Result<Origin, Refusal> {
    let source = client.ip().to_canonical();
    match &listener.gate {
        Gate::Endpoint(endpoint) => admit_private(endpoint, listener.address, source, service_side),
        Gate::Public { access_list } => {
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

/// Whether a connection from `source` to `address` of an interface endpoint is let through.
///
/// # Errors
///
/// The one [`Refusal`] that applies first.
pub(crate) fn admit_private(
    endpoint: &EndpointGate,
    address: SocketAddr,
    source: IpAddr,
    service_side: &CidrSet,
) -> Result<Origin, Refusal> {
    if endpoint.state != EndpointState::Available {
        return Err(Refusal::EndpointState);
    }
    let origin = endpoint.origin(source, service_side);
    match origin {
        Origin::Service => return Err(Refusal::OneWay),
        Origin::Public => return Err(Refusal::Origin),
        Origin::Vpc | Origin::Peered | Origin::OnPremises => {}
    }
    if passes_groups(endpoint, address, source) { Ok(origin) } else { Err(Refusal::SecurityGroup) }
}

/// The endpoint's groups must let the client in, and the client's own, where it carries any, must let it out.
fn passes_groups(endpoint: &EndpointGate, address: SocketAddr, source: IpAddr) -> bool {
    let Ok(port) = ListenerPort::try_from(address.port()) else { return false };
    let lets_in = endpoint.rules.ingress.iter().any(|rule| rule.ports.contains(port) && rule.cidrs.contains(source));
    let mut carried = endpoint.rules.clients.iter().filter(|group| group.members.contains(source)).peekable();
    let lets_out = carried.peek().is_none()
        || carried.any(|group| {
            group.egress.iter().any(|rule| rule.ports.contains(port) && rule.cidrs.contains(address.ip()))
        });
    lets_in && lets_out
}
