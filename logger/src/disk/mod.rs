//! Log files on the data disk: one directory per unit, with `current.log` and the older `1.log`,
//! `2.log` and so on.
//!
//! **Every line is in a file exactly once.** The ring records the inode and size of `current.log`
//! and the number of its last line ([`crate::ring::DiskMark`]). If a logger is killed while
//! writing, the next one finds the file longer than recorded, or a new file in its place, because a
//! rotation comes before the write that made it necessary and a write never needs two rotations. It
//! reads the file after the mark: whole lines contain their numbers and count as written, a torn
//! last line is cut off, and writing continues from there. A failed write is recovered in the same
//! way.
//!
//! **The main loop never waits for the disk**: a thread does everything that accesses it. The rings
//! are the only buffer.

mod files;
mod format;
mod state;
mod worker;

#[cfg(test)]
pub(crate) use files::Files;
pub use format::line_seq;
pub(crate) use format::{OVERHEAD, format_line, parse_line};
pub(crate) use state::DiskState;
pub(crate) use worker::{Job, JobResult, Worker};
