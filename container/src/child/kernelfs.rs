//! The kernel's own file systems inside the container.
//!
//! Each mount point is opened first, without following links, and the mount goes to the descriptor:
//! `fchdir` and `mount(2)` on "." are two system calls where the descriptor-based mount API takes
//! six for the same safety.

use super::beneath::{Root, c_path};
use super::{About, Done, Problem};
use crate::sys;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::fstat;
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

/// Writes a file of /proc, named by its path below it. /proc must be the root of a procfs (CVE-2019-16884:
/// an image that shows something else there makes such writes do nothing), and the way from there
/// leads over no mount: a container that may mount could have put another file in the place of this
/// one (CVE-2025-52881).
pub(super) fn write(root: &Root, path: &str, text: &str) -> Done {
    let about = || format!("/proc/{path}");
    let proc = root.look_up("/proc", libc::O_PATH | libc::O_DIRECTORY)?;
    let is_procfs = fstatfs(&proc)?.filesystem_type() == PROC_SUPER_MAGIC;
    if !is_procfs || fstat(&proc)?.st_ino != PROC_ROOT_INO {
        return Err(Problem::new(Errno::EPERM, "/proc is not procfs"));
    }
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS;
    let file = sys::openat2(&proc, &c_path(path)?, libc::O_WRONLY, 0, resolve).about(about())?;
    nix::unistd::write(&file, text.as_bytes()).map(drop).about(about())
}

/// The number of a procfs's root (include/linux/proc_ns.h).
const PROC_ROOT_INO: u64 = 1;

/// Sets what belongs to the container's own namespaces. The kernel shows each process those of its
/// own there (proc_sys_net(5), proc_sys_kernel(5)).
pub(super) fn sysctls(root: &Root, settings: &[(String, String)]) -> Done {
    for (name, value) in settings {
        write(root, &format!("sys/{}", sysctl_file(name)), value)?;
    }
    Ok(())
}
