//! Host folders of tests.

use crate::root;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A temporary folder, removed when dropped.
pub struct Folder {
    path: PathBuf,
}

/// Panics if an operation on the test's own files fails.
fn must<T, E: std::fmt::Display>(result: Result<T, E>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}

impl Folder {
    /// An empty folder.
    pub fn empty() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("keel-test-{}-{number}", std::process::id()));
        must(fs::create_dir_all(&path), "a folder for the test");
        Folder { path }
    }

    /// A host folder with this `host.toml`, these units (name, text), and the test images they name
    /// (from `target/images`, which `examples/make-images tests` makes).
    pub fn host(host_toml: &str, units: &[(&str, &str)]) -> Folder {
        let folder = Folder::empty();
        folder.write("host.toml", host_toml);
        for (name, text) in units {
            folder.write(&format!("units/{name}.toml"), text);
            for image in images_named(text) {
                folder.take_image(&image);
            }
        }
        folder
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file and creates missing folders.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            must(fs::create_dir_all(parent), "a folder");
        }
        must(fs::write(&path, text), &path.display().to_string());
    }

    fn take_image(&self, name: &str) {
        let from = root().join("target/images").join(name);
        let to = self.path.join("images").join(name);
        if to.exists() || !from.exists() {
            // It may be missing on purpose. If a test needs it, `keel` reports the error.
            return;
        }
        must(fs::create_dir_all(self.path.join("images")), "images");
        let status = must(Command::new("cp").arg("-a").arg(&from).arg(&to).status(), "cp");
        assert!(status.success(), "cp -a {} {}", from.display(), to.display());
    }
}

/// The names of images (`./images/NAME`) in a unit file.
fn images_named(text: &str) -> Vec<String> {
    text.split("\"./images/")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
        .collect()
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
