//! Our own key: a PEM file with a PKCS#8 private key and a self-signed certificate.

use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::paths::write_private;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A key and its certificate.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, which carries the public key.
    pub certificate: CertificateDer<'static>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Generates an ECDSA P-256 key and stores it in `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn make(path: &Path) -> Result<Identity, Error> {
        let failed = |error: rcgen::Error| Error::local(format!("cannot generate a key: {error}"));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        // For other tools; hosts ignore it.
        params.distinguished_name.push(DnType::CommonName, "keel");
        let certificate = params.self_signed(&key).map_err(failed)?;
        let text = format!("{}{}", key.serialize_pem(), certificate.pem());
        write_private(path, text.as_bytes())?;
        Identity::parse(path, text.as_bytes())
    }

    /// Reads a key.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold a key and a certificate.
    pub fn read(path: &Path) -> Result<Identity, Error> {
        let bytes = std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::usage(format!(
                "no client key: {} does not exist; create one with `keel keygen`",
                path.display()
            )),
            _ => Error::file(path, &error),
        })?;
        Identity::parse(path, &bytes)
    }

    fn parse(path: &Path, pem: &[u8]) -> Result<Identity, Error> {
        let wrong = |what: &str, error: &dyn std::fmt::Display| {
            Error::usage(format!("{}: no valid {what}: {error}", path.display()))
        };
        let key =
            PrivateKeyDer::from_pem_slice(pem).map_err(|error| wrong("private key", &error))?;
        let certificate =
            CertificateDer::from_pem_slice(pem).map_err(|error| wrong("certificate", &error))?;
        Ok(Identity { certificate, key })
    }

    /// The fingerprint of the public key, as hosts list it.
    ///
    /// # Errors
    /// The certificate is invalid.
    pub fn fingerprint(&self) -> Result<Fingerprint, Error> {
        Fingerprint::of(&self.certificate)
            .map_err(|error| Error::usage(format!("invalid certificate of our key: {error}")))
    }
}

/// Whether other users can read the file; false if it does not exist.
pub fn readable_by_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

/// Reads the key at `path`, or generates it if there is none.
///
/// # Errors
/// It can be neither read nor generated.
pub fn read_or_make(path: &Path) -> Result<Identity, Error> {
    if path.exists() { Identity::read(path) } else { Identity::make(path) }
}
