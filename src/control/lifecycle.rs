//! The lifecycles of objects that the APIs create: which transition follows a state, and when. Pure.

use std::time::Duration;

use super::inventory::{
    CloudEndpointKey, ClusterState, DatabaseUser, EndpointRecord, Inventory, Pair, Reservation, ServiceState,
    StringsStatus, Timestamp,
};
use crate::model::{ClusterName, EndpointState, Pace, ProjectId, VpceId, VpceServiceId};

/// Durations of the transient states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StateDurations {
    service_creation: Duration,
    service_deletion: Duration,
    acceptance: Duration,
    connection: Duration,
    endpoint_deletion: Duration,
    unknown_endpoint: Duration,
    cluster: Duration,
}

impl StateDurations {
    /// Duration of a service's state; `None`: it does not end by itself.
    fn of_service(&self, state: ServiceState) -> Option<Duration> {
        match state {
            ServiceState::Initiating | ServiceState::Updating => Some(self.service_creation),
            ServiceState::Deleting => Some(self.service_deletion),
            ServiceState::Available | ServiceState::Failed => None,
        }
    }
}

/// Long enough for a polling tool to observe, short enough not to be a delay.
const FAST: StateDurations = StateDurations {
    service_creation: Duration::from_millis(300),
    service_deletion: Duration::from_millis(300),
    acceptance: Duration::from_millis(200),
    connection: Duration::from_millis(200),
    endpoint_deletion: Duration::from_millis(200),
    unknown_endpoint: Duration::from_secs(5),
    cluster: Duration::from_millis(300),
};

/// As recorded for services (two and a half minutes); the others are what users report.
const REALISTIC: StateDurations = StateDurations {
    service_creation: Duration::from_secs(148),
    service_deletion: Duration::from_secs(60),
    acceptance: Duration::from_secs(20),
    connection: Duration::from_secs(60),
    endpoint_deletion: Duration::from_secs(30),
    unknown_endpoint: Duration::from_secs(600),
    cluster: Duration::from_secs(420),
};

/// A transition that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DueTransition {
    /// A service's creation or deletion ends.
    Service(VpceServiceId),
    /// An endpoint's state ends.
    Endpoint(VpceId),
    /// A registration's removal ends, or the wait for its endpoint does.
    Registration(Pair<VpceServiceId, VpceId>),
    /// A cluster's change ends.
    Cluster(Pair<ProjectId, ClusterName>),
    /// A cluster's update for an added or removed endpoint ends.
    Update(Pair<ProjectId, ClusterName>),
    /// A database user expires.
    User(Pair<ProjectId, String>),
    /// Connection strings are published, or fail.
    Strings(Pair<ProjectId, String>),
    /// A serverless instance's change ends.
    Serverless(Pair<ProjectId, ClusterName>),
    /// The private endpoint of a serverless instance changes state.
    Reservation(Pair<ProjectId, ClusterName>),
    /// An Online Archives' endpoint is removed, or the wait for it ends.
    Archive(Pair<ProjectId, VpceId>),
    /// A private endpoint on Azure or Google Cloud changes state.
    CloudEndpoint(CloudEndpointKey),
}

/// The next transition and its time; `None` if there is none.
pub(super) fn next(inventory: &Inventory, pace: Pace) -> Option<(Timestamp, DueTransition)> {
    let times = match pace {
        Pace::Fast => &FAST,
        Pace::Realistic => &REALISTIC,
        Pace::Frozen => return None,
    };
    all(inventory, times).chain(expiring(inventory)).min_by_key(|(at, _)| *at)
}

/// Expiry of database users; a push does not bring it forward.
fn expiring(inventory: &Inventory) -> impl Iterator<Item = (Timestamp, DueTransition)> + '_ {
    let due = |(key, user): (&Pair<ProjectId, String>, &DatabaseUser)| {
        Some((user.delete_after?, DueTransition::User(key.clone())))
    };
    inventory.users.iter().filter_map(due)
}

