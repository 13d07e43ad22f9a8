//! Metrics out of the kernel's texts: memory, links, and how long tasks wait for resources.

use crate::kernel::Kernel;
use crate::shell::Shell;
use api_types::{Link, Memory, Pressure, Stall};
use std::collections::BTreeMap;

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
}
