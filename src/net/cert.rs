//! A CA and certificates, in one command each: security wins only where it is the easiest way.
//!
//! ```text
//!     init DIR             DIR/ca.pem  DIR/ca.key
//!     issue DIR NAME       DIR/NAME/ca.pem  DIR/NAME/cert.pem  DIR/NAME/key.pem      what --tls takes
//! ```
//!
//! The CA's certificate carries the cluster's name as `walrus://CLUSTER`, a peer's who it is: docs/PROTOCOL.md#identity-and-rights.
//! Keys are readable by their owner alone, and nothing is ever overwritten: a CA that is gone takes every certificate with it.
//!
//! Layer: net. Uses `wire` for identities. Knows nothing of connections.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use x509_parser::prelude::{FromDer, GeneralName, Pem, X509Certificate};

pub use crate::wire::rights::Role;
use crate::wire::rights::{Identity, NAME_BYTES_MAX, is_name};

/// Names of the files in a folder that `--tls` takes.
pub(crate) const CA_FILE: &str = "ca.pem";
pub(crate) const CERT_FILE: &str = "cert.pem";
pub(crate) const KEY_FILE: &str = "key.pem";
const CA_KEY_FILE: &str = "ca.key";

/// The name a cluster has when nobody gives it one.
pub const CLUSTER_DEFAULT: &str = "walrus";

/// How long a CA is good: longer than the machines.
const CA_VALID: Duration = Duration::from_secs(20 * 365 * 86_400);
/// How long a certificate is good. There is no revocation list yet, so not for ever.
const CERT_VALID: Duration = Duration::from_secs(2 * 365 * 86_400);
/// Certificates are good from a day ago on: clocks differ.
const BACKDATED: Duration = Duration::from_secs(86_400);

/// Why certificates could not be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertError {
    /// A file could not be read or written.
    #[error("{what} {path}: {source}")]
    File {
        /// "reading" or "writing".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file or folder is there already.
    #[error(
        "{path} is there already, and nothing is overwritten\nhint: choose another name, or move it away: mv {path} {path}.old"
    )]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// A name that cannot stand in a certificate.
    #[error("{name:?} cannot be a name: 1 to {NAME_BYTES_MAX} letters, digits, '.', '_' and '-', and not a '.' first")]
    Name {
        /// The name.
        name: String,
    },
    /// There is no CA in the folder.
    #[error("there is no CA in {dir}\nhint: walrus-node cert init {dir}")]
    NoCa {
        /// The folder.
        dir: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{path}: {reason}")]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("the certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// Whom a certificate is for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The name of the node or the person; also a name of the host in it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Topics that it is bound to, with `*` for any bytes; none means all.
    pub topics: Vec<String>,
    /// Host names and addresses besides NAME, localhost, 127.0.0.1 and ::1.
    pub hosts: Vec<String>,
}

/// A certificate as it was found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CertInfo {
    /// Its file.
    pub path: PathBuf,
    /// Who it is: `role name of cluster cluster`, or the CA of a cluster.
    pub subject: String,
    /// When it ends: seconds since 1970.
    pub not_after: i64,
    /// How long that is from now on; zero when it is over.
    pub left: Duration,
}

/// Makes a CA in `dir`: `ca.pem` and `ca.key`.
///
/// # Errors
/// When there is one already, or a file cannot be written.
pub fn init(dir: &Path, cluster: &str) -> Result<(), CertError> {
    if !is_name(cluster) {
        return Err(CertError::Name { name: cluster.to_owned() });
    }
    make_folder(dir)?;
    let (cert_path, key_path) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
    refuse_existing(&[&cert_path, &key_path])?;

    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, format!("walrus CA of {cluster}"));
    params.subject_alt_names.push(SanType::URI(format!("walrus://{cluster}").try_into()?));
    set_validity(&mut params, CA_VALID);
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    // The key first: a CA without its key can issue nothing, and is found out at once.
    write_new(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
    write_new(&cert_path, cert.pem().as_bytes(), 0o644)
}

