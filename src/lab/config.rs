//! The config of the lab's gateway: the user's, with the lab's addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use toml::{Table, Value};

use super::backends::Backend;
use super::topology::{self, Topology};
use super::{LabError, admin};
use crate::config::DEFAULT_ADMIN;
use crate::model::{Desired, DnsName};

/// A comment at the top of the file.
const HEAD: &str = "\
# The config of the gateway in this lab, made by `plgw lab up`. Edit it and the gateway reads it again at once; endpoints'
# addresses, nodes' addresses and networks are the lab's and stay as they are. It goes with the lab.

";

/// The port that tools with built-in host names use.
const HTTPS: u16 = 443;

/// Offset of addresses that replace loopback addresses of backends in the service's VPC.
const ALIASES: u32 = 100;

/// Replaces loopback addresses of nodes and apps in `text`, which parses as `desired`, by addresses of the service's
/// VPC, as no link leads to loopback. Also returns each backend's new and real address.
pub(super) fn with_lab_addresses(
    text: &str,
    file: &str,
    desired: &Desired,
) -> Result<(String, Vec<Backend>), LabError> {
    let unsuited = |reason: String| LabError::Unsuited { file: file.to_owned(), reason };
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| unsuited(error.to_string()))?;
    let all = topology::backends(desired).map_err(unsuited)?;
    let free =
        first_service_net(desired).into_iter().flat_map(|base| (ALIASES..).map(move |n| Ipv4Addr::from(base + n)));
    let free = free.filter(|ip| !all.contains(ip));
    // One address for each: nodes of one machine may be in several zones, of which one can be cut.
    let mut real = BTreeSet::new();
    for_each_backend(&mut table, |value| real.extend(named(value).filter(|address| address.ip().is_loopback())));
    let aliases: BTreeMap<SocketAddrV4, Ipv4Addr> = real.into_iter().zip(free).collect();
    let mut backends = Vec::new();
    for_each_backend(&mut table, |value| {
        if let Some((text, backend)) = moved(value, &aliases) {
            *value = text;
            if !backends.contains(&backend) {
                backends.push(backend);
            }
        }
    });
    // Usually there is no such backend, and the text is unchanged.
    Ok((if aliases.is_empty() { text.to_owned() } else { table.to_string() }, backends))
}

fn first_service_net(desired: &Desired) -> Option<u32> {
    let mut services = desired.projects.iter().flat_map(|project| &project.services);
    services.next()?.cidrs.iter().find_map(|net| match net {
        IpNet::V4(net) => Some(net.network().into()),
        IpNet::V6(_) => None,
    })
}

/// An address, or a URL with one, replaced according to `aliases`, and the backend. `None` for names.
fn moved(text: &str, aliases: &BTreeMap<SocketAddrV4, Ipv4Addr>) -> Option<(String, Backend)> {
    let real = named(text)?;
    let at = SocketAddrV4::new(*aliases.get(&real).unwrap_or(real.ip()), real.port());
    Some((text.replacen(&real.ip().to_string(), &at.ip().to_string(), 1), Backend { at, real }))
}

/// The address in a node's or an app's value.
fn named(text: &str) -> Option<SocketAddrV4> {
    let found = if text.contains("://") { topology::backend_address(text) } else { text.parse().ok() };
    match found? {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    }
}

/// Calls `each` for every address of a node, a BI Connector or an app's backend.
fn for_each_backend(table: &mut Table, mut each: impl FnMut(&mut String)) {
    let mut nodes = |owner: &mut Table, keys: &[&str], address: &str| {
        for key in keys {
            for node in tables(owner, key) {
                if let Some(Value::String(text)) = node.get_mut(address) {
                    each(text);
                }
            }
        }
    };
    for project in tables(table, "project") {
        for cluster in tables(project, "cluster") {
            nodes(cluster, &["node", "bi_connector"], "address");
        }
    }
    nodes(table, &["app"], "backend");
}

/// The tables of an array of tables; none if there is no such array.
fn tables<'t>(table: &'t mut Table, key: &str) -> impl Iterator<Item = &'t mut Table> {
    let array = table.get_mut(key).and_then(Value::as_array_mut);
    array.into_iter().flatten().filter_map(Value::as_table_mut)
}

