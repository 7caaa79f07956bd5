//! `plgw init`: a config to start from.

use std::fmt::Display;
use std::io::{self, BufRead, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;

use clap::ValueEnum;
use ipnet::Ipv4Net;

use super::table::print;
use super::{Failure, FailureKind};
use crate::config;
use crate::control::draft::{random, random_hex};
use crate::model::{Cloud, ClusterName, NodeAddress, Region};
use crate::plan::{Generation, PortAllocations, compile};

/// Name of the config in errors.
const NAME: &str = "the new config";

/// Maximum number of nodes and zones that fit in the smallest networks.
const MAX_NODES: u8 = 50;
const MAX_ZONES: u8 = 6;

/// The longest network prefix in which everything fits.
const MAX_PREFIX: u8 = 24;

/// The smallest subnet on AWS: *Subnet CIDR blocks*, VPC user guide.
const MAX_SUBNET: u8 = 28;

/// The host number of an endpoint's address in its subnet, and of the node before the first in the service's network.
/// AWS reserves the first four addresses of a subnet.
const FIRST_HOST: u32 = 10;

/// Print a config to start from
///
/// One VPC with a subnet per zone, a replica set, and the private endpoint between them, with fresh ids and a comment for
/// each part; with `--provider`, a network of Azure or Google Cloud instead of the VPC. It passes `plgw check`. Without
/// options, on a terminal, it asks for each.
///
/// On loopback networks, as by default, `plgw quickstart --config FILE` runs it with stand-ins. For your own servers
/// name each with `--node`, give the VPC addresses that this machine has, and run `plgw serve --config FILE`.
#[derive(Debug, Default, PartialEq, clap::Args)]
#[command(after_help = "\
Examples:
  plgw init > gateway.toml
  plgw init --nodes 5 --zones 3 > gateway.toml
  plgw init --provider azure --region eastus2 > gateway.toml
  plgw init --cidr 10.0.0.0/16 --node 10.1.0.11:27017 --node 10.1.0.12:27017 --service-cidr 10.1.0.0/24
  plgw init | plgw check -")]
pub(super) struct Args {
    /// The number of nodes of the replica set, 1 to 50, at addresses of the service's network [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_NODES)))]
    nodes: Option<u8>,
    /// A node's own address, or its host name; may be given again for the next
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "nodes")]
    node: Vec<NodeAddress>,
    /// The number of availability zones of nodes and endpoint, 1 to 6 [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_ZONES)))]
    zones: Option<u8>,
    /// The cloud provider [default: aws]
    #[arg(long, value_enum)]
    provider: Option<Provider>,
    /// The region, in the provider's spelling or in Atlas' [default: us-east-1, eastus2, us-central1]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// The VPC's network, of clients and endpoint addresses [default: 127.0.0.0/16]
    #[arg(long, value_name = "CIDR", value_parser = network)]
    cidr: Option<Ipv4Net>,
    /// The provider's network: connections from there are refused [default: 127.1.0.0/16]
    #[arg(long, value_name = "CIDR", value_parser = network)]
    service_cidr: Option<Ipv4Net>,
    /// The cluster's name [default: Cluster0]
    #[arg(long, value_name = "NAME")]
    cluster: Option<ClusterName>,
}

/// The provider of clients and cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Provider {
    /// AWS PrivateLink
    Aws,
    /// Azure Private Link
    Azure,
    /// Google Cloud Private Service Connect
    Gcp,
}

impl Provider {
    fn cloud(self) -> Option<Cloud> {
        match self {
            Self::Aws => None,
            Self::Azure => Some(Cloud::Azure),
            Self::Gcp => Some(Cloud::Gcp),
        }
    }

    fn default_region(self) -> &'static str {
        match self {
            Self::Aws => "us-east-1",
            Self::Azure => "eastus2",
            Self::Gcp => "us-central1",
        }
    }

    /// Parses a region in this provider's or Atlas' notation.
    fn region(self, text: &str) -> Result<Region, String> {
        Region::of(self.cloud(), text).map_err(|error| match text.parse::<Region>() {
            Ok(other) => {
                let own = other.provider();
                format!("`{text}` is a region of {own}; add `--provider {}`", own.to_lowercase())
            }
            Err(_) => error.to_string(),
        })
    }
}

