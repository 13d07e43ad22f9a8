//! Fingerprints of public keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// SHA-256 of a public key (SubjectPublicKeyInfo, DER), written as `SHA256:` and unpadded base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of the key in a certificate. Nothing else in the certificate counts: not its dates, not its
    /// names, not who signed it.
    ///
    /// # Errors
    /// It is no X.509 certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Fingerprint, rustls::Error> {
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        Ok(Fingerprint(Sha256::digest(key.as_ref()).into()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", STANDARD_NO_PAD.encode(self.0))
    }
}

/// A text that is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the fingerprint of a key: it is `SHA256:` and 43 characters")]
pub struct NoFingerprint;

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Fingerprint, NoFingerprint> {
        let digits = text.strip_prefix("SHA256:").ok_or(NoFingerprint)?;
        let bytes = STANDARD_NO_PAD.decode(digits).map_err(|_| NoFingerprint)?;
        Ok(Fingerprint(bytes.try_into().map_err(|_| NoFingerprint)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_is_written() {
        let text = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        assert_eq!(text.parse::<Fingerprint>().unwrap().to_string(), text);
        for bad in ["", "SHA256:", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", &text[..40]] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
