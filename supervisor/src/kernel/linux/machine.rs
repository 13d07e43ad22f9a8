//! The machine: its clock, its disks, and the CPU time of this process.

use api_types::{Clock, Disk};
use nix::sys::stat;
use nix::sys::statvfs::statvfs;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The clock. Reading the kernel's state of it needs no privileges (adjtimex(2), `modes` 0).
pub fn clock() -> Clock {
    // SAFETY: all of a `timex` may be zero.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: adjtimex(2) fills in the given structure; with `modes` 0 it changes nothing.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    Clock {
        time_us: logger::unix_us(),
        synchronized: state >= 0 && timex.status & libc::STA_UNSYNC == 0,
    }
}

/// The data disk, if there is one, and the memory file systems of runs and logs. statvfs(3) does
/// not access the disk.
pub fn disks(data: Option<&str>) -> Vec<Disk> {
    let of = |path: &str| {
        let stat = statvfs(path).ok()?;
        let block = stat.fragment_size();
        Some(Disk {
            path: path.to_owned(),
            size: stat.blocks().saturating_mul(block),
            free: stat.blocks_available().saturating_mul(block),
        })
    };
    data.into_iter().chain([layout::paths::RUN]).filter_map(of).collect()
}

/// The number of the disk that a path's file system is on. Where that is a partition, its disk:
/// only whole disks have limits (block/blk-cgroup.c, `blkg_conf_open_bdev`).
pub fn whole_disk(path: &str) -> Option<(u64, u64)> {
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (stat::major(device), stat::minor(device));
    let dir = format!("/sys/dev/block/{major}:{minor}");
    if !Path::new(&dir).join("partition").exists() {
        return Path::new(&dir).exists().then_some((major, minor));
    }
    let text = fs::read_to_string(format!("{dir}/../dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// User and system time, microseconds.
pub fn own_cpu_usec() -> u64 {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return 0 };
    let usec = |time: nix::sys::time::TimeVal| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000
            + u64::try_from(time.tv_usec()).unwrap_or(0)
    };
    usec(usage.user_time()) + usec(usage.system_time())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_and_the_disks_of_this_machine_are_read() {
        assert!(clock().time_us > 1_700_000_000_000_000);
        let known = disks(Some("/"));
        assert!(known.first().is_some_and(|disk| disk.path == "/" && disk.size >= disk.free));
    }
}
