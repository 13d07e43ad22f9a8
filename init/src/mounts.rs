//! The early mounts: one table, read from top to bottom.

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use std::path::Path;

/// One line of the table.
pub struct Mount {
    /// File system type, also used as its source name.
    pub fstype: &'static str,
    /// Where it is mounted; created if it does not exist.
    pub target: &'static str,
    /// Mount flags.
    pub flags: MsFlags,
    /// File-system specific options.
    pub data: &'static str,
    /// The host cannot run without it.
    pub fatal: bool,
}

const fn flags(list: &[MsFlags]) -> MsFlags {
    let mut bits = 0;
    let mut at = 0;
    while at < list.len() {
        bits |= list[at].bits();
        at += 1;
    }
    MsFlags::from_bits_retain(bits)
}

const NOSUID: MsFlags = MsFlags::MS_NOSUID;
const NODEV: MsFlags = MsFlags::MS_NODEV;
const NOEXEC: MsFlags = MsFlags::MS_NOEXEC;
const ALL: MsFlags = flags(&[NOSUID, NODEV, NOEXEC]);

/// What PID 1 mounts before anything else, in this order.
#[rustfmt::skip]
pub const TABLE: &[Mount] = &[
    Mount { fstype: "proc",       target: "/proc",              flags: ALL,                      data: "",          fatal: true },
    Mount { fstype: "sysfs",      target: "/sys",               flags: ALL,                      data: "",          fatal: true },
    // devtmpfs: the kernel makes the nodes of all devices; there is no udev.
    Mount { fstype: "devtmpfs",   target: "/dev",               flags: flags(&[NOSUID, NOEXEC]), data: "mode=0755", fatal: true },
    Mount { fstype: "devpts",     target: "/dev/pts",           flags: flags(&[NOSUID, NOEXEC]), data: "gid=5,mode=0620,ptmxmode=0666", fatal: false },
    Mount { fstype: "tmpfs",      target: "/dev/shm",           flags: ALL,                      data: "mode=1777", fatal: false },
    Mount { fstype: "tmpfs",      target: "/run",               flags: ALL,                      data: "mode=0755", fatal: true },
    // nsdelegate: a container's processes cannot be moved out of its cgroup namespace.
    Mount { fstype: "cgroup2",    target: "/sys/fs/cgroup",     flags: ALL,                      data: "nsdelegate,memory_recursiveprot", fatal: true },
    Mount { fstype: "securityfs", target: "/sys/kernel/security", flags: ALL,                    data: "",          fatal: false },
];

/// A mount that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {fstype} on {target}: {errno}")]
pub struct MountError {
    /// Its type.
    pub fstype: &'static str,
    /// Its target.
    pub target: &'static str,
    /// mount(2)'s error.
    pub errno: Errno,
}

/// Mounts the whole table. Failures of lines that are not fatal come back as a list to be logged
/// (the log does not exist yet when this runs).
///
/// # Errors
/// The first fatal line that failed.
pub fn mount_all(table: &'static [Mount]) -> Result<Vec<MountError>, MountError> {
    let mut tolerated = Vec::new();
    for line in table {
        if let Err(error) = mount_one(line) {
            if line.fatal {
                return Err(error);
            }
            tolerated.push(error);
        }
    }
    Ok(tolerated)
}

fn mount_one(line: &Mount) -> Result<(), MountError> {
    let failed = |errno| MountError { fstype: line.fstype, target: line.target, errno };
    // The directory may exist; any other error shows up in mount itself.
    let _ = std::fs::create_dir_all(line.target);
    let data = if line.data.is_empty() { None } else { Some(line.data) };
    mount(Some(line.fstype), line.target, Some(line.fstype), line.flags, data).map_err(failed)
}

/// Mounts the root on top of itself, and enters the new mount.
///
/// pivot_root(2) refuses to work below the kernel's initial ramfs, which cannot be unmounted. Below
/// this mount it works, so that containers can detach the host's files permanently.
///
/// # Errors
/// The call that failed. The root is then as it was.
pub fn make_root_pivotable() -> Result<(), (&'static str, Errno)> {
    let none: Option<&str> = None;
    // Any directory serves as the temporary mount point.
    mount(Some("/"), "/run", none, MsFlags::MS_BIND, none).map_err(|errno| ("bind /", errno))?;
    nix::unistd::chdir("/run").map_err(|errno| ("chdir", errno))?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none).map_err(|errno| ("move /", errno))?;
    nix::unistd::chroot(".").map_err(|errno| ("chroot", errno))
}

/// The tmpfs of named volumes on a host without a data disk, half of the memory at most. Programs
/// may be stored and run there, as on a disk.
///
/// # Errors
/// mount(2) fails.
pub fn volumes_in_memory() -> Result<(), Errno> {
    let flags = flags(&[NOSUID, NODEV]);
    let target = layout::paths::RUN_VOLUMES;
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some("mode=0700"))
}

/// Makes the program file read-only under its own path, by a bind mount of it on itself.
///
/// Containers are forked from the supervisor, so `/proc/self/exe` inside them leads to this file
/// until their own program runs; through this mount it cannot be opened for writing
/// (CVE-2019-5736).
///
/// # Errors
/// mount(2) fails.
pub fn seal_binary(path: &str) -> Result<(), Errno> {
    if !Path::new(path).exists() {
        return Err(Errno::ENOENT);
    }
    let none: Option<&str> = None;
    mount(Some(path), path, none, MsFlags::MS_BIND, none)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | NOSUID | NODEV;
    mount(none, path, none, flags, none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dev_allows_device_nodes_and_no_mount_allows_setuid() {
        for line in TABLE {
            assert!(line.flags.contains(NOSUID), "{} allows setuid", line.target);
            assert!(line.flags.contains(NOEXEC), "{} allows programs", line.target);
            let is_dev = matches!(line.target, "/dev" | "/dev/pts");
            assert_eq!(!line.flags.contains(NODEV), is_dev, "{} and nodev", line.target);
        }
    }

    #[test]
    fn every_parent_is_mounted_before_its_children() {
        for (at, line) in TABLE.iter().enumerate() {
            for later in &TABLE[at + 1..] {
                assert!(
                    !line.target.starts_with(&format!("{}/", later.target)),
                    "{} hides {}",
                    later.target,
                    line.target
                );
            }
        }
    }
}
