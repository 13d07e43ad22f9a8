//! Where `keel` finds the kit and keeps build output.

use crate::Failure;

use image::kit::{self, Kit};
use std::path::{Path, PathBuf};

/// Folder of the packed layers. The number is their format; increase it when the packer's output changes.
const LAYERS: &str = "layers-1";

/// The folder of packed layers.
pub fn layers() -> PathBuf {
    client::paths::cache().join(LAYERS)
}

/// The output folder of `keel run` for a host folder.
pub fn run_output(dir: &Path) -> PathBuf {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // The hash of the whole path distinguishes folders of the same name.
    let hash = units::hash::fnv1a(full.as_os_str().as_encoded_bytes());
    client::paths::cache().join("run").join(format!("{name}-{hash:016x}"))
}

/// Opens the kit next to the program, or in `$KEEL_KIT`.
pub fn open_kit() -> Result<Kit, Failure> {
    let dir = match std::env::var_os("KEEL_KIT") {
        Some(dir) => PathBuf::from(dir),
        None => std::env::current_exe()?.parent().unwrap_or(Path::new(".")).join(kit::FOLDER),
    };
    Kit::open(&dir).map_err(|error| {
        Failure(format!(
            "no kit to build hosts from: {error}\n  `make build` creates it next to the keel program"
        ))
    })
}
