//! Converts tables to settings and inventory: first single values, then checks across them.

mod apps;
mod clouds;
mod cluster;
mod consumer;
mod declared;
mod endpoint;
mod faults;
mod networks;
mod provider;
mod settings;
mod zones;

use std::collections::HashSet;

use super::Config;
use super::raw::{Located, Section};
use crate::model::{CidrSet, Desired};

use declared::Declared;

/// Reads the whole file. If mistakes were reported, the result is incomplete and must not be used.
pub(super) fn check(root: &Section<'_>) -> Config {
    let declared = &mut Declared::default();
    // Tables are read before those that refer to them.
    let settings = settings::read(root, declared);
    let vpcs = root.tables("vpc", |vpc| consumer::vpc(vpc, declared));
    let networks = root.tables("network", |network| clouds::cloud_network(network, declared));
    let networks = networks.into_iter().flatten().map(|network| (network.id.clone(), network)).collect();
    let projects = root.tables("project", |project| provider::project(project, declared));
    let app_services = root.tables("app_service", |service| apps::service(service, declared));
    let endpoints = root.tables("interface_endpoint", |found| endpoint::interface_endpoint(found, declared));
    let in_clouds = root.tables("private_endpoint", |found| clouds::private_endpoint(found, &networks, declared));
    let apps = root.tables("app", |app| apps::app(app, &settings, declared));
    let zones = root.tables("private_hosted_zone", |zone| zones::private_zone(zone, declared));
    let mut names = HashSet::new();
    let faults = root.tables("fault", |found| faults::fault(found, &mut names));
    declared.report_clashes(root.problems);

    let mut desired = Desired {
        vpcs: vpcs.into_iter().flatten().map(|vpc| (vpc.id.clone(), vpc)).chain(networks).collect(),
        endpoints: endpoints
            .into_iter()
            .chain(in_clouds)
            .flatten()
            .map(|endpoint| (endpoint.id.clone(), endpoint))
            .collect(),
        projects: projects.into_iter().flatten().collect(),
        apps: apps.into_iter().flatten().collect(),
        app_services: app_services.into_iter().flatten().collect(),
        private_zones: zones.into_iter().flatten().collect(),
        ..Desired::default()
    };
    desired.faults = faults::by_name(faults.into_iter().flatten().collect(), &desired, root.problems);
    let positions = root.problems.positions(std::mem::take(&mut declared.positions));
    Config { settings, desired, notices: root.problems.take_notices(), positions }
}

/// The networks of an array without their locations.
fn cidr_set(networks: &[Located<ipnet::IpNet>]) -> CidrSet {
    networks.iter().map(|network| network.value).collect()
}

/// The values of an array without their locations.
fn values<T>(found: Vec<Located<T>>) -> Vec<T> {
    found.into_iter().map(|found| found.value).collect()
}
