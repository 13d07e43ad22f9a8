//! Reading a ring: in any process, at any time, without a lock.

use super::area::{Area, Walk};
use super::record::{HEAD, Head};
use super::state::{SLOT, State};
use super::writer::{MAGIC, SLOTS};
use super::{Counters, HEADER, MAX_CAPACITY, MIN_CAPACITY, RingError};
use crate::line::Line;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// How often a reader retries when the writer has overtaken it.
const ATTEMPTS: usize = 16;
/// Bytes read at a time when reading backwards.
const READ_BEHIND: u64 = 32 * 1024;
/// How often the header is read until it is consistent.
const HEADER_ATTEMPTS: usize = 1000;

/// Reads the capacity and state of a ring file.
///
/// A slot that is being written is torn. The other slot is valid then, but it may refer to records
/// that the writer has overwritten since. So a slot counts as torn for good (its writer was killed)
/// only if it has not changed between two reads.
pub(super) fn load(file: &File) -> Result<(u64, State), RingError> {
    let mut header = vec![0; HEADER as usize];
    let mut before = Vec::new();
    for _ in 0..HEADER_ATTEMPTS {
        file.read_exact_at(&mut header, 0).map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => RingError::Damaged("the file is too short"),
            _ => RingError::Io { action: "read", source },
        })?;
        let (magic, rest) =
            header.split_first_chunk::<8>().ok_or(RingError::Damaged("the file is too short"))?;
        let capacity = rest.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if *magic != MAGIC {
            return Err(RingError::Damaged("missing header"));
        }
        if !(MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity) || !capacity.is_multiple_of(8) {
            return Err(RingError::Damaged("invalid capacity"));
        }
        let [even, odd] = SLOTS.map(|at| {
            let slot = header.get(at as usize..at as usize + SLOT).unwrap_or_default();
            State::decode(slot, capacity)
        });
        match (even, odd) {
            (Some(a), Some(b)) => {
                return Ok((capacity, if a.commit > b.commit { a } else { b }));
            }
            (Some(only), None) | (None, Some(only)) if before == header => {
                return Ok((capacity, only));
            }
            (None, None) if before == header => break,
            _ => before.clone_from(&header),
        }
    }
    Err(RingError::Damaged("both state slots are torn"))
}

/// A reader of a ring.
#[derive(Debug)]
pub struct Reader {
    file: File,
}

impl From<Reader> for OwnedFd {
    /// The ring file, for a reader in another process.
    fn from(reader: Reader) -> OwnedFd {
        reader.file.into()
    }
}

impl Reader {
    /// Opens a ring file (`/run/keel/log/<unit>/ring`) for reading.
    ///
    /// The logger, which can write to the directory, has fewer privileges than its readers. So a
    /// symbolic link is not followed, and opening a FIFO does not block.
    ///
    /// # Errors
    /// [`RingError::is_absent`] if the unit has written nothing since boot; otherwise the file
    /// cannot be opened or is not a regular file.
    pub fn open(path: &Path) -> Result<Reader, RingError> {
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(path).map_err(RingError::io("open"))?;
        if !file.metadata().map_err(RingError::io("open"))?.is_file() {
            return Err(RingError::Damaged("not a regular file"));
        }
        Ok(Reader { file })
    }

    /// A reader of a ring file that another process has opened for reading.
    pub fn from_file(file: File) -> Reader {
        Reader { file }
    }

