//! Reads a layer's tar stream into a [`Tree`], by the rules of OCI layers
//! (<https://github.com/opencontainers/image-spec/blob/main/layer.md>), strictly.

use super::member::{Member, Members, Type};
use super::node::AddError;
use super::{Content, Kind, LayerError, Meta, NodeId, Region, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// Limits of a layer. The defaults are far above every real image, and far below what the build host can
/// handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Number of entries, including implied directories.
    pub entries: u64,
    /// Length of a path in bytes.
    pub path: usize,
    /// Content of all files together in bytes.
    pub bytes: u64,
    /// Names and values of the extended attributes of one entry in bytes.
    pub xattrs: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { entries: 1_000_000, path: 4096, bytes: 16 << 30, xattrs: 64 << 10 }
    }
}

/// NAME_MAX of Linux file systems.
const MAX_NAME: usize = 255;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_ENTRY: &[u8] = b".wh..wh..opq";

/// Reads an uncompressed tar stream into a tree that refers to the contents in that stream.
///
/// Whiteouts become those of overlayfs: `.wh.NAME` becomes a character device 0:0 named NAME (or, if the
/// layer itself has a directory NAME, that directory becomes opaque), and `.wh..wh..opq` the attribute
/// [`super::OPAQUE`] of its directory. They affect lower layers only, whatever their position.
///
/// # Errors
/// A [`LayerError`]: the stream is not a tar stream, an entry is rejected (a duplicate name, a path with
/// `..`, a parent that is not a directory, a device, a hard link to anything but a preceding file of this
/// layer, a sparse file), or a limit is exceeded.
pub fn read_layer(stream: &Region, limits: &Limits) -> Result<Tree, LayerError> {
    let mut reader = Reader {
        tree: Tree::new(),
        limits: *limits,
        entries: 0,
        bytes: 0,
        whiteouts: BTreeSet::new(),
        opaque: BTreeSet::new(),
    };
    let mut members = Members::new(stream.clone());
    while let Some(member) = members.next()? {
        reader.take(member)?;
    }
    reader.finish()
}

struct Reader {
    tree: Tree,
    limits: Limits,
    entries: u64,
    bytes: u64,
    /// Directory and name of what `.wh.NAME` hides. Applied at the end, because a whiteout and a new
    /// directory of the same name can come in either order.
    whiteouts: BTreeSet<(NodeId, Vec<u8>)>,
    opaque: BTreeSet<NodeId>,
}

impl Reader {
    fn count(&mut self) -> Result<(), LayerError> {
        self.entries = self.entries.saturating_add(1);
        match self.entries > self.limits.entries {
            true => Err(LayerError::Limit { what: "entries", limit: self.limits.entries }),
            false => Ok(()),
        }
    }

