//! Volumes, host paths and tmpfs: opened before pivot_root, attached after it.

use super::beneath::Root;
use super::copy_up::{self, Marker};
use super::{Context, Ids, Problem, StepResult};
use crate::plan::{Mount, MountSource, Plan, parts};
use crate::sys::{self, MountAttrFlags};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, FsType, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use nix::unistd::fchdir;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A mount whose source is open.
pub(super) struct Ready<'p> {
    plan: &'p Mount,
    source: Source,
}

enum Source {
    Bind { tree: OwnedFd, directory: bool, marker: Option<Marker> },
    Tmpfs { options: String },
}

/// Opens every source on the host, in the order of attachment: parents first.
pub(super) fn open_sources<'p>(plan: &'p Plan<'_>, ids: Ids) -> StepResult<Vec<Ready<'p>>> {
    let mut mounts: Vec<&Mount> = plan.mounts.iter().collect();
    mounts.sort_by_key(|mount| parts(&mount.target).count());
    mounts.into_iter().map(|plan| Ok(Ready { plan, source: open_source(plan, ids)? })).collect()
}

fn open_source(plan: &Mount, ids: Ids) -> StepResult<Source> {
    match &plan.source {
        MountSource::Tmpfs { size, mode } => {
            let mut options = format!("mode={mode:o}");
            if let Some(bytes) = size {
                options.push_str(&format!(",size={bytes}"));
            }
            Ok(Source::Tmpfs { options })
        }
        MountSource::Bind { path, recursive, copy_up } => {
            let context = || path.to_string_lossy();
            let (fd, kind) = open_path(path, OFlag::empty())?;
            let tree = sys::open_tree(&fd, *recursive).context(context())?;
            match map_ids(&tree, ids, *recursive) {
                // File systems of the host itself (its root) may not support id-mapped mounts.
                Err(Errno::EINVAL) if copy_up.is_none() => {}
                done => done.context(context())?,
            }
            let marker = copy_up.as_ref().map(Marker::open).transpose()?.flatten();
            // A read-only volume that has to be filled becomes read-only afterwards.
            if marker.is_none() {
                sys::mount_setattr(&tree, attributes(plan), *recursive).context(context())?;
            }
            Ok(Source::Bind { tree, directory: kind == SFlag::S_IFDIR, marker })
        }
        MountSource::RegularFile { path } => {
            let context = || path.to_string_lossy();
            let (fd, kind) = open_path(path, OFlag::O_NOFOLLOW)?;
            if kind != SFlag::S_IFREG {
                let text = format!("{} is not a regular file", context());
                return Err(Problem::new(Errno::EINVAL, text));
            }
            let tree = sys::open_tree(&fd, false).context(context())?;
            match map_ids(&tree, ids, false) {
                Err(Errno::EINVAL) => {}
                done => done.context(context())?,
            }
            sys::mount_setattr(&tree, attributes(plan), false).context(context())?;
            Ok(Source::Bind { tree, directory: false, marker: None })
        }
    }
}

fn map_ids(tree: &OwnedFd, ids: Ids, recursive: bool) -> Result<(), Errno> {
    match ids {
        Some((_, userns)) => sys::map_ids(tree, userns, recursive),
        None => Ok(()),
    }
}

/// Opens a path of the host and returns its file type.
fn open_path(path: &Path, how: OFlag) -> StepResult<(OwnedFd, SFlag)> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | how;
    let fd = open(path, flags, Mode::empty()).context(path.to_string_lossy())?;
    let kind = SFlag::from_bits_truncate(fstat(&fd)?.st_mode) & SFlag::S_IFMT;
    Ok((fd, kind))
}

fn attributes(plan: &Mount) -> MountAttrFlags {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, plan.read_only);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, plan.no_exec);
    attributes
}

/// Attaches the mounts inside the root, filling new volumes first.
pub(super) fn attach(root: &Root, mounts: Vec<Ready<'_>>, ids: Ids) -> StepResult {
    for Ready { plan, source } in mounts {
        let target = plan.target.as_str();
        match source {
            Source::Tmpfs { options } => {
                let dir = root.directory(target)?;
                refuse_kernel_files(&dir, target)?;
                fchdir(&dir).context(target)?;
                let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
                flags.set(MsFlags::MS_RDONLY, plan.read_only);
                flags.set(MsFlags::MS_NOEXEC, plan.no_exec);
                mount(Some("tmpfs"), ".", Some("tmpfs"), flags, Some(options.as_str()))
                    .context(target)?;
            }
            Source::Bind { tree, directory, marker } => {
                let at = if directory { root.directory(target)? } else { root.file(target)? };
                refuse_kernel_files(&at, target)?;
                if let Some(marker) = marker {
                    copy_up::fill(&marker, &tree, &at, ids)?;
                    sys::mount_setattr(&tree, attributes(plan), true).context(target)?;
                }
                sys::move_mount(&tree, &at).context(target)?;
            }
        }
    }
    Ok(())
}

/// Refuses a target that a symbolic link of the image leads into /proc, /sys or the cgroup tree,
/// where a mount would cover masked or read-only files.
fn refuse_kernel_files(target: &impl AsFd, path: &str) -> StepResult {
    let kind: FsType = fstatfs(target).context(path)?.filesystem_type();
    if [PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP2_SUPER_MAGIC].contains(&kind) {
        let text = format!("{path} resolves into a kernel file system");
        return Err(Problem::new(Errno::EPERM, text));
    }
    Ok(())
}
