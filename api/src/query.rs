//! The query of a request. An invalid or unknown parameter is an error: if it were silently ignored,
//! the request would do something other than its sender expects.

use crate::error::Error;
use percent_encoding::percent_decode_str;
use std::str::FromStr;

/// The largest number that a parameter may be: `int64`, as the OpenAPI document says.
pub const MAX_NUMBER: u64 = i64::MAX as u64;

/// The parameters of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=b&c=d`.
    ///
    /// # Errors
    /// It is wrongly encoded, or a parameter occurs twice.
    pub fn parse(text: &str) -> Result<Query, Error> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = decode(name, true)?;
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(Error::invalid(format!("parameter `{name}` occurs twice")));
            }
            pairs.push((name, decode(value, true)?));
        }
        Ok(Query(pairs))
    }

    /// Checks that there are no parameters other than these.
    ///
    /// # Errors
    /// There is another one.
    pub fn only(&self, known: &[&str]) -> Result<(), Error> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("unknown parameter `{name}`");
                let details = match known {
                    [] => "this path has no parameters".to_owned(),
                    known => format!("parameters of this path: `{}`", known.join("`, `")),
                };
                Err(Error::invalid(message).details(vec![details]))
            }
        }
    }

    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter's value, parsed.
    ///
    /// # Errors
    /// It cannot be parsed; `expected` says what it should be.
    pub fn read<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, Error> {
        let read = |value: &str| {
            value.parse().map_err(|_| {
                let value = shorten(value);
                Error::invalid(format!("invalid `{name}`: expected {expected}, not `{value}`"))
            })
        };
        self.get(name).map(read).transpose()
    }

    /// A parameter that is a number, at most `max`.
    ///
    /// # Errors
    /// As [`number`].
    pub fn number(&self, name: &str, expected: &str, max: u64) -> Result<Option<u64>, Error> {
        self.get(name).map(|value| number(name, value, expected, max)).transpose()
    }
}

/// The value of the parameter `name` as a number.
///
/// # Errors
/// It is not a number or larger than `max`; `expected` says what it should be.
pub fn number(name: &str, value: &str, expected: &str, max: u64) -> Result<u64, Error> {
    // `+1` is a number for Rust only.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|number| digits && *number <= max).ok_or_else(|| {
        let value = shorten(value);
        let message =
            format!("invalid `{name}`: expected {expected}, at most {max}, not `{value}`");
        Error::invalid(message)
    })
}

/// The beginning of a client's text, to be repeated in an error.
pub fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Decodes percent encoding, and in queries `+` as a space.
///
/// # Errors
/// `%` without two hexadecimal digits after it; bytes that are not UTF-8; NUL.
pub fn decode(text: &str, query: bool) -> Result<String, Error> {
    let wrong = || Error::invalid(format!("`{}` is wrongly encoded", shorten(text)));
    // percent_decode_str leaves what it cannot decode unchanged.
    let whole = |part: &str| part.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(whole) {
        return Err(wrong());
    }
    let plus = if query { text.replace('+', " ") } else { text.to_owned() };
    let decoded = percent_decode_str(&plus).decode_utf8().map_err(|_| wrong())?;
    // Names and paths have no NUL, and C programs stop reading at it.
    if decoded.contains('\0') {
        return Err(wrong());
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02x}")).collect()
    }

    proptest! {
        #[test]
        fn anything_is_parsed_or_refused(text in ".{0,80}") {
            let _ = Query::parse(&text);
            let _ = decode(&text, false);
        }

        #[test]
        fn what_is_encoded_comes_out_again(name in "[a-z]{1,8}", value in "[^\0]{0,20}") {
            let query = Query::parse(&format!("{}={}", encode(&name), encode(&value))).unwrap();
            prop_assert_eq!(query.get(&name), Some(value.as_str()));
            prop_assert!(query.only(&[&name]).is_ok());
            prop_assert!(query.only(&[]).is_err());
        }

        #[test]
        fn plain_characters_stand_for_themselves(text in "[a-zA-Z0-9._~/:-]{0,40}") {
            prop_assert_eq!(decode(&text, true).unwrap(), text);
        }
    }

    #[test]
    fn invalid_parameters_are_errors() {
        for wrong in ["a=%", "a=%2", "a=%zz", "a=%ff", "a=%00", "a=1&a=2", "%61=1&a=2"] {
            assert!(Query::parse(wrong).is_err(), "{wrong}");
        }
        let query = Query::parse("tail=ten&follow&&x=a+b").unwrap();
        assert!(query.read::<u64>("tail", "a number").is_err());
        assert_eq!(query.get("follow"), Some(""));
        assert_eq!(query.get("x"), Some("a b"));
    }
}
