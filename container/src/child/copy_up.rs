//! The first use of a named volume: it is filled with what the image has at the mount target.
//!
//! Two files beside the volume's directory make this safe against crashes and against a second
//! container that starts with the same volume:
//! - the marker says "initialised", and appears only when a complete copy has reached the disk;
//! - `MARKER.partial` is locked while somebody fills the volume, and not empty from the moment
//!   before the first file is copied: found so, it means that a fill was interrupted, and what is
//!   there may be thrown away. An unmarked volume with content and without that sign holds
//!   somebody's data and is taken as it is.

use super::{About, Done, Ids, Problem};
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

/// As whose the kernel shows what belongs to nobody known (`fs.overflowuid`).
const NOBODY: u32 = 65_534;

/// The marker of a volume that is still to be filled, held by its directory on the host.
pub(super) struct Marker {
    dir: OwnedFd,
    name: String,
}

impl Marker {
    /// `None` when the volume is initialised.
    pub(super) fn open(copy_up: &CopyUp) -> Done<Option<Marker>> {
        let path = copy_up.marker.as_path();
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::EINVAL.into());
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(parent, flags, Mode::empty()).about(path.to_string_lossy())?;
        let marker = Marker { dir, name: name.to_string_lossy().into_owned() };
        Ok(if marker.present()? { None } else { Some(marker) })
    }

    fn present(&self) -> Done<bool> {
        match fstatat(&self.dir, self.name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(Problem::new(errno, self.name.as_str())),
        }
    }

    /// Opens and locks the partial file.
    fn lock(&self) -> Done<(OwnedFd, String)> {
        let name = format!("{}.partial", self.name);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.dir, name.as_str(), flags, Mode::from_bits_truncate(0o600))
            .about(&name)?;
        loop {
            // SAFETY: locking a descriptor is memory-safe.
            match Errno::result(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX) }) {
                Err(Errno::EINTR) => continue,
                done => done.about(&name)?,
            };
            return Ok((fd, name));
        }
    }

    fn set(&self) -> Done {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(&self.dir, self.name.as_str(), flags, Mode::from_bits_truncate(0o600))
            .and_then(|_| fsync(&self.dir))
            .about(&self.name)
    }
}

/// Fills the volume `tree` from the image's directory `at`, unless somebody else has by now.
pub(super) fn fill(marker: &Marker, tree: &OwnedFd, at: &OwnedFd, ids: Ids) -> Done {
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
        nix::unistd::write(&partial, b"filling\n").about(&partial_name)?;
        // The directory, too: the file's name must be on the disk before the first copied one.
        fsync(&partial).and_then(|()| fsync(&marker.dir)).about(&partial_name)?;
    }
    copy_dir(&open_dir(at, c".")?, &volume, 0, ids)?;
    syncfs(&volume)?;
    marker.set()?;
    Ok(unlinkat(&marker.dir, partial_name.as_str(), UnlinkatFlags::NoRemoveDir)?)
}

fn open_dir(dir: &impl AsFd, name: &CStr) -> Done<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::empty()).about(name.to_string_lossy())
}

/// The names in a directory, without `.` and `..`.
fn names(dir: &OwnedFd) -> Done<Vec<CString>> {
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

/// Copies everything in `from`, then its own owner, mode and times. Directories, files, links and
/// FIFOs; sockets and devices mean nothing in a volume.
fn copy_dir(from: &OwnedFd, to: &OwnedFd, depth: usize, ids: Ids) -> Done {
    for name in names(from)? {
        let name = name.as_c_str();
        let about = || name.to_string_lossy();
        let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).about(about())?;
        match kind(&stat) {
            SFlag::S_IFDIR if depth == MAX_DEPTH => return Err(too_deep(name)),
            SFlag::S_IFDIR => {
                mkdirat(to, name, Mode::S_IRWXU).about(about())?;
                copy_dir(&open_dir(from, name)?, &open_dir(to, name)?, depth + 1, ids)?;
            }
            SFlag::S_IFREG => match copy_file(from, to, name, &stat, ids) {
                // The layer does not know whose it is, so that no right of root's counts.
                Err(Errno::EACCES) if ids.is_some() => {
                    let text = "belongs to an id that the container does not have, and is not for \
                        everybody to read; `userns = \"host\"` has them all";
                    return Err(Problem::new(Errno::EACCES, format!("{} {text}", about())));
                }
                done => done.about(about())?,
            },
            SFlag::S_IFLNK => {
                let target = readlinkat(from, name).about(about())?;
                symlinkat(target.as_os_str(), to, name).about(about())?;
                let (uid, gid) = owner(&stat, ids);
                fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).about(about())?;
            }
            SFlag::S_IFIFO => {
                let mode = Mode::from_bits_truncate(stat.st_mode);
                mknodat(to, name, SFlag::S_IFIFO, mode, 0).about(about())?;
                let (uid, gid) = owner(&stat, ids);
                fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).about(about())?;
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
    // The standard library lets the kernel copy where it can (copy_file_range, sendfile).
    std::io::copy(&mut source, &mut copy).map_err(|error| sys::errno_of(&error))?;
    copy_attributes(&copy, stat, ids)
}

/// Who owns a copy. What belongs to somebody whom the container does not have, belongs to its nobody.
fn owner(stat: &FileStat, ids: Ids) -> (Option<Uid>, Option<Gid>) {
    let known = |id: u32| match ids {
        Some((range, _)) if id.checked_sub(range.first).is_none_or(|id| id >= range.count) => {
            range.host_id(NOBODY).unwrap_or(range.first)
        }
        _ => id,
    };
    (Some(Uid::from_raw(known(stat.st_uid))), Some(Gid::from_raw(known(stat.st_gid))))
}

/// Owner before mode, because a change of owner clears the set-user-id bits.
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
fn wipe(dir: &OwnedFd, depth: usize) -> Done {
    for name in names(dir)? {
        let name = name.as_c_str();
        let about = || name.to_string_lossy();
        let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).about(about())?;
        let how = match kind(&stat) {
            SFlag::S_IFDIR if depth == MAX_DEPTH => return Err(too_deep(name)),
            SFlag::S_IFDIR => {
                wipe(&open_dir(dir, name)?, depth + 1)?;
                UnlinkatFlags::RemoveDir
            }
            _ => UnlinkatFlags::NoRemoveDir,
        };
        unlinkat(dir, name, how).about(about())?;
    }
    Ok(())
}
