//! The text of a log file's line:
//! `2026-01-31T23:59:59.000001Z stdout F 17 1234 text`: time, stream, `F` (the line ends here) or
//! `P` (it goes on in the stream's next record), the unit's start, the line's number, the text.

use crate::line::{Flags, Line};
use crate::ring::Head;
use std::io::Write;

/// Longest text before the text of a line, and the newline after it.
pub(crate) const OVERHEAD: usize = 27 + 1 + 6 + 1 + 1 + 1 + 20 + 1 + 20 + 1 + 1;

/// Last moment that RFC 3339 can write, 9999-12-31T23:59:59.999999Z.
const LAST_US: i64 = 253_402_300_799_999_999;

/// Year, month and day of a number of days since 1970-01-01 in the proleptic Gregorian calendar:
/// whole cycles of 400 years (146,097 days) first, then years that begin in March, so that the
/// leap day is a year's last day.
fn civil(days: i64) -> (i64, i64, i64) {
    let since_march_0000 = days + 719_468;
    let (cycle, day) = (since_march_0000.div_euclid(146_097), since_march_0000.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + later, month, day_of_month)
}

/// A wall clock time as RFC 3339 in UTC with microseconds. Times outside the years 1970 to 9999
/// become the nearest that can be written.
///
/// `unix_us`: microseconds since 1970-01-01T00:00:00Z.
pub fn rfc3339(unix_us: i64) -> String {
    let mut out = Vec::with_capacity(27);
    write_time(unix_us, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

fn write_time(unix_us: i64, out: &mut Vec<u8>) {
    let us = unix_us.clamp(0, LAST_US);
    let (seconds, micros) = (us / 1_000_000, us % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    // Writing to memory cannot fail.
    let _ =
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
}

/// Appends the file's line of a record.
pub(crate) fn format_line(head: &Head, text: &[u8], out: &mut Vec<u8>) {
    write_time(head.unix_us, out);
    let tag = if head.flags.has(Flags::CONTINUES) { 'P' } else { 'F' };
    let (stream, generation, seq) = (head.stream.name(), head.generation, head.seq);
    let _ = write!(out, " {stream} {tag} {generation} {seq} ");
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// The number of a file's line; `None` when it is not one of ours.
pub(crate) fn line_seq(line: &[u8]) -> Option<u64> {
    let mut words = line.splitn(6, |byte| *byte == b' ');
    let (time, stream, tag) = (words.next()?, words.next()?, words.next()?);
    let (generation, seq, _) = (words.next()?, words.next()?, words.next()?);
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<u64>().ok();
    let known = matches!(stream, b"stdout" | b"stderr" | b"system") && matches!(tag, b"F" | b"P");
    (known && time.len() == 27 && number(generation).is_some()).then_some(())?;
    number(seq)
}

impl Line {
    /// The line as log files have it, without the newline:
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
    use crate::line::Stream;
    use proptest::prelude::*;

    #[test]
    fn times_match_those_of_date_1() {
        // date -u -d @N +%FT%TZ
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
            (i64::MAX / 1_000_000, "9999-12-31T23:59:59.999999Z"),
            (-5, "1970-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1_000_000), text);
        }
    }

    proptest! {
        #[test]
        fn a_day_has_the_date_after_the_day_before(days in 0i64..2_900_000) {
            let ((y, m, d), (y2, m2, d2)) = (civil(days), civil(days + 1));
            let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
            let length = match m { 2 => 28 + i64::from(leap), 4 | 6 | 9 | 11 => 30, _ => 31 };
            let next = match (d < length, m < 12) {
                (true, _) => (y, m, d + 1),
                (false, true) => (y, m + 1, 1),
                (false, false) => (y + 1, 1, 1),
            };
            prop_assert_eq!((y2, m2, d2), next);
        }

        #[test]
        fn a_line_gives_its_number_back(
            seq: u64, generation: u64, unix_us: i64, text: Vec<u8>, stream in 1u8..4, flags in 0u8..8,
        ) {
            let text: Vec<u8> = text.into_iter().filter(|byte| *byte != b'\n').collect();
            let line = Line {
                seq, generation, unix_us, mono_ms: 0, text,
                stream: Stream::from_code(stream).unwrap(),
                flags: Flags::from_bits(flags).unwrap(),
            };
            let bytes = line.format();
            prop_assert_eq!(line_seq(&bytes), Some(seq));
            prop_assert!(bytes.len() < line.text.len() + OVERHEAD);
        }

        #[test]
        fn other_lines_have_no_number(line: Vec<u8>) {
            let _ = line_seq(&line);
            prop_assert_eq!(line_seq(b"2026-01-31T23:59:59.000001Z stdout F 1 "), None);
        }
    }
}
