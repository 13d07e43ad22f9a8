//! Reads JSON documents so that every error names the key: `linux.namespaces[2].path: must be a string`.
//!
//! OCI's `config.json`, seccomp profiles and the configs of images are read with it.

use serde_json::Value;
use std::borrow::Cow;

/// Maximum length of untrusted text in a message, in characters.
const MAX_QUOTE: usize = 60;

/// Why a JSON document is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The document is too large.
    #[error("larger than {0} bytes")]
    TooLarge(
        /// The limit.
        usize,
    ),
    /// The document is not JSON.
    #[error("invalid JSON: {0}")]
    Syntax(String),
    /// A required key is missing.
    #[error("{place}: missing key `{key}`")]
    Missing {
        /// The object, such as `syscalls[3]`.
        place: String,
        /// The key.
        key: &'static str,
    },
    /// A key is not known.
    #[error("{place}: unknown key `{key}`")]
    Unknown {
        /// The object.
        place: String,
        /// The key, escaped and truncated.
        key: String,
    },
    /// A value is invalid.
    #[error("{place}: {reason}")]
    Value {
        /// The value, such as `syscalls[3].args[0].op`.
        place: String,
        /// Why it is invalid.
        reason: String,
    },
}

/// Parses a document of at most `max` bytes.
///
/// # Errors
/// [`JsonError::TooLarge`] or [`JsonError::Syntax`].
pub fn parse(text: &[u8], max: usize) -> Result<Value, JsonError> {
    if text.len() > max {
        return Err(JsonError::TooLarge(max));
    }
    serde_json::from_slice(text).map_err(|error| JsonError::Syntax(error.to_string()))
}

/// Untrusted text for a message: quoted, escaped and truncated.
pub fn quote(text: &str) -> String {
    let end = text.char_indices().nth(MAX_QUOTE).map_or(text.len(), |(at, _)| at);
    let more = if end < text.len() { "…" } else { "" };
    format!("{:?}{more}", text.get(..end).unwrap_or_default())
}

/// A value of a document, and its place.
#[derive(Clone)]
pub struct Node<'v> {
    value: &'v Value,
    /// Empty for the document itself.
    key: String,
    /// How messages name the document itself.
    document: &'static str,
}

