//! The on-disk structures (the kernel's fs/erofs/erofs_fs.h), all little endian.

use super::data::Layout;
use super::xattrs;
use crate::tree::{Kind, Node, NodeId, Tree};

/// Block size. The kernel accepts at most its page size, so this size can always be mounted.
pub(super) const BLOCK: usize = 4096;
/// Unit of inode numbers.
pub(super) const SLOT: u64 = 32;
/// Size of `struct erofs_inode_extended`: the form with 32-bit ids and a time.
pub(super) const INODE: usize = 64;

/// Offset of the superblock in its block.
const SUPER_AT: usize = 1024;
const MAGIC: u32 = 0xE0F5_E1E2;
const COMPAT_CHECKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;
const INCOMPAT_ZERO_PADDING: u32 = 0x1;
const INCOMPAT_COMPR_CFGS_AND_BIG_PCLUSTER: u32 = 0x2;
const INCOMPAT_ZTAILPACKING: u32 = 0x10;

/// `i_format`: bit 0 is the extended form, the bits above are the content layout.
const EXTENDED: u16 = 1;
const FLAT_PLAIN: u16 = 0;
const COMPRESSED_FULL: u16 = 1;
const FLAT_INLINE: u16 = 2;

/// The variable fields of the superblock.
pub(super) struct Super {
    pub root: u16,
    pub inodes: u64,
    pub blocks: u32,
    pub meta: u32,
    pub uuid: [u8; 16],
    pub name: [u8; 16],
    /// Number of blocks of the largest compressed cluster; 0: nothing is compressed.
    pub largest: u16,
}

/// The first block, with the superblock.
pub(super) fn superblock(about: &Super) -> Vec<u8> {
    let compressed = about.largest > 0;
    let incompat = match compressed {
        true => {
            INCOMPAT_ZERO_PADDING | INCOMPAT_COMPR_CFGS_AND_BIG_PCLUSTER | INCOMPAT_ZTAILPACKING
        }
        false => 0,
    };
    let mut bytes = vec![0; SUPER_AT];
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend([0; 4]); // checksum, below
    bytes.extend((COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
    bytes.push(12); // log2 of the block size
    bytes.push(0); // no extension slots
    bytes.extend(about.root.to_le_bytes());
    bytes.extend(about.inodes.to_le_bytes());
    bytes.extend([0; 12]); // build time: every inode has its own time
    bytes.extend(about.blocks.to_le_bytes());
    bytes.extend(about.meta.to_le_bytes());
    bytes.extend([0; 4]); // no shared attributes
    bytes.extend(about.uuid);
    bytes.extend(about.name);
    bytes.extend(incompat.to_le_bytes());
    bytes.extend(u16::from(compressed).to_le_bytes()); // algorithms: bit 0 is LZ4
    bytes.resize(SUPER_AT + 128, 0);
    if compressed {
        // struct z_erofs_lz4_cfgs, preceded by its length.
        bytes.extend(14u16.to_le_bytes());
        bytes.extend(u16::MAX.to_le_bytes()); // maximum match distance
        bytes.extend(about.largest.to_le_bytes());
    }
    bytes.resize(BLOCK, 0);
    let sum = crc32c(bytes.get(SUPER_AT..).unwrap_or_default());
    if let Some(field) = bytes.get_mut(SUPER_AT + 4..SUPER_AT + 8) {
        field.copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

/// Volume name and number of blocks of a superblock written by [`superblock`].
pub(super) fn identify(block: &[u8]) -> Option<([u8; 16], u32)> {
    let about = block.get(SUPER_AT..)?;
    let field = |at: usize| about.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let mut plain = about.to_vec();
    plain.get_mut(4..8)?.fill(0);
    if field(0)? != MAGIC || field(4)? != crc32c(&plain) {
        return None;
    }
    Some((about.get(64..80)?.try_into().ok()?, field(36)?))
}

/// CRC-32C without the final inversion, as the kernel's `crc32c()` computes it from `~0`.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 }
        })
    })
}

/// The fields of an inode.
pub(super) struct Inode<'a> {
    node: &'a Node,
    links: u32,
    number: u32,
}

impl<'a> Inode<'a> {
    pub fn of(tree: &Tree, id: NodeId, node: &'a Node, number: u32) -> Inode<'a> {
        let is_dir =
            |child: NodeId| tree.get(child).is_some_and(|node| matches!(node.kind, Kind::Dir(_)));
        let links = match node.kind {
            // Its ".", its name, and the ".." of each directory in it.
            Kind::Dir(_) => {
                let below = tree.entries(id).filter(|(_, child)| is_dir(*child)).count();
                u32::try_from(below).unwrap_or(u32::MAX).saturating_add(2)
            }
            _ => node.names,
        };
        Inode { node, links, number }
    }

    /// The 64 bytes of the inode. `dir_size` is the size of a directory.
    pub fn encode(&self, layout: &Layout, dir_size: u64, xattrs: usize) -> [u8; INODE] {
        let meta = &self.node.meta;
        let (kind, size, device) = match &self.node.kind {
            Kind::Dir(_) => (libc_mode::DIR, dir_size, 0),
            Kind::File(content) => (libc_mode::REG, content.len(), 0),
            Kind::Symlink(target) => (libc_mode::LNK, target.len() as u64, 0),
            Kind::Fifo => (libc_mode::FIFO, 0, 0),
            Kind::Socket => (libc_mode::SOCK, 0, 0),
            Kind::Char { major, minor } => (libc_mode::CHR, 0, device(*major, *minor)),
            Kind::Block { major, minor } => (libc_mode::BLK, 0, device(*major, *minor)),
        };
        let (stored, union) = match layout {
            Layout::None => (FLAT_PLAIN, device),
            Layout::Flat { first, full, tail } => {
                let stored = if *tail > 0 { FLAT_INLINE } else { FLAT_PLAIN };
                (stored, if *full > 0 { *first } else { u32::MAX })
            }
            Layout::Compressed { blocks, .. } => (COMPRESSED_FULL, *blocks),
        };
        let mut bytes = Vec::with_capacity(INODE);
        bytes.extend((EXTENDED | stored << 1).to_le_bytes());
        bytes.extend(xattrs::count(xattrs).unwrap_or_default().to_le_bytes());
        bytes.extend((kind | meta.mode & 0o7777).to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(size.to_le_bytes());
        bytes.extend(union.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(meta.uid.to_le_bytes());
        bytes.extend(meta.gid.to_le_bytes());
        bytes.extend(meta.mtime.seconds.to_le_bytes());
        bytes.extend(meta.mtime.nanos.to_le_bytes());
        bytes.extend(self.links.to_le_bytes());
        let mut inode = [0; INODE];
        for (to, from) in inode.iter_mut().zip(bytes) {
            *to = from;
        }
        inode
    }
}

/// `new_encode_dev()` (linux/kdev_t.h): 12 bits of major, 20 of minor.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)
}

/// File types in a mode (inode(7)).
mod libc_mode {
    pub const FIFO: u16 = 0o010000;
    pub const CHR: u16 = 0o020000;
    pub const DIR: u16 = 0o040000;
    pub const BLK: u16 = 0o060000;
    pub const REG: u16 = 0o100000;
    pub const LNK: u16 = 0o120000;
    pub const SOCK: u16 = 0o140000;
}
