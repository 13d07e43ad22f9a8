//! Files of /proc and /sys that are masked or read-only in a container unless its unit unmasks them.

use crate::diagnostic::{ParseError, quoted};
use crate::suggest::closest;

/// Thermal throttling counters of each CPU: a side channel between containers.
pub const THROTTLE: &str = "/sys/devices/system/cpu/cpu*/thermal_throttle";

/// Masked: a file by the null device, a directory by an empty read-only one.
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

/// Visible but read-only.
pub const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// All of them, in the order of the lists above.
pub fn all() -> impl Iterator<Item = &'static str> {
    HIDDEN.into_iter().chain(READ_ONLY)
}

/// Reads one entry of `unmask`: one of these paths, or `ALL`. Returns the paths that it stands for.
///
/// # Errors
/// A [`ParseError`] that suggests the nearest path.
pub fn parse_unmask(text: &str) -> Result<Vec<String>, ParseError> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(all().map(str::to_owned).collect());
    }
    let path = text.trim_end_matches('/');
    if all().any(|known| known == path) {
        return Ok(vec![path.to_owned()]);
    }
    let error =
        ParseError::whole(text, format!("{} is not a masked or read-only path", quoted(text)));
    Err(match closest(path, all()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("use `ALL` or one of {}", all().collect::<Vec<_>>().join(", "))),
    })
}

#[cfg(test)]
mod tests {
    use super::{all, parse_unmask};

    #[test]
    fn only_the_listed_paths_are_accepted() {
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