impl<'v> Node<'v> {
    /// A whole document, which messages call `document`.
    pub fn root(value: &'v Value, document: &'static str) -> Node<'v> {
        Node { value, key: String::new(), document }
    }

    /// A value at `key` of a document, which messages call `document`.
    pub fn at(value: &'v Value, key: String, document: &'static str) -> Node<'v> {
        Node { value, key, document }
    }

    /// The value.
    pub fn value(&self) -> &'v Value {
        self.value
    }

    /// The path of the value, such as `process.args[1]`; empty for the document itself.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The path of the value for a message.
    pub fn place(&self) -> &str {
        if self.key.is_empty() { self.document } else { &self.key }
    }

    /// An error about this value.
    pub fn bad(&self, reason: impl Into<String>) -> JsonError {
        JsonError::Value { place: self.place().to_owned(), reason: reason.into() }
    }

    /// An error about a missing member of this object.
    pub fn missing(&self, key: &'static str) -> JsonError {
        JsonError::Missing { place: self.place().to_owned(), key }
    }

    fn child(&self, value: &'v Value, key: String) -> Node<'v> {
        Node { value, key, document: self.document }
    }

    /// The path of a member of this object.
    pub fn member_key(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }

    fn object(&self) -> Result<&'v serde_json::Map<String, Value>, JsonError> {
        self.value.as_object().ok_or_else(|| self.bad("must be an object"))
    }

    /// The elements of a list as plain values.
    ///
    /// # Errors
    /// It is something else.
    pub fn array(&self) -> Result<&'v [Value], JsonError> {
        self.value.as_array().map(Vec::as_slice).ok_or_else(|| self.bad("must be a list"))
    }

    /// A member of this object. `null` counts as absent: Go encoders write it for empty values.
    ///
    /// # Errors
    /// This is not an object.
    pub fn get(&self, name: &str) -> Result<Option<Node<'v>>, JsonError> {
        let value = self.object()?.get(name).filter(|value| !value.is_null());
        Ok(value.map(|value| self.child(value, self.member_key(name))))
    }

    /// A required member of this object.
    ///
    /// # Errors
    /// This is not an object, or the member is missing.
    pub fn need(&self, name: &'static str) -> Result<Node<'v>, JsonError> {
        self.get(name)?.ok_or_else(|| self.missing(name))
    }

    /// Rejects members of this object that are not `known`.
    ///
    /// # Errors
    /// This is not an object, or the first unknown member.
    pub fn only(&self, known: &[&str]) -> Result<(), JsonError> {
        match self.object()?.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let key = key.escape_debug().take(MAX_QUOTE).collect();
                Err(JsonError::Unknown { place: self.place().to_owned(), key })
            }
        }
    }

    /// Rejects these members of this object unless they are empty.
    ///
    /// # Errors
    /// This is not an object, or the first of the members that is not empty, with `reason`.
    pub fn refuse(&self, names: &[&str], reason: &str) -> Result<(), JsonError> {
        for name in names {
            if let Some(node) = self.get(name)?.filter(|node| !node.is_empty()) {
                return Err(node.bad(reason));
            }
        }
        Ok(())
    }

    /// Whether the value is empty: `null`, `false`, 0, and strings, lists and objects without content.
    pub fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::Bool(set) => !set,
            Value::Number(number) => number.as_i64() == Some(0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => {
                map.values().all(|value| Node::root(value, self.document).is_empty())
            }
        }
    }

    /// A string without NUL bytes.
    ///
    /// # Errors
    /// It is something else.
    pub fn text(&self) -> Result<&'v str, JsonError> {
        let text = self.value.as_str().ok_or_else(|| self.bad("must be a string"))?;
        match text.contains('\0') {
            true => Err(self.bad("must not contain a NUL byte")),
            false => Ok(text),
        }
    }

    /// A boolean.
    ///
    /// # Errors
    /// It is something else.
    pub fn boolean(&self) -> Result<bool, JsonError> {
        self.value.as_bool().ok_or_else(|| self.bad("must be true or false"))
    }

    /// A signed integer.
    ///
    /// # Errors
    /// It is something else or out of range.
    pub fn integer(&self) -> Result<i64, JsonError> {
        let reason = "must be an integer from -9223372036854775808 to 9223372036854775807";
        self.value.as_i64().ok_or_else(|| self.bad(reason))
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// It is something else or out of range.
    pub fn unsigned(&self) -> Result<u64, JsonError> {
        let reason = "must be an integer from 0 to 18446744073709551615";
        self.value.as_u64().ok_or_else(|| self.bad(reason))
    }

    /// An unsigned integer of at most `max`.
    ///
    /// # Errors
    /// It is something else or out of range.
    pub fn number(&self, max: u32) -> Result<u32, JsonError> {
        let number = self.value.as_u64().and_then(|number| u32::try_from(number).ok());
        let error = || self.bad(format!("must be an integer from 0 to {max}"));
        number.filter(|number| *number <= max).ok_or_else(error)
    }

    /// A user or group id. 4294967295 is excluded: it means "unchanged" to the kernel.
    ///
    /// # Errors
    /// It is something else or out of range.
    pub fn id(&self) -> Result<u32, JsonError> {
        self.number(u32::MAX - 1)
    }

    /// The elements of a list.
    ///
    /// # Errors
    /// It is something else.
    pub fn list(&self) -> Result<Vec<Node<'v>>, JsonError> {
        let numbered = self.array()?.iter().enumerate();
        Ok(numbered.map(|(n, value)| self.child(value, format!("{}[{n}]", self.key))).collect())
    }

    /// A list of strings without NUL bytes. It may be long: keys are built for errors only.
    ///
    /// # Errors
    /// It is something else.
    pub fn texts(&self) -> Result<Vec<String>, JsonError> {
        let one = |(n, value): (usize, &'v Value)| match value {
            Value::String(text) if !text.contains('\0') => Ok(text.clone()),
            _ => self.child(value, format!("{}[{n}]", self.key)).text().map(str::to_owned),
        };
        self.array()?.iter().enumerate().map(one).collect()
    }

    /// The members of an object by name, without those that are `null`.
    ///
    /// # Errors
    /// It is something else.
    pub fn members(&self) -> Result<Vec<(&'v str, Node<'v>)>, JsonError> {
        let shown = |name: &'v str| match name.len() <= MAX_QUOTE {
            true => Cow::Borrowed(name),
            false => Cow::Owned(quote(name)),
        };
        let members = self.object()?.iter().filter(|(_, value)| !value.is_null());
        Ok(members
            .map(|(name, value)| (name.as_str(), self.child(value, self.member_key(&shown(name)))))
            .collect())
    }

    /// The names of all members of an object, also of those that are `null`.
    ///
    /// # Errors
    /// It is something else.
    pub fn names(&self) -> Result<Vec<String>, JsonError> {
        Ok(self.object()?.keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_name_the_place() {
        let value = json!({"a": [{"b": "x"}, {"b": "y\0", "c": null}], "n": -1});
        let root = Node::root(&value, "the document");
        let list = root.need("a").unwrap().list().unwrap();
        assert_eq!(list[0].get("b").unwrap().unwrap().text(), Ok("x"));
        let shown = |error: JsonError| error.to_string();
        let nul = list[1].need("b").unwrap().text();
        assert_eq!(shown(nul.unwrap_err()), "a[1].b: must not contain a NUL byte");
        assert_eq!(list[1].need("c").err().map(shown), Some("a[1]: missing key `c`".to_owned()));
        assert_eq!(
            root.need("z").err().map(shown),
            Some("the document: missing key `z`".to_owned())
        );
        assert_eq!(shown(root.only(&["a"]).unwrap_err()), "the document: unknown key `n`");
        assert_eq!(shown(root.list().err().unwrap()), "the document: must be a list");
        assert_eq!(
            shown(root.need("n").unwrap().number(7).unwrap_err()),
            "n: must be an integer from 0 to 7"
        );
        assert_eq!(shown(parse(b"[]", 1).unwrap_err()), "larger than 1 bytes");
        assert!(shown(parse(b"[", 9).unwrap_err()).starts_with("invalid JSON: "));
    }

    #[test]
    fn quoted_text_is_escaped_and_truncated() {
        assert_eq!(quote("a\u{1b}b"), r#""a\u{1b}b""#);
        assert_eq!(quote(&"x".repeat(100)), format!("\"{}\"…", "x".repeat(60)));
    }
}
