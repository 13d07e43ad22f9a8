//! Files of /proc and /sys that a container must not see or change.
//!
//! This runs before any volume is mounted: the paths below are in the kernel's own file systems and
//! in the new /dev, and no other process can reach this mount namespace.

use super::beneath::Root;
use super::{Context, StepResult, dev};
use crate::plan::Plan;
use crate::sys::{self, FsContext, MountAttrFlags};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{SFlag, fstat, stat};
use std::os::fd::OwnedFd;
use units::kernel_files::{HIDDEN, READ_ONLY, THROTTLE};

const NONE: Option<&str> = None;

/// Mount attributes of the empty directory that masks another one.
const EMPTY_DIRECTORY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY
    .union(MountAttrFlags::MOUNT_ATTR_NOSUID)
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Masks [`HIDDEN`] except what the plan unmasks. Files that this kernel does not have are skipped.
pub(super) fn mask(root: &Root, plan: &Plan<'_>) -> StepResult {
    let null = dev::open_null(root)?;
    let mut empty = None;
    for path in kept(&HIDDEN, plan).filter(|path| *path != THROTTLE) {
        mask_one(path, &null, &mut empty)?;
    }
    if !kept(&HIDDEN, plan).any(|path| path == THROTTLE) {
        return Ok(());
    }
    let throttle = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
    // If CPU 0 has no counters, no CPU has; most virtual machines have none.
    if mask_one(&throttle(0), &null, &mut empty)? {
        let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible");
        for cpu in 1..=last_cpu(&possible.unwrap_or_default()) {
            mask_one(&throttle(cpu), &null, &mut empty)?;
        }
    }
    Ok(())
}

/// Masks and protects the plan's own paths. They may be in volumes, which others can change: each
/// is opened without following any link, and mounts go to the descriptor.
pub(super) fn plan_paths(root: &Root, plan: &Plan<'_>) -> StepResult {
    let mut null = None;
    for path in added(&plan.masked, kept(&HIDDEN, plan)) {
        let Some(target) = root.without_links(path)? else { continue };
        let tree = match is_directory(&target).context(path)? {
            true => {
                let system = FsContext::open("tmpfs")?;
                system.set("mode", "0555")?;
                system.set("nr_inodes", "1")?;
                system.create()?;
                system.mount(EMPTY_DIRECTORY)?
            }
            false => {
                if null.is_none() {
                    null = Some(dev::open_null(root)?);
                }
                let null = null.as_ref().ok_or(Errno::EBADF)?;
                sys::open_tree(null, false)?
            }
        };
        sys::move_mount(&tree, &target).context(path)?;
    }
    for path in added(&plan.read_only_paths, kept(&READ_ONLY, plan)) {
        let Some(target) = root.without_links(path)? else { continue };
        let tree = sys::open_tree(&target, true).context(path)?;
        sys::mount_setattr(&tree, MountAttrFlags::MOUNT_ATTR_RDONLY, true).context(path)?;
        sys::move_mount(&tree, &target).context(path)?;
    }
    Ok(())
}

/// The default paths that the plan does not unmask.
fn kept<'p>(defaults: &'p [&'p str], plan: &'p Plan<'_>) -> impl Iterator<Item = &'p str> {
    defaults.iter().copied().filter(|path| !plan.unmasked.iter().any(|open| open == path))
}

/// The paths of the plan that are not among the defaults.
fn added<'p>(
    paths: &'p [String],
    defaults: impl Iterator<Item = &'p str>,
) -> impl Iterator<Item = &'p str> {
    let defaults: Vec<&str> = defaults.collect();
    paths.iter().map(String::as_str).filter(move |path| !defaults.contains(path))
}

fn is_directory(fd: &OwnedFd) -> Result<bool, Errno> {
    let mode = fstat(fd)?.st_mode;
    Ok(SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// The highest number in a list such as `0-3,8-11`.
fn last_cpu(list: &str) -> u32 {
    list.trim().rsplit([',', '-']).next().and_then(|last| last.parse().ok()).unwrap_or(0)
}

/// Masks one path; `false` if it does not exist. The tmpfs of the first masked directory is reused
/// for all others.
fn mask_one(path: &str, null: &OwnedFd, empty: &mut Option<String>) -> StepResult<bool> {
    // Check the type first instead of trying: undoing a mount whose type does not match its target
    // costs the kernel an RCU grace period, some milliseconds on a busy machine.
    let mode = match stat(path) {
        Err(Errno::ENOENT) => return Ok(false),
        done => done.context(path)?.st_mode,
    };
    if SFlag::from_bits_truncate(mode) & SFlag::S_IFMT != SFlag::S_IFDIR {
        dev::bind_null(null, path).context(path)?;
        return Ok(true);
    }
    if let Some(empty) = empty {
        mount(Some(empty.as_str()), path, NONE, MsFlags::MS_BIND, NONE).context(path)?;
    } else {
        let flags =
            MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("mode=0555,nr_inodes=1"))
            .context(path)?;
        *empty = Some(path.to_owned());
    }
    Ok(true)
}

/// Makes [`READ_ONLY`] read-only, except what the plan unmasks.
pub(super) fn read_only(plan: &Plan<'_>) -> StepResult {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for path in kept(&READ_ONLY, plan) {
        match mount(Some(path), path, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE) {
            Err(Errno::ENOENT) => continue,
            done => done.context(path)?,
        }
        mount(NONE, path, NONE, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, NONE)
            .context(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_last_cpu_of_a_list() {
        for (list, last) in [("0\n", 0), ("0-3\n", 3), ("0-3,8-11\n", 11), ("", 0), ("x", 0)] {
            assert_eq!(super::last_cpu(list), last, "{list:?}");
        }
    }
}