/// The contents of the new config.
#[derive(Debug)]
struct InitOptions {
    nodes: Vec<NodeAddress>,
    zones: u8,
    region: Region,
    cidr: Ipv4Net,
    service_cidr: Ipv4Net,
    cluster: ClusterName,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let wanted = args.wanted()?;
    let text = wanted.text();
    let config = config::parse(&text, NAME).map_err(|errors| refusal(&errors.problems))?;
    let planned = compile(&config.desired, &PortAllocations::default(), Generation(1));
    planned.map_err(|errors| refusal(errors.as_slice()))?;
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The mistakes of the requested config. Without lines, as none was printed.
fn refusal(problems: &[impl Display]) -> Failure {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Failure::new(FailureKind::Config, format!("no config is printed: {}", problems.join("; ")))
}

impl Args {
    /// The options' values, answers from the terminal, or defaults.
    fn wanted(self) -> Result<InitOptions, Failure> {
        let asks = self == Self::default() && io::stdin().is_terminal() && io::stderr().is_terminal();
        let cluster = answer(asks, self.cluster, "The cluster's name", "Cluster0", parsed)?;
        let named = |text: &str| {
            Provider::from_str(text, true).map_err(|_| format!("`{text}` is none of `aws`, `azure`, `gcp`"))
        };
        let provider = answer(asks, self.provider, "Cloud provider", "aws", named)?;
        let region = self.region.map(|text| provider.region(&text)).transpose();
        let region =
            region.map_err(|reason| Failure::new(FailureKind::Failed, format!("no config is printed: {reason}")))?;
        let region = answer(asks, region, "Region", provider.default_region(), |text| provider.region(text))?;
        let nodes = answer(asks, self.nodes, "Nodes", "3", |text| number(text, MAX_NODES))?;
        let zones = answer(asks, self.zones, "Availability zones", "2", |text| number(text, MAX_ZONES))?;
        let most = region.zones().count();
        if provider != Provider::Aws && usize::from(zones) > most {
            let reason =
                format!("no config is printed: {region} has {most} availability zones, and `--zones` is {zones}");
            return Err(Failure::new(FailureKind::Failed, reason));
        }
        let cidr = answer(asks, self.cidr, "The VPC's network", "127.0.0.0/16", network)?;
        let service_cidr = answer(asks, self.service_cidr, "The provider's network", "127.1.0.0/16", network)?;
        let own =
            || (1..=u32::from(nodes)).map(|n| SocketAddr::from((host(service_cidr, FIRST_HOST + n), 27017)).into());
        let nodes = if self.node.is_empty() { own().collect() } else { self.node };
        Ok(InitOptions { nodes, zones, region, cidr, service_cidr, cluster })
    }
}

/// An option's value; otherwise the answer to a question on standard error if `asks`; otherwise the default.
fn answer<T>(
    asks: bool,
    given: Option<T>,
    question: &str,
    default: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Failure> {
    if let Some(given) = given {
        return Ok(given);
    }
    if !asks {
        return Ok(read(default).expect("a default can be read"));
    }
    loop {
        eprint!("{question} [{default}]: ");
        io::stderr().flush()?;
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line)? == 0 {
            return Err(Failure::new(FailureKind::Failed, "no config is printed: the questions were not answered"));
        }
        match read(if line.trim().is_empty() { default } else { line.trim() }) {
            Ok(value) => return Ok(value),
            Err(reason) => eprintln!("  {reason}"),
        }
    }
}

fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn number(text: &str, most: u8) -> Result<u8, String> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("expected a number from 1 to {most}"))
}

/// Parses an IPv4 network that is large enough for every part.
fn network(text: &str) -> Result<Ipv4Net, String> {
    let net: Ipv4Net = text.parse().map_err(|_| format!("`{text}` is no IPv4 network; write one as 10.0.0.0/16"))?;
    if net.prefix_len() > MAX_PREFIX {
        return Err(format!("`{text}` is too small; write a network of /{MAX_PREFIX} or more"));
    }
    Ok(net.trunc())
}

/// The address of `net` with this host number.
fn host(net: Ipv4Net, number: u32) -> Ipv4Addr {
    (u32::from(net.network()) + number).into()
}

impl InitOptions {
    /// The zone of the node or subnet with this index.
    fn zone(&self, index: usize) -> String {
        let index = index % usize::from(self.zones);
        if self.region.cloud().is_some() {
            return self.region.zones().nth(index).expect("it has as many zones").to_string();
        }
        let letter = b'a' + u8::try_from(index).expect("there are few zones");
        format!("{}{}", self.region, char::from(letter))
    }

    /// The subnet of a zone: a /24, or a sixteenth of a network too small for those.
    fn subnet(&self, index: usize) -> Ipv4Net {
        let prefix = (self.cidr.prefix_len() + 4).clamp(MAX_PREFIX, MAX_SUBNET);
        let number = u32::try_from(index + 1).expect("there are few zones");
        Ipv4Net::new_assert(host(self.cidr, number << (32 - prefix)), prefix)
    }

