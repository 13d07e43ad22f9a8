//! What of /proc and /sys a container does not see or cannot write to, unless its unit says so.

use crate::diagnostic::{Mistake, quoted};
use crate::suggest::closest;

/// The counters of each CPU that tell when it was too hot: a side channel between containers.
pub const THROTTLE: &str = "/sys/devices/system/cpu/cpu*/thermal_throttle";

/// Hidden: a file behind the null device, a directory behind an empty read-only one.
pub const HIDDEN: [&str; 14] = [
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
    THROTTLE,
];

/// Visible, but not to be written.
pub const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// All of them, in the order of the lists above.
pub fn all() -> impl Iterator<Item = &'static str> {
    HIDDEN.into_iter().chain(READ_ONLY)
}

/// Reads one entry of `unmask`: one of these paths, or `ALL`. Gives the paths that it stands for.
///
/// # Errors
/// A [`Mistake`] with the nearest path.
pub fn parse_unmask(text: &str) -> Result<Vec<String>, Mistake> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(all().map(str::to_owned).collect());
    }
    let path = text.trim_end_matches('/');
    if all().any(|known| known == path) {
        return Ok(vec![path.to_owned()]);
    }
    let mistake = Mistake::whole(text, format!("{} is neither hidden nor read-only", quoted(text)));
    Err(match closest(path, all()) {
        Some(near) => mistake.hint(format!("did you mean `{near}`?")),
        None => mistake.hint(format!("`ALL`, or one of {}", all().collect::<Vec<_>>().join(", "))),
    })
}

#[cfg(test)]
mod tests {
    use super::{all, parse_unmask};

    #[test]
    fn every_path_is_taken_and_others_are_not() {
        for path in all() {
            assert_eq!(parse_unmask(path).unwrap(), [path]);
        }
        assert_eq!(parse_unmask("all").unwrap().len(), all().count());
        assert_eq!(parse_unmask("/proc/sys/").unwrap(), ["/proc/sys"]);
        for path in ["", "/", "/proc", "/proc/sys/kernel", "/proc/../proc/sys", "/etc"] {
            assert!(parse_unmask(path).is_err(), "{path:?}");
        }
    }
}
