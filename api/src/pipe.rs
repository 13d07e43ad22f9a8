//! One end of a pipe, or a terminal, without blocking.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One end of a pipe, or a terminal.
#[derive(Debug)]
pub struct Pipe(AsyncFd<File>);

impl Pipe {
    /// Watches a descriptor.
    ///
    /// # Errors
    /// fcntl(2) or epoll_ctl(2) fails: a regular file cannot be watched.
    pub fn new(fd: OwnedFd) -> io::Result<Pipe> {
        // SAFETY: F_GETFL and F_SETFL touch nothing but the open file's status flags.
        let done = unsafe {
            let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
            libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: a file owns its descriptor, always gives the same one and closes it only when it is
        // dropped; nothing here takes it out of the `AsyncFd`.
        let fd = unsafe { AsyncFd::register_with_interest(File::from(fd), interest) };
        Ok(Pipe(fd?))
    }

    /// Reads something; 0 at the end.
    ///
    /// # Errors
    /// read(2) fails.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(result) = guard.try_io(|file| ended(file.get_ref().read(buffer))) {
                return result;
            }
        }
    }

    /// Reads what is available now; `None` if nothing is.
    ///
    /// # Errors
    /// read(2) fails.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match ended(self.0.get_ref().read(buffer)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            result => result.map(Some),
        }
    }

    /// Writes something.
    ///
    /// # Errors
    /// write(2) fails.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut guard = self.0.writable().await?;
            if let Ok(result) = guard.try_io(|file| file.get_ref().write(bytes)) {
                return result;
            }
        }
    }
}

/// Waits until the other side of a connection has closed it, even if what it sent before has not been
/// read: `EPOLLRDHUP` of epoll_ctl(2). `connection` is a copy of its descriptor, which is
/// watched already under its own number.
///
/// # Errors
/// epoll_ctl(2) fails.
pub async fn hung_up(connection: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is owned by the `AsyncFd` and closed with it alone.
    let own = unsafe { AsyncFd::register_with_interest(connection, Interest::READABLE) }?;
    loop {
        let mut guard = own.readable().await?;
        if guard.ready().is_read_closed() {
            return Ok(());
        }
        // Until its state changes again.
        guard.clear_ready();
    }
}

/// Reading a terminal that no process has open any more fails with EIO, which is treated as end of
/// file.
fn ended(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
        other => other,
    }
}
