//! A terminal of the container's own, for a program that is run with one from the beginning.

use super::beneath::Root;
use super::{About, Done, Problem};
use crate::inside::{InsideError, resize_terminal, send_terminal, terminal_of};
use crate::plan::Terminal;
use crate::sys;
use nix::errno::Errno;
use std::os::fd::{BorrowedFd, IntoRawFd};

/// Makes a terminal on the container's /dev/pts, sends the outer end away, shows the inner end as
/// /dev/console and returns it.
pub(super) fn open(
    root: &Root,
    plan: &Terminal<'_>,
    socket: BorrowedFd<'static>,
) -> Done<BorrowedFd<'static>> {
    let (outer, inner) = terminal_of(root).map_err(|error| match error {
        InsideError::Sys { call, errno } => Problem::new(errno, call),
        other => Problem::new(Errno::ENODEV, other.to_string()),
    })?;
    if let Some((rows, columns)) = plan.size {
        resize_terminal(&outer, rows, columns).about("TIOCSWINSZ")?;
    }
    let console = root.file("/dev/console")?;
    let tree = sys::open_tree(&inner, c"", false).about("/dev/console")?;
    sys::move_mount(&tree, &console).about("/dev/console")?;
    send_terminal(socket, &outer).about("the console socket")?;
    // SAFETY: the descriptor is given up here and stays open until the exec, which closes it.
    Ok(unsafe { BorrowedFd::borrow_raw(inner.into_raw_fd()) })
}
