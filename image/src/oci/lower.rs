//! Implied directories: directories that a layer uses but has no entry for.
//!
//! Some builders put `tmp/x` in a layer without an entry for `tmp`. The layer's tree needs that
//! directory, and overlayfs takes the attributes of a merged directory from the topmost layer that has
//! it. With default attributes the layer would change `/tmp` from mode 1777 to 0755, so they are copied
//! from the nearest lower layer that has an entry for the directory. The layer then depends on the
//! layers below it.

use crate::tree::{Kind, Meta, NodeId, OPAQUE, Tree};

/// The implied directories of a layer, without its root: overlayfs takes the root's attributes
/// from the container's own, writable layer.
pub(super) fn implied(tree: &Tree) -> Vec<(Vec<Vec<u8>>, NodeId)> {
    let mut all = tree.implied();
    all.retain(|(path, _)| !path.is_empty());
    all
}

/// What a layer says about a path.
enum Found {
    /// It has an entry for the directory, with these attributes.
    Described(Meta),
    /// Nothing: the layer below decides.
    Below,
    /// The directory does not exist, whatever lower layers contain.
    Gone,
}

/// The attributes of the directory `path` in the layers `lower`, nearest first.
pub(super) fn attributes<'a>(
    path: &[Vec<u8>],
    lower: impl Iterator<Item = &'a Tree>,
) -> Option<Meta> {
    for tree in lower {
        match lookup(tree, path) {
            Found::Described(mut meta) => {
                meta.xattrs.remove(OPAQUE);
                return Some(meta);
            }
            Found::Below => {}
            Found::Gone => return None,
        }
    }
    None
}

/// Sets the attributes of a directory, except whether it is opaque.
pub(super) fn describe(tree: &mut Tree, id: NodeId, mut meta: Meta) {
    if let Some(node) = tree.get_mut(id) {
        if let Some(value) = node.meta.xattrs.get(OPAQUE) {
            meta.xattrs.insert(OPAQUE.to_vec(), value.clone());
        }
        node.meta = meta;
    }
}

fn lookup(tree: &Tree, path: &[Vec<u8>]) -> Found {
    let mut at = Tree::ROOT;
    let mut opaque = false;
    for name in path {
        at = match tree.child(at, name) {
            Some(child) => child,
            None if opaque => return Found::Gone,
            None => return Found::Below,
        };
        match tree.get(at).map(|node| &node.kind) {
            Some(Kind::Dir(_)) => opaque |= tree.is_opaque(at),
            _ => return Found::Gone,
        }
    }
    match tree.get(at) {
        Some(node) if !node.implied => Found::Described(node.meta.clone()),
        _ if opaque => Found::Gone,
        _ => Found::Below,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn dir(tree: &mut Tree, at: NodeId, name: &[u8], mode: u16) -> NodeId {
        let meta = Meta { mode, ..Meta::default() };
        tree.add(at, name, meta, Kind::Dir(BTreeMap::new())).unwrap()
    }

    #[test]
    fn a_removed_directory_has_no_attributes_to_inherit() {
        let path = [b"tmp".to_vec()];
        let mut bottom = Tree::new();
        dir(&mut bottom, Tree::ROOT, b"tmp", 0o1777);
        let found = attributes(&path, [&Tree::new(), &bottom].into_iter());
        assert_eq!(found.map(|meta| meta.mode), Some(0o1777));
        let mut removed = Tree::new();
        removed.add(Tree::ROOT, b"tmp", Meta::default(), Kind::WHITEOUT).unwrap();
        assert_eq!(attributes(&path, [&removed, &bottom].into_iter()), None);
    }
}
