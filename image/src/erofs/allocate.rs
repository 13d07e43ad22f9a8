//! Allocates inodes: densely, and across a block boundary only if they do not fit in one block.

use super::format::{BLOCK, SLOT};
use std::collections::BTreeMap;

/// Allocates inodes (with what is stored with them) in blocks, each in the fullest block where it fits.
/// The result depends only on the sequence of lengths.
pub(super) struct Allocator {
    /// Free bytes at the end of a block → blocks with that many.
    holes: BTreeMap<u64, Vec<u64>>,
    blocks: u64,
}

impl Allocator {
    /// The first slot stays empty: an inode with the number 0 would be skipped by readdir(3).
    pub fn new() -> Allocator {
        Allocator { holes: BTreeMap::from([(BLOCK as u64 - SLOT, vec![0])]), blocks: 1 }
    }

    /// Allocates `length` bytes and returns their offset, a multiple of [`SLOT`]. A length that fits in a
    /// block is not split.
    pub fn allocate(&mut self, length: u64) -> u64 {
        let block = BLOCK as u64;
        let length = length.next_multiple_of(SLOT);
        let hole = match length <= block {
            true => self.holes.range(length..).next().map(|(free, _)| *free),
            false => None,
        };
        if let Some(free) = hole
            && let Some(number) = self.take(free)
        {
            self.keep(number, free.saturating_sub(length));
            return number * block + (block - free);
        }
        let first = self.blocks;
        let used = length.div_ceil(block);
        self.blocks = self.blocks.saturating_add(used);
        self.keep(self.blocks.saturating_sub(1), used * block - length);
        first * block
    }

    fn take(&mut self, free: u64) -> Option<u64> {
        let numbers = self.holes.get_mut(&free)?;
        let number = numbers.pop();
        if numbers.is_empty() {
            self.holes.remove(&free);
        }
        number
    }

    fn keep(&mut self, number: u64, free: u64) {
        // The smallest inode takes two slots.
        if free >= 2 * SLOT {
            self.holes.entry(free).or_default().push(number);
        }
    }
}
