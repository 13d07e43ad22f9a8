//! Tar archives, including invalid ones: every field can be set.

/// Builds an archive member by member.
#[derive(Default, Clone)]
pub struct Tarball {
    bytes: Vec<u8>,
}

/// The fields of a header.
#[derive(Clone)]
pub struct Header<'a> {
    pub name: &'a [u8],
    pub flag: u8,
    pub link: &'a [u8],
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub device: (u32, u32),
    pub content: &'a [u8],
    /// Declared size instead of the length of the content.
    pub size: Option<u64>,
}

impl Default for Header<'_> {
    fn default() -> Self {
        Header {
            name: b"x",
            flag: b'0',
            link: b"",
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            device: (0, 0),
            content: b"",
            size: None,
        }
    }
}

impl Tarball {
    pub fn new() -> Tarball {
        Tarball::default()
    }

    pub fn member(mut self, header: &Header<'_>) -> Tarball {
        let mut block = [0u8; 512];
        let octal = |block: &mut [u8], at: usize, width: usize, value: u64| {
            let text = format!("{value:0width$o}", width = width - 1);
            block[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        block[..header.name.len().min(100)]
            .copy_from_slice(&header.name[..header.name.len().min(100)]);
        octal(&mut block, 100, 8, u64::from(header.mode));
        octal(&mut block, 108, 8, header.uid);
        octal(&mut block, 116, 8, header.gid);
        octal(&mut block, 124, 12, header.size.unwrap_or(header.content.len() as u64));
        octal(&mut block, 136, 12, header.mtime);
        block[156] = header.flag;
        block[157..157 + header.link.len()].copy_from_slice(header.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut block, 329, 8, u64::from(header.device.0));
        octal(&mut block, 337, 8, u64::from(header.device.1));
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend(block);
        self.bytes.extend(header.content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, content: &[u8]) -> Tarball {
        self.member(&Header { name: name.as_bytes(), content, ..Header::default() })
    }

    pub fn dir(self, name: &str, mode: u32) -> Tarball {
        self.member(&Header { name: name.as_bytes(), flag: b'5', mode, ..Header::default() })
    }

    pub fn symlink(self, name: &str, target: &str) -> Tarball {
        let (name, link) = (name.as_bytes(), target.as_bytes());
        self.member(&Header { name, flag: b'2', link, mode: 0o777, ..Header::default() })
    }

    pub fn hard_link(self, name: &str, target: &str) -> Tarball {
        let (name, link) = (name.as_bytes(), target.as_bytes());
        self.member(&Header { name, flag: b'1', link, ..Header::default() })
    }

    /// An extended header for the next member.
    pub fn pax(self, records: &[(&[u8], &[u8])]) -> Tarball {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            content.extend(format!("{length} ").bytes());
            content.extend([*key, b"=", *value, b"\n"].concat());
        }
        self.member(&Header { name: b"pax", flag: b'x', content: &content, ..Header::default() })
    }

    pub fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}
