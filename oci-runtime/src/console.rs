//! The socket of `--console-socket`, which receives the master end of a container's terminal.

use crate::error::{About, Error, sys};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Connects to the socket. The permissions of its directory should exclude other users.
pub(crate) fn connect(path: &Path) -> Result<UnixStream, Error> {
    UnixStream::connect(path).about("connect to", path)
}

/// Sends a terminal, as the engine does for a container's first program.
pub(crate) fn send(socket: &UnixStream, terminal: impl AsFd) -> Result<(), Error> {
    container::send_terminal(socket, terminal).map_err(sys("sendmsg"))
}
