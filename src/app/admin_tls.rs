//! The admin listener's certificate: the user's own, or one by the lab CA for its host names and the local address of
//! the connection.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;

use crate::appservices::{CertificateFiles, CertificateSource, Certificates};
use crate::config::{AdminTls, Settings};
use crate::http::Tls;
use crate::model::DnsName;
use crate::tls::{LabCa, TlsError};

/// The ALPN protocol of the admin API: HTTP/1.1 (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// The admin listener's TLS.
pub(super) struct AdminCertificate {
    /// The listener's TLS.
    pub(super) tls: Tls,
    /// The user's files, which are reloaded when they change.
    pub(super) files: Option<Arc<Certificates>>,
    /// The CA that clients have to trust, if it is the lab's.
    pub(super) ca: Option<PathBuf>,
}

/// The admin listener's TLS according to `settings`; `None`: plain HTTP.
///
/// # Errors
///
/// [`TlsError`] when the lab CA or the user's files can't be used.
pub(super) fn admin_certificate(settings: &Settings) -> Result<Option<AdminCertificate>, TlsError> {
    let names = Arc::new(settings.admin_names.clone());
    Ok(match settings.admin.map(|address| (address, settings.admin_tls())) {
        None | Some((_, AdminTls::Off)) => None,
        Some((address, AdminTls::Files { certificate, key })) => {
            let files = vec![CertificateFiles { certificate, key }];
            let files = Certificates::new(CertificateSource::Files(files))?;
            let config = Arc::new(files.server_config(address.ip(), &[ALPN])?);
            let at = Arc::new(move |_| Some(Arc::clone(&config)));
            Some(AdminCertificate { tls: Tls { at, names }, files: Some(files), ca: None })
        }
        Some((address, AdminTls::LabCa)) => {
            let ca = LabCa::open_or_create(&settings.lab_dir)?;
            let path = ca.certificate_path();
            let localhost: DnsName = "localhost".parse().expect("a constant name");
            let names_of_it = settings.admin_names.iter().cloned().chain([localhost]).collect();
            let issued = IssuedCertificates { ca, names: names_of_it, by_address: Mutex::default() };
            // Reports at the start if no certificate can be issued for the listening address.
            issued.at(address.ip(), SystemTime::now())?;
            let at = Arc::new(move |local| {
                let made = issued.at(local, SystemTime::now());
                made.inspect_err(|error| tracing::error!(%error, %local, "no certificate for the admin API")).ok()
            });
            Some(AdminCertificate { tls: Tls { at, names }, files: None, ca: Some(path) })
        }
    })
}

/// A TLS configuration with the renewal time of its certificate.
type IssuedConfig = (Arc<ServerConfig>, Option<SystemTime>);

/// Certificates that the lab's CA issued, one for each local address of connections: a wildcard listener does not know
/// them in advance. Each is renewed a month before its end; open connections keep theirs.
struct IssuedCertificates {
    ca: LabCa,
    names: Vec<DnsName>,
    by_address: Mutex<HashMap<IpAddr, IssuedConfig>>,
}

impl IssuedCertificates {
    fn at(&self, local: IpAddr, now: SystemTime) -> Result<Arc<ServerConfig>, TlsError> {
        // One certificate for all of loopback, which has millions of addresses.
        let local = if local.is_loopback() { Ipv4Addr::LOCALHOST.into() } else { local };
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((config, renewal)) = by_address.get(&local)
            && renewal.is_none_or(|at| now < at)
        {
            return Ok(Arc::clone(config));
        }
        // Ports of loopback may be forwarded here too.
        let ips = [local, Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let config = self.ca.issue_at(&self.names, &ips, now)?.server_config(&[ALPN])?;
        by_address.insert(local, (Arc::clone(&config), self.ca.renewal(now)));
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_certificate_of_the_lab_ca_is_renewed_a_month_before_it_expires_and_not_when_the_ca_itself_expires() {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = LabCa::open_or_create(dir.path()).expect("a CA");
        let issued = IssuedCertificates { ca, names: Vec::new(), by_address: Mutex::default() };
        let start = SystemTime::now();
        let at = |days: u64| {
            let now = start + Duration::from_secs(days * 24 * 60 * 60);
            issued.at(Ipv4Addr::LOCALHOST.into(), now).expect("it is signed")
        };
        let first = at(0);
        assert!(Arc::ptr_eq(&first, &at(366)), "it has more than a month to live");
        let second = at(367);
        assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &at(367 + 366)));
        // The CA lasts 3650 days, and no certificate outlasts it.
        let last = at(3600);
        assert!(!Arc::ptr_eq(&second, &last) && Arc::ptr_eq(&last, &at(3649)));
    }
}
