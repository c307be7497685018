//! A folder of PEM files becomes what rustls needs, and a peer's certificate becomes who the peer is.
//!
//! What is switched off here stays off: TLS below 1.3, session resumption (rustls would not run the verifiers again) and
//! 0-RTT (it can be replayed).
//!
//! Layer: net. Uses `wire` for identities. Knows nothing of sockets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, version};

use super::cert::{CA_FILE, CERT_FILE, KEY_FILE, identity_of};
use crate::wire::rights::Identity;
use crate::wire::{ALPN, Code, Violation};

/// Why a TLS folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is missing or cannot be read.
    #[error(
        "the TLS folder has no usable {file}: {reason} ({path})\n\
         hint: a folder made by `walrus-node cert issue DIR NAME --role ...` is what --tls takes"
    )]
    File {
        /// ca.pem, cert.pem or key.pem.
        file: &'static str,
        /// The whole path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The certificate does not say who it is.
    #[error(
        "{path} carries no walrus identity\nhint: make it by `walrus-node cert issue DIR NAME --role node|producer|consumer|admin`"
    )]
    NoIdentity {
        /// The certificate.
        path: PathBuf,
    },
    /// rustls does not accept the files together.
    #[error("the TLS folder {path} cannot be used: {reason}")]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Everything that one node or client needs to prove who it is and to check who the other is.
#[derive(Clone)]
pub(crate) struct Tls {
    identity: Identity,
    server: Arc<QuicServerConfig>,
    client: Arc<QuicClientConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({})", self.identity)
    }
}

impl Tls {
    /// Loads `ca.pem`, `cert.pem` and `key.pem` from a folder.
    pub(crate) fn load(folder: &Path) -> Result<Tls, TlsError> {
        let unusable =
            |reason: &dyn std::fmt::Display| TlsError::Unusable { path: folder.to_owned(), reason: reason.to_string() };
        let mut roots = RootCertStore::empty();
        for ca in load_certs(folder, CA_FILE)? {
            roots.add(ca).map_err(|error| unusable(&error))?;
        }
        let roots = Arc::new(roots);
        let chain = load_certs(folder, CERT_FILE)?;
        let identity = chain.first().and_then(|cert| identity_of(cert));
        let identity = identity.ok_or_else(|| TlsError::NoIdentity { path: folder.join(CERT_FILE) })?;
        let key = load_key(folder)?;

        let server = server_config(&roots, chain.clone(), key.clone_key()).map_err(|error| unusable(&error))?;
        let client = client_config(&roots, chain, key).map_err(|error| unusable(&error))?;
        Ok(Tls { identity, server, client })
    }

    /// Who we are.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// For a node.
    pub(crate) fn server(&self) -> Arc<QuicServerConfig> {
        Arc::clone(&self.server)
    }

    /// For whoever connects.
    pub(crate) fn client(&self) -> Arc<QuicClientConfig> {
        Arc::clone(&self.client)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

type ConfigError = Box<dyn std::error::Error + Send + Sync>;

fn server_config(
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<QuicServerConfig>, ConfigError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider()).build()?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(QuicServerConfig::try_from(config)?))
}

fn client_config(
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<QuicClientConfig>, ConfigError> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(Arc::clone(roots))
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(QuicClientConfig::try_from(config)?))
}

fn load_certs(folder: &Path, file: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let path = folder.join(file);
    let certs = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certs {
        Ok(certs) if !certs.is_empty() => Ok(certs),
        Ok(_) => Err(TlsError::File { file, path, reason: "no certificate in it".into() }),
        Err(error) => Err(TlsError::File { file, path, reason: pem_reason(&error) }),
    }
}

fn load_key(folder: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let (file, path) = (KEY_FILE, folder.join(KEY_FILE));
    PrivateKeyDer::from_pem_file(&path).map_err(|error| TlsError::File { file, path, reason: pem_reason(&error) })
}

fn pem_reason(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Who the peer of an established connection is. The chain was verified by rustls; this reads the name that it vouches for.
pub(crate) fn peer_identity(connection: &quinn::Connection, cluster: &str) -> Result<Identity, Violation> {
    let certs = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let identity = certs.as_ref().and_then(|certs| certs.first()).and_then(|cert| identity_of(cert));
    let Some(identity) = identity else {
        let what = "the certificate carries no walrus identity; hint: make it by `walrus-node cert issue`";
        return Err(Violation::new(Code::UNAUTHENTICATED, what));
    };
    if identity.cluster != cluster {
        let what = format!("the certificate is of cluster {}, this is cluster {cluster}", identity.cluster);
        return Err(Violation::new(Code::UNAUTHENTICATED, what));
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::super::cert::{Request, Role, init, issue};
    use super::*;

    #[test]
    fn a_folder_is_loaded_and_one_that_lacks_a_file_says_which() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), "walrus").unwrap();
        let request = Request { name: "n1".into(), role: Role::Node, topics: vec![], hosts: vec![] };
        let folder = issue(dir.path(), &request).unwrap();
        assert_eq!(Tls::load(&folder).unwrap().identity().name, "n1");
        for file in [CA_FILE, CERT_FILE, KEY_FILE] {
            let saved = std::fs::read(folder.join(file)).unwrap();
            for broken in [None, Some(&b"nonsense"[..])] {
                match broken {
                    None => std::fs::remove_file(folder.join(file)).unwrap(),
                    Some(bytes) => std::fs::write(folder.join(file), bytes).unwrap(),
                }
                let error = Tls::load(&folder).unwrap_err().to_string();
                assert!(error.contains(file), "{error}");
            }
            std::fs::write(folder.join(file), saved).unwrap();
        }
    }
}
