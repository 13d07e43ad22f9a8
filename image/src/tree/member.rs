//! Reads the members of a tar stream in order (POSIX.1-2001 ustar and pax, and GNU long names).
//!
//! The `tar` crate parses the fields of each 512-byte header; this module iterates over the headers.
//! Readers that disagree about a size see different members (CVE-2025-62518), so there is exactly one
//! rule for each field, the size of extended headers is checked before they are read, and everything
//! unusual is an error.

use super::pax::Pax;
use super::{LayerError, Region, Time};
use std::collections::BTreeMap;

const BLOCK: u64 = 512;
/// Largest extended header in bytes, far more than extended attributes need: the kernel's limit is 64 KiB
/// for all attributes of a file (xattr(7)).
const MAX_PAX: u64 = 1 << 20;
/// Largest GNU long name in bytes: PATH_MAX and a NUL.
const MAX_LONG_NAME: u64 = 4096 + 1;

/// The type of a member, from its type flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    File,
    HardLink,
    Symlink,
    Char,
    Block,
    Dir,
    Fifo,
}

/// One member with the fields of its headers.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub name: Vec<u8>,
    pub kind: Type,
    /// Target of a link.
    pub link: Vec<u8>,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub device: (u32, u32),
    /// Content of a file; empty for other types.
    pub content: Region,
    /// All extended attributes, as written.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Iterates over a tar stream.
#[derive(Debug)]
pub(crate) struct Members {
    stream: Region,
    next: u64,
}

/// Extended headers of the following member.
#[derive(Default)]
struct Extended {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Members {
    pub fn new(stream: Region) -> Members {
        Members { stream, next: 0 }
    }

    /// The next member, or `None` at the end (two blocks of zeros, or the end of the stream).
    pub fn next(&mut self) -> Result<Option<Member>, LayerError> {
        let mut extended = Extended::default();
        loop {
            let offset = self.next;
            let invalid = |reason: String| LayerError::Tar { offset, reason };
            let Some(header) = self.header()? else {
                let dangling = extended.pax.is_some() || extended.name.is_some();
                return match dangling || extended.link.is_some() {
                    true => Err(invalid("an extended header without a member".into())),
                    false => Ok(None),
                };
            };
            let flag = header.entry_type().as_byte();
            let duplicate = || invalid("duplicate extended header for one member".into());
            match flag {
                b'x' => {
                    let bytes = self.content(&header, offset, MAX_PAX)?;
                    let pax = Pax::parse(&bytes).map_err(invalid)?;
                    if extended.pax.replace(pax).is_some() {
                        return Err(duplicate());
                    }
                }
                b'g' => {
                    let bytes = self.content(&header, offset, MAX_PAX)?;
                    if !Pax::parse(&bytes).map_err(invalid)?.is_empty() {
                        let reason = "a global PAX header that changes members is not supported";
                        return Err(invalid(reason.into()));
                    }
                }
                b'L' | b'K' => {
                    let mut bytes = self.content(&header, offset, MAX_LONG_NAME)?;
                    let end = bytes.iter().position(|byte| *byte == 0);
                    bytes.truncate(end.unwrap_or(bytes.len()));
                    let field = if flag == b'L' { &mut extended.name } else { &mut extended.link };
                    if field.replace(bytes).is_some() {
                        return Err(duplicate());
                    }
                }
                _ => return self.member(&header, offset, extended).map(Some),
            }
        }
    }

    /// Reads the header at `next`, checks its checksum and advances past it.
    fn header(&mut self) -> Result<Option<tar::Header>, LayerError> {
        let mut header = tar::Header::new_old();
        let offset = self.next;
        let invalid = |reason: &str| LayerError::Tar { offset, reason: reason.to_string() };
        if self.next >= self.stream.len() {
            return Ok(None);
        }
        self.stream
            .read_exact_at(header.as_mut_bytes(), self.next)
            .map_err(|source| truncated_or_io(source, offset))?;
        self.next = self.next.saturating_add(BLOCK);
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            // A single zero block in the middle would end the archive for some readers only.
            let mut second = [0u8; BLOCK as usize];
            let more = self.next < self.stream.len();
            if more
                && self.stream.read_exact_at(&mut second, self.next).is_ok()
                && second.iter().any(|byte| *byte != 0)
            {
                return Err(invalid("a zero block between members"));
            }
            self.next = self.stream.len();
            return Ok(None);
        }
        let sum: u32 = header.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
        let field: u32 = header.as_old().cksum.iter().map(|byte| u32::from(*byte)).sum();
        // The checksum counts its own field as eight spaces.
        let sum = sum.saturating_sub(field).saturating_add(8 * u32::from(b' '));
        match header.cksum() {
            Ok(stated) if stated == sum => Ok(Some(header)),
            _ => Err(invalid("not a tar header (wrong checksum)")),
        }
    }

