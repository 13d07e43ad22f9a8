//! The format of a line in a log file:
//! `2026-01-31T23:59:59.000001Z stdout F 17 1234 text`: time, stream, `F` (the line ends here) or
//! `P` (it continues in the stream's next record), the generation (number of the unit's start), the
//! line's number, the text.

use crate::line::{Flags, Line, Stream};
use crate::ring::Head;
use crate::time::{parse_rfc3339, write_time};
use std::io::Write;

/// Maximum length of everything before the text of a line, and the newline after it.
pub(crate) const OVERHEAD: usize = 27 + 1 + 6 + 1 + 1 + 1 + 20 + 1 + 20 + 1 + 1;

/// Appends a record as a line of a log file.
pub(crate) fn format_line(head: &Head, text: &[u8], out: &mut Vec<u8>) {
    write_time(head.unix_us, out);
    let tag = if head.flags.has(Flags::CONTINUES) { 'P' } else { 'F' };
    let (stream, generation, seq) = (head.stream.name(), head.generation, head.seq);
    let _ = write!(out, " {stream} {tag} {generation} {seq} ");
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// Parses a line of a log file, without its newline; `None` if it was not written by the logger.
/// Information that files do not contain is left empty: the monotonic time, and how a piece of a
/// line ended.
pub(crate) fn parse_line(line: &[u8]) -> Option<Line> {
    let mut words = line.splitn(6, |byte| *byte == b' ');
    let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok());
    let unix_us = word().filter(|time| time.len() == 27).and_then(parse_rfc3339)?;
    let stream = Stream::from_name(word()?)?;
    let flags = match word()? {
        "F" => Flags::NONE,
        "P" => Flags::CONTINUES,
        _ => return None,
    };
    let (generation, seq) = (word()?.parse().ok()?, word()?.parse().ok()?);
    let text = words.next()?.to_vec();
    Some(Line { seq, unix_us, mono_ms: 0, generation, stream, flags, text })
}

/// The number of a line in a log file; `None` if it was not written by the logger.
pub fn line_seq(line: &[u8]) -> Option<u64> {
    parse_line(line).map(|line| line.seq)
}

impl Line {
    /// The line as in log files, without the newline:
    /// `2026-01-31T23:59:59.000001Z stdout F 17 1234 text`.
    pub fn format(&self) -> Vec<u8> {
        let head = Head {
            text_len: self.text.len(),
            stream: self.stream,
            flags: self.flags,
            previous: 0,
            generation: self.generation,
            seq: self.seq,
            unix_us: self.unix_us,
            mono_ms: self.mono_ms,
        };
        let mut out = Vec::with_capacity(self.text.len().saturating_add(OVERHEAD));
        format_line(&head, &self.text, &mut out);
        out.pop();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::LAST_US;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_formatted_line_is_parsed_back(
            seq: u64, generation: u64, unix_us: i64, text: Vec<u8>, stream in 1u8..4, flags in 0u8..8,
        ) {
            let text: Vec<u8> = text.into_iter().filter(|byte| *byte != b'\n').collect();
            let line = Line {
                seq, generation, unix_us, mono_ms: 0, text,
                stream: crate::line::stream_from_code(stream).unwrap(),
                flags: Flags::from_bits(flags).unwrap(),
            };
            let bytes = line.format();
            prop_assert_eq!(line_seq(&bytes), Some(seq));
            let continues = line.flags.has(Flags::CONTINUES);
            let flags = if continues { Flags::CONTINUES } else { Flags::NONE };
            let unix_us = unix_us.clamp(0, LAST_US);
            prop_assert_eq!(parse_line(&bytes), Some(Line { flags, unix_us, ..line.clone() }));
            prop_assert!(bytes.len() < line.text.len() + OVERHEAD);
        }

        #[test]
        fn other_lines_have_no_number(line: Vec<u8>) {
            let _ = line_seq(&line);
            prop_assert_eq!(line_seq(b"2026-01-31T23:59:59.000001Z stdout F 1 "), None);
        }
    }
}
