//! The files of an image by name, in a directory or a tar archive.

use super::Problem;
use crate::tree::Region;
use crate::tree::member::{Members, Type};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest JSON document in bytes: registries reject manifests over 4 MiB, and real ones have a few KiB.
const MAX_DOCUMENT: u64 = 4 << 20;
/// Largest config in bytes. Much larger than a valid one, so that a config with a too large value is read
/// and the error can name the value.
const MAX_CONFIG: u64 = 32 << 20;
/// Maximum number of members of an archive: a few per layer, and there are at most 128 layers.
const MAX_MEMBERS: usize = 20_000;
/// Maximum length of a chain of symbolic links in an archive, as in the kernel.
const MAX_LINKS: usize = 40;

/// The files of an image.
pub(super) enum Store {
    /// A directory.
    Dir(File),
    /// An archive and its members.
    Archive(BTreeMap<String, Entry>),
}

pub(super) enum Entry {
    File(Region),
    /// Old versions of `docker save` write a repeated layer once and link to it.
    Link(String),
}

impl Store {
    pub fn open(path: &Path) -> Result<Store, Problem> {
        let meta = match std::fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Problem::NotFound(siblings(path)));
            }
            Err(source) => return Err(Problem::io("the image")(source)),
        };
        let open = || File::open(path).map_err(Problem::io("the image"));
        if meta.is_dir() {
            return Ok(Store::Dir(open()?));
        }
        if !meta.is_file() {
            return Err(Problem::NotAnImage("neither a directory nor a regular file".to_string()));
        }
        let archive = Region::whole(open()?).map_err(Problem::io("the image"))?;
        let mut start = [0; 4];
        let magic = archive.read_exact_at(&mut start, 0).map(|()| start);
        match magic {
            Ok([0x1f, 0x8b, _, _]) => Err(packed("gzip", "gunzip")),
            Ok([0x28, 0xb5, 0x2f, 0xfd]) => Err(packed("zstd", "unzstd")),
            Ok([0xfd, b'7', b'z', b'X']) => Err(packed("xz", "unxz")),
            _ => Ok(Store::Archive(members(archive)?)),
        }
    }

    /// Whether a file with that name exists.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_ok_and(|found| found.is_some())
    }

    /// The file with that name.
    pub fn file(&self, name: &str) -> Result<Region, Problem> {
        self.find(name)?.ok_or_else(|| Problem::Missing(name.to_string()))
    }

    /// The bytes of a document.
    pub fn document(&self, name: &str) -> Result<Vec<u8>, Problem> {
        self.bytes(name, MAX_DOCUMENT)
    }

    /// The bytes of an image's config.
    pub fn config(&self, name: &str) -> Result<Vec<u8>, Problem> {
        self.bytes(name, MAX_CONFIG)
    }

    fn bytes(&self, name: &str, limit: u64) -> Result<Vec<u8>, Problem> {
        let region = self.file(name)?;
        if region.len() > limit {
            let (what, size) = (name.to_string(), region.len());
            return Err(Problem::TooLarge { what, size, limit });
        }
        let mut bytes = Vec::new();
        region.reader().read_to_end(&mut bytes).map_err(Problem::io(name))?;
        Ok(bytes)
    }

    fn find(&self, name: &str) -> Result<Option<Region>, Problem> {
        match self {
            Store::Dir(dir) => find_in_dir(dir, name),
            Store::Archive(entries) => {
                let mut name = name.to_string();
                for _ in 0..MAX_LINKS {
                    match entries.get(&name) {
                        Some(Entry::File(region)) => return Ok(Some(region.clone())),
                        Some(Entry::Link(target)) => name = target.clone(),
                        None => return Ok(None),
                    }
                }
                Ok(None)
            }
        }
    }
}

/// Opens a file below a directory. The kernel rejects paths that leave it: `..`, absolute links, links to
/// the outside (openat2(2), RESOLVE_BENEATH).
fn find_in_dir(dir: &File, name: &str) -> Result<Option<Region>, Problem> {
    let how = OpenHow::new()
        // Without O_NONBLOCK opening a named pipe would block.
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(dir, name, how) {
        Ok(fd) => File::from(fd),
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => return Ok(None),
        Err(nix::errno::Errno::EXDEV) => {
            return Err(Problem::NotAnImage(format!("{name} points outside the image")));
        }
        Err(errno) => return Err(Problem::io(name)(errno.into())),
    };
    let meta = file.metadata().map_err(Problem::io(name))?;
    if !meta.is_file() {
        return Err(Problem::NotAnImage(format!("{name} is not a file")));
    }
    Region::whole(file).map(Some).map_err(Problem::io(name))
}

/// The files and links of an archive. A duplicate name is an error, since readers disagree about which of
/// the two counts.
fn members(archive: Region) -> Result<BTreeMap<String, Entry>, Problem> {
    let mut entries = BTreeMap::new();
    let mut members = Members::new(archive);
    let mut count = 0usize;
    while let Some(member) =
        members.next().map_err(|error| Problem::NotAnImage(error.to_string()))?
    {
        count += 1;
        if count > MAX_MEMBERS {
            let what = "the number of members".to_string();
            return Err(Problem::TooLarge { what, size: count as u64, limit: MAX_MEMBERS as u64 });
        }
        // Names in an image are always UTF-8; others are ignored.
        let Some(name) = std::str::from_utf8(&member.name).ok().and_then(|name| join("", name))
        else {
            continue;
        };
        let entry = match member.kind {
            Type::File => Entry::File(member.content),
            Type::Symlink | Type::HardLink => {
                let base = match member.kind {
                    Type::Symlink => name.rsplit_once('/').map_or("", |(dir, _)| dir),
                    _ => "",
                };
                let target = std::str::from_utf8(&member.link).ok();
                match target.and_then(|target| join(base, target)) {
                    Some(target) => Entry::Link(target),
                    None => continue,
                }
            }
            _ => continue,
        };
        if entries.insert(name.clone(), entry).is_some() {
            return Err(Problem::NotAnImage(format!("duplicate file {name} in the archive")));
        }
    }
    Ok(entries)
}

/// Resolves a relative path against `base`, without `.` and `..`; `None` if it is absolute or leaves the
/// archive.
fn join(base: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn packed(what: &str, tool: &str) -> Problem {
    Problem::NotAnImage(format!("the archive is compressed with {what}; unpack it with {tool}"))
}

/// The names of the other files in the directory of a missing image, sorted.
fn siblings(path: &Path) -> Vec<String> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}