    /// The current counters.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn counters(&self) -> Result<Counters, RingError> {
        Ok(load(&self.file)?.1.counters())
    }

    /// The number of the newest line that is in a log file; 0 if no line of this boot is.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn filed(&self) -> Result<u64, RingError> {
        Ok(load(&self.file)?.1.disk.seq)
    }

    /// The newest `n` lines (fewer if there are fewer), oldest first.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn tail(&self, n: usize) -> Result<Vec<Line>, RingError> {
        self.collect(n, |state| state.next_seq().saturating_sub(n as u64))
    }

    /// The lines after line `seq` (0: from the start), oldest first, at most `max` of them. Evicted
    /// lines are missing; the number of the first line shows how many.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn since(&self, seq: u64, max: usize) -> Result<Vec<Line>, RingError> {
        self.collect(max, |_| seq.saturating_add(1))
    }

    /// At most `max` lines from the one that `first` chooses.
    fn collect(&self, max: usize, first: impl Fn(&State) -> u64) -> Result<Vec<Line>, RingError> {
        let mut result = Ok(Vec::new());
        for attempt in 0..ATTEMPTS {
            let (capacity, state) = load(&self.file)?;
            let mut wanted = first(&state);
            let behind = wanted < state.first_seq();
            if behind {
                wanted = state.first_seq();
                // The oldest records are overwritten next. A reader that misses lines anyway and is
                // overtaken continues at the newest quarter, and misses some more.
                if attempt > 0 {
                    let records = state.next_seq().saturating_sub(wanted);
                    wanted = wanted.max(state.next_seq().saturating_sub(records / 4));
                }
            }
            if wanted >= state.next_seq() || max == 0 {
                return Ok(Vec::new());
            }
            let area = Area { file: &self.file, capacity };
            let mut lines = Vec::new();
            let read = read_lines(area, &state, wanted, max, &mut lines);
            // Records that have been evicted since may have been overwritten while they were read.
            let now = load(&self.file)?.1;
            lines.retain(|(pos, _)| *pos >= now.tail);
            let complete = lines.first().is_some_and(|(_, line)| line.seq == wanted);
            let lines: Vec<Line> = lines.into_iter().map(|(_, line)| line).collect();
            match read {
                Ok(()) if complete || (behind && !lines.is_empty()) => return Ok(lines),
                Err(error) if now.tail == state.tail => return Err(error),
                // Overtaken. The lines read so far are still correct.
                Ok(()) => result = Ok(lines),
                Err(_) if !lines.is_empty() => result = Ok(lines),
                Err(_) => {}
            }
        }
        result
    }
}

/// Reads at most `max` lines from number `wanted`, which is in the ring, with their positions.
fn read_lines(
    area: Area<'_>,
    state: &State,
    wanted: u64,
    max: usize,
    lines: &mut Vec<(u64, Line)>,
) -> Result<(), RingError> {
    let (pos, seq) = find(area, state, wanted)?;
    let mut walk = Walk::new(area, pos, seq, state.head);
    while let Some(head) = walk.peek()? {
        if lines.len() >= max {
            break;
        }
        if head.seq >= wanted {
            let text = walk.text(&head)?.to_vec();
            lines.push((walk.pos, head.line(text)));
        }
        walk.skip(&head);
    }
    if walk.pos >= state.head && walk.seq != state.next_seq() {
        return Err(RingError::Damaged("wrong number of records"));
    }
    Ok(())
}

/// The position to start reading from to get to record `wanted`: the record itself, found backwards
/// from the newest, or the oldest record if that is nearer.
fn find(area: Area<'_>, state: &State, wanted: u64) -> Result<(u64, u64), RingError> {
    let (mut pos, mut seq, mut step) = (state.head, state.next_seq(), state.last_len);
    if wanted.saturating_sub(state.first_seq()) < seq.saturating_sub(wanted) {
        return Ok((state.tail, state.first_seq()));
    }
    // Heads are read in large blocks: reading them one by one, a busy writer would overtake.
    let (mut behind, mut behind_pos) = (Vec::new(), pos);
    while seq > wanted {
        pos = pos
            .checked_sub(step)
            .filter(|pos| *pos >= state.tail)
            .ok_or(RingError::Damaged("a record extends beyond the start"))?;
        seq = seq.saturating_sub(1);
        if pos < behind_pos {
            behind_pos = pos.saturating_sub(READ_BEHIND).max(state.tail);
            let len = pos.saturating_sub(behind_pos).saturating_add(HEAD as u64);
            behind.resize(usize::try_from(len).map_err(|_| RingError::Damaged("invalid size"))?, 0);
            area.read(behind_pos, &mut behind).map_err(RingError::io("read"))?;
        }
        let at = usize::try_from(pos.saturating_sub(behind_pos)).unwrap_or(usize::MAX);
        let head = behind.get(at..).and_then(Head::decode);
        let head = head.ok_or(RingError::Damaged("invalid record"))?;
        if head.seq != seq || head.encoded_len() != step {
            return Err(RingError::Damaged("a record has the wrong number"));
        }
        step = head.previous;
    }
    Ok((pos, seq))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testdir::Dir;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_fifo_or_a_link_instead_of_a_ring_is_refused_without_blocking() {
        let dir = Dir::new();
        let at = |name: &str| dir.0.join(name);
        std::fs::write(at("secret"), "of root").unwrap();
        symlink(at("secret"), at("link")).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (name, message) in [
            ("link", "cannot open the ring: Too many levels of symbolic links (os error 40)"),
            ("directory", "the ring is damaged: not a regular file"),
            ("fifo", "the ring is damaged: not a regular file"),
        ] {
            let path = at(name);
            // On a thread, so that an open that blocks fails the test.
            let (sender, receiver) = mpsc::channel();
            std::thread::spawn(move || sender.send(Reader::open(&path).map(drop)));
            let opened = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!(opened.unwrap_err().to_string(), message, "{name}");
        }
    }
}
