//! A tree as an EROFS image: the read-only file system in which layers are mounted.
//!
//! The format is the kernel's (Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h): blocks of
//! 4 KiB; inodes of 64 bytes, each followed by its extended attributes, its block map if it is
//! compressed, and the end of its content if that fits in the same block. File content is
//! compressed with LZ4 in pieces of 64 KiB where that saves blocks: unlike zstd it costs next to
//! nothing to read, and every kernel with `EROFS_FS_ZIP` has it.
//!
//! An image, in order: the block of the superblock, file content, directories, inodes. It depends
//! on the tree and the [`Options`] alone: no clock, no random number, no order of a hash table.

mod data;
mod dirs;
mod format;
mod place;
mod xattrs;

use crate::tree::{Content, Kind, Node, NodeId, Tree};
use data::{BlockWriter, Encoder, Layout};
use format::{BLOCK, Inode};
use std::collections::BTreeSet;
use std::io::{Seek, SeekFrom, Write};

/// What an image is besides its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The volume's UUID. Overlayfs tells its lower layers apart by it, so two images should not
    /// have the same.
    pub uuid: [u8; 16],
    /// The volume's name, at most 15 bytes and a NUL.
    pub name: [u8; 16],
    /// Store all content as it is.
    pub uncompressed: bool,
}

/// What became of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Files of all kinds.
    pub inodes: u64,
    /// Bytes of content of all regular files.
    pub content: u64,
    /// Bytes of the image.
    pub size: u64,
}

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ErofsError {
    /// The content of a file could not be read.
    #[error("cannot read the content of a file: {0}")]
    Read(std::io::Error),
    /// The image could not be written.
    #[error("cannot write the file system image: {0}")]
    Write(std::io::Error),
    /// The image would have more blocks than 32 bits can count (16 TiB).
    #[error("the file system image would be larger than 16 TiB")]
    TooLarge,
    /// The extended attributes of one file do not fit, or have a name that EROFS does not know.
    #[error("cannot store the extended attribute {0}")]
    Xattr(String),
}

/// Writes the image of `tree` to `out`, from its start. What was in `out` before is not cut off.
///
/// # Errors
/// [`ErofsError`]; `out` holds rubbish then.
pub fn write_image<W: Write + Seek>(
    tree: &Tree,
    options: &Options,
    out: W,
) -> Result<Stats, ErofsError> {
    let mut out = BlockWriter::new(out);
    // The superblock comes last, when everything it tells is known.
    out.write_padded(&[0; BLOCK])?;
    let order = order(tree);
    let mut items = Vec::with_capacity(order.len());
    let mut encoder = Encoder::new(options.uncompressed);
    let mut stats = Stats::default();
    for (id, parent) in &order {
        let Some(node) = tree.get(*id) else { continue };
        let xattrs = xattrs::encode(&node.meta.xattrs)?;
        let layout = match &node.kind {
            Kind::File(content) => {
                stats.content = stats.content.saturating_add(content.len());
                encoder.write(content, xattrs.len(), &mut out)?
            }
            Kind::Symlink(target) => {
                let content = Content::Bytes(target.as_slice().into());
                Layout::flat(&content, xattrs.len(), &mut out)?
            }
            _ => Layout::None,
        };
        items.push(Item { id: *id, parent: *parent, node, xattrs, layout, size: 0, offset: 0 });
    }
    // Only the names matter to a directory's size, so its blocks can be reserved before it is
    // known where the inodes lie that it points to.
    let mut next = out.blocks();
    for item in &mut items {
        if let Kind::Dir(_) = item.node.kind {
            let shape = dirs::Shape::of(tree, item.id, item.parent);
            item.size = shape.size();
            item.layout = shape.layout(item.xattrs.len(), &mut next)?;
        }
    }
    let mut place = place::Placer::new();
    for item in &mut items {
        item.offset = place.place(item.length());
    }
    let mut nids = vec![0u64; tree.len()];
    for item in &items {
        if let Some(nid) = nids.get_mut(item.id.index()) {
            *nid = item.offset / format::SLOT;
        }
    }
    for item in &items {
        if let Kind::Dir(_) = item.node.kind {
            let shape = dirs::Shape::of(tree, item.id, item.parent);
            for block in shape.blocks(item.layout.tail_len() > 0) {
                out.write_padded(&shape.encode(block, tree, &nids))?;
            }
        }
    }
    let meta = out.blocks();
    let root = items.first().map_or(0, |item| item.offset / format::SLOT);
    stats.inodes = items.len() as u64;
    write_inodes(tree, &nids, &mut items, &mut out)?;
    stats.size = u64::from(out.blocks()).saturating_mul(BLOCK as u64);
    let superblock = format::superblock(&format::Super {
        root: u16::try_from(root).unwrap_or_default(),
        inodes: stats.inodes,
        blocks: out.blocks(),
        meta,
        uuid: options.uuid,
        name: options.name,
        largest: encoder.largest(),
    });
    let mut out = out.finish()?;
    out.seek(SeekFrom::Start(0)).map_err(ErofsError::Write)?;
    out.write_all(&superblock).map_err(ErofsError::Write)?;
    out.flush().map_err(ErofsError::Write)?;
    Ok(stats)
}

