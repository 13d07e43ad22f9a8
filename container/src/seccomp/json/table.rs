//! Reading JSON objects with errors that name the location.

use super::MAX_SIZE;
use serde_json::{Map, Value};

/// Maximum length of untrusted text quoted in a message, in characters.
const MAX_QUOTE: usize = 60;

/// A mistake in a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// More than [`MAX_SIZE`] bytes.
    #[error("larger than {MAX_SIZE} bytes")]
    TooLarge,
    /// Invalid JSON.
    #[error("invalid JSON: {0}")]
    Json(String),
    /// A missing key.
    #[error("{place}: missing key `{key}`")]
    Missing {
        /// The location, `syscalls[3]`; `the profile` at the top.
        place: String,
        /// The key.
        key: &'static str,
    },
    /// An unknown key.
    #[error("{place}: unknown key `{key}`")]
    Unknown {
        /// The location.
        place: String,
        /// The key, escaped and truncated.
        key: String,
    },
    /// An invalid value.
    #[error("{place}: {reason}")]
    Value {
        /// The location, `syscalls[3].args[0].op`.
        place: String,
        /// Why it is invalid.
        reason: String,
    },
}

/// A JSON object and its location.
pub(super) struct Table<'v> {
    map: &'v Map<String, Value>,
    /// Empty at the top.
    pub(super) place: String,
}

/// Quotes and truncates untrusted text.
pub(super) fn quote(text: &str) -> String {
    let end = text.char_indices().nth(MAX_QUOTE).map_or(text.len(), |(at, _)| at);
    format!("{:?}", text.get(..end).unwrap_or_default())
}

impl<'v> Table<'v> {
    pub(super) fn new(value: &'v Value, place: String) -> Result<Table<'v>, ProfileError> {
        match value {
            Value::Object(map) => Ok(Table { map, place }),
            _ => {
                let place = if place.is_empty() { "the profile".to_owned() } else { place };
                Err(ProfileError::Value { place, reason: "must be an object".to_owned() })
            }
        }
    }

    pub(super) fn at(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    pub(super) fn name(&self) -> String {
        if self.place.is_empty() { "the profile".to_owned() } else { self.place.clone() }
    }

    pub(super) fn bad(&self, key: &str, reason: impl Into<String>) -> ProfileError {
        ProfileError::Value { place: self.at(key), reason: reason.into() }
    }

    pub(super) fn only(&self, known: &[&str]) -> Result<(), ProfileError> {
        match self.map.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let key = key.escape_debug().take(MAX_QUOTE).collect();
                Err(ProfileError::Unknown { place: self.name(), key })
            }
        }
    }

    /// The value of a key; `null` counts as missing.
    pub(super) fn get(&self, key: &str) -> Option<&'v Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'v str>, ProfileError> {
        let text = self.get(key).map(|value| value.as_str());
        text.map(|text| text.ok_or_else(|| self.bad(key, "must be a string"))).transpose()
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, ProfileError> {
        let number = self.get(key).map(Value::as_u64);
        let reason = "must be an integer from 0 to 18446744073709551615";
        number.map(|number| number.ok_or_else(|| self.bad(key, reason))).transpose()
    }

    pub(super) fn list(&self, key: &str) -> Result<&'v [Value], ProfileError> {
        match self.get(key) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.bad(key, "must be a list")),
        }
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<&'v str>, ProfileError> {
        let texts = self.list(key)?.iter().map(Value::as_str);
        texts.map(|text| text.ok_or_else(|| self.bad(key, "must be a list of strings"))).collect()
    }
}
