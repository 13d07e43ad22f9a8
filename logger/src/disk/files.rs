//! The log files of a unit. Everything here may block on the disk.

use super::format::{OVERHEAD, line_seq};
use crate::line::MAX_TEXT;
use crate::ring::DiskMark;
use std::fs::{DirBuilder, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Result, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use units::model::LogPolicy;

const CURRENT: &str = "current.log";
const NEXT: &str = "next.log";
/// Maximum number of rotated files that are kept open until the next sync; more are left to the
/// kernel's write-back.
const MAX_UNSYNCED: usize = 8;

/// The log files of a unit: `current.log`, open for writing, and the rotated files.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    file: File,
    inode: u64,
    size: u64,
    /// Rotated files with data that has not been synced.
    unsynced: Vec<File>,
    dirty: bool,
}

impl Files {
    /// Opens the files below `dir` and determines how far they have been written since `mark`.
    /// `newest` is the number of the newest line in the ring.
    pub fn open(dir: &Path, mark: DiskMark, newest: u64) -> Result<(Files, DiskMark)> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(dir.join(CURRENT))?;
        let meta = file.metadata()?;
        let (inode, mut size) = (meta.ino(), meta.len());
        // If it is not the marked file, it was created by a rotation after the mark.
        let from = if inode == mark.inode { mark.size } else { 0 };
        let mut seq = mark.seq;
        if mark.inode != 0 && from <= size {
            let whole;
            (whole, seq) = scan(&mut file, from, seq, newest)?;
            if whole < size {
                file.set_len(whole)?;
            }
            size = whole;
        } else if size > 0 {
            // A file of an earlier boot: a last line torn by a power failure must be terminated.
            let mut last = [0];
            file.read_exact_at(&mut last, size.saturating_sub(1))?;
            if last != [b'\n'] {
                file.write_all_at(b"\n", size)?;
                size = size.saturating_add(1);
            }
        }
        let dir = dir.to_path_buf();
        let files = Files { dir, file, inode, size, unsynced: Vec::new(), dirty: false };
        let mark = DiskMark { inode, size, seq };
        Ok((files, mark))
    }

    /// Inode and size of `current.log`.
    pub fn place(&self) -> (u64, u64) {
        (self.inode, self.size)
    }

    /// Appends whole lines, after a rotation if they would make the file longer than
    /// `policy.max_size`. On a full disk the oldest rotated file is deleted once, if `may_delete`;
    /// the flag is then cleared until a write succeeds, so that a disk filled by others does not
    /// cost the whole history.
    pub fn append(
        &mut self,
        bytes: &[u8],
        policy: &LogPolicy,
        may_delete: &mut bool,
    ) -> Result<()> {
        let after = self.size.saturating_add(bytes.len() as u64);
        if self.size > 0 && after > policy.max_size {
            self.rotate(policy.max_files)?;
        }
        let (mut rest, mut at) = (bytes, self.size);
        while !rest.is_empty() {
            match self.file.write_at(rest, at) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    rest = rest.get(n..).unwrap_or_default();
                    at = at.saturating_add(n as u64);
                    self.dirty = true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if *may_delete && is_full(&error) && self.delete_oldest()? => {
                    *may_delete = false;
                }
                Err(error) => return Err(error),
            }
        }
        self.size = at;
        *may_delete = true;
        Ok(())
    }

    /// Renames the current file to `1.log` and starts a new one; at most `max_files` remain. The
    /// new file is created before the oldest is removed, so that it cannot reuse its inode number,
    /// by which the next logger distinguishes them.
    fn rotate(&mut self, max_files: u32) -> Result<()> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let next = options.open(self.dir.join(NEXT))?;
        let inode = next.metadata()?.ino();
        let last = u64::from(max_files.max(1)) - 1;
        for number in self.rotated()?.into_iter().rev() {
            if number >= last {
                std::fs::remove_file(self.rotated_path(number))?;
            } else {
                let to = self.rotated_path(number.saturating_add(1));
                std::fs::rename(self.rotated_path(number), to)?;
            }
        }
        if last > 0 {
            std::fs::rename(self.dir.join(CURRENT), self.rotated_path(1))?;
        }
        std::fs::rename(self.dir.join(NEXT), self.dir.join(CURRENT))?;
        let old = std::mem::replace(&mut self.file, next);
        if self.dirty && last > 0 && self.unsynced.len() < MAX_UNSYNCED {
            self.unsynced.push(old);
        }
        self.dirty = true;
        (self.inode, self.size) = (inode, 0);
        Ok(())
    }

    fn rotated_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number}.log"))
    }

    /// The numbers of the rotated files, lowest (newest) first.
    fn rotated(&self) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let name = name.to_str().unwrap_or_default();
            let number = name.strip_suffix(".log").and_then(|number| number.parse().ok());
            // `007.log` was not written by the logger.
            numbers.extend(number.filter(|n: &u64| *n > 0 && format!("{n}.log") == name));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Removes the oldest rotated file; false if there is none.
    fn delete_oldest(&mut self) -> Result<bool> {
        // Removing a file that is still open frees no space.
        self.unsynced.clear();
        let Some(oldest) = self.rotated()?.pop() else { return Ok(false) };
        std::fs::remove_file(self.rotated_path(oldest))?;
        Ok(true)
    }

    /// Syncs everything written so far.
    pub fn sync(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(());
        }
        let rotated = !self.unsynced.is_empty();
        for file in self.unsynced.drain(..) {
            file.sync_data()?;
        }
        self.file.sync_data()?;
        if rotated {
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }
}

