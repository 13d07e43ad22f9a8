//! Writes initramfs archives: cpio in the "newc" format
//! (kernel, Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The output depends only on the entries and their order: all owners are root, all times are zero, and
//! inode numbers are sequential.

use std::io::{self, Read, Write};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Writes an archive to `W`, entry by entry.
pub struct Cpio<W: Write> {
    out: W,
    written: u64,
    inode: u32,
}

impl<W: Write> Cpio<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Cpio<W> {
        Cpio { out, written: 0, inode: 0 }
    }

    /// Adds a directory; `path` has no leading slash. Its parents must have been added before.
    ///
    /// # Errors
    /// An error of the writer.
    pub fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.header(path, DIRECTORY | mode, 0, 2)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// An error of the writer.
    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.header(path, SYMLINK | 0o777, target.len() as u64, 1)?;
        self.bytes(target.as_bytes())?;
        self.pad()
    }

    /// Adds a regular file of exactly `size` bytes.
    ///
    /// # Errors
    /// An error of the writer or the reader, a reader that ends early, or a size that the format cannot
    /// represent (4 GiB or more).
    pub fn file(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        self.header(path, REGULAR | mode, size, 1)?;
        let copied = io::copy(&mut content.take(size), &mut self.out)?;
        self.written += copied;
        if copied != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{path}: expected {size} bytes, got {copied}"),
            ));
        }
        self.pad()
    }

    /// Ends the archive and returns the writer. The length is a multiple of 512.
    ///
    /// # Errors
    /// An error of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.header("TRAILER!!!", 0, 0, 1)?;
        let rest = self.written.next_multiple_of(512) - self.written;
        self.bytes(&vec![0; rest as usize])?;
        Ok(self.out)
    }

    fn header(&mut self, path: &str, mode: u32, size: u64, links: u32) -> io::Result<()> {
        let too_large = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{path}: too large for an initramfs"),
            )
        };
        let size = u32::try_from(size).map_err(|_| too_large())?;
        let name_size = u32::try_from(path.len() + 1).map_err(|_| too_large())?;
        self.inode += 1;
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08X}"));
        }
        self.bytes(header.as_bytes())?;
        self.bytes(path.as_bytes())?;
        self.bytes(&[0])?;
        self.pad()
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Pads a name or content to a multiple of four bytes.
    fn pad(&mut self) -> io::Result<()> {
        let rest = self.written.next_multiple_of(4) - self.written;
        self.bytes(&[0u8; 4][..rest as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads an archive back: name, mode, content.
    fn read(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut at = 0;
        let mut found = Vec::new();
        loop {
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[at + 6 + n * 8..at + 14 + n * 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap() as usize
            };
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (mode, size, name_size) = (field(1) as u32, field(6), field(11));
            let name =
                String::from_utf8(bytes[at + 110..at + 110 + name_size - 1].to_vec()).unwrap();
            let start = (at + 110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                return found;
            }
            found.push((name, mode, bytes[start..start + size].to_vec()));
            at = (start + size).next_multiple_of(4);
        }
    }

    proptest! {
        #[test]
        fn archives_round_trip(files in prop::collection::vec(("[a-z/]{1,40}", prop::collection::vec(any::<u8>(), 0..50)), 0..20)) {
            let mut cpio = Cpio::new(Vec::new());
            for (name, content) in &files {
                cpio.file(name, 0o644, content.len() as u64, &mut content.as_slice()).unwrap();
            }
            let bytes = cpio.finish().unwrap();
            prop_assert_eq!(bytes.len() % 512, 0);
            let expected: Vec<_> = files.into_iter().map(|(name, content)| (name, REGULAR | 0o644, content)).collect();
            prop_assert_eq!(read(&bytes), expected);
        }
    }

    #[test]
    fn a_file_that_ends_early_is_an_error() {
        let mut cpio = Cpio::new(Vec::new());
        assert!(cpio.file("x", 0o644, 5, &mut &b"abc"[..]).is_err());
    }
}
