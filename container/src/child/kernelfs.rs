//! The kernel's own file systems inside the container.
//!
//! Each mount point is opened first, without following links, and the mount goes to the descriptor:
//! `fchdir` and `mount(2)` on "." are two system calls where the descriptor-based mount API takes
//! six for the same safety.

use super::beneath::Root;
use super::{About, Done, Problem};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::fchdir;
use units::sysctl::sysctl_file;

const NOSUID_NODEV_NOEXEC: MsFlags =
    MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Mounts a file system on a directory that belongs to the runtime.
pub(super) fn mount_kernel(
    root: &Root,
    path: &str,
    kind: &str,
    flags: MsFlags,
    options: Option<&str>,
) -> Done {
    let dir = root.kernel_dir(path)?;
    fchdir(&dir)?;
    mount(Some(kind), ".", Some(kind), flags, options).about(format!("/{path}"))
}

/// procfs of the container's pid namespace.
pub(super) fn proc(root: &Root) -> Done {
    mount_kernel(root, "proc", "proc", NOSUID_NODEV_NOEXEC, None)
}

/// sysfs of the container's network namespace, read-only.
pub(super) fn sys(root: &Root) -> Done {
    mount_kernel(root, "sys", "sysfs", NOSUID_NODEV_NOEXEC | MsFlags::MS_RDONLY, None)
}

/// The container's own cgroup, read-only (CVE-2023-25809), as its cgroup namespace shows it.
pub(super) fn cgroup(root: &Root) -> Done {
    let flags = NOSUID_NODEV_NOEXEC | MsFlags::MS_RDONLY;
    mount_kernel(root, "sys/fs/cgroup", "cgroup2", flags, None)
}

/// Writes a file of /proc, through a descriptor whose file system is checked to be procfs
/// (CVE-2019-16884: an image that shows something else as /proc makes such writes do nothing).
pub(super) fn write(root: &Root, path: &str, text: &str) -> Done {
    let file = root.look_up(path, libc::O_WRONLY)?;
    if fstatfs(&file)?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(Problem::new(Errno::EPERM, "/proc is not procfs"));
    }
    nix::unistd::write(&file, text.as_bytes()).map(drop).about(path)
}

/// Sets what belongs to the container's own namespaces. The kernel shows each process those of its
/// own there (proc_sys_net(5), proc_sys_kernel(5)).
pub(super) fn sysctls(root: &Root, settings: &[(String, String)]) -> Done {
    for (name, value) in settings {
        write(root, &format!("/proc/sys/{}", sysctl_file(name)), value)?;
    }
    Ok(())
}
