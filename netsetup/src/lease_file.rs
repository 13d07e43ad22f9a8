//! Saves a lease across restarts of netsetup. The file is below /run, so it does not outlive the
//! boot, and its times are relative to that boot.

use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::dhcp::client::Held;
use crate::dhcp::lease::Lease;
use crate::links::Mac;
use crate::resolv;

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    mac: Mac,
    since_ms: u64,
    lease: Lease,
}

/// Saves a lease.
///
/// # Errors
/// The file cannot be written.
pub fn save(path: &Path, mac: Mac, held: &Held) -> io::Result<()> {
    let since_ms = u64::try_from(held.since.as_millis()).unwrap_or(u64::MAX);
    let saved = Saved { mac, since_ms, lease: held.lease.clone() };
    resolv::replace(path, &serde_json::to_vec(&saved)?, 0o600)
}

/// The lease saved for this hardware address; `None` if there is none or it cannot be read.
pub fn load(path: &Path, mac: Mac) -> Option<Held> {
    let saved: Saved = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let since = Duration::from_millis(saved.since_ms);
    (saved.mac == mac).then_some(Held { lease: saved.lease, since })
}

/// Removes a saved lease.
pub fn remove(path: &Path) {
    // If the file cannot be removed, the only consequence is a refused confirmation after a
    // restart.
    let _ = std::fs::remove_file(path);
}
