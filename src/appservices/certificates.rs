//! The listeners' certificates, chosen by server name (SNI).
//!
//! Each listener has its own. A certificate that names the addresses of other listeners would tell a client of the
//! public address that an app has private endpoints, and where.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::model::DnsName;
use crate::plan::AppsView;
use crate::tls::identity::provider;
use crate::tls::{Identity, LabCa, TlsError};

/// A certificate chain and its key, in two PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
}

/// The source of certificates.
pub enum CertificateSource {
    /// The lab's CA signs one for each set of names when an app first needs it.
    LabCa(Arc<LabCa>),
    /// These files. The first is the default: for clients that send no server name, or one without a certificate.
    Files(Vec<CertificateFiles>),
}

impl fmt::Debug for CertificateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LabCa(_) => f.write_str("LabCa"),
            Self::Files(files) => f.debug_tuple("Files").field(files).finish(),
        }
    }
}

/// The certificates in use. New ones apply from the next handshake; open connections keep theirs.
#[derive(Debug)]
pub struct Certificates {
    source: CertificateSource,
    tables: RwLock<Arc<Tables>>,
    state: Mutex<LoadedFiles>,
}

/// The files from which the tables were made.
#[derive(Debug, Default)]
struct LoadedFiles {
    /// The apps for which the lab's CA signed certificates.
    view: AppsView,
    /// Certificates signed by the lab's CA, by names and address, with their renewal time.
    issued: BTreeMap<(BTreeSet<DnsName>, IpAddr), IssuedCertificate>,
    /// The state of the files when they were last read.
    stamps: Vec<Option<Stamp>>,
}

/// A certificate with its key, and its renewal time.
type IssuedCertificate = (Arc<CertifiedKey>, Option<SystemTime>);

/// Changes when a file is written, replaced, or gets another mode or owner: inode, mode, mtime and ctime, each in
/// seconds and nanoseconds.
type Stamp = (u64, u32, [i64; 4]);

/// The certificates of every listener.
#[derive(Debug)]
enum Tables {
    /// One table for all listeners.
    Shared(CertificateTable),
    ByAddress(HashMap<IpAddr, CertificateTable>),
}

impl Default for Tables {
    fn default() -> Self {
        Self::ByAddress(HashMap::new())
    }
}

