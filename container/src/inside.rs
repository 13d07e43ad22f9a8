//! Files and terminals of a running container, opened from outside.
//!
//! Every path is resolved inside the container's root by openat2(2) (`RESOLVE_IN_ROOT`), so no link
//! that the container creates leads outside (CVE-2018-15664, CVE-2019-14271). The file type is
//! checked before a file is opened for I/O, because opening a FIFO blocks and opening a device can
//! have side effects.

use crate::sys::{ResolveFlags, openat2};
use crate::userns;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use nix::sys::statfs::fstatfs;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Links are followed inside the root; magic links (/proc/PID/fd and the like) are refused.
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// include/uapi/linux/magic.h.
const DEVPTS_SUPER_MAGIC: libc::c_long = 0x1cd1;

/// `TIOCGPTPEER` (ioctl_tty(2)): opens the other end of a terminal through its master, independent
/// of any mounts.
const TIOCGPTPEER: libc::Ioctl = 0x5441;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For reading.
    Read,
    /// For writing; the file is truncated, or created if missing.
    Write {
        /// Permissions of a new file.
        mode: u32,
        /// Owner of a new file: the host's id of the container's root.
        owner: u32,
    },
}

/// Why a file or terminal was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InsideError {
    /// The container has ended.
    #[error("the container has ended")]
    Ended,
    /// The path is not absolute or contains a NUL byte.
    #[error("not an absolute path")]
    Path,
    /// The path is a directory, a device or a pipe.
    #[error("not a regular file")]
    NotAFile,
    /// The container has no devpts at /dev/pts.
    #[error("the container has no devpts file system at /dev/pts")]
    NoTerminals,
    /// A system call failed.
    #[error("{call}: {}", errno.desc())]
    Sys {
        /// The system call.
        call: &'static str,
        /// The error.
        errno: Errno,
    },
}

fn sys(call: &'static str) -> impl Fn(Errno) -> InsideError {
    move |errno| InsideError::Sys { call, errno }
}

/// Opens the root directory of the container whose main process is `pid`; `pidfd` must refer to the
/// same process.
fn root(pid: i32, pidfd: BorrowedFd<'_>) -> Result<OwnedFd, InsideError> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(path.as_str(), flags, Mode::empty()).map_err(sys("open"))?;
    // If the process is still alive now, the pid was not reused before the open.
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(0) => Ok(root),
        Ok(_) => Err(InsideError::Ended),
        Err(errno) => Err(sys("poll")(errno)),
    }
}

/// Opens `path` with O_PATH.
fn look_up(root: impl AsFd, path: &str) -> Result<OwnedFd, InsideError> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(InsideError::Path);
    }
    openat2(root, path, OFlag::O_PATH, 0, IN_ROOT).map_err(sys("open"))
}

/// Opens the file of an O_PATH descriptor for I/O.
fn reopen(file: &OwnedFd, flags: OFlag) -> Result<OwnedFd, InsideError> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // Without O_NONBLOCK the open would wait for a lease (fcntl(2)) that a program of the container
    // holds on the file. It does not affect I/O on regular files.
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    open(path.as_str(), flags, Mode::empty()).map_err(sys("open"))
}

/// Opens a regular file of a running container. `pid` is its main process in the caller's pid
/// namespace, `path` is absolute as the container sees it; links are followed inside the container.
///
/// # Errors
/// Anything but a regular file is refused before it is opened.
pub fn open_file(
    pid: i32,
    pidfd: BorrowedFd<'_>,
    path: &str,
    access: Access,
) -> Result<OwnedFd, InsideError> {
    let root = root(pid, pidfd)?;
    let file = match (look_up(&root, path), access) {
        (Err(InsideError::Sys { errno: Errno::ENOENT, .. }), Access::Write { mode, owner }) => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
            let create = || openat2(&root, path, flags, mode & 0o7777, IN_ROOT);
            let created = userns::with_fs_ids(owner, create);
            return created.and_then(|created| created).map_err(sys("create"));
        }
        (file, _) => file?,
    };
    let kind = SFlag::from_bits_truncate(fstat(&file).map_err(sys("stat"))?.st_mode);
    if kind & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(InsideError::NotAFile);
    }
    match access {
        Access::Read => reopen(&file, OFlag::O_RDONLY),
        Access::Write { .. } => reopen(&file, OFlag::O_WRONLY | OFlag::O_TRUNC),
    }
}

/// Opens a new terminal of a running container. Returns the master and the end for the program.
///
/// # Errors
/// The container has no devpts file system at /dev/pts.
pub fn open_terminal(pid: i32, pidfd: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd), InsideError> {
    terminal_of(root(pid, pidfd)?)
}

/// Opens a new terminal of the container with this root directory.
pub(crate) fn terminal_of(root: impl AsFd) -> Result<(OwnedFd, OwnedFd), InsideError> {
    let ptmx = look_up(root, "/dev/pts/ptmx")?;
    let stat = fstat(&ptmx).map_err(sys("stat"))?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let number = (major(stat.st_rdev), minor(stat.st_rdev));
    let system = fstatfs(&ptmx).map_err(sys("statfs"))?.filesystem_type().0;
    // /dev/ptmx is 5:2 (Documentation/admin-guide/devices.txt).
    if kind != SFlag::S_IFCHR || number != (5, 2) || system != DEVPTS_SUPER_MAGIC {
        return Err(InsideError::NoTerminals);
    }
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let ours = reopen(&ptmx, flags | OFlag::O_NONBLOCK)?;
    let unlock: libc::c_int = 0;
    // SAFETY: reads one int that lives for the whole call.
    let done = unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const unlock) };
    Errno::result(done).map_err(sys("TIOCSPTLCK"))?;
    let flags = (flags | OFlag::O_CLOEXEC).bits();
    // SAFETY: takes a number and returns a new descriptor.
    let peer = unsafe { libc::ioctl(ours.as_raw_fd(), TIOCGPTPEER as _, flags) };
    let peer = Errno::result(peer).map_err(sys("TIOCGPTPEER"))?;
    // SAFETY: the kernel has just created this descriptor for this call.
    Ok((ours, unsafe { OwnedFd::from_raw_fd(peer) }))
}

/// Sends the master of a terminal over a unix socket, as other runtimes do: the message text is its
/// path.
///
/// # Errors
/// Those of `sendmsg(2)`.
pub fn send_terminal(socket: impl AsFd, terminal: impl AsFd) -> Result<(), Errno> {
    let fds = [terminal.as_fd().as_raw_fd()];
    sendmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(b"/dev/ptmx")],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
}

/// Sets the window size of a terminal.
///
/// # Errors
/// Those of `ioctl(2)`.
pub fn resize_terminal(terminal: impl AsFd, rows: u16, columns: u16) -> Result<(), Errno> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: reads one winsize that lives for the whole call.
    Errno::result(unsafe { libc::ioctl(fd, libc::TIOCSWINSZ as _, &raw const size) }).map(drop)
}
