//! PAX extended header records (pax(1), "pax Extended Header").
//!
//! The reader finds a record by its length and not by its newline: values are binary (a
//! `security.capability` can contain the byte 10), and a reader that splits at newlines loses the records
//! that follow, including the size of the member.

use super::Time;
use std::collections::BTreeMap;

/// The relevant records of one extended header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub linkpath: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Time>,
    /// All `SCHILY.xattr.NAME` records; the caller decides which are kept.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";
const SPARSE: &[u8] = b"GNU.sparse.";

impl Pax {
    /// Reads all records. A later record replaces an earlier one with the same key, an empty value removes
    /// it (pax(1)), and unknown keys are ignored.
    ///
    /// # Errors
    /// A message for the first invalid record.
    pub fn parse(mut rest: &[u8]) -> Result<Pax, String> {
        let mut pax = Pax::default();
        while !rest.is_empty() {
            let (key, value, after) = record(rest).ok_or("malformed PAX record")?;
            pax.take(key, value)?;
            rest = after;
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let text = || String::from_utf8_lossy(key).into_owned();
        let number = |value: &[u8]| match value {
            b"" => Ok(None),
            digits => {
                decimal(digits).map(Some).ok_or_else(|| format!("PAX {} is not a number", text()))
            }
        };
        match key {
            b"path" | b"linkpath" if value.contains(&0) => {
                return Err(format!("PAX {} contains a NUL byte", text()));
            }
            b"path" => self.path = Some(value.to_vec()).filter(|value| !value.is_empty()),
            b"linkpath" => self.linkpath = Some(value.to_vec()).filter(|value| !value.is_empty()),
            b"size" => self.size = number(value)?,
            b"uid" => self.uid = number(value)?,
            b"gid" => self.gid = number(value)?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(time(value).ok_or("PAX mtime is not a valid time")?),
            _ if key.starts_with(SPARSE) => {
                return Err("sparse files are not supported".to_string());
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                }
            }
        }
        Ok(())
    }

    /// Whether it has no relevant records. A global header is only accepted if this holds, as for a comment.
    pub fn is_empty(&self) -> bool {
        *self == Pax::default()
    }
}

/// Splits off one record, `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record.
fn record(rest: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = rest.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(rest.get(..space)?)?).ok()?;
    let body = rest.get(space.checked_add(1)?..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((body.get(..equals)?, body.get(equals.checked_add(1)?..)?, rest.get(length..)?))
}

/// A number of decimal digits only.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        let value = digit.checked_sub(b'0').filter(|value| *value <= 9)?;
        sum.checked_mul(10)?.checked_add(u64::from(value))
    })
}

/// Decimal seconds with an optional sign and fraction; digits beyond nanoseconds are ignored.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanos = 0u32;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for place in 0..9 {
            let digit = fraction.get(place).map_or(0, |digit| u32::from(digit - b'0'));
            nanos = nanos * 10 + digit;
        }
    }
    Some(match (negative, nanos) {
        (false, nanos) => Time { seconds: whole, nanos },
        (true, 0) => Time { seconds: -whole, nanos },
        // -1.25 is second -2 plus 750 million nanoseconds.
        (true, nanos) => Time { seconds: -whole - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A record as pax(1) defines it: the length counts its own digits.
    fn encode(key: &[u8], value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
    }

    #[test]
    fn a_newline_in_a_capability_does_not_hide_the_size() {
        let bytes =
            [encode(b"SCHILY.xattr.security.capability", b"\x01\n\n2 =\n"), encode(b"size", b"7")];
        let pax = Pax::parse(&bytes.concat()).unwrap();
        assert_eq!(pax.size, Some(7));
        assert_eq!(pax.xattrs[b"security.capability".as_slice()], b"\x01\n\n2 =\n");
    }

    #[test]
    fn times_before_1970_and_with_fractions() {
        assert_eq!(time(b"1.5"), Some(Time { seconds: 1, nanos: 500_000_000 }));
        assert_eq!(time(b"-1.25"), Some(Time { seconds: -2, nanos: 750_000_000 }));
        assert_eq!(time(b"7.1234567899"), Some(Time { seconds: 7, nanos: 123_456_789 }));
        assert_eq!(time(b"1.x"), None);
        assert_eq!(time(b"--1"), None);
    }

    proptest! {
        #[test]
        fn parse_handles_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Pax::parse(&bytes);
        }

        #[test]
        fn records_round_trip(
            path in prop::collection::vec(1u8.., 1..300),
            value in prop::collection::vec(any::<u8>(), 0..300),
            size: u64,
        ) {
            let bytes = [
                encode(b"path", &path),
                encode(b"SCHILY.xattr.user.x", &value),
                encode(b"size", size.to_string().as_bytes()),
            ].concat();
            let pax = Pax::parse(&bytes).unwrap();
            prop_assert_eq!(pax.path.unwrap(), path);
            prop_assert_eq!(&pax.xattrs[b"user.x".as_slice()], &value);
            prop_assert_eq!(pax.size, Some(size));
        }
    }
}
