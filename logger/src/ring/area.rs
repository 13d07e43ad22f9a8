//! The record area: positions only grow and are mapped to the file modulo the capacity.

use super::record::{HEAD, Head};
use super::{HEADER, RingError};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes read ahead while walking over records.
const READ_AHEAD: u64 = 8 * 1024;

/// The area of a ring file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Area<'a> {
    pub file: &'a File,
    /// Not zero.
    pub capacity: u64,
}

impl Area<'_> {
    /// The file offset of position `pos`, and the number of bytes before the wrap.
    fn place(&self, pos: u64) -> (u64, usize) {
        let at = pos.checked_rem(self.capacity).unwrap_or(0);
        (HEADER.saturating_add(at), usize::try_from(self.capacity - at).unwrap_or(usize::MAX))
    }

    /// Fills `out` from position `pos`; at most `capacity` bytes.
    pub fn read(&self, pos: u64, out: &mut [u8]) -> std::io::Result<()> {
        let (at, room) = self.place(pos);
        let (first, rest) = out.split_at_mut(room.min(out.len()));
        self.file.read_exact_at(first, at)?;
        self.file.read_exact_at(rest, HEADER)
    }

    /// Writes `bytes` at position `pos`; at most `capacity` bytes.
    pub fn write(&self, pos: u64, bytes: &[u8]) -> std::io::Result<()> {
        let (at, room) = self.place(pos);
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.file.write_all_at(first, at)?;
        self.file.write_all_at(rest, HEADER)
    }
}

/// Iterates over the records from `pos` to `end`, oldest first.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    area: Area<'a>,
    /// The next record.
    pub pos: u64,
    /// Its sequence number.
    pub seq: u64,
    end: u64,
    ahead: Vec<u8>,
    ahead_pos: u64,
}

impl<'a> Walk<'a> {
    /// `pos` is the start of record `seq`, `end` that of the record after the last.
    pub fn new(area: Area<'a>, pos: u64, seq: u64, end: u64) -> Walk<'a> {
        Walk { area, pos, seq, end, ahead: Vec::new(), ahead_pos: pos }
    }

    /// The bytes from `pos` to `pos + len`, through the read-ahead buffer.
    fn bytes(&mut self, pos: u64, len: u64) -> Result<&[u8], RingError> {
        let left = self.end.saturating_sub(pos);
        if len > left {
            return Err(RingError::Damaged("a record extends beyond the end"));
        }
        let skip = pos.checked_sub(self.ahead_pos).filter(|skip| {
            skip.checked_add(len).is_some_and(|need| need <= self.ahead.len() as u64)
        });
        let skip = match skip {
            Some(skip) => skip,
            None => {
                let size = len.max(READ_AHEAD).min(left).min(self.area.capacity.max(len));
                let size = usize::try_from(size).map_err(|_| RingError::Damaged("invalid size"))?;
                self.ahead.resize(size, 0);
                self.ahead_pos = pos;
                self.area.read(pos, &mut self.ahead).map_err(RingError::io("read"))?;
                0
            }
        };
        let range = skip as usize..(skip.saturating_add(len)) as usize;
        self.ahead.get(range).ok_or(RingError::Damaged("a record extends beyond the end"))
    }

    /// The fixed part of the next record, without advancing; `None` at the end.
    pub fn peek(&mut self) -> Result<Option<Head>, RingError> {
        if self.pos >= self.end {
            return Ok(None);
        }
        let (pos, seq) = (self.pos, self.seq);
        let head = Head::decode(self.bytes(pos, HEAD as u64)?);
        let head = head.ok_or(RingError::Damaged("invalid record"))?;
        if head.seq != seq {
            return Err(RingError::Damaged("a record has the wrong number"));
        }
        if head.encoded_len() > self.end.saturating_sub(pos) {
            return Err(RingError::Damaged("a record extends beyond the end"));
        }
        Ok(Some(head))
    }

    /// The text of the next record, whose fixed part is `head`.
    pub fn text(&mut self, head: &Head) -> Result<&[u8], RingError> {
        self.bytes(self.pos.saturating_add(HEAD as u64), head.text_len as u64)
    }

    /// Advances past the next record, whose fixed part is `head`.
    pub fn skip(&mut self, head: &Head) {
        self.pos = self.pos.saturating_add(head.encoded_len());
        self.seq = self.seq.saturating_add(1);
    }
}
