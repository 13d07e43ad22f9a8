//! The data disk: the ext4 file system labelled `KEEL-DATA`, on any disk.

use layout::paths;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// Offsets in ext4 (Documentation/filesystems/ext4/super.rst): the superblock begins at byte 1024.
const SUPERBLOCK: u64 = 1024;
const MAGIC_AT: usize = 0x38;
const MAGIC: [u8; 2] = [0x53, 0xef];
const LABEL_AT: usize = 0x78;
const LABEL_BYTES: usize = 16;

/// The result of a search on all disks.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// It is mounted at [`paths::DATA`]; the device's name.
    Mounted(String),
    /// No disk has the label.
    Nothing,
    /// It exists but cannot be used: the device and why. Volumes must not silently be in memory
    /// then.
    Broken(String),
}

/// Searches every block device and mounts the data disk.
pub fn find_and_mount() -> Found {
    if let Some(device) = already_mounted() {
        return Found::Mounted(device);
    }
    let mut names: Vec<String> = match fs::read_dir("/sys/class/block") {
        Ok(entries) => {
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
        }
        Err(_) => return Found::Nothing,
    };
    names.sort();
    for name in names {
        let path = format!("/dev/{name}");
        let Ok(disk) = File::open(&path) else { continue };
        let mut superblock = [0u8; LABEL_AT + LABEL_BYTES];
        if disk.read_exact_at(&mut superblock, SUPERBLOCK).is_err() || !is_ours(&superblock) {
            continue;
        }
        drop(disk);
        return match mount_data(&path) {
            Ok(()) => Found::Mounted(path),
            Err(errno) => Found::Broken(format!("{path} cannot be mounted: {errno}")),
        };
    }
    Found::Nothing
}

fn is_ours(superblock: &[u8]) -> bool {
    let label = superblock.get(LABEL_AT..LABEL_AT + LABEL_BYTES).unwrap_or_default();
    let end = label.iter().position(|byte| *byte == 0).unwrap_or(label.len());
    superblock.get(MAGIC_AT..MAGIC_AT + 2) == Some(&MAGIC)
        && label.get(..end) == Some(paths::DATA_LABEL.as_bytes())
}

fn already_mounted() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let device = words.next()?;
        (words.next()? == paths::DATA).then(|| device.to_owned())
    })
}

fn mount_data(device: &str) -> Result<(), Errno> {
    // The directory may exist from before a restart of this process.
    let _ = fs::create_dir(paths::DATA);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    // errors=remount-ro: a damaged disk must not take the host down with it (errors=panic may be
    // set in the superblock).
    mount(Some(device), paths::DATA, Some("ext4"), flags, Some("errors=remount-ro"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_label_counts() {
        let mut block = [0u8; LABEL_AT + LABEL_BYTES];
        assert!(!is_ours(&block));
        block[MAGIC_AT..MAGIC_AT + 2].copy_from_slice(&MAGIC);
        assert!(!is_ours(&block));
        block[LABEL_AT..LABEL_AT + 9].copy_from_slice(b"KEEL-DATA");
        assert!(is_ours(&block));
        block[LABEL_AT + 9] = b'2';
        assert!(!is_ours(&block));
    }

    proptest! {
        #[test]
        fn any_block_is_handled(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            is_ours(&bytes);
        }
    }
}
