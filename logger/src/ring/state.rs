//! The state of a ring, and the bytes of a slot.

use super::record;
use crate::line::{Stream, stream_code, stream_from_code};

/// Runs of a unit whose streams a ring follows at the same time.
pub(crate) const MAX_RUNS: usize = 16;
const MAX_STREAMS: usize = 2 * MAX_RUNS;

/// Bytes of a slot; a slot never crosses a page.
pub(super) const SLOT: usize = 1024;
/// Positions beyond this are taken for damage: at 1 GB/s they are 146 years away.
const MAX_POSITION: u64 = 1 << 62;

/// How many lines a unit has written in this boot, and what became of them. A line longer than
/// [`crate::MAX_TEXT`] counts once for each of its pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Lines put in the ring.
    pub lines: u64,
    /// Their bytes, newlines not counted.
    pub bytes: u64,
    /// Lines that newer ones have pushed out of the ring: `lines - evicted` are in it.
    pub evicted: u64,
    /// Lines that left the ring without being in a log file, on a host with a data disk: the disk
    /// was full, broken, too slow or came too late.
    pub lost: u64,
    /// Lines that were read and thrown away because the memory file system was full; they are in
    /// none of the other counts.
    pub dropped: u64,
}

/// How far one stream of one run has been parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamMark {
    /// The run.
    pub generation: u64,
    /// The stream.
    pub stream: Stream,
    /// The newest record of the stream is not the end of its line.
    pub in_line: bool,
    /// Bytes of the spool that are in the ring.
    pub offset: u64,
}

/// How far the log file has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskMark {
    /// Inode of `current.log`; 0 before there is one.
    pub inode: u64,
    /// Its size when `seq` was its last line.
    pub size: u64,
    /// Newest line that is in a file, or is known to be lost.
    pub seq: u64,
}

/// Everything that a commit changes together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct State {
    /// Rises by one with each commit.
    pub commit: u64,
    /// Position after the newest record.
    pub head: u64,
    /// Position of the oldest record.
    pub tail: u64,
    /// Encoded length of the newest record.
    pub last_len: u64,
    /// `lost` here counts only what is settled; see [`State::counters`].
    pub counts: Counters,
    /// The host has, or should have, a data disk.
    pub disk_wanted: bool,
    pub disk: DiskMark,
    pub streams: Vec<StreamMark>,
}

impl State {
    /// Number of the oldest record in the ring (or of the next to come).
    pub fn first_seq(&self) -> u64 {
        self.counts.evicted.saturating_add(1)
    }

    /// Number of the next record.
    pub fn next_seq(&self) -> u64 {
        self.counts.lines.saturating_add(1)
    }

    /// The counters as people see them: a line that has left the ring and is not known to be in a
    /// file is lost until the disk proves otherwise.
    pub fn counters(&self) -> Counters {
        let mut counts = self.counts;
        if self.disk_wanted {
            let open = counts.evicted.saturating_sub(self.disk.seq);
            counts.lost = counts.lost.saturating_add(open);
        }
        counts
    }

    fn index(&self, mark: &StreamMark) -> Option<usize> {
        let same =
            |old: &StreamMark| old.generation == mark.generation && old.stream == mark.stream;
        self.streams.iter().position(same)
    }

    /// Whether [`State::set_mark`] will find a place.
    pub fn has_room_for(&self, mark: &StreamMark) -> bool {
        self.streams.len() < MAX_STREAMS || self.index(mark).is_some()
    }

    /// Puts a stream's mark in.
    pub fn set_mark(&mut self, mark: StreamMark) {
        match self.index(&mark).and_then(|index| self.streams.get_mut(index)) {
            Some(old) => *old = mark,
            None => self.streams.push(mark),
        }
    }

    /// The bytes of a slot.
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

    /// Reads a slot; `None` when it is torn, damaged or has never been written.
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
        state.is_sound(capacity).then_some(state)
    }

    /// Whether the numbers can belong together at all.
    fn is_sound(&self, capacity: u64) -> bool {
        let Some(used) = self.head.checked_sub(self.tail) else { return false };
        let Some(count) = self.counts.lines.checked_sub(self.counts.evicted) else { return false };
        let least = count.saturating_mul(record::HEAD as u64);
        self.commit > 0
            && self.head < MAX_POSITION
            && self.counts.lines < MAX_POSITION
            && used <= capacity
            && used.is_multiple_of(8)
            && self.head.is_multiple_of(8)
            && least <= used
            && (count == 0) == (used == 0)
            && (count == 0 || (self.last_len <= used && self.last_len >= record::HEAD as u64))
            && self.disk.seq <= self.counts.lines
    }
}

/// FNV-1a over 64-bit words: it tells a torn slot from a whole one, it is no defence.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| {
        // The rotation lets a word's high bits reach the sum's low ones.
        (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
    })
}

/// Puts the right checksum at the end of a slot.
#[doc(hidden)]
pub fn seal(slot: &mut [u8]) {
    if let Some((body, sum)) = slot.split_last_chunk_mut::<8>() {
        *sum = checksum(body).to_le_bytes();
    }
}
