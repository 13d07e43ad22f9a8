//! Log files on the data disk: one folder for each unit, `current.log` and the older `1.log`,
//! `2.log` and so on.
//!
//! **Every line is in a file once.** The ring remembers the inode and size of `current.log` and
//! the number of its last line ([`crate::ring::DiskMark`]). A logger that was killed while it
//! wrote finds the file longer than that, or a new file in its place, because a rotation comes
//! before the write that made it necessary and one write never needs two. It reads what is beyond
//! the mark: whole lines carry their numbers and are counted as written, a torn last line is cut
//! off, and writing goes on from there. A write that failed is picked up the same way.
//!
//! **The disk is never waited for** by the loop that reads the pipes: a thread does everything
//! that touches it. The rings are the only buffer.

mod files;
mod format;
mod state;
mod worker;

#[cfg(test)]
pub(crate) use files::Files;
pub use format::line_seq;
pub(crate) use format::{OVERHEAD, format_line, parse_line};
pub(crate) use state::DiskState;
pub(crate) use worker::{Done, Job, Worker};
