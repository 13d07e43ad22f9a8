//! Data disks of tests.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};

/// A tool of e2fsprogs, which is in /sbin and therefore not in every user's PATH.
fn e2fs(program: &str, args: &[&str], disk: &Path) -> Output {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    match Command::new(program).env("PATH", path).args(args).arg(disk).output() {
        Ok(output) => output,
        Err(error) => panic!("{program} (Debian: e2fsprogs): {error}"),
    }
}

/// Creates a data disk of this size. (`keel run` creates missing ones with 2 GiB.)
pub fn make(disk: &Path, mib: u64) {
    let sized = File::create(disk).and_then(|file| file.set_len(mib << 20));
    assert!(sized.is_ok(), "{}: {sized:?}", disk.display());
    let label = layout::paths::DATA_LABEL;
    let made = e2fs("mkfs.ext4", &["-q", "-F", "-m", "0", "-L", label], disk);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Fails unless the file system was unmounted cleanly and is consistent.
pub fn assert_clean(disk: &Path) {
    let header = e2fs("dumpe2fs", &["-h"], disk);
    let header = String::from_utf8_lossy(&header.stdout).into_owned();
    let state = header.lines().find(|line| line.starts_with("Filesystem state:"));
    assert!(state.is_some_and(|line| line.ends_with(" clean")), "{header}");
    // A journal to be replayed would mean that it was not unmounted.
    assert!(!header.contains("needs_recovery"), "{header}");
    let check = e2fs("e2fsck", &["-f", "-n"], disk);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}
