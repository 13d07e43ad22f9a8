//! Where the time of a start is spent: step names and times, recorded on both sides of the clone.
//!
//! The records are in memory that the child shares with its parent. A name is stored as its address:
//! the child is a copy of the parent, so a `&'static str` has the same address in both.

use crate::{Failure, Naming};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The parent's steps: the network namespace exists, with its loopback link.
pub const NETNS: &str = "make the network namespace";
/// The control group has its limits.
pub const GROUP: &str = "make the control group";
/// The parent continues after clone3(2). (On one processor the child may run first.)
pub const CLONE: &str = "pipes and clone3, as the parent sees it";
/// The pidfd reports that the program has ended.
pub const RAN: &str = "exec, run, exit, unmount";
/// The reaper reports that it has reaped the program.
pub const REAPED: &str = "reap";
/// The control group is removed, and everything is closed.
pub const REMOVED: &str = "remove the control group";

/// More than the number of steps of any start.
const CAPACITY: usize = 100;

/// One record.
struct Mark {
    name: AtomicUsize,
    length: AtomicUsize,
    ns: AtomicU64,
}

/// The shared memory.
struct Page {
    used: AtomicUsize,
    marks: [Mark; CAPACITY],
}

static PAGE: OnceLock<&'static Page> = OnceLock::new();

/// Records that the step with this name has ended now. Without [`Marks::share`], it does nothing.
pub fn mark(name: &'static str) {
    let Some(page) = PAGE.get() else { return };
    let number = page.used.fetch_add(1, Ordering::Relaxed);
    if let Some(mark) = page.marks.get(number) {
        mark.name.store(name.as_ptr() as usize, Ordering::Relaxed);
        mark.length.store(name.len(), Ordering::Relaxed);
        mark.ns.store(now(), Ordering::Relaxed);
    }
}

/// `CLOCK_MONOTONIC`, nanoseconds.
fn now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The file to which a starter writes its steps when it ends.
pub fn path(who: &str) -> PathBuf {
    PathBuf::from(crate::places::RUN).join(format!("{who}.steps"))
}

/// The steps of many starts.
#[derive(Default)]
pub struct Marks {
    order: Vec<&'static str>,
    times: BTreeMap<&'static str, Vec<u64>>,
}

impl Marks {
    /// Creates the shared memory; from now on, [`mark`] records.
    ///
    /// # Errors
    /// `mmap(2)` fails.
    pub fn share() -> Result<Marks, Failure> {
        // SAFETY: a new mapping of our own.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Page>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).naming("mmap");
        }
        // SAFETY: the mapping is large enough, aligned to a page, never unmapped, all zeroes, which
        // is a valid value of these numbers, and only used through atomics.
        let page = unsafe { &*page.cast::<Page>() };
        let _ = PAGE.set(page);
        Ok(Marks::default())
    }

    /// Begins a start.
    pub fn begin(&self) {
        if let Some(page) = PAGE.get() {
            page.used.store(0, Ordering::Relaxed);
        }
        mark("");
    }

    /// Reads the records of a start that has ended.
    pub fn collect(&mut self) {
        let Some(page) = PAGE.get() else { return };
        let used = page.used.load(Ordering::Relaxed);
        let mut before = None;
        for mark in page.marks.iter().take(used) {
            let ns = mark.ns.load(Ordering::Relaxed);
            let Some(last) = before.replace(ns) else { continue };
            let (at, length) =
                (mark.name.load(Ordering::Relaxed), mark.length.load(Ordering::Relaxed));
            // SAFETY: `mark` has stored the address and length of a `&'static str` of this program.
            let name = unsafe {
                let bytes = std::slice::from_raw_parts(at as *const u8, length);
                std::str::from_utf8_unchecked(bytes)
            };
            if !self.times.contains_key(name) {
                self.order.push(name);
            }
            self.times.entry(name).or_default().push(ns.saturating_sub(last));
        }
    }

    /// Writes the median time of each step to [`path`], in the order of the steps.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(mut self, who: &str) -> Result<(), Failure> {
        let mut steps = Vec::new();
        for name in self.order {
            let times = self.times.entry(name).or_default();
            times.sort_unstable();
            steps.push((name, times.get(times.len() / 2).copied().unwrap_or(0)));
        }
        let text = serde_json::to_vec(&steps).naming("steps")?;
        fs::write(path(who), text).naming(path(who).display())
    }
}
