//! Image layers mounted on the host, each shared by all containers that use it.

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::{Path, PathBuf};

/// A layer that could not be mounted or unmounted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action} layer {}: {}", path.display(), errno.desc())]
pub struct LayerError {
    /// "mount" or "unmount".
    pub action: &'static str,
    /// The EROFS file, or the mount point.
    pub path: PathBuf,
    /// The system call's error.
    pub errno: Errno,
}

/// Mounts an EROFS image file on the existing directory `target`, read-only. The kernel reads the
/// file directly, without a loop device (`CONFIG_EROFS_FS_BACKED_BY_FILE`, Linux 6.12).
///
/// Device nodes in a layer have no effect. Set-user-id bits are kept; whether they have an effect
/// is decided by each container's `no_new_privs`.
///
/// # Errors
/// `ENODEV`: the kernel does not support EROFS; `ENOTBLK`: it cannot mount from a file; `EINVAL`:
/// the file is not an EROFS image.
pub fn mount_layer(erofs_file: &Path, target: &Path) -> Result<(), LayerError> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
    mount(Some(erofs_file), target, Some("erofs"), flags, None::<&str>)
        .map_err(|errno| LayerError { action: "mount", path: erofs_file.to_owned(), errno })
}

/// Unmounts a layer; it stays mounted in containers that still use it until they end.
///
/// # Errors
/// `EINVAL`: nothing is mounted there.
pub fn unmount_layer(target: &Path) -> Result<(), LayerError> {
    umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).map_err(|errno| LayerError {
        action: "unmount",
        path: target.to_owned(),
        errno,
    })
}
