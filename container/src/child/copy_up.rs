//! First use of a named volume: it is filled with the image's content at the mount target.
//!
//! Two files next to the volume's directory make this safe against crashes and against a second
//! container that starts with the same volume:
//! - the marker means "initialised" and is created only when a complete copy has reached the disk;
//! - `MARKER.partial` is locked while a container fills the volume, and becomes non-empty just
//!   before the first file is copied. If it is found non-empty, a fill was interrupted and the
//!   content may be discarded. A volume with content but neither marker nor a non-empty partial
//!   file holds user data and is used as it is.

use super::{Context, Ids, Problem, StepResult};
use crate::plan::CopyUp;
use crate::sys;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, futimens, mkdirat, mknodat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, fsync, symlinkat, syncfs, unlinkat};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Deepest directory that is copied; each level holds two descriptors.
const MAX_DEPTH: usize = 200;

/// The id that the kernel shows for unmapped owners (`fs.overflowuid`).
const NOBODY: u32 = 65_534;

/// The marker of a volume that has not been filled yet, with its directory on the host.
pub(super) struct Marker {
    dir: OwnedFd,
    name: String,
}

impl Marker {
    /// `None` if the volume is initialised.
    pub(super) fn open(copy_up: &CopyUp) -> StepResult<Option<Marker>> {
        let path = copy_up.marker.as_path();
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::EINVAL.into());
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(parent, flags, Mode::empty()).context(path.to_string_lossy())?;
        let marker = Marker { dir, name: name.to_string_lossy().into_owned() };
        Ok(if marker.present()? { None } else { Some(marker) })
    }

    fn present(&self) -> StepResult<bool> {
        match fstatat(&self.dir, self.name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(Problem::new(errno, self.name.as_str())),
        }
    }

    /// Opens and locks the partial file.
    fn lock(&self) -> StepResult<(OwnedFd, String)> {
        let name = format!("{}.partial", self.name);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.dir, name.as_str(), flags, Mode::from_bits_truncate(0o600))
            .context(&name)?;
        loop {
            // SAFETY: locking a descriptor is memory-safe.
            match Errno::result(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX) }) {
                Err(Errno::EINTR) => continue,
                done => done.context(&name)?,
            };
            return Ok((fd, name));
        }
    }

    fn set(&self) -> StepResult {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(&self.dir, self.name.as_str(), flags, Mode::from_bits_truncate(0o600))
            .and_then(|_| fsync(&self.dir))
            .context(&self.name)
    }
}

/// Fills the volume `tree` from the image's directory `at`, unless another container has done so.
pub(super) fn fill(marker: &Marker, tree: &OwnedFd, at: &OwnedFd, ids: Ids) -> StepResult {
    let (partial, partial_name) = marker.lock()?;
    if marker.present()? {
        return Ok(());
    }
    let volume = open_dir(tree, c".")?;
    if fstat(&partial)?.st_size > 0 {
        wipe(&volume, 0)?;
    } else if !names(&volume)?.is_empty() {
        return marker.set();
    } else {
        nix::unistd::write(&partial, b"filling\n").context(&partial_name)?;
        // Sync the directory, too: the file's name must be on disk before the first copied file.
        fsync(&partial).and_then(|()| fsync(&marker.dir)).context(&partial_name)?;
    }
    copy_dir(&open_dir(at, c".")?, &volume, 0, ids)?;
    syncfs(&volume)?;
    marker.set()?;
    Ok(unlinkat(&marker.dir, partial_name.as_str(), UnlinkatFlags::NoRemoveDir)?)
}

fn open_dir(dir: &impl AsFd, name: &CStr) -> StepResult<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::empty()).context(name.to_string_lossy())
}

/// The names in a directory, without `.` and `..`.
fn names(dir: &OwnedFd) -> StepResult<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::from_fd(open_dir(dir, c".")?)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn too_deep(name: &CStr) -> Problem {
    Problem::new(Errno::ELOOP, format!("{} is nested too deeply to copy", name.to_string_lossy()))
}

