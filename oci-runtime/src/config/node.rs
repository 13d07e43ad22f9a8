//! A value of `config.json` and where it stands, so that a mistake is named by its key.

use serde_json::Value;
use std::borrow::Cow;

/// Longest text of the file that a message repeats, in characters.
const MAX_QUOTE: usize = 60;

/// Bytes of the largest `config.json` that is read. Those of orchestrators have some 100 KiB.
pub const MAX_SIZE: usize = 8 << 20;

/// Why a `config.json` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// More than [`MAX_SIZE`] bytes.
    #[error("config.json: more than {MAX_SIZE} bytes")]
    TooLarge,
    /// No JSON.
    #[error("config.json: not JSON: {0}")]
    Json(String),
    /// Something in it is missing, wrong, or cannot be had here.
    #[error("config.json: {key}: {reason}")]
    Value {
        /// Which one, as `linux.namespaces[2].path`.
        key: String,
        /// Why not.
        reason: String,
    },
}

/// A value that is there, and its key.
#[derive(Clone)]
pub(crate) struct Node<'v> {
    value: &'v Value,
    key: String,
}

/// The beginning of a text of the file.
pub(crate) fn quote(text: &str) -> String {
    let end = text.char_indices().nth(MAX_QUOTE).map_or(text.len(), |(at, _)| at);
    let more = if end < text.len() { "…" } else { "" };
    format!("{:?}{more}", text.get(..end).unwrap_or_default())
}

impl<'v> Node<'v> {
    pub(crate) fn root(value: &'v Value) -> Node<'v> {
        Node { value, key: String::new() }
    }

    pub(crate) fn value(&self) -> &'v Value {
        self.value
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn bad(&self, reason: impl Into<String>) -> ConfigError {
        let key = if self.key.is_empty() { "the whole" } else { &self.key };
        ConfigError::Value { key: key.to_owned(), reason: reason.into() }
    }

    fn at(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }

    /// A member of this object. `null` is as good as absent: encoders of Go write it for what is empty.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Node<'v>>, ConfigError> {
        let Value::Object(map) = self.value else { return Err(self.bad("must be an object")) };
        let value = map.get(name).filter(|value| !value.is_null());
        Ok(value.map(|value| Node { value, key: self.at(name) }))
    }

    /// A member that must be there.
    pub(crate) fn need(&self, name: &str) -> Result<Node<'v>, ConfigError> {
        self.get(name)?.ok_or_else(|| ConfigError::Value {
            key: self.at(name),
            reason: "is missing".to_owned(),
        })
    }

    /// Refuses members that mean something and are not empty.
    pub(crate) fn refuse(&self, names: &[&str], reason: &str) -> Result<(), ConfigError> {
        for name in names {
            if let Some(node) = self.get(name)?.filter(|node| !node.is_empty()) {
                return Err(node.bad(reason));
            }
        }
        Ok(())
    }

    /// Whether it says nothing: `false`, 0, and texts, lists and objects without content.
    pub(crate) fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::Bool(set) => !set,
            Value::Number(number) => number.as_i64() == Some(0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => {
                map.values().all(|value| Node { value, key: String::new() }.is_empty())
            }
        }
    }

    pub(crate) fn text(&self) -> Result<&'v str, ConfigError> {
        let text = self.value.as_str().ok_or_else(|| self.bad("must be a string"))?;
        match text.contains('\0') {
            true => Err(self.bad("must not hold a NUL byte")),
            false => Ok(text),
        }
    }

    pub(crate) fn yes(&self) -> Result<bool, ConfigError> {
        self.value.as_bool().ok_or_else(|| self.bad("must be true or false"))
    }

    pub(crate) fn whole(&self) -> Result<i64, ConfigError> {
        let range = "must be a whole number from -9223372036854775808 to 9223372036854775807";
        self.value.as_i64().ok_or_else(|| self.bad(range))
    }

    pub(crate) fn unsigned(&self) -> Result<u64, ConfigError> {
        let range = "must be a whole number from 0 to 18446744073709551615";
        self.value.as_u64().ok_or_else(|| self.bad(range))
    }

    /// A whole number up to `most`.
    pub(crate) fn number(&self, most: u32) -> Result<u32, ConfigError> {
        let number = self.value.as_u64().and_then(|number| u32::try_from(number).ok());
        let range = || self.bad(format!("must be a whole number from 0 to {most}"));
        number.filter(|number| *number <= most).ok_or_else(range)
    }

    /// A user or group id. 4294967295 would mean "leave as it is" to the kernel.
    pub(crate) fn id(&self) -> Result<u32, ConfigError> {
        self.number(u32::MAX - 1)
    }

    pub(crate) fn list(&self) -> Result<Vec<Node<'v>>, ConfigError> {
        let Value::Array(list) = self.value else { return Err(self.bad("must be a list")) };
        let numbered = list.iter().enumerate();
        Ok(numbered.map(|(n, value)| Node { value, key: format!("{}[{n}]", self.key) }).collect())
    }

    /// A list of texts, which may be long: keys are made for mistakes only.
    pub(crate) fn texts(&self) -> Result<Vec<String>, ConfigError> {
        let Value::Array(list) = self.value else { return Err(self.bad("must be a list")) };
        let one = |(n, value): (usize, &'v Value)| match value {
            Value::String(text) if !text.contains('\0') => Ok(text.clone()),
            _ => Node { value, key: format!("{}[{n}]", self.key) }.text().map(str::to_owned),
        };
        list.iter().enumerate().map(one).collect()
    }

    /// The members of an object, by name.
    pub(crate) fn members(&self) -> Result<Vec<(&'v str, Node<'v>)>, ConfigError> {
        let Value::Object(map) = self.value else { return Err(self.bad("must be an object")) };
        let shown = |name: &'v str| match name.len() <= MAX_QUOTE {
            true => Cow::Borrowed(name),
            false => Cow::Owned(quote(name)),
        };
        let members = map.iter().filter(|(_, value)| !value.is_null());
        Ok(members
            .map(|(name, value)| (name.as_str(), Node { value, key: self.at(&shown(name)) }))
            .collect())
    }
}
