//! The container's root: layers and a writable tmpfs joined by overlayfs, entered by `pivot_root`.

use super::beneath::{Root, c_path};
use super::{About, Done, Ids, Problem};
use crate::plan::Plan;
use crate::sys::{self, FsContext};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, mkdir, pivot_root};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const NONE: Option<&str> = None;

/// Cuts every mount of this (new) namespace off from the host's.
pub(super) fn make_private() -> Done {
    Ok(mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?)
}

/// Mounts the tmpfs for everything that the container writes to its root, and goes there.
pub(super) fn writable_layer(plan: &Plan<'_>, size: Option<u64>) -> Done {
    let staging = plan.staging.as_path();
    let about = || staging.to_string_lossy();
    let mut options = String::from("mode=0755");
    if let Some(bytes) = size {
        options.push_str(&format!(",size={bytes}"));
    }
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    mount(Some("tmpfs"), staging, Some("tmpfs"), flags, Some(options.as_str())).about(about())?;
    chdir(staging).about(about())?;
    for name in ["upper", "work"] {
        mkdir(name, Mode::from_bits_truncate(0o755)).about(name)?;
    }
    Ok(())
}

/// Joins the layers and the writable one, on top of the latter, and goes there.
///
/// The layers are passed one by one (`lowerdir+`, Linux 6.5): the single option string of
/// `mount(2)` has a page, which a hundred layers overflow. `volatile` leaves out the sync of the
/// upper at unmount; what is written there ends with the container anyway.
///
/// With ids of its own, each layer is covered first by a copy of itself that has them: overlayfs
/// takes what is mounted at a path, and a mount can be given a mapping only before it is attached.
pub(super) fn overlay(plan: &Plan<'_>, layers: &[PathBuf], ids: Ids) -> Done {
    if let Some((_, userns)) = ids {
        for layer in layers {
            map_layer(layer, userns).about(layer.to_string_lossy())?;
        }
    }
    let overlay = FsContext::open(c"overlay")?;
    let explain = |errno: Errno, about: &str| {
        Problem::new(errno, overlay.complaint().unwrap_or_else(|| about.to_owned()))
    };
    overlay.set(c"source", c"overlay")?;
    for layer in layers {
        let path = c_path(layer.as_os_str().as_bytes())?;
        overlay
            .set(c"lowerdir+", &path)
            .map_err(|errno| explain(errno, &layer.to_string_lossy()))?;
    }
    overlay.set(c"upperdir", c"upper").map_err(|errno| explain(errno, "upper"))?;
    overlay.set(c"workdir", c"work").map_err(|errno| explain(errno, "work"))?;
    overlay.flag(c"volatile").map_err(|errno| explain(errno, "volatile"))?;
    let root = overlay
        .create()
        .map_err(|errno| explain(errno, ""))
        .and_then(|()| Ok(overlay.mount(attributes(plan))?))?;
    let here = open(".", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    sys::move_mount(&root, &here)?;
    Ok(fchdir(&root)?)
}

/// What holds for everything on a root.
///
/// Who may gain nothing is not given a file's capabilities, and yet the kernel looks at them: it does
/// not execute a file that has one outside the bounding set (EPERM), such as ping with CAP_NET_RAW.
/// On a root without set-user-id and file capabilities it does not look.
fn attributes(plan: &Plan<'_>) -> u64 {
    match plan.process.no_new_privs {
        true => sys::MOUNT_ATTR_NODEV | sys::MOUNT_ATTR_NOSUID,
        false => sys::MOUNT_ATTR_NODEV,
    }
}

fn map_layer(layer: &Path, userns: BorrowedFd<'_>) -> Result<(), Errno> {
    let at = open(layer, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let tree = sys::open_tree(&at, c"", false)?;
    sys::map_ids(&tree, userns, false)?;
    sys::move_mount(&tree, &at)
}

/// Mounts a copy of a directory, with what is mounted below it, and goes there.
///
/// Device nodes on it are inert; set-user-id bits and file capabilities are as in an image's layers.
pub(super) fn directory(plan: &Plan<'_>, path: &Path, ids: Ids) -> Done {
    let about = || path.to_string_lossy();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let host = open(path, flags, Mode::empty()).about(about())?;
    let tree = sys::open_tree(&host, c"", true).about(about())?;
    if let Some((_, userns)) = ids {
        sys::map_ids(&tree, userns, true).about(about())?;
    }
    sys::mount_setattr(&tree, attributes(plan), true).about(about())?;
    let at =
        open(plan.staging.as_path(), flags, Mode::empty()).about(plan.staging.to_string_lossy())?;
    sys::move_mount(&tree, &at)?;
    Ok(fchdir(&tree)?)
}

/// Makes the working directory the root of this mount namespace and lets go of the host's files.
///
/// With both paths equal the old root ends up mounted on the new one, and detaching "." takes it
/// away (pivot_root(2), "pivot_root(".", ".")").
pub(super) fn pivot() -> Done<Root> {
    match pivot_root(".", ".") {
        Ok(()) => umount2(".", MntFlags::MNT_DETACH)?,
        // The host runs from the initial RAM file system, which cannot be pivoted away.
        Err(Errno::EINVAL) => cover_initial_root()?,
        Err(errno) => return Err(errno.into()),
    }
    chdir("/")?;
    Root::open()
}

/// The replacement for `pivot_root` on the initial RAM file system: moves the new root over it and
/// detaches every other mount of the host. The RAM file system itself stays below, out of reach of
/// any path: `..` ends at the process's root, and a mount's parent is only seen by unmounting it,
/// which takes CAP_SYS_ADMIN.
fn cover_initial_root() -> Done {
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let host = open("/", directory, Mode::empty())?;
    let new_root: OwnedFd = open(".", directory, Mode::empty())?;
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|_| Problem::new(Errno::ENOENT, "/proc/self/mountinfo"))?;
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)?;
    fchdir(&host)?;
    for path in top_mounts(&table) {
        // Several may be stacked on one path. What cannot be detached is out of sight all the same.
        while umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    }
    fchdir(&new_root)?;
    Ok(chroot(".")?)
}

/// The mount points whose parent is the root mount, relative to it (proc_pid_mountinfo(5)). Paths
/// with blanks stay escaped and are then not found; the host has none.
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

/// Makes the root itself read-only; volumes and tmpfs keep their own mode.
pub(super) fn make_read_only(root: &Root) -> Done {
    Ok(sys::mount_setattr(root, sys::MOUNT_ATTR_RDONLY, false)?)
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
