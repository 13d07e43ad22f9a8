//! The tree and its nodes.

use super::{OPAQUE, Region};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// The number of a node in its [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The number as an index: nodes are numbered from 0 in the order in which they were added.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Additional nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

/// The attributes of every kind of node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permissions with set-ID and sticky bits, within 0o7777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last modification.
    pub mtime: Time,
    /// Extended attributes by full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Meta {
    /// The attributes of a directory without an entry in the layer: owner root, mode 0755, time 0.
    pub fn implied() -> Meta {
        Meta { mode: 0o755, ..Meta::default() }
    }
}

/// The content of a file.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// In a range of a file.
    Region(Region),
}

impl Content {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Region(region) => region.len(),
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// As [`Region::read_exact_at`].
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Content::Region(region) => region.read_exact_at(buffer, offset),
            Content::Bytes(bytes) => {
                let start = usize::try_from(offset).ok();
                let end = start.and_then(|start| start.checked_add(buffer.len()));
                let part = start.zip(end).and_then(|(start, end)| bytes.get(start..end));
                buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// The kind of a node.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A directory and its entries by name.
    Dir(BTreeMap<Vec<u8>, NodeId>),
    /// A regular file.
    File(Content),
    /// A symbolic link and its target, as written. It is never followed.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device; 0:0 is overlayfs's whiteout.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl Kind {
    /// An overlayfs whiteout: hides the name in all lower layers.
    pub const WHITEOUT: Kind = Kind::Char { major: 0, minor: 0 };

    /// The kind as text for messages.
    pub fn describe(&self) -> &'static str {
        match self {
            Kind::Dir(_) => "a directory",
            Kind::File(_) => "a file",
            Kind::Symlink(_) => "a symbolic link",
            Kind::Fifo => "a named pipe",
            Kind::Socket => "a socket",
            Kind::Char { major: 0, minor: 0 } => "a whiteout",
            Kind::Char { .. } | Kind::Block { .. } => "a device",
        }
    }
}

/// A file of any kind; it can have several names.
#[derive(Debug, Clone)]
pub struct Node {
    /// Owner, mode, times, attributes.
    pub meta: Meta,
    /// Its kind.
    pub kind: Kind,
    /// Number of names (directories: always 1).
    pub names: u32,
    /// Whether it is a directory without an entry, which exists only because of an entry below it.
    pub implied: bool,
}

/// A layer in memory.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

/// Why a node cannot be added. The caller knows the entry's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// The parent is not a directory.
    #[error("the parent is not a directory")]
    NotADirectory,
    /// The name exists already.
    #[error("the name exists already")]
    Exists,
    /// More than 2^32 nodes, or names of one node.
    #[error("too many nodes")]
    TooMany,
}

impl Tree {
    /// An empty tree: a root directory with [`Meta::implied`].
    pub fn new() -> Tree {
        let kind = Kind::Dir(BTreeMap::new());
        Tree { nodes: vec![Node { meta: Meta::implied(), kind, names: 1, implied: true }] }
    }

    /// The root directory.
    pub const ROOT: NodeId = NodeId(0);

    /// Number of nodes, including the root.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Always false: there is always a root.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node with this number; `None` if this tree does not have it.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())
    }

    /// The node with this number, for modification.
    pub fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.index())
    }

    /// The entries of a directory; empty for anything else.
    pub fn entries(&self, id: NodeId) -> impl Iterator<Item = (&[u8], NodeId)> {
        let entries = match self.get(id).map(|node| &node.kind) {
            Some(Kind::Dir(entries)) => Some(entries),
            _ => None,
        };
        entries.into_iter().flatten().map(|(name, id)| (name.as_slice(), *id))
    }

    /// The entry `name` of a directory.
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.get(parent)?.kind {
            Kind::Dir(entries) => entries.get(name).copied(),
            _ => None,
        }
    }

    /// Adds a new node under a name that does not exist yet.
    ///
    /// # Errors
    /// An [`AddError`]; the tree is unchanged then.
    pub fn add(
        &mut self,
        parent: NodeId,
        name: &[u8],
        meta: Meta,
        kind: Kind,
    ) -> Result<NodeId, AddError> {
        let id = NodeId(u32::try_from(self.nodes.len()).map_err(|_| AddError::TooMany)?);
        self.insert(parent, name, id)?;
        self.nodes.push(Node { meta, kind, names: 1, implied: false });
        Ok(id)
    }

    /// Adds another name to a node that is not a directory.
    ///
    /// # Errors
    /// An [`AddError`]; the tree is unchanged then.
    pub fn link(&mut self, parent: NodeId, name: &[u8], target: NodeId) -> Result<(), AddError> {
        let node = self.nodes.get_mut(target.index()).ok_or(AddError::NotADirectory)?;
        let names = match node.kind {
            Kind::Dir(_) => return Err(AddError::Exists),
            _ => node.names.checked_add(1).ok_or(AddError::TooMany)?,
        };
        self.insert(parent, name, target)?;
        if let Some(node) = self.nodes.get_mut(target.index()) {
            node.names = names;
        }
        Ok(())
    }

    fn insert(&mut self, parent: NodeId, name: &[u8], id: NodeId) -> Result<(), AddError> {
        match self.nodes.get_mut(parent.index()).map(|node| &mut node.kind) {
            Some(Kind::Dir(entries)) if entries.contains_key(name) => Err(AddError::Exists),
            Some(Kind::Dir(entries)) => {
                entries.insert(name.to_vec(), id);
                Ok(())
            }
            _ => Err(AddError::NotADirectory),
        }
    }

    /// Makes a directory opaque: it hides the same directory of lower layers.
    pub(super) fn set_opaque(&mut self, id: NodeId) {
        if let Some(node) = self.get_mut(id) {
            node.meta.xattrs.insert(OPAQUE.to_vec(), b"y".to_vec());
        }
    }

    /// Whether a directory is opaque: it hides the same directory of lower layers.
    pub fn is_opaque(&self, id: NodeId) -> bool {
        self.get(id).is_some_and(|node| node.meta.xattrs.contains_key(OPAQUE))
    }

    /// Whether a node is a whiteout.
    pub fn is_whiteout(&self, id: NodeId) -> bool {
        self.get(id).is_some_and(|node| matches!(node.kind, Kind::Char { major: 0, minor: 0 }))
    }

    /// All directories without an entry, each with its path from the root.
    pub fn implied(&self) -> Vec<(Vec<Vec<u8>>, NodeId)> {
        let mut found = Vec::new();
        let mut waiting = vec![(Vec::new(), Tree::ROOT)];
        while let Some((path, id)) = waiting.pop() {
            for (name, child) in self.entries(id) {
                if self.get(child).is_some_and(|node| matches!(node.kind, Kind::Dir(_))) {
                    let mut path: Vec<Vec<u8>> = path.clone();
                    path.push(name.to_vec());
                    waiting.push((path, child));
                }
            }
            if self.get(id).is_some_and(|node| node.implied) {
                found.push((path, id));
            }
        }
        found
    }
}
