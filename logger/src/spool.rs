//! Bytes that have been taken from a pipe and are not yet in the ring: a file in memory.
//!
//! splice(2) moves bytes from the pipe to the file inside one system call, under the pipe's lock:
//! in each step the file grows and then the pipe shrinks by the same number of bytes
//! (`iter_file_splice_write`, fs/splice.c), and a SIGKILL takes effect only between system calls.
//! So **the size of the file is exactly the total number of bytes taken from the pipe**, at
//! whatever instant the logger dies.
//!
//! The file is never truncated, because its size would be wrong for a moment. Instead, holes are
//! punched for the parsed part: the file has a large size but only a few pages.

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, SpliceFFlags, fallocate, splice};
use nix::unistd::{Whence, lseek64};
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Memory is freed in whole pages, several at a time.
const PAGE: u64 = 4096;
const PUNCH_AT_LEAST: u64 = 4 * PAGE;

/// The result of [`Spool::take`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Bytes were moved.
    Some,
    /// The pipe is empty and has writers.
    Nothing,
    /// The pipe is empty and has no writer.
    End,
}

/// The spool of a stream of a run.
#[derive(Debug)]
pub struct Spool {
    file: File,
    path: PathBuf,
    size: u64,
    freed: u64,
}

impl Spool {
    /// Opens the spool at `path`, or creates an empty one.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn open(path: &Path) -> io::Result<Spool> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        let size = file.metadata()?.len();
        Ok(Spool { file, path: path.to_path_buf(), size, freed: 0 })
    }

    /// Total number of bytes taken from the pipe.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Moves at most `max` bytes from the pipe's read end. Never blocks.
    ///
    /// # Errors
    /// Those of `splice(2)`; ENOSPC if the tmpfs is full.
    pub fn take(&mut self, pipe: BorrowedFd<'_>, max: usize) -> nix::Result<Taken> {
        let mut at = i64::try_from(self.size).map_err(|_| Errno::EFBIG)?;
        loop {
            let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
            return match splice(pipe, None, &self.file, Some(&mut at), max, flags) {
                Ok(0) => Ok(Taken::End),
                Ok(moved) => {
                    self.size = self.size.saturating_add(moved as u64);
                    Ok(Taken::Some)
                }
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Ok(Taken::Nothing),
                Err(errno) => Err(errno),
            };
        }
    }

    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// Those of `pread(2)`.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    /// The first byte that has not been freed, if it is not recorded how far the spool was parsed.
    pub fn first_kept(&self) -> u64 {
        // ENXIO: the whole file is a hole.
        let at = lseek64(&self.file, 0, Whence::SeekData).unwrap_or(i64::MAX);
        u64::try_from(at).unwrap_or(u64::MAX).min(self.size)
    }

    /// Frees the memory before `offset`, in larger steps.
    pub fn free_before(&mut self, offset: u64) {
        let pages = offset.saturating_sub(offset % PAGE);
        if pages.saturating_sub(self.freed) < PUNCH_AT_LEAST {
            return;
        }
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let (Ok(from), Ok(len)) = (i64::try_from(self.freed), i64::try_from(pages - self.freed))
        else {
            return;
        };
        if fallocate(&self.file, mode, from, len).is_ok() {
            self.freed = pages;
        }
    }

    /// Removes the file.
    ///
    /// # Errors
    /// Those of `unlink(2)`, except for a file that no longer exists.
    pub fn remove(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testdir::Dir;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_spool_counts_every_byte_and_uses_little_memory() {
        let dir = Dir::new();
        let path = dir.0.join("1.out");
        let (reader, mut writer) = io::pipe().unwrap();
        let mut spool = Spool::open(&path).unwrap();
        assert_eq!(spool.take(reader.as_fd(), 1 << 16), Ok(Taken::Nothing));
        for round in 0u64..100 {
            writer.write_all(&[round as u8; 40_000]).unwrap();
            assert_eq!(spool.take(reader.as_fd(), 1 << 16), Ok(Taken::Some));
            assert_eq!(spool.size(), (round + 1) * 40_000);
            let mut bytes = vec![0; 40_000];
            spool.read(round * 40_000, &mut bytes).unwrap();
            assert!(bytes.iter().all(|byte| *byte == round as u8));
            spool.free_before((round + 1) * 40_000);
            assert!(std::fs::metadata(&path).unwrap().blocks() * 512 <= 40_000 + PUNCH_AT_LEAST);
        }
        assert!(spool.first_kept() > 99 * 40_000);
        drop(writer);
        assert_eq!(spool.take(reader.as_fd(), 1 << 16), Ok(Taken::End));
        assert_eq!(Spool::open(&path).unwrap().size(), 100 * 40_000);
    }
}
