//! Points in time for queries: a duration before now, or a timestamp.

use std::str::FromStr;

/// The start of a time range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// This many seconds ago.
    Ago(u64),
    /// A timestamp in the form of RFC 3339, as it was given.
    At(String),
}

/// The text is neither a duration nor a timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a duration such as 90s, 10m or 1d12h, or a timestamp such as 2026-11-22T05:30:00Z"
)]
pub struct BadSince;

impl FromStr for Since {
    type Err = BadSince;

    fn from_str(text: &str) -> Result<Since, BadSince> {
        let moment = text.len() >= 20 && text.is_char_boundary(10) && rfc3339(text);
        if moment {
            return Ok(Since::At(text.to_owned()));
        }
        let mut total: u64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(BadSince)?;
            let (number, after) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| BadSince)?;
            let letter = after.chars().next().ok_or(BadSince)?;
            let factor = match letter {
                's' => 1,
                'm' => 60,
                'h' => 3600,
                'd' => 86_400,
                'w' => 604_800,
                _ => return Err(BadSince),
            };
            total =
                number.checked_mul(factor).and_then(|n| total.checked_add(n)).ok_or(BadSince)?;
            rest = after.get(1..).unwrap_or_default();
        }
        if text.is_empty() { Err(BadSince) } else { Ok(Since::Ago(total)) }
    }
}

/// Checks the form only; the host checks the numbers.
fn rfc3339(text: &str) -> bool {
    let form = "dddd-dd-ddTdd:dd:dd";
    let Some((front, rest)) = text.split_at_checked(form.len()) else { return false };
    let fits = |(want, is): (char, char)| match want {
        'd' => is.is_ascii_digit(),
        'T' => matches!(is, 'T' | 't' | ' '),
        want => want == is,
    };
    if !form.chars().zip(front.chars()).all(fits) {
        return false;
    }
    let zone = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let fraction = rest.len() - zone.len();
    if fraction == 1 || (fraction > 1 && !rest.starts_with('.')) {
        return false;
    }
    let offset = |zone: &str| {
        let form = "+dd:dd";
        zone.len() == form.len()
            && zone.chars().zip(form.chars()).all(|(is, want)| match want {
                '+' => matches!(is, '+' | '-'),
                'd' => is.is_ascii_digit(),
                want => want == is,
            })
    };
    matches!(zone, "Z" | "z") || offset(zone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_and_timestamps() {
        assert_eq!("10m".parse(), Ok(Since::Ago(600)));
        assert_eq!("1d12h".parse(), Ok(Since::Ago(129_600)));
        for at in ["2026-11-22T05:30:00Z", "2026-11-22T05:30:00.123+02:00", "2026-11-22 05:30:00Z"]
        {
            assert_eq!(at.parse(), Ok(Since::At(at.to_owned())));
        }
        let bad = [
            "",
            "10",
            "m",
            "-1m",
            "10x",
            "99999999999999999999s",
            "9999999999999999w",
            "10m ",
            "2026-11-22",
            "2026-11-22T05:30:00",
            "2026-11-22T05:30:00.Z",
            "2026-11-22T05:30:00+2:00",
        ];
        for bad in bad {
            assert_eq!(bad.parse::<Since>(), Err(BadSince), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_rejected(text in "\\PC{0,30}") {
            let _ = text.parse::<Since>();
        }
    }
}
