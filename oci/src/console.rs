//! The socket of `--console-socket`, which gets the outer end of a container's terminal.

use crate::error::{About, Error, sys};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Connects to it. Anybody but its owner should be kept from it by its directory.
pub(crate) fn connect(path: &Path) -> Result<UnixStream, Error> {
    UnixStream::connect(path).about("connect to", path)
}

/// Sends a terminal, as the engine does it for a container's first program.
pub(crate) fn send(socket: &UnixStream, terminal: impl AsFd) -> Result<(), Error> {
    let fds = [terminal.as_fd().as_raw_fd()];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(b"/dev/ptmx")],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
    .map_err(sys("sendmsg"))
}
