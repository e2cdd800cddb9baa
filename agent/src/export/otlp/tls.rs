//! What rustls needs to know, from files or from the system.
//!
//! In: the files that were named. Out: a client configuration, made once before the run starts, so that a file that is
//! missing or wrong is told at once.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::settings::{Protocol, TlsFiles};

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file does not hold what it should.
    #[error("read {what} {path}: {reason}")]
    File {
        /// What it should hold.
        what: &'static str,
        /// Which file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// There are no roots.
    #[error(
        "this system has no root certificates: install ca-certificates, or name the collector's authority with \
         --otlp-certificate"
    )]
    NoRoots,
    /// The parts do not fit each other.
    #[error("set up TLS: {0}")]
    Rejected(String),
}

/// A client configuration for one endpoint.
pub(super) fn client_config(files: &TlsFiles, protocol: Protocol) -> Result<Arc<ClientConfig>, TlsError> {
    let rejected = |error: tokio_rustls::rustls::Error| TlsError::Rejected(error.to_string());
    let roots = match &files.certificate {
        Some(path) => roots_from(path)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(rejected)?
        .with_root_certificates(roots);
    let mut config = match (&files.client_certificate, &files.client_key) {
        (Some(certificate), Some(key)) => {
            let what = "the key of the client certificate";
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(what, key, &error))?;
            let chain = certificates("the client certificate", certificate)?;
            builder.with_client_auth_cert(chain, key_der).map_err(rejected)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![match protocol {
        Protocol::Grpc => b"h2".to_vec(),
        Protocol::Http => b"http/1.1".to_vec(),
    }];
    Ok(Arc::new(config))
}

fn roots_from(path: &Path) -> Result<RootCertStore, TlsError> {
    let what = "the certificate authority";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, path)? {
        roots.add(certificate).map_err(|error| file_error(what, path, &error))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // Systems carry certificates that rustls cannot read; the others serve.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| file_error(what, path, &error))?;
    if certificates.is_empty() {
        return Err(file_error(what, path, &"it holds no certificate in PEM"));
    }
    Ok(certificates)
}

fn file_error(what: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { what, path: path.display().to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_missing_or_wrong_are_named() {
        let missing = TlsFiles { certificate: Some("/nonexistent/ca.pem".into()), ..TlsFiles::default() };
        let error = client_config(&missing, Protocol::Http).unwrap_err().to_string();
        assert!(error.contains("certificate authority /nonexistent/ca.pem"), "{error}");
        let wrong = TlsFiles { certificate: Some("Cargo.toml".into()), ..TlsFiles::default() };
        let error = client_config(&wrong, Protocol::Http).unwrap_err().to_string();
        assert!(error.contains("Cargo.toml: it holds no certificate in PEM"), "{error}");
    }
}
