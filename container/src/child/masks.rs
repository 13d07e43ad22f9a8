//! What of /proc and /sys a container must not see or change.
//!
//! This runs before any volume is mounted: the paths below lead through the kernel's own file
//! systems and a /dev made a moment ago, and no other process can reach this mount namespace.

use super::beneath::Root;
use super::{About, Done, dev};
use crate::plan::Plan;
use crate::sys::{self, FsContext};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{SFlag, fstat, stat};
use std::os::fd::OwnedFd;
use units::kernel_files::{HIDDEN, READ_ONLY, THROTTLE};

const NONE: Option<&str> = None;

/// Attributes of an empty directory that hides another.
const INERT: u64 = sys::MOUNT_ATTR_RDONLY
    | sys::MOUNT_ATTR_NOSUID
    | sys::MOUNT_ATTR_NODEV
    | sys::MOUNT_ATTR_NOEXEC;

/// Hides [`HIDDEN`] but what the plan leaves open. What this kernel does not have is passed over.
pub(super) fn mask(root: &Root, plan: &Plan<'_>) -> Done {
    let null = dev::open_null(root)?;
    let mut empty = None;
    for path in kept(&HIDDEN, plan).filter(|path| *path != THROTTLE) {
        mask_one(path, &null, &mut empty)?;
    }
    if !kept(&HIDDEN, plan).any(|path| path == THROTTLE) {
        return Ok(());
    }
    let throttle = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
    // CPU 0 tells whether this machine has the counters; most virtual machines have not.
    if mask_one(&throttle(0), &null, &mut empty)? {
        let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible");
        for cpu in 1..=last_cpu(&possible.unwrap_or_default()) {
            mask_one(&throttle(cpu), &null, &mut empty)?;
        }
    }
    Ok(())
}

/// Protects what the plan names besides. Paths may lead into volumes by now, which others can change:
/// each is opened without following any link, and mounts go to what has been opened.
pub(super) fn more(root: &Root, plan: &Plan<'_>) -> Done {
    let mut hidden = None;
    for path in named(&plan.masked, kept(&HIDDEN, plan)) {
        let Some(target) = root.without_links(path)? else { continue };
        let tree = match is_directory(&target).about(path)? {
            true => {
                let system = FsContext::open(c"tmpfs")?;
                system.set(c"mode", c"0555")?;
                system.set(c"nr_inodes", c"1")?;
                system.create()?;
                system.mount(INERT)?
            }
            false => {
                if hidden.is_none() {
                    hidden = Some(dev::open_null(root)?);
                }
                let null = hidden.as_ref().ok_or(Errno::EBADF)?;
                sys::open_tree(null, c"", false)?
            }
        };
        sys::move_mount(&tree, &target).about(path)?;
    }
    for path in named(&plan.read_only_paths, kept(&READ_ONLY, plan)) {
        let Some(target) = root.without_links(path)? else { continue };
        let tree = sys::open_tree(&target, c"", true).about(path)?;
        sys::mount_setattr(&tree, sys::MOUNT_ATTR_RDONLY, true).about(path)?;
        sys::move_mount(&tree, &target).about(path)?;
    }
    Ok(())
}

/// Those of `ours` that the plan does not leave open.
fn kept<'p>(ours: &'p [&'p str], plan: &'p Plan<'_>) -> impl Iterator<Item = &'p str> {
    ours.iter().copied().filter(|path| !plan.unmasked.iter().any(|open| open == path))
}

/// Those of `paths` that are not among `ours`.
fn named<'p>(
    paths: &'p [String],
    ours: impl Iterator<Item = &'p str>,
) -> impl Iterator<Item = &'p str> {
    let ours: Vec<&str> = ours.collect();
    paths.iter().map(String::as_str).filter(move |path| !ours.contains(path))
}

fn is_directory(fd: &OwnedFd) -> Result<bool, Errno> {
    let mode = fstat(fd)?.st_mode;
    Ok(SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// The highest number in a list such as `0-3,8-11`.
fn last_cpu(list: &str) -> u32 {
    list.trim().rsplit([',', '-']).next().and_then(|last| last.parse().ok()).unwrap_or(0)
}

/// Hides one path; `false` when there is no such path. The first hidden directory's tmpfs serves
/// all others, too.
fn mask_one(path: &str, null: &OwnedFd, empty: &mut Option<String>) -> Done<bool> {
    // Asked first, not tried: a mount that the kernel takes back because a file does not fit on a
    // directory costs it an RCU grace period, some milliseconds on a busy machine.
    let mode = match stat(path) {
        Err(Errno::ENOENT) => return Ok(false),
        done => done.about(path)?.st_mode,
    };
    if SFlag::from_bits_truncate(mode) & SFlag::S_IFMT != SFlag::S_IFDIR {
        dev::bind_null(null, path).about(path)?;
        return Ok(true);
    }
    if let Some(empty) = empty {
        mount(Some(empty.as_str()), path, NONE, MsFlags::MS_BIND, NONE).about(path)?;
    } else {
        let flags =
            MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("mode=0555,nr_inodes=1"))
            .about(path)?;
        *empty = Some(path.to_owned());
    }
    Ok(true)
}

/// Makes [`READ_ONLY`] so, but what the plan leaves open.
pub(super) fn read_only(plan: &Plan<'_>) -> Done {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for path in kept(&READ_ONLY, plan) {
        match mount(Some(path), path, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE) {
            Err(Errno::ENOENT) => continue,
            done => done.about(path)?,
        }
        mount(NONE, path, NONE, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, NONE)
            .about(path)?;
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
