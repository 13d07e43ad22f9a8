//! Reading log files, for lines that are no longer in the ring or are from an earlier boot.
//!
//! The files are treated as one text, oldest first, that is searched backwards for a position and
//! read forwards from there. Nothing here writes, so any process with the descriptors can use it
//! while the logger is running.

use crate::disk::{OVERHEAD, parse_line};
use crate::line::{Line, MAX_TEXT, Stream};
use crate::ring::{Reader, RingError};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Maximum number of files of a unit that are read; the newest ones.
pub const MAX_FILES: usize = 64;

const _: () = assert!(MAX_FILES <= ipc::channel::MAX_FDS, "they are passed in one message");

/// Bytes read at a time: several lines of maximum length.
const CHUNK: usize = 64 * 1024;

/// Lines read from a ring at a time; a line may have 16 KiB.
const BATCH: usize = 32;

const _: () = assert!(CHUNK > 2 * (MAX_TEXT + OVERHEAD));

/// Opens the log files of a unit below `logs`, the logger's directory on the data disk: the newest
/// first, at most [`MAX_FILES`]. Returns an empty list if there are none.
///
/// The logger, which can write to the directory, has fewer privileges than the caller. So links are
/// not followed (openat2(2), `RESOLVE_NO_SYMLINKS`), and anything but regular files is skipped.
///
/// # Errors
/// The directory or a file cannot be opened.
pub fn open(logs: &Path, unit: &str) -> io::Result<Vec<OwnedFd>> {
    let dir = match File::open(logs) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let (mut files, mut known) = (Vec::new(), Vec::new());
    // The newest first: after a concurrent rotation a file is found again under its next name, and
    // none is missed.
    let names = std::iter::once("current".to_owned()).chain((1..).map(|n| n.to_string()));
    for name in names.take(MAX_FILES) {
        let file = match openat2(&dir, format!("{unit}/{name}.log").as_str(), how) {
            Ok(fd) => File::from(fd),
            // During a rotation there may be no current file.
            Err(nix::Error::ENOENT) if name == "current" => continue,
            Err(nix::Error::ENOENT) => break,
            Err(errno) => return Err(errno.into()),
        };
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        if metadata.is_file() && !known.contains(&identity) {
            known.push(identity);
            files.push(file.into());
        }
    }
    Ok(files)
}

/// The lines that are in a ring, and are therefore not read from files.
#[derive(Debug, Clone, Default)]
pub struct InRing {
    /// The number of the first.
    first: u64,
    /// Their times, in order.
    times: Vec<i64>,
    /// The files have lines of this boot.
    filed: bool,
}

impl InRing {
    /// The lines that `reader` has now.
    ///
    /// # Errors
    /// The ring cannot be read.
    pub fn of(reader: &Reader) -> Result<InRing, RingError> {
        let filed = reader.filed()? > 0;
        let end = reader.counters()?.lines;
        let (mut first, mut times, mut position) = (1, Vec::new(), 0u64);
        loop {
            let batch = reader.since(position, BATCH)?;
            let (Some(begin), Some(last)) = (batch.first(), batch.last()) else { break };
            if position >= end {
                break;
            }
            if begin.seq != position.saturating_add(1) {
                // The lines before have been evicted meanwhile.
                first = begin.seq;
                times.clear();
            }
            position = last.seq;
            times.extend(batch.iter().map(|line| line.unix_us));
        }
        Ok(InRing { first, times, filed })
    }

    fn has(&self, line: &Line) -> bool {
        let index = line.seq.checked_sub(self.first).and_then(|n| usize::try_from(n).ok());
        index.and_then(|index| self.times.get(index)).is_some_and(|time| *time == line.unix_us)
    }
}

/// Search criteria; the search goes backwards from the ring's first line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Search {
    /// Maximum number of lines, the last ones; `usize::MAX`: all.
    pub take: usize,
    /// Only lines of this boot after this line.
    pub after: Option<u64>,
    /// Only lines since this time, in microseconds since 1970.
    pub since_us: Option<i64>,
    /// Only lines of this stream.
    pub stream: Option<Stream>,
}

/// The log files of a unit, with the sizes they had when this was created.
#[derive(Debug)]
pub struct History {
    /// Oldest first, each with the position of its first byte in the whole text.
    files: Vec<(u64, File)>,
    len: u64,
}

/// A range of lines, and how far it has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    position: u64,
    end: u64,
    /// Positions at which a boot begins, newest first; the previous boot is before the first.
    boots: Vec<u64>,
}

