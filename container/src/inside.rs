//! Files and terminals of a running container, opened from outside.
//!
//! Every path is resolved inside the container's root by openat2(2) (`RESOLVE_IN_ROOT`): whatever
//! links the container makes, they lead nowhere else (CVE-2018-15664, CVE-2019-14271). Nothing is
//! opened for use before it is known what it is, because opening a FIFO waits and opening a device
//! acts.

use crate::sys::openat2;
use crate::userns;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use nix::sys::statfs::fstatfs;
use std::ffi::CString;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// include/uapi/linux/openat2.h.
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// include/uapi/linux/magic.h.
const DEVPTS_SUPER_MAGIC: libc::c_long = 0x1cd1;

/// `TIOCGPTPEER` (ioctl_tty(2)): the other end of a terminal by its master, whatever is mounted where.
const TIOCGPTPEER: libc::Ioctl = 0x5441;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing from its beginning; it is emptied, or made with these permissions.
    Write {
        /// Permissions of a file that is made.
        mode: u32,
        /// Whose it is then: what the container's root is on the host.
        owner: u32,
    },
}

/// Why nothing was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InsideError {
    /// The container has ended.
    #[error("the container has ended")]
    Ended,
    /// The path is not one.
    #[error("not an absolute path")]
    Path,
    /// Directories, devices and pipes are not copied.
    #[error("not a regular file")]
    NotAFile,
    /// The container's /dev/pts has no terminals to give.
    #[error("the container has no terminals: /dev/pts/ptmx is not what it should be")]
    NoTerminals,
    /// A system call failed.
    #[error("{call}: {}", errno.desc())]
    Sys {
        /// Its name.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
}

fn sys(call: &'static str) -> impl Fn(Errno) -> InsideError {
    move |errno| InsideError::Sys { call, errno }
}

/// The root directory of the container whose main process is `pid`, and that `pidfd` holds on to.
fn root(pid: i32, pidfd: BorrowedFd<'_>) -> Result<OwnedFd, InsideError> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(path.as_str(), flags, Mode::empty()).map_err(sys("open"))?;
    // Only now is it certain that the number was still its own.
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(0) => Ok(root),
        Ok(_) => Err(InsideError::Ended),
        Err(errno) => Err(sys("poll")(errno)),
    }
}

/// The thing at `path`, not yet opened for use.
fn look_up(root: impl AsFd, path: &str) -> Result<OwnedFd, InsideError> {
    if !path.starts_with('/') {
        return Err(InsideError::Path);
    }
    let name = CString::new(path).map_err(|_| InsideError::Path)?;
    let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    openat2(root, &name, libc::O_PATH, 0, resolve).map_err(sys("open"))
}

/// The same thing, opened for use.
fn reopen(thing: &OwnedFd, flags: OFlag) -> Result<OwnedFd, InsideError> {
    let path = format!("/proc/self/fd/{}", thing.as_raw_fd());
    // Without O_NONBLOCK a lease that a program of the container has on its file (fcntl(2)) is waited
    // for. Regular files and terminals are read and written as ever.
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
    let thing = match (look_up(&root, path), access) {
        (Err(InsideError::Sys { errno: Errno::ENOENT, .. }), Access::Write { mode, owner }) => {
            let name = CString::new(path).map_err(|_| InsideError::Path)?;
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
            let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
            let make = || openat2(&root, &name, flags, mode & 0o7777, resolve);
            return userns::with_files_as(owner, make).and_then(|made| made).map_err(sys("create"));
        }
        (thing, _) => thing?,
    };
    let kind = SFlag::from_bits_truncate(fstat(&thing).map_err(sys("stat"))?.st_mode);
    if kind & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(InsideError::NotAFile);
    }
    match access {
        Access::Read => reopen(&thing, OFlag::O_RDONLY),
        Access::Write { .. } => reopen(&thing, OFlag::O_WRONLY | OFlag::O_TRUNC),
    }
}

/// A new terminal of a running container: the end for whoever looks on, and the end for the program.
///
/// # Errors
/// The container has no devpts file system at /dev/pts.
pub fn open_terminal(pid: i32, pidfd: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd), InsideError> {
    terminal_of(root(pid, pidfd)?)
}

/// A new terminal of the container with this root directory.
pub(crate) fn terminal_of(root: impl AsFd) -> Result<(OwnedFd, OwnedFd), InsideError> {
    let thing = look_up(root, "/dev/pts/ptmx")?;
    let stat = fstat(&thing).map_err(sys("stat"))?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let number = (major(stat.st_rdev), minor(stat.st_rdev));
    let system = fstatfs(&thing).map_err(sys("statfs"))?.filesystem_type().0;
    // The one device of its kind (Documentation/admin-guide/devices.txt).
    if kind != SFlag::S_IFCHR || number != (5, 2) || system != DEVPTS_SUPER_MAGIC {
        return Err(InsideError::NoTerminals);
    }
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let ours = reopen(&thing, flags | OFlag::O_NONBLOCK)?;
    let unlock: libc::c_int = 0;
    // SAFETY: reads one int that lives through the call.
    let done = unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const unlock) };
    Errno::result(done).map_err(sys("TIOCSPTLCK"))?;
    let flags = (flags | OFlag::O_CLOEXEC).bits();
    // SAFETY: takes a number, gives a new descriptor.
    let peer = unsafe { libc::ioctl(ours.as_raw_fd(), TIOCGPTPEER as _, flags) };
    let peer = Errno::result(peer).map_err(sys("TIOCGPTPEER"))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok((ours, unsafe { OwnedFd::from_raw_fd(peer) }))
}

/// Sends the outer end of a terminal over a unix socket, as other runtimes do it: the text beside the
/// descriptor is its path.
///
/// # Errors
/// sendmsg(2)'s.
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

/// Tells a terminal how large its window is.
///
/// # Errors
/// ioctl(2)'s.
pub fn resize_terminal(terminal: impl AsFd, rows: u16, columns: u16) -> Result<(), Errno> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: reads one winsize that lives through the call.
    Errno::result(unsafe { libc::ioctl(fd, libc::TIOCSWINSZ as _, &raw const size) }).map(drop)
}
