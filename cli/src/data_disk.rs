//! The data disk of a virtual machine: a sparse file with an ext4 file system.

use crate::Failure;
use layout::paths::DATA_LABEL;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Size of a new disk. The file is sparse and takes only the space that is written.
const BYTES: u64 = 2 << 30;

/// Creates the disk if the file does not exist.
///
/// # Errors
/// The file cannot be created. No incomplete file is left behind.
pub fn prepare(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = PathBuf::from(name);
    let made = make(&fresh).and_then(|()| fs::rename(&fresh, path).map_err(Failure::from));
    if made.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    made.map_err(|Failure(why)| Failure(format!("data disk {}: {why}", path.display())))
}

fn make(path: &Path) -> Result<(), Failure> {
    File::create(path)?.set_len(BYTES)?;
    // mkfs.ext4 is in /sbin, which is not in every user's PATH.
    let path_list = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("mkfs.ext4")
        .env("PATH", path_list)
        .args(["-q", "-F", "-m", "0", "-L", DATA_LABEL])
        .arg(path)
        .output()
        .map_err(|error| Failure(format!("mkfs.ext4 (Debian: e2fsprogs): {error}")))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(Failure(format!("mkfs.ext4: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }
}
