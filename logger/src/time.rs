//! Dates and times as text (RFC 3339).

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// The last time that RFC 3339 can express, 9999-12-31T23:59:59.999999Z.
pub(crate) const LAST_US: i64 = 253_402_300_799_999_999;

/// The wall clock in microseconds since 1970-01-01T00:00:00Z; 0 if it is set to an earlier time.
pub fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

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

/// Formats a wall clock time as RFC 3339 in UTC with microseconds. Times outside the years 1970 to
/// 9999 become the nearest one inside.
///
/// `unix_us`: microseconds since 1970-01-01T00:00:00Z.
pub fn rfc3339(unix_us: i64) -> String {
    let mut out = Vec::with_capacity(27);
    write_time(unix_us, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Like [`rfc3339`], appended to `out`.
pub(crate) fn write_time(unix_us: i64, out: &mut Vec<u8>) {
    let us = unix_us.clamp(0, LAST_US);
    let (seconds, micros) = (us / 1_000_000, us % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    // Writing to memory cannot fail.
    let _ =
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
}

/// Parses an RFC 3339 date and time as microseconds since 1970.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits.iter().all(u8::is_ascii_digit).then_some(())?;
        text.get(from..to)?.parse().ok()
    };
    let is = |at: usize, any: &[u8]| bytes.get(at).is_some_and(|byte| any.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // 60: a leap second.
    if !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if day < 1 || day > days_in(year, month) {
        return None;
    }
    let (micros, zone) = match bytes.get(19) {
        Some(b'.') => {
            let digits = text.get(20..)?;
            let len = digits.bytes().take_while(u8::is_ascii_digit).count();
            let (digits, zone) =
                digits.split_at_checked(len).filter(|(digits, _)| !digits.is_empty())?;
            let six: String = digits.chars().chain("000000".chars()).take(6).collect();
            (six.parse::<i64>().ok()?, zone)
        }
        _ => (0, text.get(19..)?),
    };
    let offset = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        &[sign @ (b'+' | b'-'), a, b, b':', c, d] => {
            let two = |a: u8, b: u8| {
                let digit = |byte: u8| char::from(byte).to_digit(10).map(i64::from);
                Some(digit(a)? * 10 + digit(b)?)
            };
            let (hours, minutes) = (two(a, b)?, two(c, d)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let minutes = hours * 60 + minutes;
            if sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let seconds =
        days_from_1970(year, month, day) * 86_400 + (hour * 60 + minute - offset) * 60 + second;
    Some(seconds * 1_000_000 + micros)
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970 in the proleptic Gregorian calendar, computed with years that begin in March, so
/// that the leap day is the last one.
fn days_from_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_agree_with_date_1() {
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
        fn consecutive_days_have_consecutive_dates(days in 0i64..2_900_000) {
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
        fn a_formatted_time_is_parsed_back(us in 0i64..253_402_300_800_000_000) {
            prop_assert_eq!(parse_rfc3339(&rfc3339(us)), Some(us));
        }

        #[test]
        fn parsing_any_text_never_panics(text in ".{0,40}") {
            let _ = parse_rfc3339(&text);
        }
    }

    #[test]
    fn zones_and_fractions() {
        for (text, us) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1969-12-31T23:59:59.5z", -500_000),
            ("2024-02-29T12:00:00.123456789-00:30", 1_709_209_800_123_456),
        ] {
            assert_eq!(parse_rfc3339(text), Some(us), "{text}");
        }
        for text in [
            "",
            "now",
            "2024-02-30T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+1:00",
            "2024-01-01",
            "+024-01-01T00:00:00Z",
            "2024-01-01T00:00:00Zé",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
