//! A layer's tar stream to a [`Tree`], by the rules of OCI layers
//! (<https://github.com/opencontainers/image-spec/blob/main/layer.md>), strictly.

use super::member::{Member, Members, Type};
use super::node::AddError;
use super::{Content, Kind, LayerError, Meta, NodeId, Region, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// What a layer may be. The defaults are far above every real image and far below what would
/// trouble the build host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries, directories that are only implied included.
    pub entries: u64,
    /// Bytes of a path.
    pub path: usize,
    /// Bytes of content of all files together.
    pub bytes: u64,
    /// Bytes of names and values of one entry's extended attributes.
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

/// Reads an uncompressed tar stream into a tree whose contents lie in that stream.
///
/// Whiteouts become overlayfs's: `.wh.NAME` a character device 0:0 called NAME (or, if the layer
/// has a directory NAME of its own, an opaque directory), `.wh..wh..opq` the attribute
/// [`super::OPAQUE`] on its directory. They hide lower layers only, wherever they stand.
///
/// # Errors
/// [`LayerError`]: not a tar stream, an entry that is refused (a name twice, a path with `..`,
/// something below a non-directory, a device, a hard link to what is not a file before it in this
/// layer, a sparse file), or a cap.
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
    /// Directory and name of what `.wh.NAME` hides. Applied at the end, because a whiteout and a
    /// new directory of the same name may come in either order.
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
        let wrong = |reason: &str| Err(LayerError::entry(&name, reason));
        let path = components(&name, &self.limits)?;
        let Some((last, parents)) = path.split_last() else {
            if member.kind != Type::Dir {
                return wrong("the root of a layer must be a directory");
            }
            return self.describe(Tree::ROOT, &member);
        };
        if parents.iter().any(|part| part.starts_with(WHITEOUT)) {
            return wrong("a whiteout is not a directory");
        }
        let parent = self.parent(&name, parents)?;
        if *last == OPAQUE_ENTRY {
            return match member.kind {
                Type::File if parents.is_empty() => {
                    wrong("the root of a layer cannot be opaque: overlayfs always merges it")
                }
                Type::File if self.opaque.insert(parent) => Ok(()),
                Type::File => wrong("named twice"),
                _ => wrong("a whiteout must be a plain file"),
            };
        }
        if let Some(hidden) = last.strip_prefix(WHITEOUT) {
            return match (member.kind, hidden) {
                (Type::File, b"" | b"." | b"..") => wrong("a whiteout of nothing"),
                (Type::File, _) if hidden.starts_with(WHITEOUT) => {
                    wrong("the meta data of AUFS is not supported")
                }
                (Type::File, _) if self.whiteouts.insert((parent, hidden.to_vec())) => Ok(()),
                (Type::File, _) => wrong("named twice"),
                _ => wrong("a whiteout must be a plain file"),
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
            Type::Symlink if member.link.is_empty() => wrong("a symbolic link to nothing"),
            // One byte less than PATH_MAX, which counts the NUL (symlink(2)).
            Type::Symlink if member.link.len() >= self.limits.path => {
                wrong("the target of a symbolic link is too long")
            }
            Type::Symlink => self.add(parent, last, &member, Kind::Symlink(member.link.clone())),
            Type::Fifo => self.add(parent, last, &member, Kind::Fifo),
            // Overlayfs's own form of a whiteout.
            Type::Char if member.device == (0, 0) => {
                match self.whiteouts.insert((parent, last.to_vec())) {
                    true => Ok(()),
                    false => wrong("named twice"),
                }
            }
            Type::Char | Type::Block => wrong("device nodes in images are refused"),
            Type::HardLink => self.hard_link(parent, last, &member),
        }
    }

    /// The directory that holds the entry, with all that are missing on the way made.
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
                        .map_err(|error| refused(name, error))?;
                    if let Some(node) = self.tree.get_mut(id) {
                        node.implied = true;
                    }
                    id
                }
            };
            match self.tree.get(at).map(|node| &node.kind) {
                Some(Kind::Dir(_)) => {}
                // Following it would let a layer write somewhere else than it says.
                Some(Kind::Symlink(_)) => {
                    return Err(LayerError::entry(
                        name,
                        "it lies below a symbolic link of the same layer",
                    ));
                }
                _ => {
                    return Err(LayerError::entry(name, "it lies below something not a directory"));
                }
            }
        }
        Ok(at)
    }

    /// Sets the attributes of a directory that is already there: by its first entry, by one that
    /// comes again, or because something lies in it.
    fn describe(&mut self, id: NodeId, member: &Member) -> Result<(), LayerError> {
        let meta = self.meta(member)?;
        match self.tree.get_mut(id) {
            Some(node) if matches!(node.kind, Kind::Dir(_)) => {
                node.meta = meta;
                node.implied = false;
                Ok(())
            }
            _ => Err(LayerError::entry(&member.name, "named twice")),
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
        self.tree.add(parent, last, meta, kind).map_err(|error| refused(&member.name, error))?;
        Ok(())
    }

    fn hard_link(
        &mut self,
        parent: NodeId,
        last: &[u8],
        member: &Member,
    ) -> Result<(), LayerError> {
        let wrong = |reason: &str| LayerError::entry(&member.name, reason);
        let path = components(&member.link, &self.limits)
            .map_err(|_| wrong("a hard link to an impossible path"))?;
        let target = path
            .iter()
            .try_fold(Tree::ROOT, |at, part| self.tree.child(at, part))
            .ok_or_else(|| wrong("a hard link to what is not before it in this layer"))?;
        match self.tree.get(target).map(|node| &node.kind) {
            Some(Kind::File(_)) => {}
            _ => return Err(wrong("a hard link to what is not a regular file")),
        }
        self.tree.link(parent, last, target).map_err(|error| refused(&member.name, error))
    }

    fn meta(&self, member: &Member) -> Result<Meta, LayerError> {
        let xattrs: BTreeMap<_, _> =
            member.xattrs.clone().into_iter().filter(|(name, _)| kept(name)).collect();
        let wrong = |reason: String| Err(LayerError::entry(&member.name, reason));
        let mut total = 0usize;
        for (name, value) in &xattrs {
            // XATTR_NAME_MAX and XATTR_SIZE_MAX (linux/limits.h); the value's length must also fit
            // in 16 bits.
            if name.len() > 255 || value.len() > usize::from(u16::MAX) {
                return wrong("an extended attribute is too long".into());
            }
            total = total.saturating_add(name.len()).saturating_add(value.len());
        }
        if total > self.limits.xattrs {
            return wrong(format!("more than {} bytes of attributes", self.limits.xattrs));
        }
        let (mode, mtime) = (member.mode, member.mtime);
        Ok(Meta { mode, uid: member.uid, gid: member.gid, mtime, xattrs })
    }

    fn finish(mut self) -> Result<Tree, LayerError> {
        // What the layer brings itself hides the lower one already, except that overlayfs would
        // merge two directories.
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
            // In an opaque directory there is nothing left to hide, and overlayfs would list the
            // device.
            if self.tree.child(*parent, name).is_some() || self.opaque.contains(parent) {
                continue;
            }
            self.tree
                .add(*parent, name, Meta::default(), Kind::WHITEOUT)
                .map_err(|error| refused(name, error))?;
        }
        Ok(self.tree)
    }
}

fn refused(name: &[u8], error: AddError) -> LayerError {
    match error {
        AddError::Taken => LayerError::entry(name, "named twice"),
        other => LayerError::entry(name, other.to_string()),
    }
}

/// Which attributes of an image count: file capabilities and users' own. Those of overlayfs would
/// let a layer redirect lookups into its lower layers, and labels belong to the host's policy.
fn kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.strip_prefix(b"user.").is_some_and(|rest| !rest.is_empty())
            && !name.starts_with(b"user.overlay."))
}

/// The parts of a path, relative to the root whether it begins with a slash or not.
fn components<'a>(path: &'a [u8], limits: &Limits) -> Result<Vec<&'a [u8]>, LayerError> {
    let wrong = |reason: String| Err(LayerError::entry(path, reason));
    if path.len() > limits.path {
        return wrong(format!("its path is longer than {} bytes", limits.path));
    }
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return wrong("\"..\" in a path".into()),
            _ if part.contains(&0) => return wrong("a NUL byte in a path".into()),
            _ if part.len() > MAX_NAME => {
                return wrong(format!("a name of {} bytes (at most {MAX_NAME})", part.len()));
            }
            _ => parts.push(part),
        }
    }
    Ok(parts)
}