/// Completes the valid config `text` with the lab's settings: the addresses of DNS and the admin API, additional
/// `names` of the latter, and directories for state and certificates unless the file has them. Relative paths in it are
/// relative to `base`.
pub(super) fn effective(
    text: &str,
    file: &str,
    topology: &Topology,
    names: &BTreeSet<DnsName>,
    dir: &Path,
    base: &Path,
) -> Result<String, LabError> {
    let unsuited = |reason: String| LabError::Unsuited { file: file.to_owned(), reason };
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| unsuited(error.to_string()))?;
    let kept = match table.get("lab_dir").and_then(Value::as_str) {
        Some(path) => base.join(path),
        None => dir.to_owned(),
    };
    table.insert("lab_dir".to_owned(), Value::String(text_of(&kept)?));
    if let Some(state) = table.get_mut("state").and_then(Value::as_table_mut)
        && let Some(path) = state.get("path").and_then(Value::as_str)
    {
        let path = text_of(&base.join(path))?;
        state.insert("path".to_owned(), Value::String(path));
    }
    let listen = topology.dns_listen().into_iter().map(|address| Value::String(address.to_string())).collect();
    let dns = table.entry("dns").or_insert_with(|| Value::Table(Table::new()));
    if let Some(dns) = dns.as_table_mut() {
        dns.insert("listen".to_owned(), Value::Array(listen));
    }
    let api = table.entry("admin").or_insert_with(|| Value::Table(Table::new()));
    if let Some(api) = api.as_table_mut() {
        for file in ["certificate", "key"] {
            if let Some(path) = api.get(file).and_then(Value::as_str) {
                let path = text_of(&base.join(path))?;
                api.insert(file.to_owned(), Value::String(path));
            }
        }
        let own = api.get("names").and_then(Value::as_array).cloned().unwrap_or_default();
        let own = own.iter().filter_map(Value::as_str).map(str::to_owned);
        let names: BTreeSet<String> = own.chain(names.iter().map(ToString::to_string)).collect();
        let asked: Option<SocketAddr> = api.get("listen").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let port = if names.is_empty() {
            // A direct link, which no one else can read.
            if !api.contains_key("certificate") {
                api.entry("tls").or_insert_with(|| Value::String("off".to_owned()));
            }
            asked.unwrap_or(DEFAULT_ADMIN).port()
        } else {
            api.remove("tls");
            api.insert("names".to_owned(), Value::Array(names.into_iter().map(Value::String).collect()));
            HTTPS
        };
        api.insert("listen".to_owned(), Value::String(format!("{}:{port}", admin::ADDRESS)));
    }
    Ok(format!("{HEAD}{table}"))
}

fn text_of(path: &Path) -> Result<String, LabError> {
    path.to_str().map(str::to_owned).ok_or_else(|| LabError::File {
        what: "write into a config the path",
        path: PathBuf::from(path),
        source: std::io::Error::other("it is not UTF-8"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, StateLocation, parse};
    use crate::lab::{DEFAULT_CONFIG, topology};

    fn in_lab(text: &str) -> Config {
        let asked = parse(text, "asked.toml").expect("a good config");
        let topology = topology::topology(&asked.desired, "asked.toml").expect("a lab");
        let made =
            effective(text, "asked.toml", &topology, &BTreeSet::new(), Path::new("/run/x"), Path::new("/home/me"));
        let made = made.expect("a config");
        // Off loopback the admin API requires credentials in the environment, which a test does not have.
        assert!(made.contains("listen = \"169.254.0.2:8474\""), "{made}");
        parse(&made.replace("169.254.0.2", "127.0.0.1"), "made.toml").expect("what is made is good")
    }

    #[test]
    fn dns_answers_on_the_vpcs_base_plus_two_and_in_every_other_network() {
        let listen: Vec<String> =
            in_lab(DEFAULT_CONFIG).settings.dns.expect("DNS").listen.iter().map(ToString::to_string).collect();
        for address in ["10.0.0.2:53", "10.3.0.2:53", "10.2.0.2:53", "198.51.100.2:53", "192.0.2.2:53"] {
            assert!(listen.iter().any(|listen| listen == address), "{address} in {listen:?}");
        }
    }

    #[test]
    fn nodes_on_loopback_get_addresses_of_the_services_vpc_and_are_still_found() {
        let text = DEFAULT_CONFIG.replace("\"10.1.0.11:27017\"", "\"127.0.0.1:27017\"");
        let text = text.replace("\"10.1.0.12:27017\"", "\"127.0.0.1:27018\"");
        let text = text.replace("http://10.1.0.31:9080", "http://127.0.0.2:9080");
        let (moved, backends) =
            with_lab_addresses(&text, "x.toml", &parse(&text, "x.toml").expect("good").desired).expect("good");
        let desired = parse(&moved, "moved.toml").expect("good").desired;
        let nodes: Vec<String> =
            desired.projects[0].clusters[0].nodes.iter().map(|node| node.address.to_string()).collect();
        assert_eq!(nodes, ["10.1.0.100:27017", "10.1.0.101:27018", "10.1.0.13:27017"]);
        assert_eq!(desired.apps[0].backend, "http://10.1.0.102:9080");
        let real = |at: &str| backends.iter().find(|backend| backend.at.to_string() == at).map(|b| b.real.to_string());
        assert_eq!(real("10.1.0.101:27018").as_deref(), Some("127.0.0.1:27018"));
        assert_eq!(real("10.1.0.102:9080").as_deref(), Some("127.0.0.2:9080"));
        assert_eq!(real("10.1.0.13:27017").as_deref(), Some("10.1.0.13:27017"));
    }

    #[test]
    fn the_inventory_keeps_the_requested_values() {
        assert_eq!(in_lab(DEFAULT_CONFIG).desired, parse(DEFAULT_CONFIG, "lab.toml").expect("good").desired);
    }

    #[test]
    fn state_is_in_the_labs_directory_unless_the_file_sets_it() {
        let state = |text: &str| in_lab(text).settings.state;
        assert_eq!(state(DEFAULT_CONFIG), StateLocation::File("/run/x/state.json".into()));
        let told = format!("{DEFAULT_CONFIG}\n[state]\npath = \"mine.state\"\n");
        assert_eq!(state(&told), StateLocation::File("/home/me/mine.state".into()));
    }
}
