//! A stream of a run, from its pipe to the ring.

use crate::line::{Flags, MAX_TEXT, Stream};
use crate::ring::{Batch, RingError, StreamMark, Writer};
use crate::split::next_piece;
use crate::spool::{Spool, Taken};
use crate::time::unix_us;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Maximum number of bytes taken from a stream in one iteration of the loop; it bounds how long
/// other streams wait.
pub(crate) const CHUNK: usize = 64 * 1024;
/// Maximum number of bytes parsed in one iteration: a chunk, an incomplete line before it, and the
/// byte that shows that a line is too long.
const WINDOW: usize = CHUNK + MAX_TEXT + 1;

/// Buffers shared by all sources of the process.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    window: Vec<u8>,
    batch: Batch,
}

/// The result of [`Source::turn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There was nothing to do.
    Idle,
    /// Something was done; there may be more.
    Progress,
    /// Nothing was done, because lines that are not on disk yet would be lost.
    Held,
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Source {
    generation: u64,
    stream: Stream,
    /// `None`: the pipe no longer exists; only the spool is left.
    pipe: Option<OwnedFd>,
    spool: Spool,
    /// Bytes of the spool that are in the ring.
    offset: u64,
    in_line: bool,
    /// There may be whole lines in the spool.
    pending: bool,
    ended: bool,
    finished: bool,
    /// It ends as soon as its pipe is empty, even if there are writers.
    draining: bool,
    /// Set by the loop if the pipe is readable.
    pub ready: bool,
    /// Discarded lines that are not yet counted in the ring.
    dropped: u64,
    /// Discarded lines that are not yet reported in the log.
    unreported: u64,
}

impl Source {
    /// Opens a stream at its mark in the ring, or at its beginning. Unless a pipe is attached, only
    /// the spool is read.
    pub fn open(
        dir: &Path,
        generation: u64,
        stream: Stream,
        ring: &mut Writer,
    ) -> Result<Source, RingError> {
        let end = if stream == Stream::Stdout { "out" } else { "err" };
        let spool = Spool::open(&dir.join(format!("{generation}.{end}")))
            .map_err(RingError::io("open the spool of"))?;
        let (mut offset, mut in_line) = match ring.mark(generation, stream) {
            Some(mark) => (mark.offset, mark.in_line),
            None => (spool.first_kept(), false),
        };
        if spool.size() < offset {
            // The run was finished and its spool removed. Remove the old mark before the new spool
            // can grow to its offset.
            (offset, in_line) = (0, false);
            ring.set_mark(StreamMark { generation, stream, in_line, offset })?;
        }
        let pending = spool.size() > offset;
        Ok(Source {
            generation,
            stream,
            pipe: None,
            spool,
            offset,
            in_line,
            pending,
            ended: true,
            finished: false,
            draining: false,
            ready: false,
            dropped: 0,
            unreported: 0,
        })
    }

