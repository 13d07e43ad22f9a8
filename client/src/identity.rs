//! Our own key: one PEM file with a PKCS#8 key and a self-signed certificate of it.

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
    /// Makes a new ECDSA P-256 key and keeps it in `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn make(path: &Path) -> Result<Identity, Error> {
        let failed = |error: rcgen::Error| Error::Local(format!("making a key: {error}"));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        // For whoever looks at it with other tools; no host reads it.
        params.distinguished_name.push(DnType::CommonName, "keel");
        let certificate = params.self_signed(&key).map_err(failed)?;
        let text = format!("{}{}", key.serialize_pem(), certificate.pem());
        write_private(path, text.as_bytes())?;
        Identity::parse(path, text.as_bytes())
    }

    /// Reads it.
    ///
    /// # Errors
    /// There is no such file, or it holds something else.
    pub fn read(path: &Path) -> Result<Identity, Error> {
        let bytes = std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::Usage(format!(
                "there is no key to show to the host: {} does not exist; `keel keygen` makes one",
                path.display()
            )),
            _ => Error::file(path, &error),
        })?;
        Identity::parse(path, &bytes)
    }

    fn parse(path: &Path, pem: &[u8]) -> Result<Identity, Error> {
        let wrong = |what: &str, error: &dyn std::fmt::Display| {
            Error::Usage(format!("{}: no {what} in it: {error}", path.display()))
        };
        let key =
            PrivateKeyDer::from_pem_slice(pem).map_err(|error| wrong("private key", &error))?;
        let certificate =
            CertificateDer::from_pem_slice(pem).map_err(|error| wrong("certificate", &error))?;
        Ok(Identity { certificate, key })
    }

    /// Of the public key, as hosts list it.
    ///
    /// # Errors
    /// The certificate is none.
    pub fn fingerprint(&self) -> Result<Fingerprint, Error> {
        Fingerprint::of(&self.certificate)
            .map_err(|error| Error::Usage(format!("the certificate of our key: {error}")))
    }
}

/// Whether others than the owner can read the file; false if it is not there.
pub fn readable_by_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

/// Makes the key at `path` unless there is one.
///
/// # Errors
/// It can be neither read nor made.
pub fn once(path: &Path) -> Result<Identity, Error> {
    if path.exists() { Identity::read(path) } else { Identity::make(path) }
}
