//! The encoding of a record.

use crate::line::{Flags, Line, MAX_TEXT, Stream, stream_code, stream_from_code};

/// Bytes before a record's text.
pub(crate) const HEAD: usize = 40;

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub text_len: usize,
    pub stream: Stream,
    pub flags: Flags,
    /// Encoded length of the previous record, for reading backwards.
    pub previous: u64,
    pub generation: u64,
    pub seq: u64,
    pub unix_us: i64,
    pub mono_ms: u64,
}

/// Encoded length of a record with a text of this length: a multiple of eight, so that the length
/// of the previous record fits in 16 bits.
pub(crate) fn encoded_len(text_len: usize) -> u64 {
    (HEAD as u64).saturating_add(text_len as u64).next_multiple_of(8)
}

impl Head {
    /// Encoded length of the whole record.
    pub fn encoded_len(&self) -> u64 {
        encoded_len(self.text_len)
    }

    /// Appends the record. `text` is at most [`MAX_TEXT`] long and `text_len` its length.
    pub fn encode(&self, text: &[u8], out: &mut Vec<u8>) {
        let end = out.len().saturating_add(self.encoded_len() as usize);
        out.extend_from_slice(&(self.text_len as u32).to_le_bytes());
        out.push(stream_code(self.stream));
        out.push(self.flags.bits());
        out.extend_from_slice(&((self.previous / 8) as u16).to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.unix_us.to_le_bytes());
        out.extend_from_slice(&self.mono_ms.to_le_bytes());
        out.extend_from_slice(text);
        out.resize(end, 0);
    }

    /// Decodes the fixed part; `None` if the bytes are invalid.
    pub fn decode(bytes: &[u8]) -> Option<Head> {
        let (text_len, rest) = bytes.split_first_chunk::<4>()?;
        let ([stream, flags], rest) = rest.split_first_chunk::<2>()?;
        let (previous, rest) = rest.split_first_chunk::<2>()?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (unix_us, rest) = rest.split_first_chunk::<8>()?;
        let (mono_ms, _) = rest.split_first_chunk::<8>()?;
        let text_len = usize::try_from(u32::from_le_bytes(*text_len)).ok()?;
        if text_len > MAX_TEXT {
            return None;
        }
        Some(Head {
            text_len,
            stream: stream_from_code(*stream)?,
            flags: Flags::from_bits(*flags)?,
            previous: u64::from(u16::from_le_bytes(*previous)) * 8,
            generation: u64::from_le_bytes(*generation),
            seq: u64::from_le_bytes(*seq),
            unix_us: i64::from_le_bytes(*unix_us),
            mono_ms: u64::from_le_bytes(*mono_ms),
        })
    }

    /// The record as a line.
    pub fn line(&self, text: Vec<u8>) -> Line {
        Line {
            seq: self.seq,
            unix_us: self.unix_us,
            mono_ms: self.mono_ms,
            generation: self.generation,
            stream: self.stream,
            flags: self.flags,
            text,
        }
    }
}
