//! The kernel's own file systems inside the container.
//!
//! Each mount point is opened without following links, and the mount goes to the descriptor:
//! `fchdir` and `mount(2)` on "." take two system calls, while the descriptor-based mount API takes
//! six for the same safety.

use super::beneath::Root;
use super::{Context, Problem, StepResult};
use crate::sys::{self, ResolveFlags};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::fstat;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::fchdir;
use units::sysctl::sysctl_file;

const NOSUID_NODEV_NOEXEC: MsFlags =
    MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Mounts a file system on a directory that belongs to the runtime ([`Root::kernel_dir`]).
pub(super) fn mount_kernel(
    root: &Root,
    path: &str,
    kind: &str,
    flags: MsFlags,
    options: Option<&str>,
) -> StepResult {
    let dir = root.kernel_dir(path)?;
    fchdir(&dir)?;
    mount(Some(kind), ".", Some(kind), flags, options).context(format!("/{path}"))
}

/// Mounts procfs for the container's pid namespace.
pub(super) fn proc(root: &Root) -> StepResult {
    mount_kernel(root, "proc", "proc", NOSUID_NODEV_NOEXEC, None)
}

/// Mounts sysfs for the container's network namespace, read-only.
pub(super) fn sys(root: &Root) -> StepResult {
    mount_kernel(root, "sys", "sysfs", NOSUID_NODEV_NOEXEC | MsFlags::MS_RDONLY, None)
}

/// Mounts the container's own cgroup, read-only (CVE-2023-25809), as its cgroup namespace shows it.
pub(super) fn cgroup(root: &Root) -> StepResult {
    let flags = NOSUID_NODEV_NOEXEC | MsFlags::MS_RDONLY;
    mount_kernel(root, "sys/fs/cgroup", "cgroup2", flags, None)
}

/// Writes a file below /proc; `path` is relative to it. /proc must be the root of a procfs, because
/// an image that mounts something else there would make the write do nothing (CVE-2019-16884). The
/// path must not cross a mount: a container that may mount could have put another file in its place
/// (CVE-2025-52881).
pub(super) fn write(root: &Root, path: &str, text: &str) -> StepResult {
    let context = || format!("/proc/{path}");
    let proc = root.look_up("/proc", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let is_procfs = fstatfs(&proc)?.filesystem_type() == PROC_SUPER_MAGIC;
    if !is_procfs || fstat(&proc)?.st_ino != PROC_ROOT_INO {
        return Err(Problem::new(Errno::EPERM, "/proc is not procfs"));
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let file = sys::openat2(&proc, path, OFlag::O_WRONLY, 0, resolve).context(context())?;
    nix::unistd::write(&file, text.as_bytes()).map(drop).context(context())
}

/// Inode number of the root of a procfs (include/linux/proc_ns.h).
const PROC_ROOT_INO: u64 = 1;

/// Sets sysctls of the container's own namespaces. The kernel shows each process the values of its
/// own namespaces in /proc/sys (proc_sys_net(5), proc_sys_kernel(5)).
pub(super) fn sysctls(root: &Root, settings: &[(String, String)]) -> StepResult {
    for (name, value) in settings {
        write(root, &format!("sys/{}", sysctl_file(name)), value)?;
    }
    Ok(())
}
