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