/// Whether an error means that there is no space left.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Reads the lines from offset `from`, just after line `seq`. Returns the length of the file up to
/// the end of its last whole line, and the number of that line.
fn scan(file: &mut File, from: u64, mut seq: u64, newest: u64) -> Result<(u64, u64)> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::new(file);
    let mut size = from;
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = (MAX_TEXT + OVERHEAD) as u64;
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
        match line.split_last() {
            Some((b'\n', text)) => {
                size = size.saturating_add(read as u64);
                // A line that was not written by the logger is kept.
                seq = line_seq(text).filter(|n| *n > seq && *n <= newest).unwrap_or(seq);
            }
            // Longer than any line of the logger: keep the rest of the file as it is.
            Some(_) if read as u64 == limit => {
                let rest = std::io::copy(&mut reader, &mut std::io::sink())?;
                return Ok((size.saturating_add(read as u64).saturating_add(rest), seq));
            }
            _ => return Ok((size, seq)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{Flags, Stream};
    use crate::ring::Head;
    use crate::testdir::Dir;
    use proptest::prelude::*;

    fn lines(range: std::ops::RangeInclusive<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        for seq in range {
            let text = format!("line {seq}").into_bytes();
            let head = Head {
                text_len: text.len(),
                stream: Stream::Stdout,
                flags: Flags::NONE,
                previous: 0,
                generation: 1,
                seq,
                unix_us: 0,
                mono_ms: 0,
            };
            crate::disk::format_line(&head, &text, &mut out);
        }
        out
    }

    fn seqs(dir: &Path) -> Vec<u64> {
        let mut all = Vec::new();
        for name in ["3.log", "2.log", "1.log", CURRENT] {
            let text = std::fs::read(dir.join(name)).unwrap_or_default();
            assert!(text.last().is_none_or(|byte| *byte == b'\n'), "{name} ends with a whole line");
            all.extend(text.split(|byte| *byte == b'\n').filter_map(line_seq));
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// A killed logger leaves an arbitrary prefix of its last write, and the mark from before
        /// it.
        #[test]
        fn a_torn_write_is_continued_after_its_last_whole_line(
            jobs in prop::collection::vec((1u64..20, any::<prop::sample::Index>()), 1..12),
            max_size in 200u64..3000,
        ) {
            let dir = Dir::new();
            let policy = LogPolicy { max_size, max_files: 1000 };
            let (mut mark, mut may_delete) = (DiskMark::default(), true);
            let total: u64 = jobs.iter().map(|(count, _)| count).sum();
            for (count, kill) in jobs {
                let (mut files, now) = Files::open(&dir.0, mark, total).unwrap();
                mark = now;
                let bytes = lines(mark.seq + 1..=mark.seq + count);
                let cut = kill.index(bytes.len() + 1);
                // The rotation takes the whole write into account, then the write is cut short.
                let whole = LogPolicy {
                    max_size: max_size.saturating_sub((bytes.len() - cut) as u64).max(1), max_files: 1000
                };
                files.append(&bytes[..cut], if cut == bytes.len() { &policy } else { &whole }, &mut may_delete).unwrap();
            }
            let (_, mark) = Files::open(&dir.0, mark, total).unwrap();
            let mut all: Vec<u64> = Vec::new();
            for number in (1..200).rev() {
                let text = std::fs::read(dir.0.join(format!("{number}.log"))).unwrap_or_default();
                all.extend(text.split(|byte| *byte == b'\n').filter_map(line_seq));
            }
            let text = std::fs::read(dir.0.join(CURRENT)).unwrap();
            prop_assert_eq!(mark.size, text.len() as u64);
            all.extend(text.split(|byte| *byte == b'\n').filter_map(line_seq));
            prop_assert_eq!(all, (1..=mark.seq).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rotation_respects_the_number_and_size_of_files() {
        let dir = Dir::new();
        let policy = LogPolicy { max_size: 500, max_files: 3 };
        let (mut files, _) = Files::open(&dir.0, DiskMark::default(), 0).unwrap();
        let mut may_delete = true;
        for seq in 1..100 {
            files.append(&lines(seq..=seq), &policy, &mut may_delete).unwrap();
        }
        files.sync().unwrap();
        for entry in std::fs::read_dir(&dir.0).unwrap() {
            assert!(entry.unwrap().metadata().unwrap().len() <= 500);
        }
        assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 3);
        let kept = seqs(&dir.0);
        assert_eq!(kept, (100 - kept.len() as u64..100).collect::<Vec<_>>());
        // A policy with one file: the current one is replaced.
        let one = LogPolicy { max_size: 500, max_files: 1 };
        for seq in 100..130 {
            files.append(&lines(seq..=seq), &one, &mut may_delete).unwrap();
        }
        assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 1);
    }

    #[test]
    fn a_kill_in_the_middle_of_a_rotation_loses_no_file() {
        let dir = Dir::new();
        let policy = LogPolicy { max_size: 60, max_files: 4 };
        let (mut files, _) = Files::open(&dir.0, DiskMark::default(), 9).unwrap();
        let mut may_delete = true;
        for seq in 1..=2 {
            files.append(&lines(seq..=seq), &policy, &mut may_delete).unwrap();
        }
        let (inode, size) = files.place();
        // Killed after the current file was renamed and before the next one was.
        std::fs::rename(dir.0.join("1.log"), dir.0.join("2.log")).unwrap();
        std::fs::rename(dir.0.join(CURRENT), dir.0.join("1.log")).unwrap();
        std::fs::write(dir.0.join(NEXT), b"").unwrap();
        let mark = DiskMark { inode, size, seq: 2 };
        let (mut files, mark) = Files::open(&dir.0, mark, 9).unwrap();
        assert_eq!((mark.seq, mark.size), (2, 0));
        for seq in 3..=4 {
            files.append(&lines(seq..=seq), &policy, &mut may_delete).unwrap();
        }
        assert_eq!(seqs(&dir.0), [1, 2, 3, 4]);
    }

    #[test]
    fn a_line_torn_by_a_power_failure_is_terminated() {
        let dir = Dir::new();
        std::fs::write(dir.0.join(CURRENT), b"2026-01-31T23:59:59.000001Z stdout F 1 7 to")
            .unwrap();
        let (mut files, mark) = Files::open(&dir.0, DiskMark::default(), 1).unwrap();
        assert_eq!(mark.seq, 0);
        let policy = LogPolicy { max_size: 1000, max_files: 2 };
        files.append(&lines(1..=1), &policy, &mut true).unwrap();
        assert_eq!(seqs(&dir.0), [7, 1]);
    }
}
