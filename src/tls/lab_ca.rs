//! The lab's certificate authority: created on the first start, reused later.
//!
//! `ca.pem` is for clients (`tlsCAFile=…`); `ca-key.pem` is created readable by its owner only. Existing files are
//! never overwritten: users distribute `ca.pem` to clients, and a CA that changes silently causes TLS failures
//! elsewhere.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Identity, TlsError};
use crate::files;
use crate::model::DnsName;

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Lifetime of a new CA: ten years, longer than a lab is used.
const CA_LIFE: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
/// Lifetime of a leaf: 397 days, the longest that clients accept from public CAs (CA/Browser Forum, 2020).
const LEAF_LIFE: Duration = Duration::from_secs(397 * 24 * 60 * 60);
/// Certificates are valid from a little in the past, for clients whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(60 * 60);
/// A certificate with a shorter remaining lifetime is renewed.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Longest common name (X.520, `ub-common-name`).
const COMMON_NAME_LIMIT: usize = 64;

/// A certificate authority with its key.
pub struct LabCa {
    dir: PathBuf,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    expires: SystemTime,
}

impl LabCa {
    /// Opens the CA in `dir`, or creates one if neither file exists.
    ///
    /// If two processes start at once, both use the CA that the first one creates.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when a file cannot be read or written, or when one of the two is missing, has unexpected content,
    /// does not match the other, or has expired. Existing files are left unchanged.
    pub fn open_or_create(dir: &Path) -> Result<Self, TlsError> {
        files::trusted_dir(dir, files::PUBLIC_DIR)
            .map_err(|source| TlsError::Directory { path: dir.to_owned(), source })?;
        // Held until the function returns, so that a second process finds both files.
        let _lock = lock(dir).map_err(|source| TlsError::File { what: "read", path: dir.to_owned(), source })?;
        let half = |present, missing| TlsError::Half { dir: dir.to_owned(), present, missing };
        match (read(&dir.join(CERTIFICATE))?, read_key(&dir.join(KEY))?) {
            (Some(pem), Some(key)) => Self::open(dir, &pem, &key),
            (Some(_), None) => Err(half(CERTIFICATE, KEY)),
            (None, Some(_)) => Err(half(KEY, CERTIFICATE)),
            (None, None) => Self::create(dir, CA_LIFE),
        }
    }

    /// The path of the CA's certificate, `ca.pem`.
    #[must_use]
    pub fn certificate_path(&self) -> PathBuf {
        self.dir.join(CERTIFICATE)
    }

    /// The CA's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Issues a certificate with a new key for `names` (the first label may be `*`) and `ips`.
    ///
    /// # Errors
    ///
    /// [`TlsError::Sign`] when signing fails.
    pub fn issue(&self, names: &[DnsName], ips: &[IpAddr]) -> Result<Identity, TlsError> {
        self.issue_at(names, ips, SystemTime::now())
    }

    /// When to renew a certificate that was issued at `issued`: a month before its end. `None` if it ends with the CA, as
    /// a new one would too.
    #[must_use]
    pub(crate) fn renewal(&self, issued: SystemTime) -> Option<SystemTime> {
        let end = issued - BACKDATED + LEAF_LIFE;
        (end < self.expires).then(|| end - RENEW_BEFORE)
    }

    /// Like [`Self::issue`], valid from `now`.
    pub(crate) fn issue_at(&self, names: &[DnsName], ips: &[IpAddr], now: SystemTime) -> Result<Identity, TlsError> {
        let subject = names.first().map_or_else(|| "plgw lab".to_owned(), ToString::to_string);
        let sign = || {
            let key = KeyPair::generate()?;
            let certificate = self.leaf(&subject, names, ips, now)?.signed_by(&key, &self.issuer)?;
            Ok((certificate, key))
        };
        let (certificate, key) = sign().map_err(|source| TlsError::Sign { subject: subject.clone(), source })?;
        let pem = certificate.pem() + &key.serialize_pem();
        Ok(Identity::new(vec![certificate.into()], PrivateKeyDer::Pkcs8(key.into()), pem))
    }

