//! Where a unit stands with the data disk. Pure: the time comes in, decisions go out.

use std::time::{Duration, Instant};

/// The state of one unit's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskState {
    /// There is no data disk: memory only.
    Off,
    /// The ring says that there was one; PID 1 has not yet said where it is.
    Expected {
        /// When the waiting began.
        since: Instant,
    },
    /// To be opened at `retry_at`: at once at first, later after an error.
    Closed {
        /// Not before.
        retry_at: Instant,
    },
    /// The disk's thread is at it.
    Opening {
        /// Since when.
        since: Instant,
    },
    /// Nothing under way.
    Open {
        /// Position and number of the first record that is not in the file, if known.
        hint: Option<(u64, u64)>,
    },
    /// Lines are being written.
    Writing {
        /// Since when.
        since: Instant,
        /// Position and number of the record after the last of them.
        end: (u64, u64),
    },
}

impl DiskState {
    /// Until when a unit's output may be held back so that no line leaves the ring before it is
    /// in the file. `None`: not at all, lines that leave are lost to the file. A disk that takes
    /// longer than `stall` counts as broken: the container goes first.
    pub fn holds_until(&self, now: Instant, stall: Duration) -> Option<Instant> {
        let since = match self {
            Self::Off => return None,
            Self::Closed { retry_at } if *retry_at > now => return None,
            // The work begins within this turn of the loop.
            Self::Closed { .. } | Self::Open { .. } => now,
            Self::Expected { since } | Self::Opening { since } | Self::Writing { since, .. } => {
                *since
            }
        };
        since.checked_add(stall).filter(|until| *until > now)
    }
}
