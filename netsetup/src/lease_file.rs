//! A lease kept over a restart of netsetup. The file lies below /run, so it ends with the boot, and
//! its times are spans since that boot.

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

/// Keeps a lease.
///
/// # Errors
/// The file's.
pub fn save(path: &Path, mac: Mac, held: &Held) -> io::Result<()> {
    let since_ms = u64::try_from(held.since.as_millis()).unwrap_or(u64::MAX);
    let saved = Saved { mac, since_ms, lease: held.lease.clone() };
    resolv::replace(path, &serde_json::to_vec(&saved)?, 0o600)
}

/// The lease kept for this hardware address; `None` if there is none that can be read.
pub fn load(path: &Path, mac: Mac) -> Option<Held> {
    let saved: Saved = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let since = Duration::from_millis(saved.since_ms);
    (saved.mac == mac).then_some(Held { lease: saved.lease, since })
}

/// Forgets a lease.
pub fn remove(path: &Path) {
    // A file that cannot be removed costs one refused confirmation after a restart.
    let _ = std::fs::remove_file(path);
}
