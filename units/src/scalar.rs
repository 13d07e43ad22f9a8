//! Durations and sizes.

use crate::diagnostic::{ParseError, quoted};
use std::time::Duration;

/// The longest duration that can be written: ten years. Sums of a few of them stay far below the range
/// of the monotonic clock.
pub const MAX_DURATION: Duration = Duration::from_secs(3650 * 86_400);

/// Units of time from largest to smallest, in milliseconds.
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of size from largest to smallest, in bytes.
const SIZE_UNITS: [(char, u64); 4] =
    [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// Reads a duration: whole numbers with the units `d`, `h`, `m`, `s` and `ms`, from largest to smallest
/// (`90s`, `1m30s`, `100ms`), or `0`.
///
/// # Errors
/// A [`ParseError`] that points at the part that is wrong.
pub fn parse_duration(text: &str) -> Result<Duration, ParseError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(ParseError::whole(text, "empty duration").hint(EXAMPLE));
    }
    let mut total: u64 = 0;
    let mut units = TIME_UNITS.as_slice();
    let mut at = 0;
    while at < text.len() {
        let rest = text.get(at..).unwrap_or_default();
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest
            .get(digits..)
            .unwrap_or_default()
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let number = rest.get(..digits).unwrap_or_default();
        let unit = rest.get(digits..digits + letters).unwrap_or_default();
        let end = at + digits + letters;
        if digits == 0 {
            return Err(
                ParseError::new(at..text.len(), invalid_duration(text)).hint(hint_for(text))
            );
        }
        if letters == 0 {
            // A fraction, a space or the end of the text follows.
            let message = if end == text.len() {
                format!("missing unit in duration {}", quoted(text))
            } else {
                invalid_duration(text)
            };
            return Err(ParseError::new(at..text.len(), message).hint(hint_for(text)));
        }
        let Some(index) = units.iter().position(|(name, _)| *name == unit) else {
            let known = TIME_UNITS.iter().any(|(name, _)| *name == unit);
            let message = if known {
                format!("{}: unit `{unit}` is repeated or out of order", invalid_duration(text))
            } else {
                format!("{}: unknown unit {}", invalid_duration(text), quoted(unit))
            };
            let hint = if known {
                "write each unit once, from largest to smallest: `1h30m`".to_owned()
            } else {
                hint_for(text)
            };
            return Err(ParseError::new(at + digits..end, message).hint(hint));
        };
        let millis = units.get(index).map_or(1, |(_, millis)| *millis);
        units = units.get(index + 1..).unwrap_or_default();
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(millis))
            .and_then(|part| total.checked_add(part))
            .unwrap_or(u64::MAX);
        at = end;
    }
    let total = Duration::from_millis(total);
    if total > MAX_DURATION {
        return Err(ParseError::whole(
            text,
            format!("duration {} exceeds ten years", quoted(text)),
        ));
    }
    Ok(total)
}

const EXAMPLE: &str = "write it like `90s`, `1m30s`, `100ms` or `2h`";

fn invalid_duration(text: &str) -> String {
    format!("invalid duration {}", quoted(text))
}

/// What the author probably meant, if the text is a duration in another common spelling.
fn hint_for(text: &str) -> String {
    const SPELLINGS: [(&str, &str); 10] = [
        ("milliseconds", "ms"),
        ("msec", "ms"),
        ("seconds", "s"),
        ("second", "s"),
        ("sec", "s"),
        ("minutes", "m"),
        ("minute", "m"),
        ("min", "m"),
        ("hours", "h"),
        ("days", "d"),
    ];
    let mut plain: String =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()).collect();
    for (long, short) in SPELLINGS {
        plain = plain.replace(long, short);
    }
    if !plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("write `{plain}s` for seconds, `{plain}ms` for milliseconds");
    }
    if let Some(seconds) = plain.strip_suffix('s')
        && seconds.contains('.')
        && let Some(millis) = parse_thousandths(seconds)
    {
        return format!("write `{millis}ms`");
    }
    match parse_spelled(&plain) {
        Some(duration) if plain != text => format!("write `{}`", format_duration(duration)),
        _ => EXAMPLE.to_owned(),
    }
}

