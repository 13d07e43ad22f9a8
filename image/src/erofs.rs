//! Writes a tree as an EROFS image: the read-only file system as which layers are mounted.
//!
//! The format is that of the kernel (Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h): blocks of
//! 4 KiB; inodes of 64 bytes, each followed by its extended attributes, its block map if it is
//! compressed, and the end of its content if that fits in the same block. File content is compressed
//! with LZ4 in clusters of 64 KiB if that saves blocks. LZ4 is much cheaper to read than zstd, and every
//! kernel with `EROFS_FS_ZIP` supports it.
//!
//! The order in an image is: superblock, file content, directories, inodes. The output depends only on
//! the tree and the [`Options`]: it contains no time, no random number and no hash table order.

mod allocate;
mod data;
mod dirs;
mod format;
mod xattrs;

use crate::tree::{Content, Kind, Node, NodeId, Tree};
use data::{BlockWriter, Encoder, Layout};
use format::{BLOCK, Inode};
use std::collections::BTreeSet;
use std::io::{Seek, SeekFrom, Write};

/// Properties of an image besides its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The UUID of the volume. Overlayfs identifies its lower layers by it, so it should be unique.
    pub uuid: [u8; 16],
    /// The volume name, at most 15 bytes and a NUL.
    pub name: [u8; 16],
    /// Whether to store all content uncompressed.
    pub uncompressed: bool,
}

/// Statistics of a written image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Number of files of all kinds.
    pub inodes: u64,
    /// Content of all regular files in bytes.
    pub content: u64,
    /// Size of the image in bytes.
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
    /// The image would have more than 2^32 blocks (16 TiB).
    #[error("the file system image would be larger than 16 TiB")]
    TooLarge,
    /// The extended attributes of a file do not fit, or one has a prefix that EROFS does not support.
    #[error("cannot store the extended attribute {0}")]
    Xattr(String),
}

/// Writes the image of `tree` to `out`, from its start. `out` is not truncated.
///
/// # Errors
/// An [`ErofsError`]; the content of `out` is undefined then.
pub fn write_image<W: Write + Seek>(
    tree: &Tree,
    options: &Options,
    out: W,
) -> Result<Stats, ErofsError> {
    let mut out = BlockWriter::new(out);
    // The superblock is written last, when all its fields are known.
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
    // The size of a directory depends only on the names in it, so its blocks can be reserved before the
    // positions of the inodes are known.
    let mut next = out.blocks();
    for item in &mut items {
        if let Kind::Dir(_) = item.node.kind {
            let dir = dirs::DirBlocks::of(tree, item.id, item.parent);
            item.size = dir.size();
            item.layout = dir.layout(item.xattrs.len(), &mut next)?;
        }
    }
    let mut allocator = allocate::Allocator::new();
    for item in &mut items {
        item.offset = allocator.allocate(item.length());
    }
    let mut nids = vec![0u64; tree.len()];
    for item in &items {
        if let Some(nid) = nids.get_mut(item.id.index()) {
            *nid = item.offset / format::SLOT;
        }
    }
    for item in &items {
        if let Kind::Dir(_) = item.node.kind {
            let dir = dirs::DirBlocks::of(tree, item.id, item.parent);
            for block in dir.blocks(item.layout.tail_len() > 0) {
                out.write_padded(&dir.encode(block, tree, &nids))?;
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

/// The volume name and the size in bytes of an EROFS image, from its superblock; `None` if there is no
/// valid one.
pub fn identify(image: &mut impl std::io::Read) -> Option<([u8; 16], u64)> {
    let mut block = vec![0; BLOCK];
    image.read_exact(&mut block).ok()?;
    let (name, blocks) = format::identify(&block)?;
    Some((name, u64::from(blocks).saturating_mul(BLOCK as u64)))
}

/// An inode with everything that is stored with it.
struct Item<'a> {
    id: NodeId,
    parent: NodeId,
    node: &'a Node,
    xattrs: Vec<u8>,
    layout: Layout,
    /// Size of a directory; other nodes have their own.
    size: u64,
    /// Offset from the start of the inodes.
    offset: u64,
}

impl Item<'_> {
    /// Length of the inode and everything that is stored with it.
    fn length(&self) -> u64 {
        self.layout.length(self.xattrs.len())
    }
}

/// All nodes once, breadth-first, each with its parent directory. Entries of one directory are adjacent.
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
                let dir = dirs::DirBlocks::of(tree, item.id, item.parent);
                if let Some(last) = dir.last() {
                    bytes.extend_from_slice(&dir.encode(last, tree, nids));
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
