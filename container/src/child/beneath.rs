//! Paths inside the new root, resolved by the kernel so that no symbolic link leaves it.
//!
//! Every look-up is one `openat2(2)` with `RESOLVE_IN_ROOT` that yields a descriptor; what is then
//! mounted or written goes to the descriptor, not to the path, so that a link swapped in between
//! changes nothing (CVE-2021-30465). Missing directories are made one at a time, each below the
//! descriptor of its parent (CVE-2024-45310).

use super::{About, Done, Problem};
use crate::plan::parts;
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::{Mode, mkdirat};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Symbolic links followed by hand before a path counts as a loop; the kernel's own limit.
const MAX_LINKS: usize = 40;

/// Links inside the root count, magic links (/proc/PID/fd and the like) do not: they lead to
/// whatever a process has open.
const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// The container's root directory.
pub(super) struct Root {
    dir: OwnedFd,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// A path for a system call.
pub(super) fn c_path(path: impl Into<Vec<u8>>) -> Done<CString> {
    CString::new(path).map_err(|_| Errno::EINVAL.into())
}

impl Root {
    /// The process's own root.
    pub(super) fn open() -> Done<Root> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Root { dir: open("/", flags, Mode::empty())? })
    }

    /// Opens an existing path.
    pub(super) fn look_up(&self, path: &str, flags: i32) -> Done<OwnedFd> {
        sys::openat2(&self.dir, &c_path(path)?, flags, 0, IN_ROOT).about(path)
    }

    /// Takes hold of an existing path that leads over no symbolic link; `None` when there is none.
    pub(super) fn without_links(&self, path: &str) -> Done<Option<OwnedFd>> {
        let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS;
        match sys::openat2(&self.dir, &c_path(path)?, libc::O_PATH, 0, resolve) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno @ Errno::ELOOP) => {
                Err(Problem::new(errno, format!("{path} leads over a symbolic link")))
            }
            Err(errno) => Err(Problem::new(errno, path)),
        }
    }

    /// A directory that belongs to the runtime (`proc`, `sys/fs/cgroup`; no leading slash), made
    /// when missing. A symbolic link anywhere in it is refused: an image whose /proc is a link
    /// would have the kernel's files mounted, masked and made read-only at the wrong place
    /// (CVE-2019-19921, CVE-2026-41579).
    pub(super) fn kernel_dir(&self, path: &str) -> Done<OwnedFd> {
        let c = c_path(path)?;
        let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
        for _ in 0..2 {
            match sys::openat2(&self.dir, &c, DIRECTORY, 0, resolve) {
                Err(Errno::ENOENT) => {
                    mkdirat(&self.dir, c.as_c_str(), Mode::from_bits_truncate(0o755))
                        .about(path)?;
                }
                Err(errno @ Errno::ELOOP) => {
                    let text = format!("the image's /{path} is a symbolic link");
                    return Err(Problem::new(errno, text));
                }
                Err(errno @ Errno::ENOTDIR) => {
                    let text = format!("the image's /{path} is not a directory");
                    return Err(Problem::new(errno, text));
                }
                done => return done.about(path),
            }
        }
        Err(Problem::new(Errno::ENOENT, path))
    }

    /// The directory at an absolute path; what is missing of it is made (root's, mode 0755).
    pub(super) fn directory(&self, path: &str) -> Done<OwnedFd> {
        // Nearly always everything is there already.
        match sys::openat2(&self.dir, &c_path(path)?, DIRECTORY, 0, IN_ROOT) {
            Err(Errno::ENOENT) => self.make_directories(path),
            done => done.about(path),
        }
    }

    fn make_directories(&self, path: &str) -> Done<OwnedFd> {
        // What is left of the path, the next part last.
        let mut todo: Vec<String> = parts(path).rev().map(str::to_owned).collect();
        let mut links = 0;
        let mut so_far = String::from("/");
        let mut dir = self.look_up("/", DIRECTORY)?;
        while let Some(name) = todo.pop() {
            let next = format!("{}/{name}", so_far.trim_end_matches('/'));
            let c_next = c_path(next.as_str())?;
            let found = match sys::openat2(&self.dir, &c_next, DIRECTORY, 0, IN_ROOT) {
                Err(Errno::ENOENT) => {
                    match mkdirat(&dir, name.as_str(), Mode::from_bits_truncate(0o755)) {
                        // A dangling link, or somebody who shares the volume was faster.
                        Ok(()) | Err(Errno::EEXIST) => {}
                        Err(errno) => return Err(Problem::new(errno, next)),
                    }
                    sys::openat2(&self.dir, &c_next, DIRECTORY, 0, IN_ROOT)
                }
                found => found,
            };
            match found {
                Ok(fd) => (dir, so_far) = (fd, next),
                Err(Errno::ENOENT) => {
                    // A link to what does not exist yet: go on with its text in its place.
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Problem::new(Errno::ELOOP, next));
                    }
                    let text = readlinkat(&dir, name.as_str()).about(&next)?;
                    let text = text.into_string().map_err(|_| Problem::from(Errno::EILSEQ))?;
                    todo.extend(parts(&text).rev().map(str::to_owned));
                    if text.starts_with('/') {
                        so_far = String::from("/");
                        dir = self.look_up("/", DIRECTORY)?;
                    }
                }
                Err(errno) => return Err(Problem::new(errno, next)),
            }
        }
        Ok(dir)
    }

    /// The directory that holds the last part of an absolute path, made when missing, and that
    /// part's name.
    pub(super) fn parent<'p>(&self, path: &'p str) -> Done<(OwnedFd, &'p str)> {
        let path = path.trim_end_matches('/');
        let (parent, name) = path.rsplit_once('/').ok_or(Errno::EINVAL)?;
        if matches!(name, "" | "." | "..") {
            return Err(Problem::new(Errno::EINVAL, path));
        }
        Ok((self.directory(if parent.is_empty() { "/" } else { parent })?, name))
    }

    /// The file (not directory) at an absolute path, made empty when missing; for a bind mount.
    ///
    /// Where the image has a link to what does not exist (`/etc/resolv.conf` is often one, into a
    /// /run that is empty), the file is made where the link leads.
    pub(super) fn file(&self, path: &str) -> Done<OwnedFd> {
        let mut at = path.to_owned();
        // Also the bound of a quarrel with somebody who makes and removes it in a shared volume.
        for _ in 0..=MAX_LINKS {
            match sys::openat2(&self.dir, &c_path(at.as_str())?, libc::O_PATH, 0, IN_ROOT) {
                Err(Errno::ENOENT) => {}
                done => return done.about(path),
            }
            let (parent, name) = self.parent(&at)?;
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY;
            match sys::openat2(&parent, &c_path(name)?, flags, 0o644, libc::RESOLVE_BENEATH) {
                Err(Errno::EEXIST) => {}
                made => return made.about(path),
            }
            match readlinkat(&parent, name) {
                Ok(text) => {
                    let text = text.into_string().map_err(|_| Problem::from(Errno::EILSEQ))?;
                    // Behind the link's directory the kernel reads the text as it reads links: a
                    // `..` there is the parent of what the part before it has led to.
                    let before = at.trim_end_matches('/').strip_suffix(name).unwrap_or("/");
                    at = if text.starts_with('/') { text } else { format!("{before}{text}") };
                }
                // It has come, or gone, since the look-up.
                Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(errno) => return Err(Problem::new(errno, path)),
            }
        }
        Err(Problem::new(Errno::ELOOP, path))
    }
}