/// The next transition regardless of its time; a push executes it.
pub(super) fn next_pushed(inventory: &Inventory) -> Option<DueTransition> {
    // Updates of clusters and strings follow endpoints, so they are pushed last.
    let order = |(at, due): &(Timestamp, DueTransition)| {
        (matches!(due, DueTransition::Update(..) | DueTransition::Strings(..)), *at)
    };
    all(inventory, &FAST).min_by_key(order).map(|(_, due)| due)
}

fn all<'a>(
    inventory: &'a Inventory,
    times: &'a StateDurations,
) -> impl Iterator<Item = (Timestamp, DueTransition)> + 'a {
    let services = inventory.project_services().filter_map(|record| {
        Some((record.since.plus(times.of_service(record.state)?), DueTransition::Service(record.service.id.clone())))
    });
    let endpoints = inventory.endpoints.iter().filter_map(|(id, record)| {
        let wait = match record.endpoint.state {
            EndpointState::PendingAcceptance if inventory.is_registered(&record.endpoint) => times.acceptance,
            EndpointState::Pending => times.connection,
            EndpointState::Deleting => times.endpoint_deletion,
            _ => return None,
        };
        record.is_transient().then(|| (record.since.plus(wait), DueTransition::Endpoint(id.clone())))
    });
    let registrations = inventory.registrations.iter().filter_map(|(key, record)| {
        let known = inventory.endpoints.contains_key(&key.1);
        let wait = match (record.deleting, known, &record.error) {
            (true, _, _) => times.endpoint_deletion,
            (false, false, None) => times.unknown_endpoint,
            _ => return None,
        };
        Some((record.since.plus(wait), DueTransition::Registration(key.clone())))
    });
    let clusters = inventory.clusters.iter().filter(|(_, record)| record.state != ClusterState::Idle);
    let clusters =
        clusters.map(|(key, record)| (record.since.plus(times.cluster), DueTransition::Cluster(key.clone())));
    let updates = inventory
        .updates
        .iter()
        .filter(|(key, _)| !inventory.endpoints_change(key))
        .map(|(key, since)| (since.plus(times.cluster), DueTransition::Update(key.clone())));
    let strings = inventory
        .named_strings
        .iter()
        .filter(|(_, record)| record.status == StringsStatus::Pending && !inventory.chosen_endpoints_change(record))
        .map(|(key, record)| (record.updated.plus(times.cluster), DueTransition::Strings(key.clone())));
    let of_clusters = clusters.chain(updates).chain(strings);
    services.chain(endpoints).chain(registrations).chain(of_clusters).chain(other_transitions(inventory, times))
}

/// The same for other resources: serverless instances, Online Archives, Azure, Google Cloud.
fn other_transitions<'a>(
    inventory: &'a Inventory,
    times: &'a StateDurations,
) -> impl Iterator<Item = (Timestamp, DueTransition)> + 'a {
    let instances = inventory.serverless.iter().filter(|(_, record)| record.state != ClusterState::Idle);
    let instances =
        instances.map(|(key, record)| (record.since.plus(times.cluster), DueTransition::Serverless(key.clone())));
    let reservations = inventory.serverless.iter().filter_map(|(key, record)| {
        let own = record.endpoint.as_ref()?;
        let wait = match (own.state, &own.claimed) {
            (Reservation::ReservationRequested, _) => times.service_creation,
            (Reservation::Deleting, _) => times.endpoint_deletion,
            (Reservation::Reserved, Some(id)) if own.error.is_none() && !inventory.endpoints.contains_key(id) => {
                times.unknown_endpoint
            }
            (Reservation::Reserved, _) => return None,
        };
        Some((own.since.plus(wait), DueTransition::Reservation(key.clone())))
    });
    let archives = inventory.archives.iter().filter_map(|(key, record)| {
        let wait = match (record.deleting, inventory.endpoints.contains_key(&key.1), &record.error) {
            (true, _, _) => times.endpoint_deletion,
            (false, false, None) => times.unknown_endpoint,
            _ => return None,
        };
        Some((record.since.plus(wait), DueTransition::Archive(key.clone())))
    });
    let in_clouds = inventory.cloud_endpoints.iter().filter_map(|(key, own)| {
        Some((own.since.plus(times.of_service(own.state)?), DueTransition::CloudEndpoint(key.clone())))
    });
    instances.chain(reservations).chain(archives).chain(in_clouds)
}

