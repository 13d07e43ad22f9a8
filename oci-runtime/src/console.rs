//! The socket of `--console-socket`, which gets the outer end of a container's terminal.

use crate::error::{About, Error, sys};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Connects to it. Anybody but its owner should be kept from it by its directory.
pub(crate) fn connect(path: &Path) -> Result<UnixStream, Error> {
    UnixStream::connect(path).about("connect to", path)
}

/// Sends a terminal, as the engine does it for a container's first program.
pub(crate) fn send(socket: &UnixStream, terminal: impl AsFd) -> Result<(), Error> {
    container::send_terminal(socket, terminal).map_err(sys("sendmsg"))
}
