//! A30: what is saved of Azure's and Google Cloud's private endpoints.

use super::*;
use crate::config::{self, CLOUDS};
use crate::control::inventory::{Inventory, RESOURCES};

const SERVICE: &str = "65f0000000000000000000b1";

fn inventory(text: &str) -> Inventory {
    Inventory::from_config(&config::parse(text, "clouds.toml").expect("a good config").desired)
}

fn key(name: &str) -> CloudEndpointKey {
    CloudEndpointKey(SERVICE.parse().expect("an id"), name.to_owned())
}

#[test]
fn a_key_is_saved_without_empty_segments_and_read_again() {
    for name in ["rule", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/pe0"] {
        let saved = key(name).to_string();
        assert!(saved.split('/').all(|segment| !segment.is_empty()), "{saved}");
        assert_eq!(saved.parse(), Ok(key(name)));
    }
    assert!("rule".parse::<CloudEndpointKey>().is_err() && "65f/rule".parse::<CloudEndpointKey>().is_err());
}

/// The same rule as on AWS: objects of the API are kept besides the config's current ones.
#[test]
fn an_endpoint_that_the_api_added_leaves_its_service_and_its_siblings_to_the_config() {
    let base = inventory(CLOUDS);
    let mut changed = base.clone();
    let ip = "127.5.0.9".parse().expect("an address");
    let added =
        CloudEndpoint { state: ServiceState::Available, ..CloudEndpoint::new(ip, Some("lab-project".to_owned())) };
    changed.cloud_endpoints.insert(key("added"), added.clone());
    let resources = changed.resources(&base);
    assert_eq!(resources.keys().collect::<Vec<_>>(), [&format!("{RESOURCES}cloud-endpoint/{SERVICE}/added")]);

    let edited = CLOUDS
        .replace("ip = \"127.5.0.4\"", "ip = \"127.5.0.7\"")
        .replace("id = \"65f0000000000000000000b1\"\n", "id = \"65f0000000000000000000b1\"\nports = \"2000-3000\"\n");
    let now = inventory(&edited).with(&resources).expect("it can be read");
    let service = &now.cloud_services[&SERVICE.parse().expect("an id")].service;
    assert_eq!(service.ports.to_string(), "2000-3000");
    assert_eq!(now.cloud_endpoints[&key("atlas")].ip.to_string(), "127.5.0.7");
    assert_eq!(now.cloud_endpoints[&key("added")], added);
    assert_eq!(now.desired().endpoints.len(), 3);

    let without = CLOUDS.split("[[private_endpoint]]").next().expect("what is before them");
    let names: Vec<_> =
        inventory(without).with(&resources).expect("it can be read").cloud_endpoints.into_keys().collect();
    assert_eq!(names, [key("added")]);
}
