//! Image layers on the host: each mounted once, shared by all containers that use it.

use super::{errno_of, files};
use crate::kernel::CallError;
use container::LayerError;
use layout::paths;
use nix::errno::Errno;
use nix::mount::MsFlags;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// A file system in memory from which EROFS can be mounted, for hosts whose root is not one.
const RAM: &str = "/run/keel/ram";

/// The layers that are mounted.
///
/// # Errors
/// /proc/self/mounts cannot be read.
pub fn mounted() -> Result<BTreeSet<String>, CallError> {
    const FILE: &str = "/proc/self/mounts";
    let mounts =
        fs::read_to_string(FILE).map_err(|error| CallError::new(FILE, errno_of(&error)))?;
    let prefix = format!("{}/", paths::RUN_LAYERS);
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1)?.strip_prefix(&prefix));
    Ok(targets.map(str::to_owned).collect())
}

/// Mounts a layer.
///
/// # Errors
/// The error, with the file or directory.
pub fn mount(layer: &str, target: &Path) -> Result<(), CallError> {
    files::make_dir(target, 0o755)?;
    let name = format!("{layer}.erofs");
    let moved = Path::new(RAM).join(&name);
    let failed = |error: LayerError| {
        let call = format!("{} layer {}", error.action, error.path.display());
        CallError::new(call, error.errno)
    };
    if moved.exists() {
        return container::mount_layer(&moved, target).map_err(failed);
    }
    let file = Path::new(paths::LAYERS).join(&name);
    match container::mount_layer(&file, target) {
        Err(error) if error.errno == Errno::ENOTBLK => {
            move_to_ramfs(&file, &moved)
                .map_err(|error| CallError::new(moved.display().to_string(), errno_of(&error)))?;
            container::mount_layer(&moved, target).map_err(failed)
        }
        done => done.map_err(failed),
    }
}

/// EROFS reads its file through `read_folio`, which tmpfs does not have (fs/erofs/super.c,
/// `erofs_fc_get_tree`). The kernel unpacks the initrd into a tmpfs unless its command line says
/// `rootfstype=ramfs`; a host that was booted without that parameter copies each layer once.
fn move_to_ramfs(from: &Path, to: &Path) -> io::Result<()> {
    let ram = Path::new(RAM);
    if !ram.exists() {
        fs::create_dir(ram)?;
        nix::mount::mount(
            Some("ramfs"),
            ram,
            Some("ramfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some("mode=0700"),
        )?;
    }
    let fresh = to.with_extension("new");
    fs::copy(from, &fresh)?;
    fs::rename(&fresh, to)?;
    fs::remove_file(from)
}
