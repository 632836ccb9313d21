//! TLS with a certificate from files, which are read again when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::detect::Protocol;

/// How often at most the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of its kind.
    #[error("cannot read the {what} {}: {cause}", .path.display())]
    Read {
        /// `certificate` or `private key`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why, in words.
        cause: String,
    },
    /// The file has no certificate at all.
    #[error("{} holds no certificate; expected PEM with the server's certificate first", .0.display())]
    Empty(PathBuf),
    /// The key is of a kind that is not known, or does not belong to the certificate.
    #[error("certificate {} and private key {} do not go together: {cause}", .certificate.display(), .key.display())]
    Mismatch {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// Why.
        #[source]
        cause: rustls::Error,
    },
    /// The library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// A certificate with its key, as they stand in their files.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    acceptor: Arc<ServerConfig>,
    current: Arc<Current>,
    looked: Mutex<Looked>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What was seen of the files when they were looked at last.
#[derive(Debug)]
struct Looked {
    at: Instant,
    stamps: Stamps,
}

/// Size and time of change of both files; `None` for one that is not there.
type Stamps = [Option<(u64, SystemTime)>; 2];

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Tls {
    /// Reads a chain of certificates and a private key, both PEM.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let stamps = files.stamps();
        let current = Arc::new(Current(ArcSwap::from_pointee(files.read(&provider)?)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let looked = Looked {
            at: Instant::now(),
            stamps,
        };
        Ok(Self {
            files,
            acceptor: Arc::new(config),
            current,
            looked: Mutex::new(looked),
        })
    }

    /// Does the server's part of a handshake, with the certificate as it stands in its file now.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        self.refresh();
        TlsAcceptor::from(self.acceptor.clone()).accept(stream).await
    }

    /// What was agreed on in the handshake.
    #[expect(
        clippy::unused_self,
        reason = "what is agreed on follows from this configuration"
    )]
    pub(super) fn protocol<S>(&self, stream: &TlsStream<S>) -> Protocol {
        let connection: &ServerConnection = stream.get_ref().1;
        if connection.alpn_protocol() == Some(b"h2") {
            Protocol::Http2
        } else {
            Protocol::Http1
        }
    }

    /// Takes over changed files. What cannot be used is logged, and the certificate before it stays: files that belong
    /// together are seldom replaced at the same instant.
    fn refresh(&self) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.at.elapsed() < LOOK_INTERVAL {
            return;
        }
        looked.at = Instant::now();
        let stamps = self.files.stamps();
        if stamps == looked.stamps {
            return;
        }
        looked.stamps = stamps;
        drop(looked);
        match self.files.read(self.acceptor.crypto_provider()) {
            Ok(key) => {
                self.current.0.store(Arc::new(key));
                tracing::info!(certificate = %self.files.certificate.display(), "took over a new certificate");
            }
            Err(error) => {
                tracing::error!(%error, "the certificate has changed and cannot be used; keeping the one before");
            }
        }
    }
}

impl Files {
    fn stamps(&self) -> Stamps {
        [&self.certificate, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        })
    }

    fn read(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            // The error of a key file may quote it; its kind says enough.
            move |error: rustls::pki_types::pem::Error| TlsError::Read {
                what,
                path,
                cause: cause(&error),
            }
        };
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(failed("certificate", &self.certificate))?;
        if chain.is_empty() {
            return Err(TlsError::Empty(self.certificate.clone()));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(failed("private key", &self.key))?;
        CertifiedKey::from_der(chain, key, provider).map_err(|cause| TlsError::Mismatch {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            cause,
        })
    }
}

fn cause(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => "it holds no PEM of this kind".to_owned(),
        _ => "it is no valid PEM".to_owned(),
    }
}
