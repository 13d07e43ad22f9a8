//! Writing a ring: only the logger does, with one writer per ring.

use super::area::{Area, Walk};
use super::record::{Head, encoded_len};
use super::state::{SLOT, State};
use super::{
    Counters, DiskMark, HEADER, MAX_CAPACITY, MIN_CAPACITY, RingError, StreamMark, reader,
};
use crate::line::{Flags, Stream};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The start of every ring file: a name and the version of the layout.
pub(super) const MAGIC: [u8; 8] = *b"keelrng1";
/// File offsets of the slots.
pub(super) const SLOTS: [u64; 2] = [1024, 2048];

/// Records to be written to a ring in one commit. Reusable: [`Writer::begin`] empties it.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    count: u64,
    text_bytes: u64,
    next_seq: u64,
    last_len: u64,
    limit: u64,
    unix_us: i64,
    mono_ms: u64,
    /// Lines that were discarded before this batch; counted with it.
    pub dropped: u64,
}

impl Batch {
    /// Adds a record. Returns false and adds nothing if the batch is full.
    #[must_use]
    pub fn push(&mut self, generation: u64, stream: Stream, flags: Flags, text: &[u8]) -> bool {
        let size = encoded_len(text.len());
        if (self.bytes.len() as u64).saturating_add(size) > self.limit {
            return false;
        }
        let head = Head {
            text_len: text.len(),
            stream,
            flags,
            previous: self.last_len,
            generation,
            seq: self.next_seq,
            unix_us: self.unix_us,
            mono_ms: self.mono_ms,
        };
        head.encode(text, &mut self.bytes);
        self.count = self.count.saturating_add(1);
        self.text_bytes = self.text_bytes.saturating_add(text.len() as u64);
        self.next_seq = self.next_seq.saturating_add(1);
        self.last_len = size;
        true
    }

    /// The number of records.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// The records that must be evicted for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    tail: u64,
    /// The newest record that will no longer be in the ring.
    pub evicted: u64,
}

/// The writer of a ring.
#[derive(Debug)]
pub struct Writer {
    file: File,
    capacity: u64,
    state: State,
}

impl Writer {
    /// Opens the ring at `path`, or creates one for `capacity` bytes of records (limited to
    /// [`MIN_CAPACITY`] and [`MAX_CAPACITY`]). A damaged ring is replaced by an empty one.
    ///
    /// # Errors
    /// A system call failed.
    pub fn open(path: &Path, capacity: u64) -> Result<Writer, RingError> {
        match File::options().read(true).write(true).open(path) {
            Ok(file) => match reader::load(&file) {
                Ok((capacity, state)) => return Ok(Writer { file, capacity, state }),
                Err(error @ RingError::Io { .. }) => return Err(error),
                Err(error) => {
                    log::error!("{}: {error}; replacing it by an empty one", path.display());
                }
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(RingError::Io { action: "open", source }),
        }
        Writer::create(path, capacity)
    }

    /// Creates a ring; it appears under its name only when it is complete.
    fn create(path: &Path, capacity: u64) -> Result<Writer, RingError> {
        let capacity = capacity.clamp(MIN_CAPACITY, MAX_CAPACITY).next_multiple_of(8);
        let new = path.with_extension("new");
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&new).map_err(RingError::io("create"))?;
        let mut writer = Writer { file, capacity, state: State::default() };
        // The header is written in full, so that no later commit needs a new page: commits must
        // also succeed on a full tmpfs.
        let mut header = vec![0; HEADER as usize];
        for (to, from) in header.iter_mut().zip(MAGIC.into_iter().chain(capacity.to_le_bytes())) {
            *to = from;
        }
        writer.file.write_all_at(&header, 0).map_err(RingError::io("create"))?;
        writer.file.set_len(HEADER.saturating_add(capacity)).map_err(RingError::io("create"))?;
        writer.commit()?;
        writer.commit()?;
        std::fs::rename(&new, path).map_err(RingError::io("create"))?;
        Ok(writer)
    }