/// Issues a certificate by the CA in `dir` and returns its folder, `dir/NAME`.
///
/// # Errors
/// When there is no CA, the folder is there already, or a name cannot stand in a certificate.
pub fn issue(dir: &Path, request: &Request) -> Result<PathBuf, CertError> {
    if !is_name(&request.name) {
        return Err(CertError::Name { name: request.name.clone() });
    }
    let (ca_pem, ca_key) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
    if !ca_pem.exists() || !ca_key.exists() {
        return Err(CertError::NoCa { dir: dir.to_owned() });
    }
    let folder = dir.join(&request.name);
    refuse_existing(&[&folder])?;

    let ca = read_text(&ca_pem)?;
    let issuer = Issuer::from_ca_cert_pem(&ca, KeyPair::from_pem(&read_text(&ca_key)?)?)?;
    let identity = Identity {
        cluster: cluster_of(&ca_pem, ca.as_bytes())?,
        role: request.role,
        name: request.name.clone(),
        topics: request.topics.clone(),
    };
    let key = KeyPair::generate()?;
    let cert = certificate_params(&identity, &request.hosts)?.signed_by(&key, &issuer)?;

    make_folder(&folder)?;
    write_new(&folder.join(KEY_FILE), key.serialize_pem().as_bytes(), 0o600)?;
    write_new(&folder.join(CERT_FILE), cert.pem().as_bytes(), 0o644)?;
    write_new(&folder.join(CA_FILE), ca.as_bytes(), 0o644)?;
    Ok(folder)
}

fn certificate_params(identity: &Identity, hosts: &[String]) -> Result<CertificateParams, CertError> {
    let mut names: Vec<String> = [&identity.name, "localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    for host in hosts {
        if !names.contains(host) {
            names.push(host.clone());
        }
    }
    let mut params = CertificateParams::new(names)?;
    params.subject_alt_names.push(SanType::URI(identity.to_uri().try_into()?));
    params.distinguished_name.push(DnType::CommonName, &identity.name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Only a node is ever connected to; every role connects.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if identity.role == Role::Node {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    set_validity(&mut params, CERT_VALID);
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, valid: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + valid).into();
}

/// Looks at every certificate in `dir`: its own `ca.pem` and `cert.pem`, and those in the folders in it.
///
/// # Errors
/// When a certificate cannot be read, or there is none.
pub fn check(dir: &Path) -> Result<Vec<CertInfo>, CertError> {
    let mut folders = vec![dir.to_owned()];
    let listing = std::fs::read_dir(dir).map_err(|source| file_error("reading", dir, source))?;
    for entry in listing {
        let path = entry.map_err(|source| file_error("reading", dir, source))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    let mut found = Vec::new();
    for path in folders.iter().flat_map(|folder| [folder.join(CA_FILE), folder.join(CERT_FILE)]) {
        if path.exists() {
            found.push(inspect(&path)?);
        }
    }
    if found.is_empty() {
        return Err(CertError::NoCa { dir: dir.to_owned() });
    }
    Ok(found)
}

fn inspect(path: &Path) -> Result<CertInfo, CertError> {
    let der = pem_contents(path, read_text(path)?.as_bytes())?;
    let cert = parse(path, &der)?;
    let not_after = cert.validity().not_after.timestamp();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let subject = match identity_of(&der) {
        Some(identity) => identity.to_string(),
        None => cert.subject().to_string(),
    };
    let left = Duration::from_secs(u64::try_from(not_after - now).unwrap_or(0));
    Ok(CertInfo { path: path.to_owned(), subject, not_after, left })
}

/// Who a certificate says its holder is; `None` unless there is exactly one such line, and it is understood.
pub(crate) fn identity_of(der: &[u8]) -> Option<Identity> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let mut uris = walrus_uris(&cert)?.into_iter();
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Identity::parse(&uri),
        _ => None,
    }
}

/// The cluster that a CA's certificate names.
fn cluster_of(path: &Path, pem: &[u8]) -> Result<String, CertError> {
    let der = pem_contents(path, pem)?;
    let cert = parse(path, &der)?;
    let uris = walrus_uris(&cert).unwrap_or_default();
    match uris.first().and_then(|uri| uri.strip_prefix("walrus://")) {
        Some(cluster) if uris.len() == 1 && is_name(cluster) => Ok(cluster.to_owned()),
        _ => Err(bad(path, "this CA was not made by `walrus-node cert init`: it names no cluster")),
    }
}

