//! Common parts of the tests of this crate.

#![allow(dead_code, reason = "each test program uses only some of it")]

pub mod layout;
pub mod reader;
pub mod tarball;

use image::tree::Region;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

/// A temporary directory for one test case, removed afterwards.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("image-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A region with this content.
    pub fn region(&self, bytes: &[u8]) -> Region {
        let path = self.path("region");
        std::fs::write(&path, bytes).unwrap();
        Region::whole(File::open(&path).unwrap()).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Checks an image with `fsck.erofs` of erofs-utils; with `extract` it also writes the files there.
///
/// A zero block is appended to the image: version 1.5 looks for attributes after every inode, and fails
/// if the image ends there.
pub fn fsck(image: &Path, extract: Option<&Path>) {
    let mut bytes = std::fs::read(image).unwrap();
    bytes.resize(bytes.len() + 4096, 0);
    let padded = image.with_extension("padded");
    std::fs::write(&padded, bytes).unwrap();
    let mut command = Command::new("fsck.erofs");
    match extract {
        Some(path) => {
            command.arg(format!("--extract={}", path.display())).arg("--no-preserve");
        }
        None => {
            command.arg("--extract");
        }
    }
    let output = command.arg(&padded).output().unwrap_or_else(|error| {
        panic!("fsck.erofs cannot run ({error}): install the Debian package erofs-utils")
    });
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "fsck.erofs: {text}");
}
