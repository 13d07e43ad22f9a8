//! TCP connections with timeouts.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Timeout for connecting, reading and writing. Shorter than nginx's read timeout, so that the error
/// page can name the server that did not answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Resolves `HOST:PORT` (unit names are in /etc/hosts) and connects to the first address that
/// answers.
///
/// # Errors
/// The error of the last address; `NotFound` if the name has no address.
pub fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::NotFound.into();
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