/// [`parse_duration`] for a text that has only valid units in the right order, so that the two
/// functions cannot call each other without end.
fn parse_spelled(plain: &str) -> Option<Duration> {
    let shape = plain.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && plain.starts_with(|c: char| c.is_ascii_digit())
        && plain.ends_with(['d', 'h', 'm', 's'])
        && plain.len() < 32;
    let mut units = plain.split(|c: char| c.is_ascii_digit()).filter(|unit| !unit.is_empty());
    let mut order = TIME_UNITS.iter();
    if !shape || !units.all(|unit| order.any(|(name, _)| *name == unit)) {
        return None;
    }
    parse_duration(plain).ok()
}

/// Reads a plain decimal number (`2`, `0.5`) in thousandths, rounded and saturating at 64 bits.
pub(crate) fn parse_thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX);
    let mut bytes = fraction.bytes().map(|digit| u64::from(digit - b'0'));
    let mut digit = || bytes.next().unwrap_or(0);
    let part = digit() * 100 + digit() * 10 + digit() + u64::from(digit() >= 5);
    Some(whole.saturating_mul(1000).saturating_add(part))
}

/// Formats a duration as [`parse_duration`] reads it, truncated to milliseconds.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut out = String::new();
    for (unit, millis) in TIME_UNITS {
        if rest >= millis {
            out.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if out.is_empty() { "0".to_owned() } else { out }
}

/// Reads a size: a number, optionally with a fraction, and the unit `K`, `M`, `G` or `T` (powers of
/// 1024, in either case), or a number of bytes without a unit.
///
/// # Errors
/// A [`ParseError`] that points at the part that is wrong.
pub fn parse_size(text: &str) -> Result<u64, ParseError> {
    const EXAMPLE: &str = "write it like `256M`, `1.5G` or `64K`, in powers of 1024";
    let end = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at_checked(end).unwrap_or((text, ""));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let dangling = number.contains('.') && fraction.is_empty();
    if whole.is_empty() || dangling || !digits(fraction) {
        let message = format!("invalid size {}", quoted(text));
        return Err(ParseError::whole(text, message).hint(EXAMPLE));
    }
    let mut letters = unit.chars();
    let (first, more) = (letters.next(), letters.as_str());
    let known = |c: char| {
        let c = c.to_ascii_uppercase();
        SIZE_UNITS.iter().find(|(name, _)| *name == c).copied()
    };
    let factor = match (first, first.and_then(known)) {
        (None, _) => 1,
        (Some(_), Some((_, factor))) if more.is_empty() => factor,
        (Some(_), found) => {
            let message =
                format!("invalid size {}: unknown unit {}", quoted(text), quoted(unit.trim()));
            let spelled = ["b", "ib", "i"].contains(&more.to_ascii_lowercase().as_str());
            let hint = match found {
                Some((name, _)) if spelled => {
                    format!("write `{number}{name}`; K, M, G and T are powers of 1024")
                }
                _ => EXAMPLE.to_owned(),
            };
            return Err(ParseError::new(end..text.len(), message).hint(hint));
        }
    };
    if factor == 1 && number.contains('.') {
        return Err(ParseError::whole(
            text,
            format!("invalid size {}: not a whole number of bytes", quoted(text)),
        )
        .hint(EXAMPLE));
    }
    // Nine digits of the fraction are exact; more cannot change a size below 1 G by a byte.
    let fraction = fraction.get(..9).unwrap_or(fraction);
    let scale = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let too_large = || ParseError::whole(text, format!("size {} is too large", quoted(text)));
    let mantissa: u128 = format!("{whole}{fraction}").parse().map_err(|_| too_large())?;
    mantissa
        .checked_mul(u128::from(factor))
        .map(|bytes| bytes / scale)
        .and_then(|bytes| u64::try_from(bytes).ok())
        // The kernel's cgroup files take signed numbers.
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(too_large)
}

/// Formats a size as [`parse_size`] reads it: exactly, in the largest unit that divides it.
pub fn format_size(bytes: u64) -> String {
    for (unit, factor) in SIZE_UNITS {
        if bytes > 0 && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    bytes.to_string()
}
