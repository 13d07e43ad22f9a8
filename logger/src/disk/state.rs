//! The state of a unit's files on the data disk. Pure: the time is passed in.

use std::time::{Duration, Instant};

/// The state of a unit's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskState {
    /// There is no data disk: memory only.
    Off,
    /// According to the ring there was a disk; PID 1 has not yet reported where it is.
    Expected {
        /// Start of the wait.
        since: Instant,
    },
    /// To be opened at `retry_at`: immediately at first, later after an error.
    Closed {
        /// Earliest time of the next attempt.
        retry_at: Instant,
    },
    /// The disk thread is opening the files.
    Opening {
        /// Start of the operation.
        since: Instant,
    },
    /// Open, no operation in progress.
    Open {
        /// Position and number of the first record that is not in the file, if known.
        hint: Option<(u64, u64)>,
    },
    /// Lines are being written.
    Writing {
        /// Start of the operation.
        since: Instant,
        /// Position and number of the record after the last of them.
        end: (u64, u64),
    },
}

impl DiskState {
    /// Until when a unit's output may be held back so that no line is evicted from the ring before
    /// it is in the file. `None`: not at all; evicted lines will be missing from the file. A disk
    /// that takes longer than `stall` counts as broken, so that the container is not blocked.
    pub fn holds_until(&self, now: Instant, stall: Duration) -> Option<Instant> {
        let since = match self {
            Self::Off => return None,
            Self::Closed { retry_at } if *retry_at > now => return None,
            // The operation begins in this iteration of the loop.
            Self::Closed { .. } | Self::Open { .. } => now,
            Self::Expected { since } | Self::Opening { since } | Self::Writing { since, .. } => {
                *since
            }
        };
        since.checked_add(stall).filter(|until| *until > now)
    }
}
