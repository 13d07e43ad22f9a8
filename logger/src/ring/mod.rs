//! The ring of a unit: a file in memory (tmpfs) with its newest lines, written by the logger and
//! read by any process at any time.
//!
//! ```text
//! 0      magic, version, capacity                    written once
//! 1024   slot A  ┐ the state: head and tail, counters, how far each stream has been parsed,
//! 2048   slot B  ┘ how far the log file has been written
//! 4096   records, wrapping around after `capacity` bytes
//! ```
//!
//! **Commits.** A change is complete when its slot is complete: the slots are written alternately,
//! each with an increasing number and a checksum, and the valid slot with the higher number counts.
//! Everything that must change together (a batch of records, and the position up to which the
//! stream has been parsed) is in one slot, so a logger killed at any instant leaves either all of
//! it or nothing. Records are overwritten only after a commit that has evicted them.
//!
//! **Files, not mappings.** Both sides use pread(2) and pwrite(2). The page cache is as coherent as
//! a shared mapping, and a write survives the death of its process in the same way, but no process
//! can be killed by SIGBUS because a file was truncated, and rings do not count as memory of the
//! processes.
//!
//! **Readers** never lock: they read the state, the records, and the state again, and discard the
//! records that the writer has evicted in between.

mod area;
mod reader;
mod record;
mod state;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::Reader;
pub(crate) use record::Head;
pub(crate) use state::MAX_RUNS;
pub use state::{Counters, DiskMark, StreamMark, seal};
pub use writer::{Batch, Room, Writer};

use crate::line::MAX_TEXT;

/// Bytes before the first record.
pub(crate) const HEADER: u64 = 4096;
/// Default capacity of a ring: bytes of records.
pub const DEFAULT_CAPACITY: u64 = 256 * 1024;
/// Minimum capacity of a ring: a batch is at most a quarter of it and must have space for the
/// longest record.
pub const MIN_CAPACITY: u64 = 128 * 1024;
/// Maximum capacity of a ring.
pub const MAX_CAPACITY: u64 = 256 * 1024 * 1024;

const _: () = assert!(MIN_CAPACITY as usize / 4 > MAX_TEXT + record::HEAD);

/// An error of a ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// A system call failed.
    #[error("cannot {action} the ring: {source}")]
    Io {
        /// The operation.
        action: &'static str,
        /// The error.
        source: std::io::Error,
    },
    /// The file is not a ring, or is damaged.
    #[error("the ring is damaged: {0}")]
    Damaged(&'static str),
}

impl RingError {
    pub(crate) fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> RingError {
        move |source| RingError::Io { action, source }
    }

    /// Whether the ring does not exist (the unit has written nothing since boot).
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}