impl History {
    /// From the files that [`open`] has opened. Create it before [`InRing::of`]: a line is in the
    /// ring before it is in a file.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub fn new(newest_first: Vec<OwnedFd>) -> io::Result<History> {
        let (mut files, mut len) = (Vec::new(), 0u64);
        for fd in newest_first.into_iter().rev() {
            let file = File::from(fd);
            let size = file.metadata()?.len();
            files.push((len, file));
            len = len.saturating_add(size);
        }
        Ok(History { files, len })
    }

    /// The range with the requested lines that are not in the ring; it may include lines of other
    /// streams.
    ///
    /// # Errors
    /// Those of `pread(2)`.
    pub fn find(&self, ring: &InRing, search: &Search) -> io::Result<Part> {
        let mut back = Backwards { history: self, begin: self.len, bytes: Vec::new() };
        let mut part = Part { position: self.len, end: self.len, boots: Vec::new() };
        let mut newer: Option<Line> = None;
        let mut found = 0usize;
        while found < search.take
            && let Some((at, text)) = back.previous()?
        {
            let Some(line) = parse_line(&text) else { continue };
            if newer.is_none() && part.position == part.end && ring.has(&line) {
                (part.position, part.end) = (at, at);
                continue;
            }
            let boundary = match &newer {
                // Within a boot both increase.
                Some(newer) => line.seq >= newer.seq || line.generation > newer.generation,
                None => !ring.filed || line.seq >= ring.first,
            };
            if boundary {
                part.boots.push(part.position);
            }
            let too_old = search.since_us.is_some_and(|since| line.unix_us < since);
            let not_after =
                search.after.is_some_and(|after| !part.boots.is_empty() || line.seq <= after);
            if too_old || not_after {
                break;
            }
            found += usize::from(search.stream.is_none_or(|stream| stream == line.stream));
            part.position = at;
            newer = Some(line);
        }
        Ok(part)
    }

    /// The next lines of a range, each with its boot: 0 for this boot, 1 for the one before. Empty
    /// at the end.
    ///
    /// # Errors
    /// Those of `pread(2)`.
    pub fn read(&self, part: &mut Part) -> io::Result<Vec<(u64, Line)>> {
        let mut lines = Vec::new();
        while lines.is_empty() && part.position < part.end {
            let rest = usize::try_from(part.end.saturating_sub(part.position)).unwrap_or(CHUNK);
            let mut bytes = vec![0; rest.min(CHUNK)];
            self.read_at(part.position, &mut bytes)?;
            let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
                Some(last) => last.saturating_add(1),
                // Longer than any line of the logger.
                None => bytes.len(),
            };
            for text in bytes.get(..whole).unwrap_or_default().split_inclusive(|b| *b == b'\n') {
                let boot = part.boots.iter().filter(|begin| part.position < **begin).count();
                part.position = part.position.saturating_add(text.len() as u64);
                let line = parse_line(text.strip_suffix(b"\n").unwrap_or(text));
                lines.extend(line.map(|line| (boot as u64, line)));
            }
        }
        Ok(lines)
    }

    /// Fills `bytes` from position `at` on.
    fn read_at(&self, mut at: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let index = self.files.partition_point(|(begin, _)| *begin <= at).saturating_sub(1);
            let Some((begin, file)) = self.files.get(index) else {
                return Err(ErrorKind::UnexpectedEof.into());
            };
            let end = self.files.get(index.saturating_add(1)).map_or(self.len, |(next, _)| *next);
            let here = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            if here == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let (now, later) = bytes.split_at_mut(here.min(bytes.len()));
            file.read_exact_at(now, at.saturating_sub(*begin))?;
            at = at.saturating_add(now.len() as u64);
            bytes = later;
        }
        Ok(())
    }
}

/// Iterates over the lines from the last to the first.
struct Backwards<'a> {
    history: &'a History,
    /// The position of the first of `bytes`, which have been read but not returned.
    begin: u64,
    bytes: Vec<u8>,
}

impl Backwards<'_> {
    /// The previous line, with its position and without its newline.
    fn previous(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let body = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
            let newline = body.iter().rposition(|byte| *byte == b'\n');
            // Longer than any line of the logger: return it as a line, to limit memory.
            let whole = self.begin == 0 || self.bytes.len() > CHUNK;
            let cut = match newline {
                Some(newline) => newline.saturating_add(1),
                None if whole && self.bytes.is_empty() => return Ok(None),
                None if whole => 0,
                None => {
                    self.read_more()?;
                    continue;
                }
            };
            let mut text = self.bytes.split_off(cut);
            if text.last() == Some(&b'\n') {
                text.pop();
            }
            return Ok(Some((self.begin.saturating_add(cut as u64), text)));
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let begin = self.begin.saturating_sub(CHUNK as u64);
        let mut bytes = vec![0; usize::try_from(self.begin.saturating_sub(begin)).unwrap_or(0)];
        self.history.read_at(begin, &mut bytes)?;
        bytes.append(&mut self.bytes);
        (self.begin, self.bytes) = (begin, bytes);
        Ok(())
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