    /// Reads this pipe from now on.
    pub fn attach(&mut self, pipe: OwnedFd) {
        // Non-blocking: a container can open the pipe through its /proc and read bytes between our
        // poll and our read. Only PID 1 shares the file description, and it does not read.
        let flags = fcntl(&pipe, FcntlArg::F_GETFL);
        let flags = flags.map_or(OFlag::empty(), OFlag::from_bits_retain);
        let _ = fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK));
        (self.pipe, self.ended) = (Some(pipe), false);
    }

    /// The pipe to poll, unless there is other work.
    pub fn pollable(&self) -> Option<BorrowedFd<'_>> {
        let pipe = self.pipe.as_ref().filter(|_| !self.pending && !self.ended)?;
        Some(pipe.as_fd())
    }

    /// Whether [`Source::turn`] would do something.
    pub fn has_work(&self) -> bool {
        !self.finished && (self.pending || self.ended || self.draining || self.ready)
    }

    /// Whether everything is in the ring and nothing will follow.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Reads the rest of the pipe, then ends.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Removes the spool.
    pub fn remove_spool(&self) -> io::Result<()> {
        self.spool.remove()
    }

    /// Processes at most [`CHUNK`] bytes. `hold`: wait instead of evicting lines that are not on
    /// disk yet.
    pub fn turn(
        &mut self,
        ring: &mut Writer,
        buffers: &mut Buffers,
        hold: bool,
    ) -> Result<Turn, RingError> {
        self.ready = false;
        if !self.pending && !self.ended {
            match self.fill(&mut buffers.window) {
                Taken::Nothing if !self.draining => return Ok(Turn::Idle),
                Taken::Some => {}
                Taken::End | Taken::Nothing => self.ended = true,
            }
        }
        // Text after discarded bytes does not continue the line before them.
        let cut = self.ended || self.dropped > 0;
        let left = self.spool.size().saturating_sub(self.offset);
        let window = usize::try_from(left).unwrap_or(WINDOW).min(WINDOW);
        let whole = window as u64 == left;
        buffers.window.resize(window, 0);
        self.spool
            .read(self.offset, &mut buffers.window)
            .map_err(RingError::io("read the spool of"))?;
        ring.begin(&mut buffers.batch, unix_us(), ipc::clock::monotonic_ms());
        buffers.batch.dropped = self.dropped;
        if self.unreported > 0 && self.dropped == 0 {
            let text = format!("{} lines dropped: no space left on /run", self.unreported);
            let _ =
                buffers.batch.push(self.generation, Stream::System, Flags::NONE, text.as_bytes());
        }
        let (mut rest, mut in_line, mut full) = (buffers.window.as_slice(), self.in_line, false);
        while let Some(piece) = next_piece(rest, in_line, cut && whole) {
            if !buffers.batch.push(self.generation, self.stream, piece.flags, piece.text) {
                full = true;
                break;
            }
            in_line = piece.flags.has(Flags::CONTINUES);
            rest = rest.get(piece.taken..).unwrap_or_default();
        }
        if buffers.batch.count() > 0 || self.dropped > 0 {
            let room = ring.room(&buffers.batch);
            if hold && ring.would_lose(room) {
                self.pending = true;
                return Ok(Turn::Held);
            }
            let offset = self.offset.saturating_add(window.saturating_sub(rest.len()) as u64);
            let (generation, stream) = (self.generation, self.stream);
            let mark = StreamMark { generation, stream, in_line, offset };
            // After a failed commit the next one includes its changes: the ring's state in memory
            // and this source must agree.
            let done = ring.append(&buffers.batch, room, mark);
            if self.dropped == 0 {
                self.unreported = 0;
            }
            (self.offset, self.in_line, self.dropped) = (offset, in_line, 0);
            self.spool.free_before(offset);
            done?;
        }
        self.pending = full || !whole;
        self.finished = self.ended && !self.pending;
        Ok(Turn::Progress)
    }

    /// Moves bytes from the pipe to the spool, or discards them if there is no memory: a container
    /// must not be blocked permanently.
    fn fill(&mut self, scratch: &mut Vec<u8>) -> Taken {
        let Some(pipe) = &self.pipe else { return Taken::End };
        match self.spool.take(pipe.as_fd(), CHUNK) {
            Ok(taken) => taken,
            Err(Errno::ENOSPC | Errno::ENOMEM | Errno::EDQUOT | Errno::EFBIG) => {
                scratch.resize(CHUNK, 0);
                let read = nix::unistd::read(pipe, scratch).unwrap_or(0);
                let bytes = scratch.get(..read).unwrap_or_default();
                let lines = bytes.iter().filter(|byte| **byte == b'\n').count().max(1) as u64;
                self.dropped = self.dropped.saturating_add(lines);
                self.unreported = self.unreported.saturating_add(lines);
                Taken::Some
            }
            Err(errno) => {
                log::error!(
                    "cannot read {} of run {}: {errno}",
                    self.stream.name(),
                    self.generation
                );
                Taken::End
            }
        }
    }
}
