//! The container's root: layers and a writable tmpfs combined by overlayfs, entered by
//! `pivot_root`.

use super::beneath::Root;
use super::{Context, Ids, Problem, StepResult};
use crate::plan::Plan;
use crate::sys::{self, FsContext, MountAttrFlags};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, mkdir, pivot_root};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const NONE: Option<&str> = None;

/// Makes every mount of this (new) namespace private, so that nothing propagates to the host.
pub(super) fn make_private() -> StepResult {
    Ok(mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?)
}

/// Mounts the tmpfs that holds everything the container writes to its root, and changes to it.
pub(super) fn writable_layer(plan: &Plan<'_>, size: Option<u64>) -> StepResult {
    let staging = plan.staging.as_path();
    let context = || staging.to_string_lossy();
    let mut options = String::from("mode=0755");
    if let Some(bytes) = size {
        options.push_str(&format!(",size={bytes}"));
    }
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    mount(Some("tmpfs"), staging, Some("tmpfs"), flags, Some(options.as_str()))
        .context(context())?;
    chdir(staging).context(context())?;
    for name in ["upper", "work"] {
        mkdir(name, Mode::from_bits_truncate(0o755)).context(name)?;
    }
    Ok(())
}

/// Mounts an overlay of the image layers and the writable layer on top of the latter, and changes
/// to it.
///
/// The layers are passed one by one (`lowerdir+`, Linux 6.5): the single option string of
/// `mount(2)` is limited to a page, which a hundred layers exceed. `volatile` omits the sync of the
/// upper layer at unmount; what is written there is discarded with the container anyway.
///
/// With a user namespace, each layer is first covered by an id-mapped copy of itself: overlayfs
/// uses what is mounted at a path, and a mount can be id-mapped only before it is attached.
pub(super) fn overlay(plan: &Plan<'_>, layers: &[PathBuf], ids: Ids) -> StepResult {
    if let Some((_, userns)) = ids {
        for layer in layers {
            map_layer(layer, userns).context(layer.to_string_lossy())?;
        }
    }
    let overlay = FsContext::open("overlay")?;
    let explain = |errno: Errno, about: &str| {
        Problem::new(errno, overlay.error_message().unwrap_or_else(|| about.to_owned()))
    };
    overlay.set("source", "overlay")?;
    for layer in layers {
        overlay
            .set("lowerdir+", layer)
            .map_err(|errno| explain(errno, &layer.to_string_lossy()))?;
    }
    overlay.set("upperdir", "upper").map_err(|errno| explain(errno, "upper"))?;
    overlay.set("workdir", "work").map_err(|errno| explain(errno, "work"))?;
    overlay.flag("volatile").map_err(|errno| explain(errno, "volatile"))?;
    let root = overlay
        .create()
        .map_err(|errno| explain(errno, ""))
        .and_then(|()| Ok(overlay.mount(attributes(plan))?))?;
    let here = open(".", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    sys::move_mount(&root, &here)?;
    Ok(fchdir(&root)?)
}

/// Mount attributes of the root.
///
/// With no_new_privs, file capabilities grant nothing, but the kernel still checks them: it refuses
/// to execute a file with a capability outside the bounding set (EPERM), such as ping with
/// CAP_NET_RAW. On a `nosuid` mount it ignores them.
fn attributes(plan: &Plan<'_>) -> MountAttrFlags {
    match plan.process.no_new_privs {
        true => MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID,
        false => MountAttrFlags::MOUNT_ATTR_NODEV,
    }
}

fn map_layer(layer: &Path, userns: BorrowedFd<'_>) -> Result<(), Errno> {
    let at = open(layer, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let tree = sys::open_tree(&at, false)?;
    sys::map_ids(&tree, userns, false)?;
    sys::move_mount(&tree, &at)
}

/// Mounts a copy of a directory, with all mounts below it, and changes to it.
///
/// Device nodes on it have no effect; set-user-id bits and file capabilities are treated as in an
/// image's layers.
pub(super) fn directory(plan: &Plan<'_>, path: &Path, ids: Ids) -> StepResult {
    let context = || path.to_string_lossy();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let host = open(path, flags, Mode::empty()).context(context())?;
    let tree = sys::open_tree(&host, true).context(context())?;
    if let Some((_, userns)) = ids {
        sys::map_ids(&tree, userns, true).context(context())?;
    }
    sys::mount_setattr(&tree, attributes(plan), true).context(context())?;
    let at = open(plan.staging.as_path(), flags, Mode::empty())
        .context(plan.staging.to_string_lossy())?;
    sys::move_mount(&tree, &at)?;
    Ok(fchdir(&tree)?)
}

/// Makes the working directory the root of this mount namespace and detaches the host's files.
///
/// With both paths equal the old root is mounted on top of the new one, and unmounting "." removes
/// it (pivot_root(2), "pivot_root(".", ".")").
pub(super) fn pivot() -> StepResult<Root> {
    match pivot_root(".", ".") {
        Ok(()) => umount2(".", MntFlags::MNT_DETACH)?,
        // The host runs from the initial RAM file system, which pivot_root cannot replace.
        Err(Errno::EINVAL) => cover_initial_root()?,
        Err(errno) => return Err(errno.into()),
    }
    chdir("/")?;
    Root::open()
}

/// Replaces `pivot_root` on the initial RAM file system: moves the new root over it and detaches
/// every other mount of the host. The RAM file system itself stays below, and no path reaches it:
/// `..` ends at the process's root, and a mount's parent is only exposed by unmounting it, which
/// takes CAP_SYS_ADMIN.
fn cover_initial_root() -> StepResult {
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let host = open("/", directory, Mode::empty())?;
    let new_root: OwnedFd = open(".", directory, Mode::empty())?;
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|_| Problem::new(Errno::ENOENT, "/proc/self/mountinfo"))?;
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)?;
    fchdir(&host)?;
    for path in top_mounts(&table) {
        // Several may be stacked on one path. A mount that cannot be detached is unreachable
        // anyway.
        while umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    }
    fchdir(&new_root)?;
    Ok(chroot(".")?)
}

/// The mount points whose parent is the root mount, relative to it (proc_pid_mountinfo(5)). Paths
/// with spaces stay escaped and are therefore not found; the host has none.
fn top_mounts(table: &str) -> Vec<&str> {
    let rows: Vec<(&str, &str, &str)> = table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (id, parent) = (fields.next()?, fields.next()?);
            Some((id, parent, fields.nth(2)?))
        })
        .collect();
    let Some((root, ..)) = rows.iter().find(|(_, _, path)| *path == "/") else {
        return Vec::new();
    };
    rows.iter()
        .filter(|(_, parent, path)| parent == root && *path != "/")
        .map(|(_, _, path)| path.trim_start_matches('/'))
        .collect()
}

/// Makes the root itself read-only; volumes and tmpfs mounts keep their own setting.
pub(super) fn make_read_only(root: &Root) -> StepResult {
    Ok(sys::mount_setattr(root, MountAttrFlags::MOUNT_ATTR_RDONLY, false)?)
}

#[cfg(test)]
mod tests {
    use super::top_mounts;

    #[test]
    fn only_direct_children_of_the_root_mount_are_detached() {
        let table = "1 1 0:2 / / rw - rootfs rootfs rw\n\
            20 1 0:19 / /proc rw - proc proc rw\n\
            21 1 0:20 / /run rw shared:3 - tmpfs tmpfs rw\n\
            22 21 0:21 / /run/keel/layers/a ro - erofs /a ro\n";
        assert_eq!(top_mounts(table), ["proc", "run"]);
    }
}
