//! The config that the lab's gateway runs with: the one that was asked for, at the lab's addresses.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::LabError;
use super::topology::Topology;

/// Says what the file is, at its top.
const HEAD: &str = "\
# The config of the gateway in this lab, made by `plgw lab up`. Edit it and the gateway reads it again at once; endpoints'
# addresses, nodes' addresses and networks are the lab's and stay as they are. It goes with the lab.

";

/// `text`, which is a good config, with what is the lab's to say: where DNS listens, and where state and certificates
/// lie unless the file says so itself. `base` is what relative paths in it are relative to.
pub(super) fn effective(
    text: &str,
    file: &str,
    topology: &Topology,
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
            effective(text, "asked.toml", &topology, Path::new("/run/x"), Path::new("/home/me")).expect("a config");
        parse(&made, "made.toml").expect("what is made is good")
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
    fn the_inventory_stays_as_it_was_asked_for() {
        assert_eq!(in_lab(DEFAULT_CONFIG).desired, parse(DEFAULT_CONFIG, "lab.toml").expect("good").desired);
    }

    #[test]
    fn state_lies_in_the_labs_directory_unless_the_file_says_where() {
        let state = |text: &str| in_lab(text).settings.state;
        assert_eq!(state(DEFAULT_CONFIG), StateLocation::File("/run/x/state.redb".into()));
        let told = format!("{DEFAULT_CONFIG}\n[state]\npath = \"mine.state\"\n");
        assert_eq!(state(&told), StateLocation::File("/home/me/mine.state".into()));
    }
}
