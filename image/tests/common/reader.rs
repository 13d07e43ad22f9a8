//! A reader of EROFS images that shares no code with the writer: it follows the format description
//! (fs/erofs/erofs_fs.h) and makes no assumption about the writer.

use std::collections::BTreeMap;

const BLOCK: usize = 4096;

/// Everything that the format stores about one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub nid: u64,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub links: u32,
    pub device: u32,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Content of a file, target of a link, empty for others.
    pub content: Vec<u8>,
}

pub struct Reader<'a> {
    image: &'a [u8],
    meta: usize,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// All entries of an image by path; the path of the root is empty.
pub fn read(image: &[u8]) -> BTreeMap<Vec<u8>, Entry> {
    let sb = &image[1024..];
    assert_eq!(u32_at(sb, 0), 0xE0F5_E1E2, "magic");
    assert_eq!(sb[12], 12, "block size");
    assert_eq!(image.len(), u32_at(sb, 36) as usize * BLOCK, "size");
    let reader = Reader { image, meta: u32_at(sb, 40) as usize * BLOCK };
    let root = u64::from(u16_at(sb, 14));
    let mut found = BTreeMap::new();
    let mut waiting = vec![(Vec::new(), root, root)];
    while let Some((path, nid, parent)) = waiting.pop() {
        let entry = reader.inode(nid);
        if entry.mode & 0o170000 == 0o040000 {
            let names = reader.dir(&entry.content);
            assert!(names.is_sorted_by(|a, b| a.0 < b.0), "names in order");
            for (name, child, _) in names {
                match name.as_slice() {
                    b"." => assert_eq!(child, nid),
                    b".." => assert_eq!(child, parent),
                    _ => {
                        let path = if path.is_empty() {
                            name
                        } else {
                            [path.as_slice(), b"/", &name].concat()
                        };
                        waiting.push((path, child, nid));
                    }
                }
            }
        }
        found.insert(path, entry);
    }
    for entry in found.values_mut().filter(|entry| entry.mode & 0o170000 == 0o040000) {
        entry.content.clear();
    }
    let inodes: std::collections::BTreeSet<u64> = found.values().map(|entry| entry.nid).collect();
    assert_eq!(u64_at(sb, 16), inodes.len() as u64, "number of inodes");
    found
}