    /// A certificate and its key in `<file>.pem` beside the CA, in the format of `mongod --tlsCertificateKeyFile`: both
    /// in one file, readable by its owner only.
    ///
    /// An existing file is reused if this CA signed it, it covers all of `names` and `ips`, and it is valid for another
    /// month; otherwise it is replaced.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when the file cannot be read or written, when it would be one of the CA's own, or when signing
    /// fails.
    pub fn server_certificate(&self, file: &DnsName, names: &[DnsName], ips: &[IpAddr]) -> Result<Identity, TlsError> {
        let path = self.server_certificate_path(file);
        if [CERTIFICATE, KEY].iter().any(|own| path == self.dir.join(own)) {
            return Err(TlsError::Reserved { path });
        }
        if let Some(pem) = read_key(&path)?
            && let Some(identity) = self.usable(&pem, names, ips)
        {
            return Ok(identity);
        }
        let identity = self.issue(names, ips)?;
        files::replace(&path, files::PRIVATE, identity.pem().as_bytes()).map_err(|source| TlsError::File {
            what: "write",
            path,
            source,
        })?;
        Ok(identity)
    }

    /// The path of the file of [`Self::server_certificate`].
    #[must_use]
    pub fn server_certificate_path(&self, file: &DnsName) -> PathBuf {
        self.dir.join(format!("{}.pem", file.as_str().replace('*', "_wildcard")))
    }

    fn open(dir: &Path, pem: &str, key: &str) -> Result<Self, TlsError> {
        let path = dir.join(CERTIFICATE);
        let key_path = dir.join(KEY);
        let no_certificate = |reason: String| TlsError::Content {
            path: path.clone(),
            expected: "certificate of a certificate authority in PEM form",
            reason,
        };
        let key = KeyPair::from_pem(key).map_err(|error| TlsError::Content {
            path: key_path.clone(),
            expected: "private key in PEM form (PKCS#8)",
            reason: error.to_string(),
        })?;
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| no_certificate(error.to_string()))?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|error| no_certificate(error.to_string()))?;
        if !parsed.is_ca() {
            return Err(no_certificate("it may not sign others".into()));
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(TlsError::Mismatch { certificate: path, key: key_path });
        }
        let expires = parsed.validity().not_after;
        if from_unix(expires.timestamp()) <= SystemTime::now() {
            return Err(TlsError::Expired { path, expired: expires.to_string() });
        }
        let expires = from_unix(expires.timestamp());
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| no_certificate(error.to_string()))?;
        Ok(Self { dir: dir.to_owned(), certificate, issuer, expires })
    }

    fn create(dir: &Path, life: Duration) -> Result<Self, TlsError> {
        let failed = |source| TlsError::Sign { subject: "the lab CA".into(), source };
        let key = KeyPair::generate().map_err(failed)?;
        // Digits of the key distinguish the CAs of several labs in a trust store.
        let digits = hex::encode(key.public_key_raw().iter().rev().take(4).copied().collect::<Vec<_>>());
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("plgw lab CA {digits}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = SystemTime::now();
        set_validity(&mut params, now - DAY, now + life);
        let pem = params.self_signed(&key).map_err(failed)?.pem();
        for (name, mode, content) in [(KEY, files::PRIVATE, key.serialize_pem()), (CERTIFICATE, files::PUBLIC, pem)] {
            let path = dir.join(name);
            files::create(&path, mode, content.as_bytes()).map_err(|source| TlsError::File {
                what: "write",
                path,
                source,
            })?;
        }
        let lost = |name| TlsError::File { what: "read", path: dir.join(name), source: io::ErrorKind::NotFound.into() };
        let pem = read(&dir.join(CERTIFICATE))?.ok_or_else(|| lost(CERTIFICATE))?;
        Self::open(dir, &pem, &read_key(&dir.join(KEY))?.ok_or_else(|| lost(KEY))?)
    }

    fn leaf(
        &self,
        subject: &str,
        names: &[DnsName],
        ips: &[IpAddr],
        now: SystemTime,
    ) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::default();
        let fits = subject.len() <= COMMON_NAME_LIMIT;
        params.distinguished_name = common_name(if fits { subject } else { "plgw lab" });
        for name in names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(ips.iter().copied().map(SanType::IpAddress));
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A `mongod` uses its server certificate for connections to other members too, so it must be valid for both.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let start = now - BACKDATED;
        set_validity(&mut params, start, (start + LEAF_LIFE).min(self.expires));
        Ok(params)
    }

    /// The certificate and key in `pem`, if they can be reused.
    fn usable(&self, pem: &str, names: &[DnsName], ips: &[IpAddr]) -> Option<Identity> {
        let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).ok()?];
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, leaf) = X509Certificate::from_der(&chain[0]).ok()?;
        let (_, ca) = X509Certificate::from_der(&self.certificate).ok()?;
        leaf.verify_signature(Some(ca.public_key())).ok()?;
        let own_key = KeyPair::try_from(&key).ok()?;
        let present = leaf.subject_alternative_name().ok()??.value.general_names.iter();
        let (mut present_names, mut present_ips) = (Vec::new(), Vec::new());
        for san in present {
            match san {
                GeneralName::DNSName(name) => present_names.push(*name),
                GeneralName::IPAddress(octets) => present_ips.push(octets.to_vec()),
                _ => {}
            }
        }
        let good = names.iter().all(|name| present_names.contains(&name.as_str()))
            && ips.iter().all(|ip| present_ips.contains(&octets(*ip)))
            && leaf.public_key().raw == own_key.subject_public_key_info()
            && from_unix(leaf.validity().not_after.timestamp()) > SystemTime::now() + RENEW_BEFORE;
        good.then(|| Identity::new(chain, key, pem.to_owned()))
    }
}

