//! The processes of this machine, from /proc.

use std::collections::BTreeSet;
use std::fs;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its ID.
    pub pid: u32,
    /// The kernel's name for it, 15 bytes at most.
    pub name: String,
}

/// All processes except kernel threads.
pub fn all() -> BTreeSet<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            // A kernel thread has no command line. Neither has a zombie, which is not counted.
            let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (!command.is_empty()).then(|| Process { pid, name: name.trim_end().to_owned() })
        })
        .collect()
}

/// The processes with one of these names.
pub fn named(names: &[&str]) -> Vec<Process> {
    all().into_iter().filter(|process| names.contains(&process.name.as_str())).collect()
}

/// The proportional set size of a process, KiB; 0 if it is gone.
pub fn pss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
        .unwrap_or(0)
}
