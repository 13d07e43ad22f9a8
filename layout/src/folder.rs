//! The host folder: `host.toml`, `units/*.toml`, and what the image builder adds to them.
//!
//! [`HostFolder::read`] is the only reader, on the build machine and on the host, with one policy
//! for errors: a file that does not exist is not an error; a file that exists but cannot be read is
//! listed in [`HostFolder::unreadable`], and the rest of the folder is still read. The caller
//! decides what that means: `keel build` fails, a running host reports it and continues.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use units::{Loaded, SourceFile};

/// The host's own settings, in the host folder.
pub const HOST: &str = "host.toml";
/// The unit files' folder, in the host folder.
pub const UNITS: &str = "units";
/// The index of the images ([`crate::images::Images`], JSON), which the image builder adds.
pub const IMAGES: &str = "images.json";
/// The seccomp profiles by the text of the units' `seccomp` key (a JSON object of texts), which the
/// image builder adds. Absent if no unit has its own profile.
pub const SECCOMP: &str = "seccomp.json";

/// A file of the host folder that exists and cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct Unreadable {
    /// The file or folder.
    pub path: PathBuf,
    /// Why; `InvalidData` for a file that is not UTF-8 text.
    pub error: io::Error,
}

impl Unreadable {
    /// The unit whose file this is, if it is a unit's.
    pub fn unit(&self) -> Option<&str> {
        let in_units = self.path.parent().is_some_and(|parent| parent.ends_with(UNITS));
        let is_unit = in_units && is_unit_file(&self.path);
        self.path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_unit)
    }
}

/// The text files of a host folder, read at one time.
#[derive(Debug, Default)]
pub struct HostFolder {
    /// `host.toml`; `None` if there is none.
    pub host: Option<SourceFile>,
    /// `units/*.toml`, sorted by name.
    pub units: Vec<SourceFile>,
    /// Files and folders that exist but cannot be read.
    pub unreadable: Vec<Unreadable>,
}

impl HostFolder {
    /// Reads `dir`. [`SourceFile::path`] includes `dir`.
    pub fn read(dir: &Path) -> HostFolder {
        let mut folder = HostFolder::read_host(dir);
        let units = dir.join(UNITS);
        let paths = match unit_files(&units) {
            Ok(paths) => paths,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                folder.unreadable.push(Unreadable { path: units, error });
                Vec::new()
            }
        };
        for path in paths {
            if let Some(file) = folder.take(read_text(path)) {
                folder.units.push(file);
            }
        }
        folder
    }

    /// Reads only `host.toml`, for processes that do not need the units.
    pub fn read_host(dir: &Path) -> HostFolder {
        let mut folder = HostFolder::default();
        folder.host = match read_text(dir.join(HOST)) {
            Err(Unreadable { error, .. }) if error.kind() == ErrorKind::NotFound => None,
            read => folder.take(read),
        };
        folder
    }

    /// Whether there is neither a `host.toml` nor a unit.
    pub fn is_empty(&self) -> bool {
        self.host.is_none() && self.units.is_empty() && self.unreadable.is_empty()
    }

    /// All files, `host.toml` first.
    pub fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.host.iter().chain(&self.units)
    }

    /// The text of a file by the path that a diagnostic names; empty for a file that was not read.
    pub fn text(&self, path: &str) -> &str {
        self.files().find(|file| file.path == path).map_or("", |file| &file.text)
    }

    /// Parses and checks everything that was read; see [`units::load`].
    pub fn load(&self) -> Loaded {
        units::load(self.host.clone(), self.units.clone())
    }

    /// The file that was read, or `None` after adding the error to [`HostFolder::unreadable`].
    fn take(&mut self, read: Result<SourceFile, Unreadable>) -> Option<SourceFile> {
        read.map_err(|unreadable| self.unreadable.push(unreadable)).ok()
    }
}

