//! JSON objects of a profile: shorthands for their optional members, over [`units::json`].

use serde_json::Value;
use units::json::Node;

pub use units::json::JsonError as ProfileError;
pub(super) use units::json::quote;

/// A JSON object and its place.
pub(super) struct Table<'v> {
    node: Node<'v>,
    /// Empty for the profile itself.
    pub(super) place: String,
}

impl<'v> Table<'v> {
    pub(super) fn new(value: &'v Value, place: String) -> Result<Table<'v>, ProfileError> {
        let node = Node::at(value, place.clone(), "the profile");
        match value.is_object() {
            true => Ok(Table { node, place }),
            false => Err(node.bad("must be an object")),
        }
    }

    pub(super) fn at(&self, key: &str) -> String {
        self.node.member_key(key)
    }

    pub(super) fn name(&self) -> String {
        self.node.place().to_owned()
    }

    pub(super) fn bad(&self, key: &str, reason: impl Into<String>) -> ProfileError {
        ProfileError::Value { place: self.at(key), reason: reason.into() }
    }

    pub(super) fn only(&self, known: &[&str]) -> Result<(), ProfileError> {
        self.node.only(known)
    }

    /// The value of a key; `null` counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&'v Value> {
        self.node.get(key).ok().flatten().map(|node| node.value())
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'v str>, ProfileError> {
        self.node.get(key)?.map(|node| node.text()).transpose()
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, ProfileError> {
        self.node.get(key)?.map(|node| node.unsigned()).transpose()
    }

    pub(super) fn list(&self, key: &str) -> Result<&'v [Value], ProfileError> {
        self.node.get(key)?.map_or(Ok(&[]), |node| node.array())
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<&'v str>, ProfileError> {
        let list = self.node.get(key)?.map_or(Ok(Vec::new()), |node| node.list())?;
        list.iter().map(Node::text).collect()
    }
}
