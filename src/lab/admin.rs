//! The gateway's admin API in a lab: its credentials, and its access from the lab's hosts and from the surrounding
//! machine.
//!
//! It listens at one link-local address, as AWS' own services for instances do. All hosts reach it except those of the
//! service's side: they have no route to it, and it refuses their sources. As other hosts reach it, it requires
//! credentials.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

use super::error::IoContext;
use super::record::LabRecord;
use super::{Host, LabError};
use crate::api::client::AdminAddress;
use crate::api::random_hex;
use crate::config::AdminTls;
use crate::files;

/// Its address, at the gateway's end of the link to the VPC's router. Link-local: RFC 3927.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 2);

/// The file of the credentials in the lab's directory.
const FILE: &str = "admin.json";

/// Environment variables with the address of the admin API and the token.
pub(super) const ADMIN: &str = "PLGW_ADMIN";
const TOKEN: &str = "PLGW_ADMIN_TOKEN";
const PUBLIC_KEY: &str = "PLGW_ADMIN_PUBLIC_KEY";
const PRIVATE_KEY: &str = "PLGW_ADMIN_PRIVATE_KEY";

/// Every variable that this module may set in a command's environment; inherited values for another gateway are
/// removed.
pub(super) const VARIABLES: [&str; 4] = [ADMIN, TOKEN, PUBLIC_KEY, PRIVATE_KEY];

/// Variables with the file of trusted CAs: OpenSSL's and Go's; curl's; Node's (additional CAs); Python requests'; and
/// that of AWS's tools and SDK for Python.
const TRUST: [&str; 5] =
    ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"];

/// Access to a lab's admin API.
#[derive(Debug, Clone)]
pub struct AdminApi {
    /// Its address in the network of the lab's gateway.
    pub address: AdminAddress,
    /// The token of `/v1`.
    pub token: String,
    /// The CA of its certificate; `None`: it has no certificate, or one of another CA.
    pub ca: Option<PathBuf>,
}

/// The admin API's credentials, generated for each lab.
#[derive(Serialize, Deserialize)]
pub(super) struct AdminCredentials {
    public_key: String,
    private_key: String,
    pub(super) token: String,
}

impl AdminCredentials {
    /// Generates credentials, and saves them in `dir`, readable by their owner only.
    pub(super) fn make(dir: &Path) -> Result<Self, LabError> {
        let made = Self { public_key: random_hex(8), private_key: random_hex(32), token: random_hex(32) };
        let path = dir.join(FILE);
        let text = serde_json::to_vec(&made).expect("texts are JSON");
        files::create(&path, files::PRIVATE, &text).map_err(|source| LabError::File { what: "write", path, source })?;
        Ok(made)
    }

    /// Reads the credentials in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self, LabError> {
        let path = dir.join(FILE);
        let text = files::read_trusted(&path);
        let read = text.and_then(|text| serde_json::from_slice(&text).map_err(Into::into));
        read.map_err(|source| LabError::File { what: "read", path, source })
    }

    /// The environment variables of the gateway and its clients.
    pub(super) fn environment(&self) -> BTreeMap<&'static str, String> {
        let pairs = [(TOKEN, &self.token), (PUBLIC_KEY, &self.public_key), (PRIVATE_KEY, &self.private_key)];
        pairs.map(|(name, value)| (name, value.clone())).into()
    }
}

/// The environment of a process at `host` for using the admin API of `lab` in `dir`.
pub(super) fn environment(
    host: Host,
    lab: &LabRecord,
    dir: &Path,
) -> Result<BTreeMap<&'static str, OsString>, LabError> {
    let Some(url) = lab.admin_url().filter(|_| host != Host::Service) else { return Ok(BTreeMap::new()) };
    let credentials = AdminCredentials::read(dir)?.environment().into_iter().map(|(name, value)| (name, value.into()));
    let mut environment: BTreeMap<_, OsString> = credentials.collect();
    environment.insert(ADMIN, url.into());
    if lab.admin_tls == AdminTls::LabCa {
        environment.extend(TRUST.map(|name| (name, lab.ca.clone().into_os_string())));
    }
    Ok(environment)
}

/// Forwards connections from the listener on standard input, which is in the machine's network, to the admin API at
/// `to`, which is in this process' network.
pub(super) fn forward(to: SocketAddr) -> Result<(), LabError> {
    let input: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().context("use standard input")?;
    let listener = std::net::TcpListener::from(input);
    listener.set_nonblocking(true).context("prepare the console's socket")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).context("use the console's socket")?;
        loop {
            let (mut client, _) = listener.accept().await.context("accept a client of the console")?;
            tokio::spawn(async move {
                // If the gateway is gone, the client's connection is closed; the command ends with the lab.
                if let Ok(mut admin) = TcpStream::connect(to).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut admin).await;
                }
            });
        }
    })
}
