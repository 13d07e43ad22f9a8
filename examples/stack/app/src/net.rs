//! Connections that cannot hang for ever.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a neighbour may take to accept, to answer, or to take what is sent. Shorter than the
/// 5 s after which nginx gives up on this program, so that its page can say who was silent.
const PATIENCE: Duration = Duration::from_secs(3);

/// Resolves `HOST:PORT` (names of units are in /etc/hosts) and connects to the first address that
/// answers.
///
/// # Errors
/// The last address's error; `NotFound` when the name has no address.
pub fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::NotFound.into();
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