/// The unit files of a `units` folder, sorted. An entry that cannot be read fails the whole list: a
/// unit that is left out silently would be missed only at run time.
fn unit_files(units: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(units)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<io::Result<Vec<PathBuf>>>()?;
    paths.retain(|path| is_unit_file(path));
    paths.sort();
    Ok(paths)
}

fn is_unit_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

fn read_text(path: PathBuf) -> Result<SourceFile, Unreadable> {
    let invalid = |what: String| io::Error::new(ErrorKind::InvalidData, what);
    // The path is the file's name in diagnostics and, at build time, in the image.
    let Some(name) = path.to_str().map(str::to_owned) else {
        let error = invalid("the file name is not UTF-8".to_owned());
        return Err(Unreadable { path, error });
    };
    let text = fs::read(&path).and_then(|bytes| {
        let text = String::from_utf8(bytes);
        text.map_err(|error| invalid(format!("not UTF-8 text: {}", error.utf8_error())))
    });
    match text {
        Ok(text) => Ok(SourceFile { path: name, text }),
        Err(error) => Err(Unreadable { path, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A temporary folder, removed when dropped.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str) -> Temporary {
            let dir =
                std::env::temp_dir().join(format!("keel-folder-{name}-{}", std::process::id()));
            fs::create_dir_all(dir.join(UNITS)).unwrap();
            Temporary(dir)
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_missing_folder_is_empty_and_not_an_error() {
        let folder = HostFolder::read(Path::new("/nonexistent"));
        assert!(folder.is_empty());
    }

    #[test]
    fn units_are_sorted_and_other_files_are_ignored() {
        let dir = Temporary::new("sorted");
        for name in ["b.toml", "a.toml", "notes.txt", ".toml", "c.toml~"] {
            fs::write(dir.0.join(UNITS).join(name), "").unwrap();
        }
        let folder = HostFolder::read(&dir.0);
        let names: Vec<&str> =
            folder.units.iter().filter_map(|file| file.path.rsplit('/').next()).collect();
        assert_eq!(names, ["a.toml", "b.toml"]);
        assert!(folder.unreadable.is_empty());
    }

    #[test]
    fn an_unreadable_unit_is_reported_by_name_and_hides_no_other() {
        let dir = Temporary::new("unreadable");
        fs::write(dir.0.join(UNITS).join("good.toml"), "").unwrap();
        fs::write(dir.0.join(UNITS).join("latin1.toml"), b"description = \"caf\xe9\"").unwrap();
        fs::create_dir(dir.0.join(UNITS).join("folder.toml")).unwrap();
        let folder = HostFolder::read(&dir.0);
        assert_eq!(folder.units.len(), 1);
        let units: Vec<Option<&str>> = folder.unreadable.iter().map(Unreadable::unit).collect();
        assert_eq!(units, [Some("folder"), Some("latin1")]);
        let message = folder.unreadable[1].to_string();
        assert!(
            message.ends_with(
                "latin1.toml: not UTF-8 text: invalid utf-8 sequence of 1 bytes from index 18"
            ),
            "{message}"
        );
    }

    #[test]
    fn a_file_name_that_is_not_utf8_is_reported_and_not_changed() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let dir = Temporary::new("name");
        fs::write(dir.0.join(UNITS).join(OsStr::from_bytes(b"caf\xe9.toml")), "").unwrap();
        let folder = HostFolder::read(&dir.0);
        assert!(folder.units.is_empty());
        assert_eq!(folder.unreadable.len(), 1);
        assert!(folder.unreadable[0].to_string().ends_with("the file name is not UTF-8"));
    }

    #[test]
    fn an_unreadable_host_toml_is_not_attributed_to_a_unit() {
        let dir = Temporary::new("host");
        fs::create_dir(dir.0.join(HOST)).unwrap();
        let folder = HostFolder::read(&dir.0);
        assert!(folder.host.is_none());
        assert_eq!(folder.unreadable.len(), 1);
        assert_eq!(folder.unreadable[0].unit(), None);
    }
}
