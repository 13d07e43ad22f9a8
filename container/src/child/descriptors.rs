//! Closing inherited file descriptors.

use crate::sys;
use nix::errno::Errno;
use std::os::fd::{BorrowedFd, RawFd};

/// Closes every descriptor above 2 except the given ones, and moves those above 2.
///
/// The child is a copy of a process that holds pipes and sockets of other containers. A copy that
/// stays open here would delay their end of file, and a leaked directory is a way out of the
/// container (CVE-2024-21626).
pub(crate) fn keep_only<const N: usize, const M: usize>(
    wanted: [RawFd; N],
    optional: [Option<RawFd>; M],
) -> Result<([BorrowedFd<'static>; N], [Option<BorrowedFd<'static>>; M]), Errno> {
    let mut moved = [0; N];
    for (to, from) in moved.iter_mut().zip(wanted) {
        *to = above_stdio(from)?;
    }
    let mut moved_optional = [None; M];
    for (to, from) in moved_optional.iter_mut().zip(optional) {
        *to = from.map(above_stdio).transpose()?;
    }
    let mut kept: Vec<u32> = moved
        .iter()
        .chain(moved_optional.iter().flatten())
        .filter_map(|fd| u32::try_from(*fd).ok())
        .collect();
    kept.sort_unstable();
    let mut next = 3;
    for fd in kept {
        if next < fd {
            sys::close_range(next, fd - 1, false)?;
        }
        next = fd.saturating_add(1).max(next);
    }
    sys::close_range(next, u32::MAX, false)?;
    // SAFETY: these numbers are open, and this process closes none of them before its exec.
    let borrow = |fd| unsafe { BorrowedFd::borrow_raw(fd) };
    Ok((moved.map(borrow), moved_optional.map(|fd| fd.map(borrow))))
}

/// The descriptor itself, or a close-on-exec copy of it above 2.
fn above_stdio(fd: RawFd) -> Result<RawFd, Errno> {
    if fd > 2 {
        return Ok(fd);
    }
    // SAFETY: duplicating a descriptor is memory-safe.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })
}