/// The error of an endpoint without a subnet, from Atlas' documentation.
fn no_dns_entries(id: &VpceId) -> String {
    format!(
        "No dns entries found for endpoint {id}, your endpoint must be provisioned in at least one subnet. Click \"Edit\" \
         to fix the problem."
    )
}

/// Executes a transition.
pub(super) fn execute(inventory: &mut Inventory, due: &DueTransition, now: Timestamp) {
    match due {
        DueTransition::Service(id) => service(inventory, id, now),
        DueTransition::Endpoint(id) => endpoint(inventory, id, now),
        DueTransition::Registration(key) => registration(inventory, key, now),
        DueTransition::Cluster(key) => cluster(inventory, key, now),
        DueTransition::Update(key) => drop(inventory.updates.remove(key)),
        DueTransition::User(key) => drop(inventory.users.remove(key)),
        DueTransition::Strings(key) => strings(inventory, key, now),
        DueTransition::Serverless(key) => serverless(inventory, key, now),
        DueTransition::Reservation(key) => reservation(inventory, key, now),
        DueTransition::Archive(key) => archive(inventory, key, now),
        DueTransition::CloudEndpoint(key) => cloud_endpoint(inventory, key, now),
    }
}

/// Records that a transition failed for `reason`.
pub(super) fn fail(inventory: &mut Inventory, due: &DueTransition, reason: &str, now: Timestamp) {
    match due {
        DueTransition::Service(id) => {
            if let Some(record) = inventory.project_service_mut(id) {
                (record.state, record.since, record.error) = (ServiceState::Failed, now, Some(reason.to_owned()));
            }
        }
        DueTransition::Endpoint(id) => {
            if let Some(record) = inventory.endpoints.get_mut(id) {
                record.endpoint.state = EndpointState::Failed;
                (record.since, record.error) = (now, Some(reason.to_owned()));
            }
        }
        DueTransition::Registration(key) => {
            if let Some(record) = inventory.registrations.get_mut(key) {
                (record.since, record.error) = (now, Some(reason.to_owned()));
            }
        }
        DueTransition::Cluster(key) => {
            if let Some(record) = inventory.clusters.get_mut(key) {
                (record.state, record.since) = (ClusterState::Idle, now);
            }
        }
        DueTransition::Serverless(key) => {
            if let Some(record) = inventory.serverless.get_mut(key) {
                (record.state, record.since) = (ClusterState::Idle, now);
            }
        }
        DueTransition::Reservation(key) => {
            let record = inventory.serverless.get_mut(key);
            if let Some(own) = record.and_then(|record| record.endpoint.as_mut()) {
                (own.state, own.since, own.error) = (Reservation::Reserved, now, Some(reason.to_owned()));
            }
        }
        DueTransition::Archive(key) => {
            if let Some(record) = inventory.archives.get_mut(key) {
                (record.since, record.error) = (now, Some(reason.to_owned()));
            }
        }
        DueTransition::CloudEndpoint(key) => {
            if let Some(own) = inventory.cloud_endpoints.get_mut(key) {
                (own.state, own.since, own.error) = (ServiceState::Failed, now, Some(reason.to_owned()));
            }
        }
        DueTransition::Strings(key) => {
            if let Some(record) = inventory.named_strings.get_mut(key) {
                record.error = Some(format!("The connection strings can't be published: {reason}."));
                (record.status, record.updated) = (StringsStatus::Failed, now);
            }
        }
        // The plan does not depend on these, so they can't be refused.
        DueTransition::Update(..) | DueTransition::User(..) => {}
    }
}

