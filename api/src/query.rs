//! Percent encoding, and the `?…` of a request. A mistake in it is an error: a parameter that is
//! silently ignored does something else than its sender thinks.

use crate::error::Error;
use std::str::FromStr;

/// The largest number that a parameter may be: `int64`, as the OpenAPI document says.
pub const MAX_NUMBER: u64 = i64::MAX as u64;

/// The parameters of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes `a=b&c=d` apart.
    ///
    /// # Errors
    /// It is wrongly encoded, or names something twice.
    pub fn parse(text: &str) -> Result<Query, Error> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = decode(name, true)?;
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(Error::invalid(format!("the parameter `{name}` is there twice")));
            }
            pairs.push((name, decode(value, true)?));
        }
        Ok(Query(pairs))
    }

    /// Checks that there are no others.
    ///
    /// # Errors
    /// There is another one.
    pub fn only(&self, known: &[&str]) -> Result<(), Error> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("there is no parameter `{name}` here");
                let details = match known {
                    [] => "there is none at all".to_owned(),
                    known => format!("there is `{}`", known.join("`, `")),
                };
                Err(Error::invalid(message).details(vec![details]))
            }
        }
    }

    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter's value, read.
    ///
    /// # Errors
    /// It cannot be read; `expected` says what it should be.
    pub fn read<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, Error> {
        let read = |value: &str| {
            value.parse().map_err(|_| {
                Error::invalid(format!("`{name}` is {expected}, not `{}`", shorten(value)))
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

/// The number that the parameter `name` is.
///
/// # Errors
/// It is none, or a larger one; `expected` says what it should be.
pub fn number(name: &str, value: &str, expected: &str, max: u64) -> Result<u64, Error> {
    // `+1` is a number for Rust only.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|number| digits && *number <= max).ok_or_else(|| {
        let value = shorten(value);
        Error::invalid(format!("`{name}` is {expected}, at most {max}, not `{value}`"))
    })
}

/// The beginning of what somebody sent, for repeating it to them.
pub fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Undoes percent encoding, and in queries `+` for a blank.
///
/// # Errors
/// `%` without two hexadecimal digits after it; bytes that are no UTF-8; NUL.
pub fn decode(text: &str, query: bool) -> Result<String, Error> {
    let wrong = || Error::invalid(format!("`{}` is wrongly encoded", shorten(text)));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || {
                    let digit = char::from(rest.next()?).to_digit(16)?;
                    u8::try_from(digit).ok()
                };
                let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
                high << 4 | low
            }
            b'+' if query => b' ',
            other => other,
        });
    }
    // No name and no path has one, and C programs stop reading at it.
    if bytes.contains(&0) {
        return Err(wrong());
    }
    String::from_utf8(bytes).map_err(|_| wrong())
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
    fn mistakes_are_told() {
        for wrong in ["a=%", "a=%2", "a=%zz", "a=%ff", "a=%00", "a=1&a=2", "%61=1&a=2"] {
            assert!(Query::parse(wrong).is_err(), "{wrong}");
        }
        let query = Query::parse("tail=ten&follow&&x=a+b").unwrap();
        assert!(query.read::<u64>("tail", "a number").is_err());
        assert_eq!(query.get("follow"), Some(""));
        assert_eq!(query.get("x"), Some("a b"));
    }
}
