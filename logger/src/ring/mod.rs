//! The ring of one unit: a file in memory (tmpfs) that holds its newest lines, written by the
//! logger and read by anybody at any time.
//!
//! ```text
//! 0      magic, version, capacity                    written once
//! 1024   slot A  ┐ the state: head and tail, counters, how far each stream has been parsed,
//! 2048   slot B  ┘ how far the log file has been written
//! 4096   records, wrapping around after `capacity` bytes
//! ```
//!
//! **Commits.** A change is complete when its slot is: the slots are written in turn, each with a
//! number that rises and a checksum, and the valid slot with the higher number counts. All that
//! must change together (a batch of records and the place in the stream that they came from) is
//! in one slot, so a logger killed at any instant leaves either all of it or nothing.
//! Records are overwritten only after a commit that has given them up.
//!
//! **Files, not mappings.** Both sides use pread(2) and pwrite(2). The page cache is as coherent
//! between them as a shared mapping, a write survives the death of its process just so, and
//! nobody can die of SIGBUS because a file was cut; nor do rings count as the processes' memory.
//!
//! **Readers** never lock: they read the state, the records, and the state again, and drop what
//! the writer has given up in between.

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
/// Record bytes of a ring unless said otherwise.
pub const DEFAULT_CAPACITY: u64 = 256 * 1024;
/// Least record bytes of a ring: a batch is at most a quarter of it and must hold the longest
/// record.
pub const MIN_CAPACITY: u64 = 128 * 1024;
/// Most record bytes of a ring.
pub const MAX_CAPACITY: u64 = 256 * 1024 * 1024;

const _: () = assert!(MIN_CAPACITY as usize / 4 > MAX_TEXT + record::HEAD);

/// What can go wrong with a ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// A system call failed.
    #[error("cannot {action} the ring: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Its error.
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

    /// Whether there is no such ring (the unit has written nothing in this boot).
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}
