//! A terminal for a container's program.

use super::beneath::Root;
use super::{Context, Problem, StepResult};
use crate::inside::{InsideError, resize_terminal, send_terminal, terminal_of};
use crate::plan::Terminal;
use crate::sys;
use nix::errno::Errno;
use std::os::fd::{BorrowedFd, IntoRawFd};

/// Creates a terminal on the container's /dev/pts, sends the master to `socket`, mounts the other
/// end on /dev/console and returns it.
pub(super) fn open(
    root: &Root,
    plan: &Terminal<'_>,
    socket: BorrowedFd<'static>,
) -> StepResult<BorrowedFd<'static>> {
    let (outer, inner) = terminal_of(root).map_err(|error| match error {
        InsideError::Sys { call, errno } => Problem::new(errno, call),
        other => Problem::new(Errno::ENODEV, other.to_string()),
    })?;
    if let Some((rows, columns)) = plan.size {
        resize_terminal(&outer, rows, columns).context("TIOCSWINSZ")?;
    }
    let console = root.file("/dev/console")?;
    let tree = sys::open_tree(&inner, false).context("/dev/console")?;
    sys::move_mount(&tree, &console).context("/dev/console")?;
    send_terminal(socket, &outer).context("sendmsg")?;
    // SAFETY: ownership is released here; the descriptor stays open until the exec closes it.
    Ok(unsafe { BorrowedFd::borrow_raw(inner.into_raw_fd()) })
}
