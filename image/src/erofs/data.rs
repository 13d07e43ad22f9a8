//! File content: uncompressed, or in compressed clusters with a map of their positions.

use super::ErofsError;
use super::format::{BLOCK, INODE};
use crate::tree::Content;
use std::io::{BufWriter, Write};

/// Size of the content that is compressed together ("physical cluster"). Larger clusters compress better
/// and waste less of their last block, but reading one page costs a whole cluster. LZ4 looks back 64 KiB
/// at most.
const CLUSTER: usize = 64 << 10;

/// `struct z_erofs_map_header` and the 8 reserved bytes after it.
const MAP_HEADER: usize = 16;
/// `struct z_erofs_lcluster_index`, one for each block of uncompressed content.
const INDEX: usize = 8;
const TYPE_PLAIN: u16 = 0;
const TYPE_HEAD: u16 = 1;
const TYPE_NONHEAD: u16 = 2;
/// Flag in the first index after a head: the other bits are the number of compressed blocks.
const BLOCK_COUNT: u16 = 1 << 11;
const ADVISE_BIG_PCLUSTER: u16 = 0x2;
const ADVISE_INLINE_PCLUSTER: u16 = 0x8;

/// How an inode's content is stored.
pub(super) enum Layout {
    /// No content.
    None,
    /// Whole blocks from `first` on, and the last `tail` bytes after the inode.
    Flat { first: u32, full: u32, tail: usize },
    /// A map after the inode with one index for each block of content. If `last` is not empty, it is the
    /// last cluster, stored after the map.
    Compressed { map: Vec<u8>, blocks: u32, last: Vec<u8> },
}

impl Layout {
    /// Stores content uncompressed.
    pub fn flat<W: Write>(
        content: &Content,
        xattrs: usize,
        out: &mut BlockWriter<W>,
    ) -> Result<Layout, ErofsError> {
        let first = out.blocks();
        let size = usize::try_from(content.len()).unwrap_or(CLUSTER).min(CLUSTER);
        let mut buffer = vec![0; size];
        let mut offset = 0u64;
        loop {
            let chunk = read_chunk(content, offset, &mut buffer)?;
            offset = offset.saturating_add(chunk.len() as u64);
            if offset == content.len() {
                return flat_end(chunk, xattrs, first, out);
            }
            out.write_padded(chunk)?;
        }
    }

    /// Length from the start of the inode to the end of what is stored after it.
    pub fn length(&self, xattrs: usize) -> u64 {
        let length = match self {
            Layout::None => INODE + xattrs,
            Layout::Flat { tail, .. } => INODE + xattrs + tail,
            Layout::Compressed { map, last, .. } => map_at(xattrs) + map.len() + last.len(),
        };
        length as u64
    }

    /// Length of the uncompressed content after the inode.
    pub fn tail_len(&self) -> usize {
        match self {
            Layout::Flat { tail, .. } => *tail,
            _ => 0,
        }
    }

    /// Appends what is stored after the inode and its attributes.
    pub fn append(&self, content: &Content, bytes: &mut Vec<u8>) -> Result<(), ErofsError> {
        match self {
            Layout::None => {}
            Layout::Flat { tail, .. } => {
                let mut end = vec![0; *tail];
                let at = content.len().saturating_sub(*tail as u64);
                content.read_exact_at(&mut end, at).map_err(ErofsError::Read)?;
                bytes.extend(end);
            }
            Layout::Compressed { map, last, .. } => {
                bytes.resize(bytes.len().next_multiple_of(8), 0);
                bytes.extend([0; 2]);
                let size = u16::try_from(last.len()).unwrap_or_default();
                bytes.extend(size.to_le_bytes());
                let inline = if last.is_empty() { 0 } else { ADVISE_INLINE_PCLUSTER };
                bytes.extend((ADVISE_BIG_PCLUSTER | inline).to_le_bytes());
                bytes.extend([0; 2]); // LZ4; an index for each block
                bytes.extend([0; 8]);
                bytes.extend(map);
                bytes.extend(last);
            }
        }
        Ok(())
    }
}

/// Offset of the map from the start of the inode.
fn map_at(xattrs: usize) -> usize {
    (INODE + xattrs).next_multiple_of(8) + MAP_HEADER
}