fn service(inventory: &mut Inventory, id: &VpceServiceId, now: Timestamp) {
    let Some(record) = inventory.project_service_mut(id) else { return };
    match record.state {
        ServiceState::Initiating | ServiceState::Updating => {
            (record.state, record.since) = (ServiceState::Available, now);
        }
        ServiceState::Deleting => {
            inventory.services.remove(id);
            inventory.cloud_services.remove(id);
            inventory.registrations.retain(|key, _| key.0 != *id);
            inventory.cloud_endpoints.retain(|key, _| key.0 != *id);
            reject_all(inventory, id, now);
        }
        ServiceState::Available | ServiceState::Failed => {}
    }
}

/// Rejects the endpoints of a removed service; those that are being deleted continue to be.
fn reject_all(inventory: &mut Inventory, service: &VpceServiceId, now: Timestamp) {
    let is_rejected = |record: &&mut EndpointRecord| {
        record.endpoint.service.service() == service && record.endpoint.state != EndpointState::Deleting
    };
    for record in inventory.endpoints.values_mut().filter(is_rejected) {
        record.endpoint.state = EndpointState::Rejected;
        record.accepted = false;
        (record.since, record.error) = (now, Some(format!("the endpoint service {service} was deleted")));
    }
}

fn endpoint(inventory: &mut Inventory, id: &VpceId, now: Timestamp) {
    let Some(record) = inventory.endpoints.get_mut(id) else { return };
    let key = Pair(record.endpoint.service.service().clone(), id.clone());
    match record.endpoint.state {
        EndpointState::PendingAcceptance if record.endpoint.addresses.is_empty() => {
            record.endpoint.state = EndpointState::Failed;
            (record.since, record.error) = (now, Some(no_dns_entries(id)));
        }
        EndpointState::PendingAcceptance => {
            record.endpoint.state = EndpointState::Pending;
            (record.since, record.accepted) = (now, true);
            inventory.update_clusters(&key.0, now);
        }
        EndpointState::Pending => {
            record.endpoint.state = EndpointState::Available;
            (record.since, record.error) = (now, None);
        }
        EndpointState::Deleting => {
            // An app that uses it keeps it, and stays restricted.
            if inventory.app_endpoints().any(|named| named == id) {
                if let Some(record) = inventory.endpoints.get_mut(id) {
                    (record.endpoint.state, record.since) = (EndpointState::Deleted, now);
                }
            } else {
                inventory.endpoints.remove(id);
            }
            if let Some(registration) = inventory.registrations.get_mut(&key) {
                registration.since = now;
                registration.error.get_or_insert(format!("The interface endpoint {id} was deleted in AWS."));
            }
        }
        _ => {}
    }
}

fn registration(inventory: &mut Inventory, key: &Pair<VpceServiceId, VpceId>, now: Timestamp) {
    let Pair(service, endpoint) = key;
    let Some(record) = inventory.registrations.get_mut(key) else { return };
    if !record.deleting {
        record.since = now;
        record.error = Some(format!(
            "Interface endpoint {endpoint} was not found: no interface endpoint with this id leads to the endpoint \
             service. Click \"Edit\" to fix the problem."
        ));
        return;
    }
    inventory.registrations.remove(key);
    if let Some(record) = inventory.endpoints.get_mut(endpoint)
        && record.endpoint.state != EndpointState::Deleting
    {
        record.endpoint.state = EndpointState::Rejected;
        (record.since, record.accepted) = (now, false);
    }
    delete_unused_service(inventory, service, now);
}

/// Atlas: deleting the last endpoint of a service removes the service too.
fn delete_unused_service(inventory: &mut Inventory, service: &VpceServiceId, now: Timestamp) {
    let is_used = inventory.registrations.keys().any(|key| key.0 == *service)
        || inventory.cloud_endpoints_of(service).next().is_some();
    if let (false, Some(record)) = (is_used, inventory.project_service_mut(service)) {
        (record.state, record.since) = (ServiceState::Deleting, now);
    }
}

