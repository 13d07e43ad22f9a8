//! Image layers on the host: each mounted once, shared by all containers that use it.

use crate::shell::Shell;
use layout::images::Image;
use layout::paths;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file system in memory from which EROFS can be mounted, for hosts whose root is not one.
const RAM: &str = "/run/keel/ram";

impl Shell {
    /// Mounts an image's layers that are not mounted yet; their mount points, highest first.
    pub(crate) fn mount_layers(&mut self, image: &Image) -> Result<Vec<PathBuf>, String> {
        let mut found = Vec::new();
        for layer in image.layers.iter().rev() {
            let target = Path::new(paths::RUN_LAYERS).join(layer);
            if !self.layers.contains(layer) {
                mount_layer(layer, &target)?;
                self.layers.insert(layer.clone());
            }
            found.push(target);
        }
        Ok(found)
    }
}

fn mount_layer(layer: &str, target: &Path) -> Result<(), String> {
    make_dir(target).map_err(|error| format!("{}: {error}", target.display()))?;
    let name = format!("{layer}.erofs");
    let moved = Path::new(RAM).join(&name);
    if moved.exists() {
        return container::mount_layer(&moved, target).map_err(|error| error.to_string());
    }
    let file = Path::new(paths::LAYERS).join(&name);
    match container::mount_layer(&file, target) {
        Ok(()) => Ok(()),
        Err(error) if error.errno == Errno::ENOTBLK => {
            move_to_ramfs(&file, &moved)
                .map_err(|error| format!("{}: {error}", moved.display()))?;
            container::mount_layer(&moved, target).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// EROFS reads its file through `read_folio`, which tmpfs does not have (fs/erofs/super.c,
/// `erofs_fc_get_tree`). The kernel unpacks the initrd into a tmpfs unless its command line says
/// `rootfstype=ramfs`; a host that was booted without that word copies each layer once.
fn move_to_ramfs(from: &Path, to: &Path) -> io::Result<()> {
    let ram = Path::new(RAM);
    if !ram.exists() {
        fs::create_dir(ram)?;
        mount(
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

fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
