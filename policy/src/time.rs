//! Time as the core sees it: a number that it is given, never a clock that it reads.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A moment: milliseconds of `CLOCK_MONOTONIC` (clock_gettime(2)), which never jumps and does not
/// depend on the supervisor's life, so that saved moments stay comparable.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Instant(u64);

impl Instant {
    /// The moment this many milliseconds after the kernel's start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the kernel's start.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment and `span` more. Rounded up to a whole millisecond, so that a deadline is never
    /// early, and stopping at the end of time instead of wrapping to its beginning.
    pub fn plus(self, span: Duration) -> Instant {
        Self(self.0.saturating_add(millis(span)))
    }
}

/// A span in whole milliseconds, rounded up.
pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A span for people, in its two largest units: `350 ms`, `12 s`, `1 min 5 s`, `2 h`, `3 d 4 h`.
pub fn human(span: Duration) -> String {
    let ms = millis(span);
    if ms < 1000 {
        return format!("{ms} ms");
    }
    let seconds = ms / 1000;
    if seconds < 10 && !ms.is_multiple_of(1000) {
        return format!("{seconds}.{} s", ms % 1000 / 100);
    }
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (large, small) = match (days, hours, minutes) {
        (0, 0, 0) => return format!("{seconds} s"),
        (0, 0, _) => ((minutes, "min"), (seconds % 60, "s")),
        (0, _, _) => ((hours, "h"), (minutes % 60, "min")),
        _ => ((days, "d"), (hours % 24, "h")),
    };
    match small.0 {
        0 => format!("{} {}", large.0, large.1),
        _ => format!("{} {} {} {}", large.0, large.1, small.0, small.1),
    }
}