impl Reader<'_> {
    fn dir(&self, content: &[u8]) -> Vec<(Vec<u8>, u64, u8)> {
        let mut names = Vec::new();
        for block in content.chunks(BLOCK) {
            let count = u16_at(block, 8) as usize / 12;
            for number in 0..count {
                let at = number * 12;
                let start = u16_at(block, at + 8) as usize;
                let end = match number + 1 < count {
                    true => u16_at(block, at + 12 + 8) as usize,
                    false => block.len(),
                };
                let name = &block[start..end];
                let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                names.push((name[..end].to_vec(), u64_at(block, at), block[at + 10]));
            }
        }
        names
    }

    fn inode(&self, nid: u64) -> Entry {
        let at = self.meta + nid as usize * 32;
        let inode = &self.image[at..];
        let format = u16_at(inode, 0);
        assert_eq!(format & 1, 1, "extended form");
        let mode = u16_at(inode, 4);
        let size = u64_at(inode, 8) as usize;
        let union = u32_at(inode, 16);
        let xattr_units = u16_at(inode, 2) as usize;
        let xattr_len = if xattr_units == 0 { 0 } else { 12 + 4 * (xattr_units - 1) };
        let behind = at + 64 + xattr_len;
        let has_content = matches!(mode & 0o170000, 0o100000 | 0o040000 | 0o120000);
        let content = match (has_content, format >> 1 & 7) {
            (false, _) => Vec::new(),
            (true, 0) if size == 0 => Vec::new(),
            (true, 0) => {
                let start = union as usize * BLOCK;
                self.image[start..start + size].to_vec()
            }
            (true, 2) => {
                let tail = size % BLOCK;
                let full = size - tail;
                assert!(behind / BLOCK == (behind + tail - 1) / BLOCK, "tail crosses a block");
                let mut content = Vec::new();
                if full > 0 {
                    let start = union as usize * BLOCK;
                    content.extend(&self.image[start..start + full]);
                }
                content.extend(&self.image[behind..behind + tail]);
                content
            }
            (true, 1) => self.compressed(behind, size),
            (true, other) => panic!("unexpected layout {other}"),
        };
        Entry {
            nid,
            mode,
            uid: u32_at(inode, 24),
            gid: u32_at(inode, 28),
            mtime: (u64_at(inode, 32) as i64, u32_at(inode, 40)),
            links: u32_at(inode, 44),
            device: if has_content { 0 } else { union },
            xattrs: self.xattrs(at + 64, xattr_len),
            content,
        }
    }

    fn xattrs(&self, at: usize, length: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut at_entry = at + 12;
        while at_entry < at + length {
            let entry = &self.image[at_entry..];
            let (name_len, value_len) = (entry[0] as usize, u16_at(entry, 2) as usize);
            let prefix: &[u8] = match entry[1] {
                1 => b"user.",
                4 => b"trusted.",
                6 => b"security.",
                other => panic!("prefix {other}"),
            };
            let name = [prefix, &entry[4..4 + name_len]].concat();
            found.insert(name, entry[4 + name_len..4 + name_len + value_len].to_vec());
            at_entry += (4 + name_len + value_len).next_multiple_of(4);
        }
        found
    }

    /// Reads extents from the index of each block: a head begins one, the next head or the end ends it.
    fn compressed(&self, behind: usize, size: usize) -> Vec<u8> {
        let header = behind.next_multiple_of(8);
        let advise = u16_at(self.image, header + 4);
        assert_eq!(advise & !0xa, 0, "known advice");
        assert_eq!(u16_at(self.image, header + 6), 0, "LZ4, 4 KiB");
        let count = size.div_ceil(BLOCK);
        let indexes = header + 16;
        let index = |number: usize| &self.image[indexes + number * 8..];
        let heads: Vec<usize> = (0..count).filter(|at| u16_at(index(*at), 0) != 2).collect();
        let mut content = Vec::new();
        for (number, head) in heads.iter().enumerate() {
            let next = heads.get(number + 1).copied().unwrap_or(count);
            let length = (next * BLOCK).min(size) - head * BLOCK;
            let start = u32_at(index(*head), 4) as usize * BLOCK;
            if u16_at(index(*head), 0) == 0 {
                assert_eq!(next, head + 1, "plain blocks stand alone");
                content.extend(&self.image[start..start + length]);
                continue;
            }
            for at in head + 1..next {
                let back = u16_at(index(at), 4);
                let back = if at == head + 1 { back >> 11 } else { back };
                assert_eq!(back as usize, at - head, "distance back");
                assert_eq!(u16_at(index(at), 6) as usize, next - at, "distance on");
            }
            let inline = advise & 8 != 0 && next == count;
            let packed = match inline {
                true => {
                    let length = u16_at(self.image, header + 2) as usize;
                    let at = indexes + count * 8;
                    assert_eq!(at / BLOCK, (at + length - 1) / BLOCK, "crosses a block");
                    &self.image[at..at + length]
                }
                false => {
                    let blocks = u16_at(index(head + 1), 4) as usize & 0x7ff;
                    let all = &self.image[start..start + blocks * BLOCK];
                    let zeros = all.iter().take_while(|byte| **byte == 0).count();
                    assert!(zeros < BLOCK, "more padding than a block");
                    &all[zeros..]
                }
            };
            let piece = lz4_flex::block::decompress(packed, length).unwrap();
            assert_eq!(piece.len(), length);
            content.extend(piece);
        }
        content
    }
}
