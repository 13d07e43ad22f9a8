//! The state of a ring, and the encoding of a slot.

use super::record;
use crate::line::{Stream, stream_code, stream_from_code};

/// Maximum number of runs of a unit whose streams a ring tracks at the same time.
pub(crate) const MAX_RUNS: usize = 16;
const MAX_STREAMS: usize = 2 * MAX_RUNS;

/// Bytes of a slot; a slot never crosses a page.
pub(super) const SLOT: usize = 1024;
/// Positions beyond this count as damage: at 1 GB/s they are reached after 146 years.
const MAX_POSITION: u64 = 1 << 62;

/// Line counters of a unit since boot. A line longer than [`crate::MAX_TEXT`] counts once for each
/// of its pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Lines written to the ring.
    pub lines: u64,
    /// Their bytes, without newlines.
    pub bytes: u64,
    /// Lines that were evicted from the ring by newer ones: `lines - evicted` are in it.
    pub evicted: u64,
    /// Lines that were evicted without being in a log file, on a host with a data disk: the disk
    /// was full, broken, too slow or became available too late.
    pub lost: u64,
    /// Lines that were read and discarded because the tmpfs was full; they are not included in the
    /// other counters.
    pub dropped: u64,
}

/// How far a stream of a run has been parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamMark {
    /// The run.
    pub generation: u64,
    /// The stream.
    pub stream: Stream,
    /// The newest record of the stream does not end its line.
    pub in_line: bool,
    /// Bytes of the spool that are in the ring.
    pub offset: u64,
}

/// How far the log file has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskMark {
    /// Inode of `current.log`; 0 if there is none yet.
    pub inode: u64,
    /// Its size with `seq` as its last line.
    pub size: u64,
    /// The newest line that is in a file or known to be lost.
    pub seq: u64,
}

/// The state that a commit changes atomically.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct State {
    /// Increases by one with each commit.
    pub commit: u64,
    /// Position after the newest record.
    pub head: u64,
    /// Position of the oldest record.
    pub tail: u64,
    /// Encoded length of the newest record.
    pub last_len: u64,
    /// `lost` includes only lines that are known to be lost; see [`State::counters`].
    pub counts: Counters,
    /// The host has, or should have, a data disk.
    pub disk_wanted: bool,
    pub disk: DiskMark,
    pub streams: Vec<StreamMark>,
}

impl State {
    /// Number of the oldest record in the ring (or of the next one if it is empty).
    pub fn first_seq(&self) -> u64 {
        self.counts.evicted.saturating_add(1)
    }

    /// Number of the next record.
    pub fn next_seq(&self) -> u64 {
        self.counts.lines.saturating_add(1)
    }

    /// The counters for users: an evicted line that is not known to be in a file counts as lost
    /// until it is found on disk.
    pub fn counters(&self) -> Counters {
        let mut counts = self.counts;
        if self.disk_wanted {
            let unknown = counts.evicted.saturating_sub(self.disk.seq);
            counts.lost = counts.lost.saturating_add(unknown);
        }
        counts
    }

    fn index(&self, mark: &StreamMark) -> Option<usize> {
        let same =
            |old: &StreamMark| old.generation == mark.generation && old.stream == mark.stream;
        self.streams.iter().position(same)
    }

    /// Whether there is space for [`State::set_mark`].
    pub fn has_room_for(&self, mark: &StreamMark) -> bool {
        self.streams.len() < MAX_STREAMS || self.index(mark).is_some()
    }

    /// Sets the mark of a stream.
    pub fn set_mark(&mut self, mark: StreamMark) {
        match self.index(&mark).and_then(|index| self.streams.get_mut(index)) {
            Some(old) => *old = mark,
            None => self.streams.push(mark),
        }
    }

    /// Encodes a slot.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SLOT);
        let counts = &self.counts;
        for value in [
            self.commit,
            self.head,
            self.tail,
            self.last_len,
            counts.lines,
            counts.bytes,
            counts.evicted,
            counts.lost,
            counts.dropped,
            u64::from(self.disk_wanted),
            self.disk.inode,
            self.disk.size,
            self.disk.seq,
            self.streams.len() as u64,
        ] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        for mark in &self.streams {
            let kind = u64::from(stream_code(mark.stream)) | u64::from(mark.in_line) << 8;
            for value in [mark.generation, mark.offset, kind] {
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        out.resize(SLOT, 0);
        seal(&mut out);
        out
    }

    /// Decodes a slot; `None` if it is torn, damaged or was never written.
    pub fn decode(slot: &[u8], capacity: u64) -> Option<State> {
        let (body, sum) = slot.get(..SLOT)?.split_last_chunk::<8>()?;
        if checksum(body) != u64::from_le_bytes(*sum) {
            return None;
        }
        let mut rest = body;
        let mut next = || -> Option<u64> {
            let (value, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            Some(u64::from_le_bytes(*value))
        };
        let mut state = State {
            commit: next()?,
            head: next()?,
            tail: next()?,
            last_len: next()?,
            counts: Counters {
                lines: next()?,
                bytes: next()?,
                evicted: next()?,
                lost: next()?,
                dropped: next()?,
            },
            disk_wanted: next()? != 0,
            disk: DiskMark { inode: next()?, size: next()?, seq: next()? },
            streams: Vec::new(),
        };
        let streams = next()?;
        if streams > MAX_STREAMS as u64 {
            return None;
        }
        for _ in 0..streams {
            let (generation, offset, kind) = (next()?, next()?, next()?);
            state.streams.push(StreamMark {
                generation,
                stream: stream_from_code((kind & 0xff) as u8)?,
                in_line: kind >> 8 & 1 == 1,
                offset,
            });
        }
        state.is_consistent(capacity).then_some(state)
    }

    /// Whether the numbers are consistent.
    fn is_consistent(&self, capacity: u64) -> bool {
        let Some(used) = self.head.checked_sub(self.tail) else { return false };
        let Some(count) = self.counts.lines.checked_sub(self.counts.evicted) else { return false };
        let min_used = count.saturating_mul(record::HEAD as u64);
        self.commit > 0
            && self.head < MAX_POSITION
            && self.counts.lines < MAX_POSITION
            && used <= capacity
            && used.is_multiple_of(8)
            && self.head.is_multiple_of(8)
            && min_used <= used
            && (count == 0) == (used == 0)
            && (count == 0 || (self.last_len <= used && self.last_len >= record::HEAD as u64))
            && self.disk.seq <= self.counts.lines
    }
}

/// FNV-1a over 64-bit words: detects torn slots, but not deliberate changes.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| {
        // The rotation propagates high bits of a word to low bits of the sum.
        (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
    })
}

/// Writes the correct checksum at the end of a slot.
#[doc(hidden)]
pub fn seal(slot: &mut [u8]) {
    if let Some((body, sum)) = slot.split_last_chunk_mut::<8>() {
        *sum = checksum(body).to_le_bytes();
    }
}