fn cloud_endpoint(inventory: &mut Inventory, key: &CloudEndpointKey, now: Timestamp) {
    let error = inventory.why_not_found(key);
    let Some(own) = inventory.cloud_endpoints.get_mut(key) else { return };
    if own.state == ServiceState::Deleting {
        inventory.cloud_endpoints.remove(key);
        delete_unused_service(inventory, &key.0, now);
    } else {
        own.state = if error.is_some() { ServiceState::Failed } else { ServiceState::Available };
        (own.since, own.error) = (now, error);
    }
}

fn cluster(inventory: &mut Inventory, key: &Pair<ProjectId, ClusterName>, now: Timestamp) {
    let Some(record) = inventory.clusters.get_mut(key) else { return };
    if record.state == ClusterState::Deleting {
        inventory.clusters.remove(key);
        inventory.forget_cluster(key);
    } else {
        (record.state, record.since) = (ClusterState::Idle, now);
    }
}

fn strings(inventory: &mut Inventory, key: &Pair<ProjectId, String>, now: Timestamp) {
    let error = inventory.named_strings.get(key).and_then(|record| inventory.why_unpublished(&key.0, record));
    let Some(record) = inventory.named_strings.get_mut(key) else { return };
    record.updated = now;
    if error.is_none() {
        (record.status, record.published) = (StringsStatus::Available, Some(record.endpoints.clone()));
    } else {
        record.status = StringsStatus::Failed;
    }
    record.error = error;
}

fn serverless(inventory: &mut Inventory, key: &Pair<ProjectId, ClusterName>, now: Timestamp) {
    let Some(record) = inventory.serverless.get_mut(key) else { return };
    if record.state == ClusterState::Deleting {
        inventory.serverless.remove(key);
    } else {
        (record.state, record.since) = (ClusterState::Idle, now);
    }
}

fn reservation(inventory: &mut Inventory, key: &Pair<ProjectId, ClusterName>, now: Timestamp) {
    let Some(record) = inventory.serverless.get_mut(key) else { return };
    let Some(own) = record.endpoint.as_mut() else { return };
    match own.state {
        Reservation::ReservationRequested => (own.state, own.since) = (Reservation::Reserved, now),
        Reservation::Reserved => {
            let id = own.claimed.as_ref().map(ToString::to_string).unwrap_or_default();
            own.error = Some(format!("Interface endpoint {id} was not found."));
            own.since = now;
        }
        Reservation::Deleting => {
            let service = own.service.id.clone();
            record.endpoint = None;
            reject_all(inventory, &service, now);
        }
    }
}

fn archive(inventory: &mut Inventory, key: &Pair<ProjectId, VpceId>, now: Timestamp) {
    let Some(record) = inventory.archives.get_mut(key) else { return };
    if record.deleting {
        inventory.archives.remove(key);
    } else {
        record.since = now;
        record.error = Some(format!("Interface endpoint {} was not found.", key.1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// Terraform deletes the last endpoint of a service and the service at the same time.
    #[test]
    fn the_deletion_of_an_endpoint_continues_when_its_service_is_deleted_first() {
        let mut inventory = Inventory::from_config(&config::quickstart().desired);
        let (id, service) = inventory
            .endpoints
            .iter()
            .map(|(id, record)| (id.clone(), record.endpoint.service.service().clone()))
            .find(|(_, service)| inventory.services.contains_key(service))
            .expect("an endpoint of a project's service");
        let now = Timestamp::now();
        let record = inventory.endpoints.get_mut(&id).expect("it is there");
        (record.endpoint.state, record.since) = (EndpointState::Deleting, now);
        inventory.services.get_mut(&service).expect("it is there").state = ServiceState::Deleting;
        execute(&mut inventory, &DueTransition::Service(service), now);
        assert_eq!(inventory.endpoints[&id].endpoint.state, EndpointState::Deleting);
        execute(&mut inventory, &DueTransition::Endpoint(id.clone()), now);
        assert!(!inventory.endpoints.contains_key(&id));
    }
}
