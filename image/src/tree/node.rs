//! The tree itself.

use super::{OPAQUE, Region};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// The number of a node in its [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// As an index: nodes are numbered from 0 in the order they were added.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds on top, below 1,000,000,000.
    pub nanos: u32,
}

/// What every kind of node has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permissions with set-id and sticky bits, within 0o7777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Time,
    /// Extended attributes by full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Meta {
    /// What a directory gets that no entry of the layer describes: root's, 0755, time 0.
    pub fn implied() -> Meta {
        Meta { mode: 0o755, ..Meta::default() }
    }
}

/// Where a file's content lies.
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

    /// Whether it holds nothing.
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

/// What a node is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A directory and its entries by name.
    Dir(BTreeMap<Vec<u8>, NodeId>),
    /// A regular file.
    File(Content),
    /// A symbolic link and its target, as written: nothing here ever follows it.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket's name.
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
    /// An overlayfs whiteout: the name is gone from all lower layers.
    pub const WHITEOUT: Kind = Kind::Char { major: 0, minor: 0 };

    /// For messages.
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

/// A file of any kind; it may have several names.
#[derive(Debug, Clone)]
pub struct Node {
    /// Owner, mode, times, attributes.
    pub meta: Meta,
    /// What it is.
    pub kind: Kind,
    /// How many names it has (directories: always 1).
    pub names: u32,
    /// A directory that no entry describes: it is only there because something lies below it.
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
    /// The parent is no directory.
    #[error("its parent is not a directory")]
    NotADirectory,
    /// The name is taken.
    #[error("the name is taken")]
    Taken,
    /// More nodes (2^32) or names of one node than can be counted.
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

    /// Number of nodes, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: there is always a root.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node. Numbers come from this tree only; one of another tree gives `None`.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())
    }

    /// A node, to be changed.
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

    /// Adds a new node under a free name.
    ///
    /// # Errors
    /// [`AddError`]; nothing is changed then.
    pub fn add(
        &mut self,
        parent: NodeId,
        name: &[u8],
        meta: Meta,
        kind: Kind,
    ) -> Result<NodeId, AddError> {
        let id = NodeId(u32::try_from(self.nodes.len()).map_err(|_| AddError::TooMany)?);
        self.enter(parent, name, id)?;
        self.nodes.push(Node { meta, kind, names: 1, implied: false });
        Ok(id)
    }

    /// Gives a node that is no directory one more name.
    ///
    /// # Errors
    /// [`AddError`]; nothing is changed then.
    pub fn link(&mut self, parent: NodeId, name: &[u8], target: NodeId) -> Result<(), AddError> {
        let node = self.nodes.get_mut(target.index()).ok_or(AddError::NotADirectory)?;
        let names = match node.kind {
            Kind::Dir(_) => return Err(AddError::Taken),
            _ => node.names.checked_add(1).ok_or(AddError::TooMany)?,
        };
        self.enter(parent, name, target)?;
        if let Some(node) = self.nodes.get_mut(target.index()) {
            node.names = names;
        }
        Ok(())
    }

    fn enter(&mut self, parent: NodeId, name: &[u8], id: NodeId) -> Result<(), AddError> {
        match self.nodes.get_mut(parent.index()).map(|node| &mut node.kind) {
            Some(Kind::Dir(entries)) if entries.contains_key(name) => Err(AddError::Taken),
            Some(Kind::Dir(entries)) => {
                entries.insert(name.to_vec(), id);
                Ok(())
            }
            _ => Err(AddError::NotADirectory),
        }
    }

    /// Makes a directory hide everything that lower layers have in its place.
    pub(super) fn set_opaque(&mut self, id: NodeId) {
        if let Some(node) = self.get_mut(id) {
            node.meta.xattrs.insert(OPAQUE.to_vec(), b"y".to_vec());
        }
    }

    /// Whether a directory hides what lower layers have in its place.
    pub fn is_opaque(&self, id: NodeId) -> bool {
        self.get(id).is_some_and(|node| node.meta.xattrs.contains_key(OPAQUE))
    }

    /// Whether a node is a whiteout.
    pub fn is_whiteout(&self, id: NodeId) -> bool {
        self.get(id).is_some_and(|node| matches!(node.kind, Kind::Char { major: 0, minor: 0 }))
    }

    /// All directories that no entry describes, each with its path from the root.
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
