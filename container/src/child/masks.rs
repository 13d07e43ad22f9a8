//! What of /proc and /sys a container must not see or change.
//!
//! This runs before any volume is mounted: the paths below lead through the kernel's own file
//! systems and a /dev made a moment ago, and no other process can reach this mount namespace.

use super::beneath::Root;
use super::{About, Done, dev};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{SFlag, stat};

const NONE: Option<&str> = None;

/// Hidden: a file behind the null device, a directory behind an empty read-only tmpfs. What this
/// kernel does not have is passed over.
pub const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/fs/selinux",
];

/// Visible but not to be written.
pub const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Hides [`MASKED`] and the CPUs' `thermal_throttle` counters (a side channel between containers).
pub(super) fn mask(root: &Root) -> Done {
    let null = dev::open_null(root)?;
    let mut empty = None;
    for path in MASKED {
        mask_one(path, &null, &mut empty)?;
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

/// The highest number in a list such as `0-3,8-11`.
fn last_cpu(list: &str) -> u32 {
    list.trim().rsplit([',', '-']).next().and_then(|last| last.parse().ok()).unwrap_or(0)
}

/// Hides one path; `false` when there is no such path. The first hidden directory's tmpfs serves
/// all others, too.
fn mask_one(path: &str, null: &std::os::fd::OwnedFd, empty: &mut Option<String>) -> Done<bool> {
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

/// Makes [`READ_ONLY`] so.
pub(super) fn read_only() -> Done {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for path in READ_ONLY {
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
