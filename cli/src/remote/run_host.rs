//! What `keel run --api` does so that `keel --host` can reach the host.

use crate::Failure;
use client::identity;
use client::pins::RunHost;
use std::net::TcpListener;
use std::path::Path;

/// A host that is about to be started. Its entry is removed when this is dropped.
pub struct Remembered {
    host: RunHost,
    /// A kernel command line argument: the host accepts our temporary key for this boot.
    pub word: String,
    /// The port of this machine that is forwarded to the API.
    pub port: u16,
}

/// Reserves a port (0: any free one), reads or generates the temporary key of this host folder, and stores
/// both for `keel --host 127.0.0.1:PORT`.
///
/// # Errors
/// The port is in use, or a file cannot be written.
pub fn remember(folder: &Path, output: &Path, wanted: u16) -> Result<Remembered, Failure> {
    let port = TcpListener::bind(("127.0.0.1", wanted))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| {
            let other = wanted.checked_add(1).unwrap_or(api_types::PORT);
            Failure(format!(
                "port {wanted} cannot be used for the API: {error}\n  \
                 another `keel run` may be using it; choose another port: --api {other} \
                 (make run API={other}), or --api 0 for any free port"
            ))
        })?
        .port();
    let path = output.join("identity.pem");
    let key = identity::read_or_make(&path)?.fingerprint()?;
    let host = RunHost {
        address: format!("127.0.0.1:{port}"),
        folder: folder.canonicalize().unwrap_or_else(|_| folder.to_owned()),
        identity: path,
        key: None,
    };
    host.store()?;
    Ok(Remembered { host, word: format!("keel.client=keel-run:admin:{key}"), port })
}

impl Drop for Remembered {
    fn drop(&mut self) {
        self.host.remove();
    }
}