impl std::fmt::Debug for LabCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LabCa").field("dir", &self.dir).field("expires", &self.expires).finish_non_exhaustive()
    }
}

fn lock(dir: &Path) -> io::Result<File> {
    let dir = File::open(dir)?;
    dir.lock()?;
    Ok(dir)
}

fn read(path: &Path) -> Result<Option<String>, TlsError> {
    text(path, files::read_trusted(path))
}

/// Reads a file with a private key: not a symbolic link, and not readable by other users.
fn read_key(path: &Path) -> Result<Option<String>, TlsError> {
    text(path, files::read_trusted(path).and_then(|_| files::read_private(path)))
}

fn text(path: &Path, content: io::Result<Vec<u8>>) -> Result<Option<String>, TlsError> {
    match content.and_then(|text| String::from_utf8(text).map_err(io::Error::other)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TlsError::File { what: "read", path: path.to_owned(), source }),
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::OrganizationName, "privatelink-gateway");
    names.push(DnType::CommonName, name);
    names
}

/// Sets the validity period of a certificate, in whole seconds.
fn set_validity(params: &mut CertificateParams, from: SystemTime, to: SystemTime) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since =
        |time: SystemTime| Duration::from_secs(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
    params.not_before = epoch + since(from);
    params.not_after = epoch + since(to);
}