/// Ends flat content with its last chunk: the blocks before it have been written from `first` on.
fn flat_end<W: Write>(
    chunk: &[u8],
    xattrs: usize,
    first: u32,
    out: &mut BlockWriter<W>,
) -> Result<Layout, ErofsError> {
    let tail = chunk.len() % BLOCK;
    let tail = if INODE + xattrs + tail <= BLOCK { tail } else { 0 };
    let (blocks, _) = chunk.split_at(chunk.len().saturating_sub(tail));
    out.write_padded(blocks)?;
    Ok(Layout::Flat { first, full: out.blocks().saturating_sub(first), tail })
}

/// Reads the chunk at `offset`, which is shorter than the buffer only at the end.
fn read_chunk<'a>(
    content: &Content,
    offset: u64,
    buffer: &'a mut [u8],
) -> Result<&'a [u8], ErofsError> {
    let left = content.len().saturating_sub(offset);
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    let part = buffer.get_mut(..length).unwrap_or_default();
    content.read_exact_at(part, offset).map_err(ErofsError::Read)?;
    Ok(part)
}

/// Compresses file content where that saves blocks.
pub(super) struct Encoder {
    uncompressed: bool,
    largest: u16,
    raw: Vec<u8>,
    packed: Vec<u8>,
}

impl Encoder {
    pub fn new(uncompressed: bool) -> Encoder {
        let packed = vec![0; lz4_flex::block::get_maximum_output_size(CLUSTER)];
        Encoder { uncompressed, largest: 0, raw: vec![0; CLUSTER], packed }
    }

    /// Number of blocks of the largest compressed cluster so far; 0 if nothing was compressed.
    pub fn largest(&self) -> u16 {
        self.largest
    }

    /// Stores the content of a file whose extended attributes take `xattrs` bytes.
    pub fn write<W: Write>(
        &mut self,
        content: &Content,
        xattrs: usize,
        out: &mut BlockWriter<W>,
    ) -> Result<Layout, ErofsError> {
        if self.uncompressed || content.is_empty() {
            return Layout::flat(content, xattrs, out);
        }
        let first = out.blocks();
        let mut map = Map::default();
        let mut offset = 0u64;
        loop {
            let raw = read_chunk(content, offset, &mut self.raw)?;
            offset = offset.saturating_add(raw.len() as u64);
            let packed = match lz4_flex::block::compress_into(raw, &mut self.packed) {
                Ok(length) => self.packed.get(..length).unwrap_or(raw),
                Err(_) => raw,
            };
            let lclusters = raw.len().div_ceil(BLOCK);
            let blocks = packed.len().div_ceil(BLOCK);
            // Compression must save at least an eighth to be worth the decompression.
            let shrinks = blocks + (lclusters / 8).max(1) <= lclusters;
            if offset < content.len() {
                match shrinks {
                    true => map.compressed(lclusters, blocks, out.blocks()),
                    false => map.plain(lclusters, out.blocks()),
                }
                match shrinks {
                    true => out.write_padded_before(packed)?,
                    false => out.write_padded(raw)?,
                }
                self.largest = self.largest.max(if shrinks { clamp(blocks) } else { 0 });
                continue;
            }
            // The last cluster can also be stored after the inode. The smallest form is chosen.
            let inline_at = map_at(xattrs) + map.bytes.len() + lclusters * INDEX;
            let index = if map.any { 0 } else { inline_at - INODE - xattrs };
            let tail = raw.len() % BLOCK;
            let plain = match !map.any && INODE + xattrs + tail <= BLOCK {
                true => raw.len(),
                false => lclusters * BLOCK,
            };
            let inline = match inline_at + packed.len() <= BLOCK {
                true => index + packed.len(),
                false => usize::MAX,
            };
            let in_blocks = if shrinks { index + blocks * BLOCK } else { usize::MAX };
            let worth = plain - plain / 8;
            if inline <= in_blocks && inline <= worth {
                map.compressed(lclusters, 1, 0);
                self.largest = self.largest.max(1);
                let last = packed.to_vec();
                return Ok(map.finish(out.blocks() - first, last));
            }
            if in_blocks <= worth {
                map.compressed(lclusters, blocks, out.blocks());
                self.largest = self.largest.max(clamp(blocks));
                out.write_padded_before(packed)?;
            } else if map.any {
                map.plain(lclusters, out.blocks());
                out.write_padded(raw)?;
            } else {
                return flat_end(raw, xattrs, first, out);
            }
            return Ok(map.finish(out.blocks() - first, Vec::new()));
        }
    }
}

