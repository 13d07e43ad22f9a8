//! The terminal: its size, and input without lines and echo.

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use rest::Resize;
use signal_hook::low_level::pipe;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Input byte by byte, without echo and signals. The terminal is as it was when this is dropped.
pub struct Raw {
    fd: OwnedFd,
    before: Termios,
}

impl Raw {
    /// On standard input.
    ///
    /// # Errors
    /// It is no terminal.
    pub fn enter() -> io::Result<Raw> {
        // Our own descriptor: it stays until the terminal is as it was.
        let fd = io::stdin().as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&fd)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&fd, SetArg::TCSANOW, &raw)?;
        Ok(Raw { fd, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(&self.fd, SetArg::TCSANOW, &self.before);
    }
}

/// Lines and columns of the terminal, if standard output or input is one.
pub fn size() -> Option<Resize> {
    let of = |fd: libc::c_int| {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCGWINSZ writes one winsize, which lives until the call returns; the descriptor is
        // only asked and may even be closed.
        let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &mut size) };
        (result == 0 && size.ws_row > 0 && size.ws_col > 0)
            .then_some(Resize { rows: size.ws_row, columns: size.ws_col })
    };
    of(libc::STDOUT_FILENO).or_else(|| of(libc::STDIN_FILENO))
}

/// Becomes readable when one of the signals comes.
///
/// # Errors
/// The kernel has no descriptors left, or a signal cannot be caught.
pub fn signals(numbers: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for number in numbers {
        pipe::register(*number, write.try_clone()?)?;
    }
    Ok(read)
}
