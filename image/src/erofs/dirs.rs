//! Directories: blocks of entries, sorted by name across all blocks, with the names after the entries.

use super::ErofsError;
use super::data::Layout;
use super::format::{BLOCK, INODE};
use crate::tree::{Kind, NodeId, Tree};
use std::ops::Range;

/// `struct erofs_dirent`.
const ENTRY: usize = 12;

/// The entries of a directory, including `.` and `..`, and their distribution over blocks.
pub(super) struct DirBlocks<'a> {
    entries: Vec<(&'a [u8], NodeId)>,
    /// The entries in each block, and the bytes that they need.
    blocks: Vec<(Range<usize>, usize)>,
}

impl<'a> DirBlocks<'a> {
    pub fn of(tree: &'a Tree, id: NodeId, parent: NodeId) -> DirBlocks<'a> {
        let mut entries: Vec<(&[u8], NodeId)> = tree.entries(id).collect();
        entries.push((b".", id));
        entries.push((b"..", parent));
        // The kernel looks up names by binary search in byte order.
        entries.sort_unstable();
        let mut blocks: Vec<(Range<usize>, usize)> = Vec::new();
        for (number, (name, _)) in entries.iter().enumerate() {
            let needed = ENTRY + name.len();
            match blocks.last_mut() {
                Some((range, used)) if *used + needed <= BLOCK => {
                    range.end = number + 1;
                    *used += needed;
                }
                _ => blocks.push((number..number + 1, needed)),
            }
        }
        DirBlocks { entries, blocks }
    }

    /// `i_size`: all blocks except the last count as full.
    pub fn size(&self) -> u64 {
        let full = self.blocks.len().saturating_sub(1) * BLOCK;
        (full + self.blocks.last().map_or(0, |(_, used)| *used)) as u64
    }

    /// The last block is stored after the inode if it fits there; the others are reserved from `next` on.
    pub fn layout(&self, xattrs: usize, next: &mut u32) -> Result<Layout, ErofsError> {
        let last = self.blocks.last().map_or(0, |(_, used)| *used);
        let inline = INODE + xattrs + last <= BLOCK;
        let full = self.blocks.len() - usize::from(inline);
        let first = *next;
        let count = u32::try_from(full).map_err(|_| ErofsError::TooLarge)?;
        *next = next.checked_add(count).ok_or(ErofsError::TooLarge)?;
        Ok(Layout::Flat { first, full: count, tail: if inline { last } else { 0 } })
    }

    /// The blocks that are not stored after the inode.
    pub fn blocks(&self, inline: bool) -> impl Iterator<Item = &(Range<usize>, usize)> {
        self.blocks.iter().take(self.blocks.len() - usize::from(inline))
    }

    /// The last block.
    pub fn last(&self) -> Option<&(Range<usize>, usize)> {
        self.blocks.last()
    }

    /// The bytes of one block, without padding.
    pub fn encode(&self, block: &(Range<usize>, usize), tree: &Tree, nids: &[u64]) -> Vec<u8> {
        let entries = self.entries.get(block.0.clone()).unwrap_or_default();
        let mut bytes = Vec::with_capacity(block.1);
        let mut name_at = entries.len() * ENTRY;
        for (name, id) in entries {
            let nid = nids.get(id.index()).copied().unwrap_or_default();
            bytes.extend(nid.to_le_bytes());
            bytes.extend(u16::try_from(name_at).unwrap_or_default().to_le_bytes());
            bytes.push(tree.get(*id).map_or(0, |node| file_type(&node.kind)));
            bytes.push(0);
            name_at += name.len();
        }
        for (name, _) in entries {
            bytes.extend(*name);
        }
        bytes
    }
}

/// `FT_*` (linux/fs_types.h).
fn file_type(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Dir(_) => 2,
        Kind::Char { .. } => 3,
        Kind::Block { .. } => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}