fn clamp(blocks: usize) -> u16 {
    u16::try_from(blocks).unwrap_or(u16::MAX)
}

/// The index map of a compressed file.
#[derive(Default)]
struct Map {
    bytes: Vec<u8>,
    /// Whether any cluster is compressed.
    any: bool,
}

impl Map {
    fn push(&mut self, kind: u16, union: [u8; 4]) {
        self.bytes.extend(kind.to_le_bytes());
        // Clusters begin at block boundaries, so the offset in the block is always 0.
        self.bytes.extend([0; 2]);
        self.bytes.extend(union);
    }

    /// Adds consecutive blocks that are stored uncompressed.
    fn plain(&mut self, count: usize, first: u32) {
        for block in (first..).take(count) {
            self.push(TYPE_PLAIN, block.to_le_bytes());
        }
    }

    /// Adds `count` blocks of content that are stored in `blocks` compressed ones. Each index after the head
    /// contains the distances to its head and to the next one; the first of them contains the number of
    /// compressed blocks instead of the distance back.
    fn compressed(&mut self, count: usize, blocks: usize, first: u32) {
        self.any = true;
        self.push(TYPE_HEAD, first.to_le_bytes());
        for number in 1..count {
            let back = match number {
                1 => BLOCK_COUNT | clamp(blocks),
                _ => clamp(number),
            };
            let [a, b] = back.to_le_bytes();
            let [c, d] = clamp(count - number).to_le_bytes();
            self.push(TYPE_NONHEAD, [a, b, c, d]);
        }
    }

    fn finish(self, blocks: u32, last: Vec<u8>) -> Layout {
        Layout::Compressed { map: self.bytes, blocks: blocks + u32::from(!last.is_empty()), last }
    }
}

/// Writes sequentially and counts blocks.
pub(super) struct BlockWriter<W: Write> {
    out: BufWriter<W>,
    blocks: u32,
    /// Bytes in the current, incomplete block.
    open: usize,
}

impl<W: Write> BlockWriter<W> {
    pub fn new(out: W) -> BlockWriter<W> {
        BlockWriter { out: BufWriter::with_capacity(1 << 20, out), blocks: 0, open: 0 }
    }

    /// Blocks written so far; the next one has this number.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Writes bytes, padded with zeros to the end of a block.
    pub fn write_padded(&mut self, bytes: &[u8]) -> Result<(), ErofsError> {
        self.write(bytes)?;
        self.pad()
    }

    /// Writes bytes, padded with zeros before them so that they end with a block: LZ4 data is stored that
    /// way, so that the kernel can decompress it in place.
    pub fn write_padded_before(&mut self, bytes: &[u8]) -> Result<(), ErofsError> {
        self.fill((bytes.len().next_multiple_of(BLOCK) - bytes.len()) as u64)?;
        self.write(bytes)
    }

    /// Writes zeros.
    pub fn fill(&mut self, count: u64) -> Result<(), ErofsError> {
        let zeros = [0; BLOCK];
        let mut left = count;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            self.write(zeros.get(..part).unwrap_or_default())?;
            left -= part as u64;
        }
        Ok(())
    }

    /// Pads the current block with zeros, if it is incomplete.
    pub fn pad(&mut self) -> Result<(), ErofsError> {
        match self.open {
            0 => Ok(()),
            open => self.fill((BLOCK - open) as u64),
        }
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ErofsError> {
        self.out.write_all(bytes).map_err(ErofsError::Write)?;
        let all = self.open + bytes.len();
        let full = u32::try_from(all / BLOCK).map_err(|_| ErofsError::TooLarge)?;
        self.blocks = self.blocks.checked_add(full).ok_or(ErofsError::TooLarge)?;
        self.open = all % BLOCK;
        Ok(())
    }

    pub fn finish(mut self) -> Result<W, ErofsError> {
        self.pad()?;
        self.out.into_inner().map_err(|error| ErofsError::Write(error.into_error()))
    }
}