/// Certificates by name.
#[derive(Debug, Default)]
struct CertificateTable {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By the part after `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    first: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Loads the certificates of `source`.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when a file can't be read, or a certificate and its key don't match.
    pub fn new(source: CertificateSource) -> Result<Arc<Self>, TlsError> {
        let certificates = Self { source, tables: RwLock::default(), state: Mutex::default() };
        certificates.reload()?;
        Ok(Arc::new(certificates))
    }

    /// Reads the files again. If one of them is invalid, nothing changes. No effect on the lab CA's certificates.
    ///
    /// # Errors
    ///
    /// [`TlsError`] as for [`Self::new`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let CertificateSource::Files(files) = &self.source else { return Ok(()) };
        let stamps = stamps(files);
        let mut table = CertificateTable::default();
        for file in files {
            let identity = Identity::read(&file.certificate, &file.key)?;
            table.add(&names_of(&identity), &identity.certified_key()?);
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stamps = stamps;
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Tables::Shared(table));
        Ok(())
    }

    /// Reads the files again if one has changed, or renews certificates of the lab CA that expire soon at `now`.
    /// Returns whether anything changed.
    ///
    /// # Errors
    ///
    /// [`TlsError`] as for [`Self::new`], returned once for each change of the files, and [`TlsError::Sign`].
    pub fn refresh(&self, now: SystemTime) -> Result<bool, TlsError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.source {
            CertificateSource::Files(files) => {
                let stamps = stamps(files);
                if state.stamps == stamps {
                    return Ok(false);
                }
                state.stamps = stamps;
                drop(state);
                self.reload().map(|()| true)
            }
            CertificateSource::LabCa(ca) => {
                if state.issued.values().all(|(_, renewal)| is_fresh(*renewal, now)) {
                    return Ok(false);
                }
                let view = state.view.clone();
                self.ensure_certificates_at(ca, &mut state, view, now).map(|()| true)
            }
        }
    }

    /// The TLS configuration of the listener at `address`, offering `alpn`, best first.
    ///
    /// # Errors
    ///
    /// [`TlsError::Config`] when rustls supports no protocol version.
    pub fn server_config(self: &Arc<Self>, address: IpAddr, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
        let resolver = ListenerCertificates { certificates: Arc::clone(self), address };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    /// Makes sure that each listener of `view` has certificates for its address and the names of its apps.
    pub(super) fn ensure_certificates(&self, view: &AppsView) -> Result<(), TlsError> {
        let CertificateSource::LabCa(ca) = &self.source else { return Ok(()) };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.ensure_certificates_at(ca, &mut state, view.clone(), SystemTime::now())
    }

    fn ensure_certificates_at(
        &self,
        ca: &LabCa,
        state: &mut LoadedFiles,
        view: AppsView,
        now: SystemTime,
    ) -> Result<(), TlsError> {
        let mut issued: BTreeMap<_, (Arc<CertifiedKey>, _)> = BTreeMap::new();
        let mut tables: HashMap<IpAddr, CertificateTable> = HashMap::new();
        for app_listener in view.listeners.values() {
            let ip = app_listener.address.ip();
            for found in app_listener.apps.values() {
                let key = (found.app.hosts.clone(), ip);
                let known = issued.get(&key).or_else(|| state.issued.get(&key));
                let own = match known.filter(|(_, renewal)| is_fresh(*renewal, now)) {
                    Some(own) => own.clone(),
                    None => {
                        let names: Vec<DnsName> = key.0.iter().cloned().collect();
                        (ca.issue_at(&names, &[ip], now)?.certified_key()?, ca.renewal(now))
                    }
                };
                let names: Vec<String> = key.0.iter().map(ToString::to_string).collect();
                tables.entry(ip).or_default().add(&names, &own.0);
                issued.insert(key, own);
            }
        }
        (state.issued, state.view) = (issued, view);
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Tables::ByAddress(tables));
        Ok(())
    }

    /// The certificate for `name` at the listener at `address`.
    fn find(&self, address: IpAddr, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let tables = Arc::clone(&self.tables.read().unwrap_or_else(PoisonError::into_inner));
        let table = match &*tables {
            Tables::Shared(table) => table,
            Tables::ByAddress(tables) => tables.get(&address)?,
        };
        let named = name.and_then(|name| table.find(&name.to_ascii_lowercase()));
        named.or(table.first.as_ref()).cloned()
    }
}

/// The certificates of one listener.
#[derive(Debug)]
struct ListenerCertificates {
    certificates: Arc<Certificates>,
    address: IpAddr,
}

impl ResolvesServerCert for ListenerCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificates.find(self.address, hello.server_name())
    }
}

impl CertificateTable {
    fn add(&mut self, names: &[String], certified: &Arc<CertifiedKey>) {
        self.first.get_or_insert_with(|| Arc::clone(certified));
        for name in names {
            let name = name.to_ascii_lowercase();
            match name.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()).or_insert_with(|| Arc::clone(certified)),
                None => self.exact.entry(name).or_insert_with(|| Arc::clone(certified)),
            };
        }
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        self.exact.get(name).or_else(|| name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent)))
    }
}

/// Whether a certificate with this renewal time may still be used at `now`.
fn is_fresh(renewal: Option<SystemTime>, now: SystemTime) -> bool {
    renewal.is_none_or(|at| now < at)
}

fn stamps(files: &[CertificateFiles]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.ino(), meta.mode(), [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]))
    };
    files.iter().flat_map(|file| [stamp(&file.certificate), stamp(&file.key)]).collect()
}

/// The names in a chain's first certificate.
fn names_of(identity: &Identity) -> Vec<String> {
    let Some(first) = identity.chain().first() else { return Vec::new() };
    let Ok((_, certificate)) = X509Certificate::from_der(first) else { return Vec::new() };
    let Ok(Some(alternative)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = alternative.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_exact_name_goes_before_the_wildcard_and_the_first_certificate_is_for_all_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = LabCa::open_or_create(dir.path()).expect("a CA");
        let certified = |name: &str| {
            let names = [name.parse().expect("a name")];
            ca.issue(&names, &[]).expect("issued").certified_key().expect("a key")
        };
        let (wild, exact) = (certified("*.lab"), certified("a.lab"));
        let mut table = CertificateTable::default();
        table.add(&["*.lab".to_owned()], &wild);
        table.add(&["a.lab".to_owned()], &exact);
        let is = |name: &str, expected: &Arc<CertifiedKey>| table.find(name).is_some_and(|f| Arc::ptr_eq(f, expected));
        assert!(is("a.lab", &exact) && is("b.lab", &wild));
        assert!(table.find("a.b.lab").is_none() && table.find("lab").is_none());
        assert!(table.first.as_ref().is_some_and(|first| Arc::ptr_eq(first, &wild)));
    }

    #[test]
    fn files_are_read_again_when_they_change_and_a_wrong_one_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = LabCa::open_or_create(dir.path()).expect("a CA");
        let files = CertificateFiles { certificate: dir.path().join("app.pem"), key: dir.path().join("app-key.pem") };
        let put = |name: &str, at: u64| {
            let identity = ca.issue(&[name.parse().expect("a name")], &[]).expect("issued");
            for path in [&files.certificate, &files.key] {
                let written = std::fs::write(path, identity.pem());
                written.and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o600))).expect("written");
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
                std::fs::File::options().append(true).open(path).and_then(|f| f.set_modified(time)).expect("stamped");
            }
        };
        put("a.lab", 1);
        let certificates = Certificates::new(CertificateSource::Files(vec![files.clone()])).expect("read");
        let has = |name: &str| {
            let address = "127.0.0.1".parse().expect("an address");
            let shown = certificates.find(address, Some(name)).expect("one is shown");
            let (_, certificate) = X509Certificate::from_der(&shown.cert[0]).expect("a certificate");
            let names = certificate.subject_alternative_name().expect("fits").expect("it has names");
            names.value.general_names.iter().any(|found| matches!(found, GeneralName::DNSName(found) if *found == name))
        };
        let refresh = || certificates.refresh(SystemTime::now());
        assert!(has("a.lab") && !refresh().expect("unchanged"));
        put("b.lab", 2);
        assert!(refresh().expect("read") && has("b.lab") && !has("a.lab"));
        put("c.lab", 3);
        let mode = |mode| std::fs::set_permissions(&files.key, Permissions::from_mode(mode)).expect("it is ours");
        mode(0o644);
        assert!(refresh().is_err() && has("b.lab"), "others can read the key");
        mode(0o600);
        assert!(refresh().expect("its mode was corrected") && has("c.lab"));
        std::fs::write(&files.key, "nonsense").expect("written");
        let error = refresh().expect_err("no key");
        assert!(error.to_string().contains("app-key.pem holds no private key in PEM form"), "{error}");
        assert!(has("c.lab") && !refresh().expect("said once"));
    }

    #[test]
    fn certificates_of_the_lab_ca_are_renewed_a_month_before_they_expire() {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = Arc::new(LabCa::open_or_create(dir.path()).expect("a CA"));
        let certificates = Certificates::new(CertificateSource::LabCa(ca)).expect("nothing is read");
        let (snapshot, _) = crate::plan::compile(
            &crate::config::quickstart().desired,
            &crate::plan::PortAllocations::default(),
            crate::plan::Generation(1),
        )
        .expect("the quickstart can be planned");
        let view = &snapshot.apps;
        certificates.ensure_certificates(view).expect("signed");
        let ip = view.listeners.values().next().expect("it has an app").address.ip();
        let now = |days: u64| SystemTime::now() + Duration::from_secs(days * 24 * 60 * 60);
        let first = certificates.find(ip, None).expect("one is shown");
        assert!(!certificates.refresh(now(366)).expect("nothing to do"));
        assert!(certificates.refresh(now(368)).expect("signed"));
        assert!(!Arc::ptr_eq(&first, &certificates.find(ip, None).expect("one is shown")));
        assert!(!certificates.refresh(now(368 + 300)).expect("nothing to do"));
    }
}
