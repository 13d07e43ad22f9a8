//! Where `keel` finds and keeps things.

use crate::Failure;

use image::kit::{self, Kit};
use std::path::{Path, PathBuf};

/// Form of the packed layers; raise it when the packer's output changes.
const LAYERS: &str = "layers-1";

/// Packed layers.
pub fn layers() -> PathBuf {
    client::paths::cache().join(LAYERS)
}

/// What `keel run` builds from a host folder.
pub fn run_output(dir: &Path) -> PathBuf {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // A hash of the whole path keeps folders of one name apart.
    let hash = units::hash::fnv1a(full.as_os_str().as_encoded_bytes());
    client::paths::cache().join("run").join(format!("{name}-{hash:016x}"))
}

/// The kit beside the program, or where `$KEEL_KIT` says.
pub fn open_kit() -> Result<Kit, Failure> {
    let dir = match std::env::var_os("KEEL_KIT") {
        Some(dir) => PathBuf::from(dir),
        None => std::env::current_exe()?.parent().unwrap_or(Path::new(".")).join(kit::FOLDER),
    };
    Kit::open(&dir).map_err(|error| {
        Failure(format!(
            "no kit to build images from: {error}\n  `make build` makes it, beside the keel program"
        ))
    })
}