fn walrus_uris(cert: &X509Certificate<'_>) -> Option<Vec<String>> {
    let names = &cert.subject_alternative_name().ok()??.value.general_names;
    let uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with("walrus://") => Some((*uri).to_owned()),
        _ => None,
    });
    Some(uris.collect())
}

fn pem_contents(path: &Path, pem: &[u8]) -> Result<Vec<u8>, CertError> {
    let first = Pem::iter_from_buffer(pem).next();
    let pem = first.ok_or_else(|| bad(path, "no PEM block in it"))?.map_err(|error| bad(path, error))?;
    Ok(pem.contents)
}

fn parse<'a>(path: &Path, der: &'a [u8]) -> Result<X509Certificate<'a>, CertError> {
    X509Certificate::from_der(der).map(|(_, cert)| cert).map_err(|error| bad(path, error))
}

fn bad(path: &Path, reason: impl std::fmt::Display) -> CertError {
    CertError::Bad { path: path.to_owned(), reason: reason.to_string() }
}

fn file_error(what: &'static str, path: &Path, source: io::Error) -> CertError {
    CertError::File { what, path: path.to_owned(), source }
}

fn read_text(path: &Path) -> Result<String, CertError> {
    std::fs::read_to_string(path).map_err(|source| file_error("reading", path, source))
}

fn make_folder(path: &Path) -> Result<(), CertError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| file_error("making the folder", path, source))
}

fn refuse_existing(paths: &[&Path]) -> Result<(), CertError> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(CertError::Exists { path: (*path).to_owned() }),
        None => Ok(()),
    }
}

/// Writes a file that is not there yet. The mode is its own from its first byte on: a key that is private only a moment
/// later is not private.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CertError::Exists { path: path.to_owned() },
        _ => file_error("writing", path, source),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn request(name: &str, role: Role) -> Request {
        Request { name: name.into(), role, topics: vec!["orders.*".into()], hosts: vec!["10.0.0.7".into()] }
    }

    #[test]
    fn a_ca_and_a_certificate_are_made_and_say_who_they_are() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), "prod").unwrap();
        let folder = issue(dir.path(), &request("p1", Role::Producer)).unwrap();
        assert_eq!(folder, dir.path().join("p1"));
        let der = pem_contents(&folder, &std::fs::read(folder.join(CERT_FILE)).unwrap()).unwrap();
        let identity = identity_of(&der).unwrap();
        assert_eq!((identity.cluster.as_str(), identity.role, identity.name.as_str()), ("prod", Role::Producer, "p1"));
        assert_eq!(identity.topics, ["orders.*"]);
        let found = check(dir.path()).unwrap();
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|cert| cert.left > Duration::from_secs(700 * 86_400)));
    }

    #[test]
    fn keys_are_readable_by_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), "prod").unwrap();
        let folder = issue(dir.path(), &request("n1", Role::Node)).unwrap();
        for key in [dir.path().join(CA_KEY_FILE), folder.join(KEY_FILE)] {
            assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), "prod").unwrap();
        let ca = std::fs::read(dir.path().join(CA_FILE)).unwrap();
        assert!(matches!(init(dir.path(), "other"), Err(CertError::Exists { .. })));
        issue(dir.path(), &request("n1", Role::Node)).unwrap();
        assert!(matches!(issue(dir.path(), &request("n1", Role::Admin)), Err(CertError::Exists { .. })));
        assert_eq!(std::fs::read(dir.path().join(CA_FILE)).unwrap(), ca);
    }

    #[test]
    fn bad_names_and_a_missing_ca_are_refused_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(issue(dir.path(), &request("n1", Role::Node)), Err(CertError::NoCa { .. })));
        for name in ["", "../up", "a/b", ".hidden", "a b", &"x".repeat(65)] {
            assert!(matches!(init(dir.path(), name), Err(CertError::Name { .. })), "{name}");
            assert!(matches!(issue(dir.path(), &request(name, Role::Node)), Err(CertError::Name { .. })), "{name}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
