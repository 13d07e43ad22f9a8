//! Metrics from the kernel: memory, time, disks, links, and how long tasks wait for resources.

use crate::kernel::Kernel;
use crate::shell::Shell;
use api_types::{Clock, Disk, Link, Memory, Pressure, Stall};
use nix::sys::stat;
use nix::sys::statvfs::statvfs;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl<K: Kernel> Shell<K> {
    /// How long tasks of each unit that has a cgroup have waited for resources.
    pub(crate) fn pressure(&self) -> BTreeMap<String, Pressure> {
        let of = |cgroup: &K::Cgroup, resource| {
            let total = self.kernel.pressure(cgroup, resource).ok().flatten();
            total.map_or(Stall::default(), |(some_us, full_us)| Stall { some_us, full_us })
        };
        let mut all = BTreeMap::new();
        for (name, runtime) in self.runs.iter() {
            if let Some(cgroup) = &runtime.cgroup {
                let (cpu, memory, io) = (of(cgroup, "cpu"), of(cgroup, "memory"), of(cgroup, "io"));
                all.insert(name.clone(), Pressure { cpu, memory, io });
            }
        }
        all
    }
}

/// The memory of the machine, from proc_meminfo(5).
pub(crate) fn memory(meminfo: &str) -> Memory {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or(0).saturating_mul(1024)
    };
    Memory { total: bytes("MemTotal"), available: bytes("MemAvailable") }
}

/// The clock. Reading the kernel's state of it needs no privileges (adjtimex(2), `modes` 0).
pub(crate) fn clock() -> Clock {
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
pub(crate) fn disks(data: Option<&str>) -> Vec<Disk> {
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
pub(crate) fn whole_disk(path: &str) -> Option<(u64, u64)> {
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

/// The lines of proc_net_dev(5): eight counters for receiving, eight for sending; of each the first
/// is bytes, the third errors, the fourth drops.
pub(crate) fn links(text: &str) -> Vec<Link> {
    let link = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let counters: Vec<u64> =
            rest.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        let of = |index: usize| counters.get(index).copied();
        Some(Link {
            name: name.trim().to_owned(),
            received_bytes: of(0)?,
            received_bad: of(2)?.saturating_add(of(3)?),
            sent_bytes: of(8)?,
            sent_bad: of(10)?.saturating_add(of(11)?),
        })
    };
    text.lines().filter_map(link).collect()
}

pub(crate) fn own_cpu_usec() -> u64 {
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
    fn links_are_read_and_headings_are_not() {
        let text = "Inter-|   Receive                            |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs\n    \
             lo:     840      10    0    0    0     0          0         0      841      10    0    \
             0    0     0       0          0\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let found = links(text);
        let names: Vec<&str> = found.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["lo", "eth0"]);
        assert_eq!((found[0].received_bytes, found[0].sent_bytes), (840, 841));
        assert_eq!((found[1].received_bad, found[1].sent_bad), (7, 23));
    }

    #[test]
    fn the_clock_and_the_disks_of_this_machine_are_read() {
        assert!(clock().time_us > 1_700_000_000_000_000);
        let known = disks(Some("/"));
        assert!(known.first().is_some_and(|disk| disk.path == "/" && disk.size >= disk.free));
    }
}
