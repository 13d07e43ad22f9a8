//! A range of a file with the content of a blob, or of a file in a layer.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A range of an open file. It is cheap to clone; reads use explicit offsets, so that any number of
/// readers can share the file.
#[derive(Debug, Clone)]
pub struct Region {
    file: Arc<File>,
    start: u64,
    len: u64,
}

impl Region {
    /// The whole file, with its current length.
    ///
    /// # Errors
    /// The error of fstat(2).
    pub fn whole(file: File) -> io::Result<Region> {
        let len = file.metadata()?.len();
        Ok(Region { file: Arc::new(file), start: 0, len })
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The `len` bytes from `offset` on, or `None` if they are not all inside the region.
    pub fn slice(&self, offset: u64, len: u64) -> Option<Region> {
        let end = offset.checked_add(len)?;
        let start = self.start.checked_add(offset)?;
        (end <= self.len).then(|| Region { file: Arc::clone(&self.file), start, len })
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if the region (or a file that was truncated meanwhile) ends before; the error of
    /// pread(2).
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buffer, self.start.saturating_add(offset))
    }

    /// A reader over the region, from its start.
    pub fn reader(&self) -> RegionReader {
        RegionReader { region: self.clone(), position: 0 }
    }
}

/// Reads a [`Region`] sequentially.
#[derive(Debug, Clone)]
pub struct RegionReader {
    region: Region,
    position: u64,
}

impl RegionReader {
    /// Offset of the next byte from the start of the region.
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl Read for RegionReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.region.len.saturating_sub(self.position);
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..want) else { return Ok(0) };
        let at = self.region.start.saturating_add(self.position);
        let got = self.region.file.read_at(part, at)?;
        self.position = self.position.saturating_add(got as u64);
        Ok(got)
    }
}

impl Seek for RegionReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.region.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        let target = target.ok_or(io::ErrorKind::InvalidInput)?;
        self.position = target;
        Ok(target)
    }
}