/// Copies everything in `from`, then its owner, mode and times. Copies directories, files, links
/// and FIFOs; sockets and devices are skipped.
fn copy_dir(from: &OwnedFd, to: &OwnedFd, depth: usize, ids: Ids) -> StepResult {
    for name in names(from)? {
        let name = name.as_c_str();
        let context = || name.to_string_lossy();
        let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).context(context())?;
        match kind(&stat) {
            SFlag::S_IFDIR if depth == MAX_DEPTH => return Err(too_deep(name)),
            SFlag::S_IFDIR => {
                mkdirat(to, name, Mode::S_IRWXU).context(context())?;
                copy_dir(&open_dir(from, name)?, &open_dir(to, name)?, depth + 1, ids)?;
            }
            SFlag::S_IFREG => match copy_file(from, to, name, &stat, ids) {
                // The owner is not mapped in the layer, so CAP_DAC_OVERRIDE does not apply.
                Err(Errno::EACCES) if ids.is_some() => {
                    let text = "is owned by an id that is not mapped in the container and is not \
                        world-readable; `userns = \"host\"` gives the container every id";
                    return Err(Problem::new(Errno::EACCES, format!("{} {text}", context())));
                }
                done => done.context(context())?,
            },
            SFlag::S_IFLNK => {
                let target = readlinkat(from, name).context(context())?;
                symlinkat(target.as_os_str(), to, name).context(context())?;
                let (uid, gid) = owner(&stat, ids);
                fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).context(context())?;
            }
            SFlag::S_IFIFO => {
                let mode = Mode::from_bits_truncate(stat.st_mode);
                mknodat(to, name, SFlag::S_IFIFO, mode, 0).context(context())?;
                let (uid, gid) = owner(&stat, ids);
                fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).context(context())?;
            }
            _ => {}
        }
    }
    Ok(copy_attributes(to, &fstat(from)?, ids)?)
}

fn copy_file(
    from: &OwnedFd,
    to: &OwnedFd,
    name: &CStr,
    stat: &FileStat,
    ids: Ids,
) -> Result<(), Errno> {
    let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mut source = File::from(openat(from, name, read, Mode::empty())?);
    let mut copy = File::from(openat(to, name, write, Mode::S_IRUSR | Mode::S_IWUSR)?);
    // The standard library lets the kernel copy if possible (copy_file_range, sendfile).
    std::io::copy(&mut source, &mut copy).map_err(|error| sys::errno_of(&error))?;
    copy_attributes(&copy, stat, ids)
}

/// The owner of a copy. Files of an unmapped owner belong to the container's nobody.
fn owner(stat: &FileStat, ids: Ids) -> (Option<Uid>, Option<Gid>) {
    let known = |id: u32| match ids {
        Some((range, _)) if id.checked_sub(range.first).is_none_or(|id| id >= range.count) => {
            range.host_id(NOBODY).unwrap_or(range.first)
        }
        _ => id,
    };
    (Some(Uid::from_raw(known(stat.st_uid))), Some(Gid::from_raw(known(stat.st_gid))))
}

/// Sets the owner before the mode, because changing the owner clears the set-user-id bits.
fn copy_attributes(to: &impl AsFd, stat: &FileStat, ids: Ids) -> Result<(), Errno> {
    let (uid, gid) = owner(stat, ids);
    fchown(to, uid, gid)?;
    fchmod(to, Mode::from_bits_truncate(stat.st_mode & 0o7777))?;
    futimens(
        to,
        &TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        &TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    )
}

/// Removes everything in a directory, without following links.
fn wipe(dir: &OwnedFd, depth: usize) -> StepResult {
    for name in names(dir)? {
        let name = name.as_c_str();
        let context = || name.to_string_lossy();
        let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).context(context())?;
        let how = match kind(&stat) {
            SFlag::S_IFDIR if depth == MAX_DEPTH => return Err(too_deep(name)),
            SFlag::S_IFDIR => {
                wipe(&open_dir(dir, name)?, depth + 1)?;
                UnlinkatFlags::RemoveDir
            }
            _ => UnlinkatFlags::NoRemoveDir,
        };
        unlinkat(dir, name, how).context(context())?;
    }
    Ok(())
}