    fn area(&self) -> Area<'_> {
        Area { file: &self.file, capacity: self.capacity }
    }

    /// Writes `self.state` to the ring atomically.
    fn commit(&mut self) -> Result<(), RingError> {
        self.state.commit = self.state.commit.saturating_add(1);
        let bytes = self.state.encode();
        debug_assert_eq!(bytes.len(), SLOT);
        let [even, odd] = SLOTS;
        let at = if self.state.commit.is_multiple_of(2) { even } else { odd };
        self.file.write_all_at(&bytes, at).map_err(RingError::io("commit to"))
    }

    /// Empties `batch` for records with this time. It is limited to a quarter of the ring.
    pub fn begin(&self, batch: &mut Batch, unix_us: i64, mono_ms: u64) {
        batch.bytes.clear();
        *batch = Batch {
            bytes: std::mem::take(&mut batch.bytes),
            next_seq: self.state.next_seq(),
            last_len: self.state.last_len,
            limit: self.capacity / 4,
            unix_us,
            mono_ms,
            ..Batch::default()
        };
    }

    /// Determines what must be evicted for `batch`. Changes nothing.
    pub fn room(&self, batch: &Batch) -> Room {
        let state = &self.state;
        let keep = self.capacity.saturating_sub(batch.bytes.len() as u64);
        let mut walk = Walk::new(self.area(), state.tail, state.first_seq(), state.head);
        while state.head.saturating_sub(walk.pos) > keep {
            match walk.peek() {
                Ok(Some(head)) => walk.skip(&head),
                Ok(None) => break,
                // Records that cannot be read are evicted.
                Err(_) => return Room { tail: state.head, evicted: state.counts.lines },
            }
        }
        Room { tail: walk.pos, evicted: walk.seq.saturating_sub(1) }
    }

    /// Whether evicting `room` would lose lines that are not in a file.
    pub fn would_lose(&self, room: Room) -> bool {
        room.evicted > self.state.disk.seq.max(self.state.counts.evicted)
    }

    /// Writes the records to the ring and `mark` to its state, in one commit. If there is no memory
    /// for the records, they count as dropped and the mark advances nevertheless: waiting would
    /// block the container.
    ///
    /// # Errors
    /// The commit failed; the next one includes its changes.
    pub fn append(&mut self, batch: &Batch, room: Room, mark: StreamMark) -> Result<(), RingError> {
        // Check before anything changes.
        if !self.state.has_room_for(&mark) {
            return Err(RingError::Damaged("too many streams"));
        }
        if room.tail != self.state.tail {
            self.state.tail = room.tail;
            self.state.counts.evicted = room.evicted;
            // Readers must see that these records are evicted before their bytes change.
            self.commit()?;
        }
        let written = self.area().write(self.state.head, &batch.bytes);
        let state = &mut self.state;
        let counts = &mut state.counts;
        counts.dropped = counts.dropped.saturating_add(batch.dropped);
        match written {
            Ok(()) => {
                state.head = state.head.saturating_add(batch.bytes.len() as u64);
                counts.lines = counts.lines.saturating_add(batch.count);
                counts.bytes = counts.bytes.saturating_add(batch.text_bytes);
                state.last_len = batch.last_len;
            }
            Err(_) => counts.dropped = counts.dropped.saturating_add(batch.count),
        }
        state.set_mark(mark);
        self.commit()
    }

    /// How far a stream has been parsed, if known.
    pub fn mark(&self, generation: u64, stream: Stream) -> Option<StreamMark> {
        let same = |mark: &&StreamMark| mark.generation == generation && mark.stream == stream;
        self.state.streams.iter().find(same).copied()
    }

    /// The runs that have marks.
    pub fn generations(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.state.streams.iter().map(|mark| mark.generation).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Sets the mark of a stream.
    ///
    /// # Errors
    /// There are too many streams, or the commit failed.
    pub fn set_mark(&mut self, mark: StreamMark) -> Result<(), RingError> {
        if !self.state.has_room_for(&mark) {
            return Err(RingError::Damaged("too many streams"));
        }
        self.state.set_mark(mark);
        self.commit()
    }

    /// Removes the marks of a run.
    ///
    /// # Errors
    /// The commit failed.
    pub fn remove_run(&mut self, generation: u64) -> Result<(), RingError> {
        self.state.streams.retain(|mark| mark.generation != generation);
        self.commit()
    }

    /// Records whether the host has, or should have, a data disk.
    ///
    /// # Errors
    /// The commit failed.
    pub fn set_disk_wanted(&mut self, wanted: bool) -> Result<(), RingError> {
        if self.state.disk_wanted == wanted {
            return Ok(());
        }
        self.state.disk_wanted = wanted;
        self.commit()
    }

    /// How far the log file has been written.
    pub fn disk(&self) -> DiskMark {
        self.state.disk
    }

    /// Records that the log file now ends with line `mark.seq`. Later lines that have been evicted
    /// are lost.
    ///
    /// # Errors
    /// The commit failed.
    pub fn set_disk(&mut self, mut mark: DiskMark) -> Result<(), RingError> {
        let counts = &mut self.state.counts;
        mark.seq = mark.seq.min(counts.lines);
        let lost = counts.evicted.saturating_sub(mark.seq);
        counts.lost = counts.lost.saturating_add(lost);
        mark.seq = mark.seq.max(counts.evicted);
        self.state.disk = mark;
        self.commit()
    }

    /// The counters.
    pub fn counters(&self) -> Counters {
        self.state.counters()
    }

    /// Number of the newest record; 0 if there was none.
    pub fn newest(&self) -> u64 {
        self.state.counts.lines
    }

    /// The records after the newest one in a file, oldest first. `hint` is the position and number
    /// of a record at or before the first of them, from an earlier call.
    pub(crate) fn after_disk(&self, hint: Option<(u64, u64)>) -> Result<Walk<'_>, RingError> {
        let state = &self.state;
        let (pos, seq) = match hint {
            Some((pos, seq)) if pos >= state.tail && seq >= state.first_seq() => (pos, seq),
            _ => (state.tail, state.first_seq()),
        };
        let mut walk = Walk::new(self.area(), pos, seq, state.head);
        while walk.seq <= state.disk.seq {
            match walk.peek()? {
                Some(head) => walk.skip(&head),
                None => break,
            }
        }
        Ok(walk)
    }

    /// Evicts every record, because they cannot be read.
    ///
    /// # Errors
    /// The commit failed.
    pub(crate) fn evict_all(&mut self) -> Result<(), RingError> {
        self.state.tail = self.state.head;
        self.state.counts.evicted = self.state.counts.lines;
        self.commit()
    }
}
