//! Where inodes go: tightly, and none across the end of a block that need not be.

use super::format::{BLOCK, SLOT};
use std::collections::BTreeMap;

/// Places inodes (with what is stored beside them) in blocks, each in the fullest block where it
/// fits. Same sequence, same places.
pub(super) struct Placer {
    /// Free bytes at the end of a block → blocks with so many.
    holes: BTreeMap<u64, Vec<u64>>,
    blocks: u64,
}

impl Placer {
    /// The first slot stays empty: an inode with the number 0 would be skipped by readdir(3).
    pub fn new() -> Placer {
        Placer { holes: BTreeMap::from([(BLOCK as u64 - SLOT, vec![0])]), blocks: 1 }
    }

    /// Takes `length` bytes and gives their offset, a multiple of [`SLOT`]. What fits in a block
    /// lies in one.
    pub fn place(&mut self, length: u64) -> u64 {
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
        // Nothing is smaller than an inode of two slots.
        if free >= 2 * SLOT {
            self.holes.entry(free).or_default().push(number);
        }
    }
}
