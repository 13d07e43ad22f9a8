//! Numbers, times and signals in readable form.

pub use client::sanitize::{clean, clean_line};
use std::fmt::Write as _;
use std::io::IsTerminal;

/// Whether to print colours: standard output is a terminal, and `$NO_COLOR` is not set.
pub fn color() -> bool {
    std::io::stdout().is_terminal() && no_color_unset()
}

/// Whether `$NO_COLOR` allows colours (<https://no-color.org>).
fn no_color_unset() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `812K`, `3.4M`, `1.2G`.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["K", "M", "G", "T"] {
        if value < 1000.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" || value >= 9.95 {
        format!("{value:.0}{unit}")
    } else {
        format!("{value:.1}{unit}")
    }
}

/// `850ms`, `12s`, `3m 12s`, `5h 7m`, `12d 3h`.
pub fn duration_ms(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// CPU time: `0.31s`, `14s`, `3m 12s`.
pub fn cpu_time(usec: u64) -> String {
    if usec < 10_000_000 { format!("{:.2}s", usec as f64 / 1e6) } else { duration_ms(usec / 1000) }
}

/// Microseconds since 1970 as RFC 3339 in UTC: `2026-11-22T05:32:46.123Z`.
pub fn time(us: i64) -> String {
    let (days, rest) = (us.div_euclid(86_400_000_000), us.rem_euclid(86_400_000_000));
    let (year, month, day) = civil(days);
    let (ms, seconds) = (rest / 1000 % 1000, rest / 1_000_000);
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    out
}

/// The date of a day counted from 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// `SIGTERM (15)`.
pub fn signal(number: i64) -> String {
    let known = i32::try_from(number)
        .ok()
        .and_then(|number| nix::sys::signal::Signal::try_from(number).ok());
    match known {
        Some(signal) => format!("{} ({number})", signal.as_str()),
        None => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        let sizes =
            [(0, "0B"), (999, "999B"), (1000, "1.0K"), (5 << 20, "5.0M"), (300 << 20, "300M")];
        for (size, text) in sizes {
            assert_eq!(bytes(size), text);
        }
        assert_eq!(duration_ms(850), "850ms");
        assert_eq!(duration_ms(192_000), "3m 12s");
        assert_eq!(duration_ms(90_000_000), "1d 1h");
        assert_eq!(cpu_time(310_000), "0.31s");
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(1_795_325_566_123_456), "2026-11-22T05:32:46.123Z");
        assert_eq!(time(951_782_400_000_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(time(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(signal(9), "SIGKILL (9)");
    }
}
