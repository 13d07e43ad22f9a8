//! The host's own key: generated once, kept in a file, known to clients by its fingerprint.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file in its directory: PKCS#8, PEM.
const FILE: &str = "host.key";
/// The new name of a file that is not a key, for later inspection.
const BROKEN: &str = "host.key.broken";
/// Largest key file that is read; a key has about 250 bytes.
const MAX_FILE: u64 = 16 * 1024;

/// What can go wrong with the host's key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file operation.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Its error.
        source: std::io::Error,
    },
    /// A file that is not a key.
    #[error("{}: not a private key: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: rcgen::Error,
    },
    /// A key or a certificate could not be generated.
    #[error("cannot generate a key: {0}")]
    Make(#[from] rcgen::Error),
}

/// The host's key with its certificate.
#[derive(Debug)]
pub struct HostKey {
    pair: KeyPair,
    /// It is in memory only: the next boot generates another one.
    ephemeral: bool,
}

impl HostKey {
    /// The key in `data`, the directory on the data disk, if there is one, and otherwise in `run`. If
    /// there is no key, it is generated; one that was used while there was no data disk is copied to
    /// it. If the data disk fails, the API still starts, with a key that lasts until the next boot.
    ///
    /// # Errors
    /// No key can be generated.
    pub fn obtain(data: Option<&Path>, run: &Path) -> Result<HostKey, KeyError> {
        if let Some(data) = data {
            match obtain_in(data, Some(run)) {
                Ok(pair) => return Ok(HostKey { pair, ephemeral: false }),
                Err(error) => log::error!("cannot keep the host's key on the data disk: {error}"),
            }
        }
        let pair = match obtain_in(run, None) {
            Ok(pair) => pair,
            Err(error) => {
                log::error!("cannot keep the host's key: {error}");
                generate()?
            }
        };
        Ok(HostKey { pair, ephemeral: true })
    }

    /// Whether it is lost at the next boot.
    pub fn ephemeral(&self) -> bool {
        self.ephemeral
    }

    /// See [`fingerprint`].
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.pair.subject_public_key_info())
    }

    /// For TLS. The certificate is generated at each start: only its key counts.
    ///
    /// # Errors
    /// It cannot be generated.
    pub fn certificate(
        &self,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), KeyError> {
        let mut params = CertificateParams::new(vec!["keelhost".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "keelhost");
        let certificate = params.self_signed(&self.pair)?;
        let key = PrivatePkcs8KeyDer::from(self.pair.serialize_der());
        Ok((certificate.der().clone(), PrivateKeyDer::Pkcs8(key)))
    }
}

/// How people and `host.toml` name a key: `SHA256:` and the unpadded base64 of the SHA-256 of its
/// SubjectPublicKeyInfo.
pub fn fingerprint(public_key_info: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, public_key_info);
    format!("SHA256:{}", STANDARD_NO_PAD.encode(digest))
}

fn generate() -> Result<KeyPair, KeyError> {
    Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)
}

fn obtain_in(directory: &Path, from: Option<&Path>) -> Result<KeyPair, KeyError> {
    let path = directory.join(FILE);
    match read(&path) {
        Ok(Some(pair)) => return Ok(pair),
        Ok(None) => {}
        Err(error @ KeyError::Content { .. }) => {
            log::error!("{error}; generating a new key");
            let broken = directory.join(BROKEN);
            std::fs::rename(&path, broken).map_err(failed("put aside", &path))?;
        }
        Err(error) => return Err(error),
    }
    let pair = match from.map(|from| read(&from.join(FILE))) {
        Some(Ok(Some(pair))) => pair,
        _ => generate()?,
    };
    write(directory, &path, &pair)?;
    Ok(pair)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> KeyError {
    move |source| KeyError::File { action, path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<Option<KeyPair>, KeyError> {
    let mut options = OpenOptions::new();
    // The directory belongs to this process, but the disk may have been in another machine.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let mut text = String::new();
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
        Ok(file) => match file.take(MAX_FILE).read_to_string(&mut text) {
            // Not text, so not a key.
            Err(error) if error.kind() == ErrorKind::InvalidData => text.clear(),
            result => drop(result.map_err(failed("read", path))?),
        },
    }
    let pair = KeyPair::from_pem(&text)
        .map_err(|source| KeyError::Content { path: path.to_owned(), source })?;
    Ok(Some(pair))
}

/// Writes the key atomically, also if the power fails: a host whose key changes locks its clients out.
fn write(directory: &Path, path: &Path, pair: &KeyPair) -> Result<(), KeyError> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failed("remove", &new)(error));
        }
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&new).map_err(failed("create", &new))?;
    file.write_all(pair.serialize_pem().as_bytes()).map_err(failed("write", &new))?;
    file.sync_all().map_err(failed("sync", &new))?;
    std::fs::rename(&new, path).map_err(failed("rename", &new))?;
    File::open(directory).and_then(|file| file.sync_all()).map_err(failed("sync", directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let name = format!("keel-api-key-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Directory(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_key_persists_and_is_readable_by_its_owner_only() {
        let run = Directory::new("stays");
        let first = HostKey::obtain(None, &run.0).unwrap();
        assert!(first.ephemeral());
        let again = HostKey::obtain(None, &run.0).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        let mode = std::fs::metadata(run.0.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_late_data_disk_takes_over_the_key_that_was_shown() {
        let (run, data) = (Directory::new("late-run"), Directory::new("late-data"));
        let shown = HostKey::obtain(None, &run.0).unwrap();
        let kept = HostKey::obtain(Some(&data.0), &run.0).unwrap();
        assert!(!kept.ephemeral());
        assert_eq!(shown.fingerprint(), kept.fingerprint());
    }

    #[test]
    fn a_key_on_the_data_disk_comes_before_one_in_memory() {
        let (run, data) = (Directory::new("before-run"), Directory::new("before-data"));
        let kept = HostKey::obtain(Some(&data.0), Path::new("/nonexistent")).unwrap();
        HostKey::obtain(None, &run.0).unwrap();
        let used = HostKey::obtain(Some(&data.0), &run.0).unwrap();
        assert_eq!(used.fingerprint(), kept.fingerprint());
    }

    #[test]
    fn a_file_that_holds_no_key_is_put_aside() {
        let data = Directory::new("broken");
        for content in [&b""[..], b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"] {
            std::fs::write(data.0.join(FILE), content).unwrap();
            let key = HostKey::obtain(Some(&data.0), Path::new("/nonexistent")).unwrap();
            assert!(!key.ephemeral());
            assert_eq!(std::fs::read(data.0.join(BROKEN)).unwrap(), content);
        }
    }

    #[test]
    fn without_any_directory_there_is_still_a_key() {
        let nowhere = Path::new("/nonexistent/keel");
        assert!(HostKey::obtain(Some(nowhere), nowhere).unwrap().ephemeral());
    }
}