fn from_unix(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use tempfile::TempDir;

    use super::super::identity::client_config;
    use super::*;

    fn names(texts: &[&str]) -> Vec<DnsName> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("the file is there").permissions().mode() & 0o777
    }

    fn files_in(dir: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(dir.path()).expect("a directory");
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A handshake in memory; `Err` with the client's or the server's error.
    fn handshake(
        client: Arc<rustls::ClientConfig>,
        server: Arc<rustls::ServerConfig>,
        name: &str,
    ) -> Result<(), String> {
        let name = ServerName::try_from(name.to_owned()).expect("a server name");
        let mut client = rustls::ClientConnection::new(client, name).map_err(|error| error.to_string())?;
        let mut server = rustls::ServerConnection::new(server).map_err(|error| error.to_string())?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).map_err(|error| error.to_string())?;
            server.read_tls(&mut wire.as_slice()).map_err(|error| error.to_string())?;
            server.process_new_packets().map_err(|error| error.to_string())?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).map_err(|error| error.to_string())?;
            client.read_tls(&mut wire.as_slice()).map_err(|error| error.to_string())?;
            client.process_new_packets().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    #[test]
    fn only_the_owner_can_read_the_key_and_everyone_the_certificate() {
        let dir = TempDir::new().unwrap();
        let ca = LabCa::open_or_create(dir.path()).expect("a new CA");
        assert_eq!(mode(&dir.path().join("ca-key.pem")), 0o600);
        assert_eq!(mode(&ca.certificate_path()), 0o644);
        assert_eq!(files_in(&dir), ["ca-key.pem", "ca.pem"], "no temporary file is left");
    }

    #[test]
    fn a_later_start_uses_the_same_ca() {
        let dir = TempDir::new().unwrap();
        let first = LabCa::open_or_create(dir.path()).expect("a new CA");
        let second = LabCa::open_or_create(dir.path()).expect("the CA that is there");
        assert_eq!(first.certificate(), second.certificate());
        let server = second.issue(&names(&["a.mongodb.net"]), &[]).unwrap().server_config(&[]).unwrap();
        let client = client_config(first.certificate(), &[]).unwrap();
        assert_eq!(handshake(client, server, "a.mongodb.net"), Ok(()));
    }

    #[test]
    fn starts_at_the_same_time_share_one_ca() {
        let dir = TempDir::new().unwrap();
        let path = dir.path();
        let open = || LabCa::open_or_create(path).expect("a CA").certificate().clone();
        let certificates = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert!(certificates.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_leaf_is_good_for_its_names_wildcards_and_addresses_only() {
        let dir = TempDir::new().unwrap();
        let ca = LabCa::open_or_create(dir.path()).expect("a new CA");
        let leaf = ca
            .issue(&names(&["pl-0-us-east-1-k45tj.mongodb.net", "*.auylw.mongodb.net"]), &[[127, 0, 30, 194].into()])
            .expect("a leaf");
        let server = leaf.server_config(&[]).expect("a configuration");
        let client = client_config(ca.certificate(), &[]).expect("a configuration");
        for good in ["pl-0-us-east-1-k45tj.mongodb.net", "pl-0-us-east-1.auylw.mongodb.net", "127.0.30.194"] {
            assert_eq!(handshake(client.clone(), server.clone(), good), Ok(()), "{good}");
        }
        for wrong in ["other.mongodb.net", "a.b.auylw.mongodb.net", "127.0.30.195"] {
            let error = handshake(client.clone(), server.clone(), wrong).expect_err(wrong);
            assert!(error.contains("certificate"), "{error}");
        }
        let stranger = LabCa::open_or_create(TempDir::new().unwrap().path()).expect("another CA");
        let client = client_config(stranger.certificate(), &[]).expect("a configuration");
        assert!(handshake(client, server, "127.0.30.194").is_err());
    }

    #[test]
    fn a_leaf_lives_for_397_days_and_serves_both_ways() {
        let dir = TempDir::new().unwrap();
        let ca = LabCa::open_or_create(dir.path()).expect("a new CA");
        let leaf = ca.issue(&names(&[&format!("{}.net", "a".repeat(63))]), &[]).expect("a leaf with a long name");
        let (_, parsed) = X509Certificate::from_der(&leaf.chain()[0]).unwrap();
        let life = parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp();
        assert_eq!(life, 397 * 24 * 60 * 60);
        assert!(parsed.validity().is_valid());
        let usage = parsed.extended_key_usage().unwrap().expect("is there").value;
        assert!(usage.server_auth && usage.client_auth && !usage.any);
    }

    #[test]
    fn a_leaf_does_not_outlive_its_ca() {
        let dir = TempDir::new().unwrap();
        let ca = LabCa::create(dir.path(), 3 * DAY).expect("a short-lived CA");
        let leaf = ca.issue(&names(&["a.net"]), &[]).expect("a leaf");
        let (_, parsed) = X509Certificate::from_der(&leaf.chain()[0]).unwrap();
        assert_eq!(from_unix(parsed.validity().not_after.timestamp()), ca.expires);
    }

    #[test]
    fn a_damaged_ca_is_reported_and_not_changed() {
        type Damage = fn(&Path);
        let cases: [(&str, Damage); 6] = [
            ("has ca.pem but no ca-key.pem", |dir| fs::remove_file(dir.join(KEY)).unwrap()),
            ("has ca-key.pem but no ca.pem", |dir| fs::remove_file(dir.join(CERTIFICATE)).unwrap()),
            ("holds no private key", |dir| fs::write(dir.join(KEY), "").unwrap()),
            ("holds no certificate", |dir| fs::write(dir.join(CERTIFICATE), "noise").unwrap()),
            ("is not the key of", |dir| {
                fs::write(dir.join(KEY), KeyPair::generate().unwrap().serialize_pem()).unwrap();
            }),
            ("it may not sign others", |dir| {
                let leaf = LabCa::open_or_create(dir).unwrap().issue(&[], &[]).unwrap();
                fs::write(dir.join(CERTIFICATE), leaf.pem()).unwrap();
                fs::write(dir.join(KEY), leaf.pem().split_inclusive("-----\n").skip(2).collect::<String>()).unwrap();
            }),
        ];
        for (expected, damage) in cases {
            let dir = TempDir::new().unwrap();
            LabCa::open_or_create(dir.path()).expect("a new CA");
            damage(dir.path());
            let content = |name| fs::read(dir.path().join(name)).ok();
            let before = (content(CERTIFICATE), content(KEY));
            let error = LabCa::open_or_create(dir.path()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(before, (content(CERTIFICATE), content(KEY)), "{expected}");
        }
    }

    #[test]
    fn an_expired_ca_is_reported_with_its_date() {
        let dir = TempDir::new().unwrap();
        let error = LabCa::create(dir.path(), Duration::ZERO).expect_err("expired at once").to_string();
        assert!(error.contains("ca.pem expired on"), "{error}");
    }

    #[test]
    fn a_mongod_finds_certificate_and_key_in_one_private_file() {
        let dir = TempDir::new().unwrap();
        let ca = LabCa::open_or_create(dir.path()).expect("a new CA");
        let (file, sans) = (&names(&["pl-0-us-east-1-k45tj.mongodb.net"])[0], names(&["*.mongodb.net"]));
        let first = ca.server_certificate(file, &sans, &[]).expect("a certificate");
        let path = ca.server_certificate_path(file);
        assert_eq!(mode(&path), 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("BEGIN CERTIFICATE") && text.contains("BEGIN PRIVATE KEY"));
        let again = ca.server_certificate(file, &sans, &[]).expect("the same certificate");
        assert_eq!(first.chain(), again.chain());
        let wider = ca.server_certificate(file, &sans, &[[127, 0, 0, 1].into()]).expect("a new certificate");
        assert_ne!(first.chain(), wider.chain());
        let client = client_config(ca.certificate(), &[]).unwrap();
        assert_eq!(handshake(client, wider.server_config(&[]).unwrap(), "127.0.0.1"), Ok(()));
    }

    #[test]
    fn a_server_certificate_never_takes_the_place_of_the_ca() {
        let dir = TempDir::new().unwrap();
        let ca = LabCa::open_or_create(dir.path()).expect("a new CA");
        for file in names(&["ca", "ca-key"]) {
            let error = ca.server_certificate(&file, &[], &[]).expect_err("the CA's own file").to_string();
            assert!(error.contains("the lab CA's own"), "{error}");
        }
        assert_eq!(&CertificateDer::from_pem_file(ca.certificate_path()).unwrap(), ca.certificate());
    }

    #[test]
    fn a_certificate_of_another_ca_is_replaced() {
        let dir = TempDir::new().unwrap();
        let file = &names(&["a.net"])[0];
        let old = LabCa::open_or_create(dir.path()).unwrap().server_certificate(file, &[], &[]).unwrap();
        fs::remove_file(dir.path().join(CERTIFICATE)).unwrap();
        fs::remove_file(dir.path().join(KEY)).unwrap();
        let new = LabCa::open_or_create(dir.path()).unwrap().server_certificate(file, &[], &[]).unwrap();
        assert_ne!(old.chain(), new.chain());
    }
}
