//! Opens the state store of the config.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::{EtcdSettings, StateLocation};
use crate::control::store::{FileStore, MemoryStore, OpenError, StateStore};
use crate::model::{ClaimId, GatewayId, ParseTextError};

/// Opens the store at `location`.
///
/// # Errors
///
/// [`OpenError`]; nothing is written.
pub(crate) async fn open_store(location: &StateLocation) -> Result<Arc<dyn StateStore>, OpenError> {
    Ok(match location {
        StateLocation::Memory => Arc::new(MemoryStore::new()),
        StateLocation::File(path) => Arc::new(FileStore::open(path).await?),
        StateLocation::Etcd(settings) => open_etcd(settings).await?,
    })
}

/// This gateway's id among those that share the store at `location`; `None`: the store is not shared.
///
/// # Errors
///
/// [`OpenError::Etcd`] when the config has no id and the host's name is not a valid one.
pub(super) fn gateway_id(location: &StateLocation) -> Result<Option<GatewayId>, OpenError> {
    let StateLocation::Etcd(settings) = location else { return Ok(None) };
    if let Some(id) = &settings.gateway {
        return Ok(Some(id.clone()));
    }
    let unfit = |reason: String| OpenError::Etcd { source: format!("{reason}; set `gateway.id`").into() };
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").map_err(|error| unfit(error.to_string()))?;
    name.trim().parse().map(Some).map_err(|error: ParseTextError| unfit(error.to_string()))
}

/// The zones that this gateway is configured for; `None`: it serves all addresses.
pub(super) fn gateway_claims(location: &StateLocation) -> Option<BTreeSet<ClaimId>> {
    if let StateLocation::Etcd(settings) = location { settings.zones.clone() } else { None }
}

#[cfg(not(feature = "etcd"))]
async fn open_etcd(_: &EtcdSettings) -> Result<Arc<dyn StateStore>, OpenError> {
    Err(OpenError::NoEtcd)
}

#[cfg(feature = "etcd")]
async fn open_etcd(settings: &EtcdSettings) -> Result<Arc<dyn StateStore>, OpenError> {
    use std::path::{Path, PathBuf};

    use crate::control::store::{EtcdOptions, EtcdStore};
    use crate::files;

    let named = |path: &Path, content: std::io::Result<Vec<u8>>| {
        content
            .map_err(|source| OpenError::Etcd { source: format!("cannot read `{}`: {source}", path.display()).into() })
    };
    let read = |path: &PathBuf| named(path, std::fs::read(path));
    let read_private = |path: &PathBuf| named(path, files::read_private(path));
    let password = |path| Ok(String::from_utf8_lossy(&read_private(path)?).trim_end().to_owned());
    let options = EtcdOptions {
        endpoints: settings.endpoints.clone(),
        prefix: settings.prefix.clone(),
        ca: settings.ca.as_ref().map(read).transpose()?,
        identity: match &settings.identity {
            Some((certificate, key)) => Some((read(certificate)?, read_private(key)?)),
            None => None,
        },
        user: match &settings.user {
            Some((name, file)) => Some((name.clone(), password(file)?)),
            None => None,
        },
    };
    Ok(Arc::new(EtcdStore::connect(options).await?))
}