/// The volume name and the size in bytes of an EROFS image, by its superblock; `None` if there is
/// none.
pub fn identify(image: &mut impl std::io::Read) -> Option<([u8; 16], u64)> {
    let mut block = vec![0; BLOCK];
    image.read_exact(&mut block).ok()?;
    let (name, blocks) = format::identify(&block)?;
    Some((name, u64::from(blocks).saturating_mul(BLOCK as u64)))
}

/// An inode with all that is stored beside it.
struct Item<'a> {
    id: NodeId,
    parent: NodeId,
    node: &'a Node,
    xattrs: Vec<u8>,
    layout: Layout,
    /// Of a directory; other nodes know their own.
    size: u64,
    /// From the start of the inodes.
    offset: u64,
}

impl Item<'_> {
    /// Bytes from the inode's start to the end of what belongs to it.
    fn length(&self) -> u64 {
        self.layout.length(self.xattrs.len())
    }
}

/// All nodes once, directories before what is in them, each with the directory it was found in.
/// What lies together in a directory lies together here.
fn order(tree: &Tree) -> Vec<(NodeId, NodeId)> {
    let mut order = vec![(Tree::ROOT, Tree::ROOT)];
    let mut seen = BTreeSet::from([Tree::ROOT]);
    let mut done = 0;
    while let Some((id, _)) = order.get(done).copied() {
        done += 1;
        for (_, child) in tree.entries(id) {
            if seen.insert(child) {
                order.push((child, id));
            }
        }
    }
    order
}

fn write_inodes<W: Write>(
    tree: &Tree,
    nids: &[u64],
    items: &mut [Item<'_>],
    out: &mut BlockWriter<W>,
) -> Result<(), ErofsError> {
    let numbers: Vec<u32> = (1..=u32::MAX).take(items.len()).collect();
    let mut by_offset: Vec<(&Item<'_>, u32)> = items.iter().zip(numbers).collect();
    by_offset.sort_by_key(|(item, _)| item.offset);
    let mut written = 0u64;
    for (item, number) in by_offset {
        let mut bytes = Inode::of(tree, item.id, item.node, number)
            .encode(&item.layout, item.size, item.xattrs.len())
            .to_vec();
        bytes.extend_from_slice(&item.xattrs);
        match &item.node.kind {
            Kind::File(content) => item.layout.append(content, &mut bytes)?,
            Kind::Symlink(target) => {
                let content = Content::Bytes(target.as_slice().into());
                item.layout.append(&content, &mut bytes)?;
            }
            Kind::Dir(_) if item.layout.tail_len() > 0 => {
                let shape = dirs::Shape::of(tree, item.id, item.parent);
                if let Some(last) = shape.last() {
                    bytes.extend_from_slice(&shape.encode(last, tree, nids));
                }
            }
            _ => {}
        }
        out.fill(item.offset.saturating_sub(written))?;
        out.write(&bytes)?;
        written = item.offset.saturating_add(bytes.len() as u64);
    }
    out.pad()
}