    fn take(&mut self, member: Member) -> Result<(), LayerError> {
        self.count()?;
        let name = member.name.clone();
        let invalid = |reason: &str| Err(LayerError::entry(&name, reason));
        let path = components(&name, &self.limits)?;
        let Some((last, parents)) = path.split_last() else {
            if member.kind != Type::Dir {
                return invalid("the root of a layer must be a directory");
            }
            return self.describe(Tree::ROOT, &member);
        };
        if parents.iter().any(|part| part.starts_with(WHITEOUT)) {
            return invalid("a whiteout cannot be a directory");
        }
        let parent = self.parent(&name, parents)?;
        if *last == OPAQUE_ENTRY {
            return match member.kind {
                Type::File if parents.is_empty() => {
                    invalid("the root of a layer cannot be opaque: overlayfs always merges it")
                }
                Type::File if self.opaque.insert(parent) => Ok(()),
                Type::File => invalid("duplicate entry"),
                _ => invalid("a whiteout must be a regular file"),
            };
        }
        if let Some(hidden) = last.strip_prefix(WHITEOUT) {
            return match (member.kind, hidden) {
                (Type::File, b"" | b"." | b"..") => invalid("a whiteout without a name"),
                (Type::File, _) if hidden.starts_with(WHITEOUT) => {
                    invalid("AUFS metadata is not supported")
                }
                (Type::File, _) if self.whiteouts.insert((parent, hidden.to_vec())) => Ok(()),
                (Type::File, _) => invalid("duplicate entry"),
                _ => invalid("a whiteout must be a regular file"),
            };
        }
        match member.kind {
            Type::Dir => match self.tree.child(parent, last) {
                Some(id) => self.describe(id, &member),
                None => self.add(parent, last, &member, Kind::Dir(BTreeMap::new())),
            },
            Type::File => {
                self.bytes = self.bytes.saturating_add(member.content.len());
                if self.bytes > self.limits.bytes {
                    let limit = self.limits.bytes;
                    return Err(LayerError::Limit { what: "bytes of content", limit });
                }
                let content = Content::Region(member.content.clone());
                self.add(parent, last, &member, Kind::File(content))
            }
            Type::Symlink if member.link.is_empty() => {
                invalid("a symbolic link with an empty target")
            }
            // One byte less than PATH_MAX, which counts the NUL (symlink(2)).
            Type::Symlink if member.link.len() >= self.limits.path => {
                invalid("the target of a symbolic link is too long")
            }
            Type::Symlink => self.add(parent, last, &member, Kind::Symlink(member.link.clone())),
            Type::Fifo => self.add(parent, last, &member, Kind::Fifo),
            // The overlayfs form of a whiteout.
            Type::Char if member.device == (0, 0) => {
                match self.whiteouts.insert((parent, last.to_vec())) {
                    true => Ok(()),
                    false => invalid("duplicate entry"),
                }
            }
            Type::Char | Type::Block => invalid("device nodes are not allowed in images"),
            Type::HardLink => self.hard_link(parent, last, &member),
        }
    }

    /// The parent directory of the entry; missing directories on the path are created.
    fn parent(&mut self, name: &[u8], parents: &[&[u8]]) -> Result<NodeId, LayerError> {
        let mut at = Tree::ROOT;
        for part in parents {
            at = match self.tree.child(at, part) {
                Some(id) => id,
                None => {
                    self.count()?;
                    let kind = Kind::Dir(BTreeMap::new());
                    let id = self
                        .tree
                        .add(at, part, Meta::implied(), kind)
                        .map_err(|error| rejected(name, error))?;
                    if let Some(node) = self.tree.get_mut(id) {
                        node.implied = true;
                    }
                    id
                }
            };
            match self.tree.get(at).map(|node| &node.kind) {
                Some(Kind::Dir(_)) => {}
                // Following it would let an entry be written to another path than its own.
                Some(Kind::Symlink(_)) => {
                    return Err(LayerError::entry(
                        name,
                        "the path goes through a symbolic link of the same layer",
                    ));
                }
                _ => {
                    return Err(LayerError::entry(name, "a parent in the path is not a directory"));
                }
            }
        }
        Ok(at)
    }

    /// Sets the attributes of an existing directory, which is implied or has an earlier entry.
    fn describe(&mut self, id: NodeId, member: &Member) -> Result<(), LayerError> {
        let meta = self.meta(member)?;
        match self.tree.get_mut(id) {
            Some(node) if matches!(node.kind, Kind::Dir(_)) => {
                node.meta = meta;
                node.implied = false;
                Ok(())
            }
            _ => Err(LayerError::entry(&member.name, "duplicate entry")),
        }
    }

    fn add(
        &mut self,
        parent: NodeId,
        last: &[u8],
        member: &Member,
        kind: Kind,
    ) -> Result<(), LayerError> {
        let meta = self.meta(member)?;
        self.tree.add(parent, last, meta, kind).map_err(|error| rejected(&member.name, error))?;
        Ok(())
    }