    /// Advances past `size` bytes of content and their padding, and returns the content.
    fn skip(&mut self, offset: u64, size: u64) -> Result<Region, LayerError> {
        let cut = || truncated_or_io(std::io::ErrorKind::UnexpectedEof.into(), offset);
        let content = self.stream.slice(self.next, size).ok_or_else(cut)?;
        let padded = size.checked_next_multiple_of(BLOCK).ok_or_else(cut)?;
        self.next = self.next.checked_add(padded).ok_or_else(cut)?;
        Ok(content)
    }

    /// The content of an extended header.
    fn content(
        &mut self,
        header: &tar::Header,
        offset: u64,
        limit: u64,
    ) -> Result<Vec<u8>, LayerError> {
        let invalid = |reason: String| LayerError::Tar { offset, reason };
        let size = header.entry_size().map_err(|_| invalid("invalid size field".into()))?;
        if size > limit {
            return Err(invalid(format!("the extended header has {size} bytes (at most {limit})")));
        }
        let content = self.skip(offset, size)?;
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        content.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn member(
        &mut self,
        header: &tar::Header,
        offset: u64,
        extended: Extended,
    ) -> Result<Member, LayerError> {
        let pax = extended.pax.unwrap_or_default();
        let name = pax.path.or(extended.name);
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let invalid = |reason: String| LayerError::entry(&name, reason);
        let kind = match header.entry_type().as_byte() {
            // Before POSIX a directory was a file with a name that ends in a slash.
            b'0' | 0 | b'7' if name.ends_with(b"/") => Type::Dir,
            b'0' | 0 | b'7' => Type::File,
            b'1' => Type::HardLink,
            b'2' => Type::Symlink,
            b'3' => Type::Char,
            b'4' => Type::Block,
            b'5' => Type::Dir,
            b'6' => Type::Fifo,
            b'S' => return Err(invalid("sparse files are not supported".into())),
            flag => {
                return Err(invalid(format!("unknown member type '{}'", flag.escape_ascii())));
            }
        };
        let number = |field: &str, value: std::io::Result<u64>| {
            value.map_err(|_| LayerError::entry(&name, format!("invalid {field} field")))
        };
        let id = |field: &str, value: u64| match u32::try_from(value) {
            // (uid_t)-1 means "unchanged" to chown(2), so no file can have this owner.
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(LayerError::entry(&name, format!("{field} {value} is out of range"))),
        };
        let size = match pax.size {
            Some(size) => size,
            None => number("size", header.entry_size())?,
        };
        if kind != Type::File && size != 0 {
            return Err(invalid(format!("not a regular file, but has {size} bytes of content")));
        }
        let uid = match pax.uid {
            Some(uid) => uid,
            None => number("uid", header.uid())?,
        };
        let gid = match pax.gid {
            Some(gid) => gid,
            None => number("gid", header.gid())?,
        };
        let seconds = || number("mtime", header.mtime()).map(u64::cast_signed);
        let mtime = match pax.mtime {
            Some(time) => time,
            None => Time { seconds: seconds()?, nanos: 0 },
        };
        let mode = number("mode", header.mode().map(u64::from))?;
        let device = match kind {
            Type::Char | Type::Block => {
                let part = |value: std::io::Result<Option<u32>>| {
                    value.ok().flatten().ok_or_else(|| invalid("invalid device number".into()))
                };
                (part(header.device_major())?, part(header.device_minor())?)
            }
            _ => (0, 0),
        };
        let link = pax.linkpath.or(extended.link);
        let link = link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let (uid, gid) = (id("uid", uid)?, id("gid", gid)?);
        let content = self.skip(offset, size)?;
        Ok(Member {
            kind,
            link: link.unwrap_or_default(),
            mode: u16::try_from(mode & 0o7777).unwrap_or_default(),
            uid,
            gid,
            mtime,
            device,
            content,
            xattrs: pax.xattrs,
            name,
        })
    }
}

fn truncated_or_io(source: std::io::Error, offset: u64) -> LayerError {
    match source.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            LayerError::Tar { offset, reason: "the archive is truncated".to_string() }
        }
        _ => LayerError::Io(source),
    }
}