    fn text(&self) -> String {
        let Self { region, service_cidr, cluster, .. } = self;
        let service = if region.cloud().is_some() { random_hex(24) } else { id("vpce-svc") };
        let (network, endpoint) =
            if region.cloud().is_some() { self.cloud_network(&service) } else { self.vpc(&service) };
        let node = |(index, address): (usize, &NodeAddress)| {
            let (zone, key) = (self.zone(index), if address.host().is_some() { "host" } else { "address" });
            format!("    {{ name = \"shard-00-{index:02}\", zone = \"{zone}\", {key} = \"{address}\" }},\n")
        };
        let nodes: String = self.nodes.iter().enumerate().map(node).collect();
        format!(
            "\
# A config of `plgw init`. `plgw check FILE` says what is wrong with it, `plgw plan --config FILE` what would run. Every
# other key, with its default, stands in config/gateway.toml.
#
# The ids are in the form of the provider's and Atlas'; any others of the form do as well.

{network}\
[[project]]
id = \"{project}\"
name = \"Project0\"

# Where the servers really listen. Clients learn the endpoint's names and ports instead.
[[project.cluster]]
name = \"{cluster}\"
label = \"{label}\"
type = \"replica-set\"
node = [
{nodes}]

# The provider's side. Nothing in `cidrs` can open a connection through the gateway: connectivity is one-way.
[[project.endpoint_service]]
id = \"{service}\"
region = \"{region}\"
cidrs = [\"{service_cidr}\"]

{endpoint}",
            project = random_hex(24),
            label = letters(5),
        )
    }

    /// The consumer's VPC, and its interface endpoint to `service`.
    fn vpc(&self, service: &str) -> (String, String) {
        let Self { region, cidr, .. } = self;
        let (vpc, group, endpoint) = (id("vpc"), id("sg"), id("vpce"));
        let (mut subnets, mut addresses) = (String::new(), String::new());
        for index in 0..usize::from(self.zones) {
            let (subnet, net, zone) = (id("subnet"), self.subnet(index), self.zone(index));
            subnets += &format!("[[vpc.subnet]]\nid = \"{subnet}\"\nzone = \"{zone}\"\ncidr = \"{net}\"\n\n");
            addresses += &format!("    {{ subnet = \"{subnet}\", ip = \"{}\" }},\n", host(net, FIRST_HOST));
        }
        let network = format!(
            "\
# The VPC of the clients: connections from its networks are let in. `peered` and `on_premises` join other networks to it.
[[vpc]]
id = \"{vpc}\"
region = \"{region}\"
cidrs = [\"{cidr}\"]
enable_dns_hostnames = true

# A subnet in each zone, with an address of the endpoint in each (below).
{subnets}\
# Atlas gives every mongod a port of its own from 1024 on, and may change them: open the whole range.
[[vpc.security_group]]
id = \"{group}\"
name = \"default\"
ingress = [{{ ports = \"1024-65535\", cidrs = [\"{cidr}\"] }}]

"
        );
        let endpoint = format!(
            "\
# The endpoint: the gateway listens at each of its addresses, on a port per node, so this machine must have them.
[[interface_endpoint]]
id = \"{endpoint}\"
vpc = \"{vpc}\"
service = \"com.amazonaws.vpce.{region}.{service}\"
dns_suffix = \"{suffix}\"
security_groups = [\"{group}\"]
address = [
{addresses}]
",
            suffix = letters(8),
        );
        (network, endpoint)
    }

    /// The consumer's network in Azure or Google Cloud, and its private endpoint to `service`.
    fn cloud_network(&self, service: &str) -> (String, String) {
        let Self { region, cidr, .. } = self;
        let (network, subnet, endpoint) = if region.cloud() == Some(Cloud::Azure) {
            let subscription =
                format!("{}-{}-4{}-8{}-{}", random_hex(8), random_hex(4), random_hex(3), random_hex(3), random_hex(12));
            let of = format!("/subscriptions/{subscription}/resourceGroups/lab/providers/Microsoft.Network");
            let network = format!("{of}/virtualNetworks/app");
            (network.clone(), format!("{network}/subnets/default"), format!("{of}/privateEndpoints/atlas"))
        } else {
            let project = format!("projects/lab-{}", letters(6));
            let of = format!("{project}/regions/{region}");
            (
                format!("{project}/global/networks/app"),
                format!("{of}/subnetworks/app"),
                format!("{of}/forwardingRules/atlas"),
            )
        };
        let net = self.subnet(0);
        let text = format!(
            "\
# The network of the clients: connections from its ranges are let in. `peered` and `on_premises` join other networks to it.
[[network]]
id = \"{network}\"
region = \"{region}\"
cidrs = [\"{cidr}\"]

# Subnets of this cloud have no zone.
[[network.subnet]]
id = \"{subnet}\"
cidr = \"{net}\"

"
        );
        let endpoint = format!(
            "\
# The endpoint: the gateway listens at its address, on a port per node, so this machine must have it.
[[private_endpoint]]
id = \"{endpoint}\"
network = \"{network}\"
service = \"{service}\"
ip = \"{}\"
",
            host(net, FIRST_HOST)
        );
        (text, endpoint)
    }
}

/// A new id in AWS' format.
fn id(prefix: &str) -> String {
    format!("{prefix}-{}", random_hex(17))
}

fn letters(length: usize) -> String {
    random(length, b"abcdefghijklmnopqrstuvwxyz0123456789")
}

#[cfg(test)]
#[path = "init_tests.rs"]
mod tests;