    fn hard_link(
        &mut self,
        parent: NodeId,
        last: &[u8],
        member: &Member,
    ) -> Result<(), LayerError> {
        let invalid = |reason: &str| LayerError::entry(&member.name, reason);
        let path = components(&member.link, &self.limits)
            .map_err(|_| invalid("the hard link target is an invalid path"))?;
        let target = path
            .iter()
            .try_fold(Tree::ROOT, |at, part| self.tree.child(at, part))
            .ok_or_else(|| invalid("the hard link target does not precede it in this layer"))?;
        match self.tree.get(target).map(|node| &node.kind) {
            Some(Kind::File(_)) => {}
            _ => return Err(invalid("the hard link target is not a regular file")),
        }
        self.tree.link(parent, last, target).map_err(|error| rejected(&member.name, error))
    }

    fn meta(&self, member: &Member) -> Result<Meta, LayerError> {
        let xattrs: BTreeMap<_, _> =
            member.xattrs.clone().into_iter().filter(|(name, _)| is_kept(name)).collect();
        let invalid = |reason: String| Err(LayerError::entry(&member.name, reason));
        let mut total = 0usize;
        for (name, value) in &xattrs {
            // XATTR_NAME_MAX and XATTR_SIZE_MAX (linux/limits.h); the value's length must also fit
            // in 16 bits.
            if name.len() > 255 || value.len() > usize::from(u16::MAX) {
                return invalid("an extended attribute is too long".into());
            }
            total = total.saturating_add(name.len()).saturating_add(value.len());
        }
        if total > self.limits.xattrs {
            return invalid(format!(
                "more than {} bytes of extended attributes",
                self.limits.xattrs
            ));
        }
        let (mode, mtime) = (member.mode, member.mtime);
        Ok(Meta { mode, uid: member.uid, gid: member.gid, mtime, xattrs })
    }

    fn finish(mut self) -> Result<Tree, LayerError> {
        // An entry of the layer hides the lower one already, except that overlayfs would merge two
        // directories.
        for (parent, name) in &self.whiteouts {
            if let Some(id) = self.tree.child(*parent, name)
                && self.tree.get(id).is_some_and(|node| matches!(node.kind, Kind::Dir(_)))
            {
                self.opaque.insert(id);
            }
        }
        for id in &self.opaque {
            self.tree.set_opaque(*id);
        }
        for (parent, name) in &self.whiteouts {
            // An opaque directory hides everything already, and overlayfs would list the device.
            if self.tree.child(*parent, name).is_some() || self.opaque.contains(parent) {
                continue;
            }
            self.tree
                .add(*parent, name, Meta::default(), Kind::WHITEOUT)
                .map_err(|error| rejected(name, error))?;
        }
        Ok(self.tree)
    }
}

fn rejected(name: &[u8], error: AddError) -> LayerError {
    match error {
        AddError::Exists => LayerError::entry(name, "duplicate entry"),
        other => LayerError::entry(name, other.to_string()),
    }
}

/// Whether an extended attribute is kept: file capabilities and user attributes. Those of overlayfs would
/// let a layer redirect lookups into lower layers, and security labels belong to the host's policy.
fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.strip_prefix(b"user.").is_some_and(|rest| !rest.is_empty())
            && !name.starts_with(b"user.overlay."))
}

/// The components of a path, relative to the root with or without a leading slash.
fn components<'a>(path: &'a [u8], limits: &Limits) -> Result<Vec<&'a [u8]>, LayerError> {
    let invalid = |reason: String| Err(LayerError::entry(path, reason));
    if path.len() > limits.path {
        return invalid(format!("the path is longer than {} bytes", limits.path));
    }
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return invalid("the path contains \"..\"".into()),
            _ if part.contains(&0) => return invalid("the path contains a NUL byte".into()),
            _ if part.len() > MAX_NAME => {
                return invalid(format!(
                    "a file name has {} bytes (at most {MAX_NAME})",
                    part.len()
                ));
            }
            _ => parts.push(part),
        }
    }
    Ok(parts)
}
