//! One stream of one run, from its pipe to the ring.

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

/// Most bytes taken from a stream in one turn of the loop: what the others have to wait for.
pub(crate) const CHUNK: usize = 64 * 1024;
/// Most bytes parsed in one turn: a chunk, what may wait before it for its newline, and the byte
/// that shows that a line is too long.
const WINDOW: usize = CHUNK + MAX_TEXT + 1;

/// Buffers that all sources share: one of each in the process.
#[derive(Debug, Default)]
pub(crate) struct Kit {
    window: Vec<u8>,
    batch: Batch,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There was nothing to do.
    Idle,
    /// Something was done; there may be more.
    Progress,
    /// Nothing was done, because lines would be lost that the disk has not yet got.
    Held,
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Source {
    generation: u64,
    stream: Stream,
    /// `None`: nobody holds the pipe any more; only the spool is left.
    pipe: Option<OwnedFd>,
    spool: Spool,
    /// Bytes of the spool that are in the ring.
    offset: u64,
    in_line: bool,
    /// There may be whole lines in the spool.
    pending: bool,
    ended: bool,
    finished: bool,
    /// It ends as soon as its pipe is empty, writers or not.
    leaving: bool,
    /// The loop's note that the pipe can be read.
    pub ready: bool,
    /// Lines thrown away and not yet counted in the ring.
    dropped: u64,
    /// Lines thrown away and not yet told in the log.
    untold: u64,
}

impl Source {
    /// Takes a stream up where its mark in the ring says, or from its beginning. What the spool
    /// holds is all of it unless a pipe is attached.
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
            // The run was finished and its spool removed. The old mark must go before the new
            // spool can grow to its size.
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
            leaving: false,
            ready: false,
            dropped: 0,
            untold: 0,
        })
    }

    /// Reads this pipe from now on.
    pub fn attach(&mut self, pipe: OwnedFd) {
        // Only PID 1 shares this end, and it does not read. A container can open the pipe through
        // its /proc and take bytes away between our poll and our read.
        let flags = fcntl(&pipe, FcntlArg::F_GETFL);
        let flags = flags.map_or(OFlag::empty(), OFlag::from_bits_retain);
        let _ = fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK));
        (self.pipe, self.ended) = (Some(pipe), false);
    }

    /// The pipe to poll, unless there is work without it.
    pub fn pollable(&self) -> Option<BorrowedFd<'_>> {
        let pipe = self.pipe.as_ref().filter(|_| !self.pending && !self.ended)?;
        Some(pipe.as_fd())
    }

    /// Whether a turn would do something.
    pub fn has_work(&self) -> bool {
        !self.finished && (self.pending || self.ended || self.leaving || self.ready)
    }

    /// Everything that was written is in the ring, and nothing will follow.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Reads what is in the pipe, and then no more.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// Removes the spool.
    pub fn remove_spool(&self) -> io::Result<()> {
        self.spool.remove()
    }

    /// Moves at most [`CHUNK`] bytes on. `hold`: rather wait than give up lines that the disk has
    /// not yet got.
    pub fn turn(
        &mut self,
        ring: &mut Writer,
        kit: &mut Kit,
        hold: bool,
    ) -> Result<Turn, RingError> {
        self.ready = false;
        if !self.pending && !self.ended {
            match self.fill(&mut kit.window) {
                Taken::Nothing if !self.leaving => return Ok(Turn::Idle),
                Taken::Some => {}
                Taken::End | Taken::Nothing => self.ended = true,
            }
        }
        // What follows thrown-away bytes does not belong to what came before them.
        let cut = self.ended || self.dropped > 0;
        let left = self.spool.size().saturating_sub(self.offset);
        let window = usize::try_from(left).unwrap_or(WINDOW).min(WINDOW);
        let whole = window as u64 == left;
        kit.window.resize(window, 0);
        self.spool
            .read(self.offset, &mut kit.window)
            .map_err(RingError::io("read the spool of"))?;
        ring.begin(&mut kit.batch, unix_us(), ipc::clock::monotonic_ms());
        kit.batch.dropped = self.dropped;
        if self.untold > 0 && self.dropped == 0 {
            let text = format!("{} lines dropped: no memory left below /run", self.untold);
            let _ = kit.batch.push(self.generation, Stream::System, Flags::NONE, text.as_bytes());
        }
        let (mut rest, mut in_line, mut full) = (kit.window.as_slice(), self.in_line, false);
        while let Some(piece) = next_piece(rest, in_line, cut && whole) {
            if !kit.batch.push(self.generation, self.stream, piece.flags, piece.text) {
                full = true;
                break;
            }
            in_line = piece.flags.has(Flags::CONTINUES);
            rest = rest.get(piece.taken..).unwrap_or_default();
        }
        if kit.batch.count() > 0 || self.dropped > 0 {
            let room = ring.room(&kit.batch);
            if hold && ring.would_lose(room) {
                self.pending = true;
                return Ok(Turn::Held);
            }
            let offset = self.offset.saturating_add(window.saturating_sub(rest.len()) as u64);
            let (generation, stream) = (self.generation, self.stream);
            let mark = StreamMark { generation, stream, in_line, offset };
            // A commit that failed is made good by the next one: the ring's state in memory and
            // this source must agree.
            let done = ring.append(&kit.batch, room, mark);
            if self.dropped == 0 {
                self.untold = 0;
            }
            (self.offset, self.in_line, self.dropped) = (offset, in_line, 0);
            self.spool.free_before(offset);
            done?;
        }
        self.pending = full || !whole;
        self.finished = self.ended && !self.pending;
        Ok(Turn::Progress)
    }

    /// Takes bytes from the pipe into the spool, or throws them away when there is no memory for
    /// them: a container must not be blocked for good.
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
                self.untold = self.untold.saturating_add(lines);
                Taken::Some
            }
            Err(errno) => {
                log::error!("{} of run {}: {errno}", self.stream.name(), self.generation);
                Taken::End
            }
        }
    }
}
