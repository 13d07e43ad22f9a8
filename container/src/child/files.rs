//! Small files such as /etc/hosts.

use super::beneath::Root;
use super::{Context, Problem, StepResult};
use crate::plan::InlineFile;
use crate::sys::{self, ResolveFlags};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

/// Temporary name of a file that is then bind-mounted; removed before the program starts.
const TEMPORARY: &str = ".keel-file";

/// Writes the files into the container's writable layer. A file or link of the image at the same
/// path is replaced.
///
/// If a volume is mounted over the file's directory, the volume is not modified: the file is
/// mounted on top.
pub(super) fn write(root: &Root, files: &[InlineFile]) -> StepResult {
    if files.is_empty() {
        return Ok(());
    }
    let root_device = fstat(root)?.st_dev;
    for file in files {
        let path = file.path.as_str();
        let (parent, name) = root.parent(path)?;
        if fstat(&parent).context(path)?.st_dev == root_device {
            create(&parent, name, file)?;
            continue;
        }
        let made = create(root, TEMPORARY, file)?;
        let tree = sys::open_tree(&made, false).context(path)?;
        sys::move_mount(&tree, root.file(path)?).context(path)?;
        unlinkat(root, TEMPORARY, UnlinkatFlags::NoRemoveDir).context(path)?;
    }
    Ok(())
}

fn create(dir: &impl AsFd, name: &str, file: &InlineFile) -> StepResult<OwnedFd> {
    let path = file.path.as_str();
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(Problem::new(errno, path)),
    }
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY;
    let mode = file.mode & 0o777;
    let fd = sys::openat2(dir, name, flags, mode, ResolveFlags::BENEATH).context(path)?;
    let mut made = File::from(fd);
    made.write_all(&file.content).map_err(|error| Problem::new(sys::errno_of(&error), path))?;
    Ok(made.into())
}
