//! Paths inside the new root, resolved by the kernel so that no symbolic link leaves it.
//!
//! Every lookup is one `openat2(2)` with `RESOLVE_IN_ROOT` that returns a descriptor. Mounts and
//! writes go to that descriptor, not to the path, so a link swapped in between has no effect
//! (CVE-2021-30465). Missing directories are created one at a time, each relative to the descriptor
//! of its parent (CVE-2024-45310).

use super::{Context, Problem, StepResult};
use crate::plan::parts;
use crate::sys::{self, ResolveFlags};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::{Mode, mkdirat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Symbolic links resolved here before a path counts as a loop; the same as the kernel's limit.
const MAX_LINKS: usize = 40;

/// Symbolic links are followed inside the root. Magic links (/proc/PID/fd and the like) are
/// refused: they lead to whatever a process has open.
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

/// The container's root directory.
pub(super) struct Root {
    dir: OwnedFd,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Root {
    /// The process's own root.
    pub(super) fn open() -> StepResult<Root> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Root { dir: open("/", flags, Mode::empty())? })
    }

    /// Opens an existing path.
    pub(super) fn look_up(&self, path: &str, flags: OFlag) -> StepResult<OwnedFd> {
        sys::openat2(&self.dir, path, flags, 0, IN_ROOT).context(path)
    }

    /// Opens an existing path that contains no symbolic link; `None` if it does not exist.
    pub(super) fn without_links(&self, path: &str) -> StepResult<Option<OwnedFd>> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        match sys::openat2(&self.dir, path, OFlag::O_PATH, 0, resolve) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno @ Errno::ELOOP) => {
                Err(Problem::new(errno, format!("{path} contains a symbolic link")))
            }
            Err(errno) => Err(Problem::new(errno, path)),
        }
    }

    /// Opens a directory that belongs to the runtime (`proc`, `sys/fs/cgroup`; no leading slash),
    /// creating it if missing. A symbolic link anywhere in the path is refused: with an image whose
    /// /proc is a link, the kernel's files would be mounted, masked and made read-only at the wrong
    /// place (CVE-2019-19921, CVE-2026-41579).
    pub(super) fn kernel_dir(&self, path: &str) -> StepResult<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        for _ in 0..2 {
            match sys::openat2(&self.dir, path, DIRECTORY, 0, resolve) {
                Err(Errno::ENOENT) => {
                    mkdirat(&self.dir, path, Mode::from_bits_truncate(0o755)).context(path)?;
                }
                Err(errno @ Errno::ELOOP) => {
                    let text = format!("the image's /{path} is a symbolic link");
                    return Err(Problem::new(errno, text));
                }
                Err(errno @ Errno::ENOTDIR) => {
                    let text = format!("the image's /{path} is not a directory");
                    return Err(Problem::new(errno, text));
                }
                done => return done.context(path),
            }
        }
        Err(Problem::new(Errno::ENOENT, path))
    }

    /// Opens the directory at an absolute path. Missing directories are created with mode 0755,
    /// owned by root.
    pub(super) fn directory(&self, path: &str) -> StepResult<OwnedFd> {
        // Usually the whole path exists already.
        match sys::openat2(&self.dir, path, DIRECTORY, 0, IN_ROOT) {
            Err(Errno::ENOENT) => self.make_directories(path),
            done => done.context(path),
        }
    }

    fn make_directories(&self, path: &str) -> StepResult<OwnedFd> {
        // The remaining components, the next one last.
        let mut todo: Vec<String> = parts(path).rev().map(str::to_owned).collect();
        let mut links = 0;
        let mut so_far = String::from("/");
        let mut dir = self.look_up("/", DIRECTORY)?;
        while let Some(name) = todo.pop() {
            let next = format!("{}/{name}", so_far.trim_end_matches('/'));
            let found = match sys::openat2(&self.dir, next.as_str(), DIRECTORY, 0, IN_ROOT) {
                Err(Errno::ENOENT) => {
                    match mkdirat(&dir, name.as_str(), Mode::from_bits_truncate(0o755)) {
                        // A dangling link, or another container that shares the volume created it.
                        Ok(()) | Err(Errno::EEXIST) => {}
                        Err(errno) => return Err(Problem::new(errno, next)),
                    }
                    sys::openat2(&self.dir, next.as_str(), DIRECTORY, 0, IN_ROOT)
                }
                found => found,
            };
            match found {
                Ok(fd) => (dir, so_far) = (fd, next),
                Err(Errno::ENOENT) => {
                    // A dangling link: continue with its target instead.
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Problem::new(Errno::ELOOP, next));
                    }
                    let text = readlinkat(&dir, name.as_str()).context(&next)?;
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

    /// The parent directory of an absolute path, created if missing, and the last component.
    pub(super) fn parent<'p>(&self, path: &'p str) -> StepResult<(OwnedFd, &'p str)> {
        let path = path.trim_end_matches('/');
        let (parent, name) = path.rsplit_once('/').ok_or(Errno::EINVAL)?;
        if matches!(name, "" | "." | "..") {
            return Err(Problem::new(Errno::EINVAL, path));
        }
        Ok((self.directory(if parent.is_empty() { "/" } else { parent })?, name))
    }

    /// Opens the file (not directory) at an absolute path as a bind mount target, creating an empty
    /// file if it is missing.
    ///
    /// If the image has a dangling link there (`/etc/resolv.conf` often points into an empty /run),
    /// the file is created where the link points.
    pub(super) fn file(&self, path: &str) -> StepResult<OwnedFd> {
        let mut at = path.to_owned();
        // This also bounds the retries while another container keeps creating and removing the file
        // in a shared volume.
        for _ in 0..=MAX_LINKS {
            match sys::openat2(&self.dir, at.as_str(), OFlag::O_PATH, 0, IN_ROOT) {
                Err(Errno::ENOENT) => {}
                done => return done.context(path),
            }
            let (parent, name) = self.parent(&at)?;
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY;
            match sys::openat2(&parent, name, flags, 0o644, ResolveFlags::BENEATH) {
                Err(Errno::EEXIST) => {}
                made => return made.context(path),
            }
            match readlinkat(&parent, name) {
                Ok(text) => {
                    let text = text.into_string().map_err(|_| Problem::from(Errno::EILSEQ))?;
                    // The target is appended to the link's directory and left to the kernel to
                    // resolve: `..` is the parent of what the components before it resolve to.
                    let before = at.trim_end_matches('/').strip_suffix(name).unwrap_or("/");
                    at = if text.starts_with('/') { text } else { format!("{before}{text}") };
                }
                // It was created or removed after the lookup.
                Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(errno) => return Err(Problem::new(errno, path)),
            }
        }
        Err(Problem::new(Errno::ELOOP, path))
    }
}
