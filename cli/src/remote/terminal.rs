//! The terminal: its size, and input without lines and echo.

use api_types::Resize;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use signal_hook::low_level::pipe;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, Once};

/// Input byte by byte, without echo and signals. The terminal is as it was when this is dropped, and
/// after a panic, which drops nothing in a release.
pub struct Raw {
    before: Arc<Before>,
}

/// How a terminal was.
struct Before {
    /// Our own descriptor: it stays until the terminal is as it was.
    fd: OwnedFd,
    /// Behind a lock because it cannot be shared otherwise.
    mode: Mutex<Termios>,
    /// What to write to standard output before.
    leave: &'static [u8],
}

/// The terminal that a panic has to put in order.
static CURRENT: Mutex<Option<Arc<Before>>> = Mutex::new(None);

impl Raw {
    /// On standard input. `leave` is what brings the screen back, written to standard output at the end.
    ///
    /// # Errors
    /// It is no terminal.
    pub fn enter(leave: &'static [u8]) -> io::Result<Raw> {
        Raw::on(io::stdin().as_fd().try_clone_to_owned()?, leave)
    }

    fn on(fd: OwnedFd, leave: &'static [u8]) -> io::Result<Raw> {
        let mode = tcgetattr(&fd)?;
        let mut raw = mode.clone();
        cfmakeraw(&mut raw);
        let before = Arc::new(Before { fd, mode: Mutex::new(mode), leave });
        restore_on_panic();
        if let Ok(mut current) = CURRENT.lock() {
            *current = Some(Arc::clone(&before));
        }
        // If this fails, dropping it changes nothing.
        let entered = Raw { before };
        tcsetattr(&entered.before.fd, SetArg::TCSANOW, &raw)?;
        Ok(entered)
    }
}

impl Before {
    fn restore(&self) {
        // A terminal that is gone needs nothing. Not by way of `Stdout`: it may be locked, or be what
        // panicked.
        if !self.leave.is_empty() {
            let _ = nix::unistd::write(io::stdout(), self.leave);
        }
        if let Ok(mode) = self.mode.try_lock() {
            let _ = tcsetattr(&self.fd, SetArg::TCSANOW, &mode);
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Ok(mut current) = CURRENT.lock() {
            current.take();
        }
        self.before.restore();
    }
}

/// Puts the terminal in order before a panic says anything.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Whoever holds the lock is about to put it in order.
            if let Ok(current) = CURRENT.try_lock()
                && let Some(before) = &*current
            {
                before.restore();
            }
            earlier(info);
        }));
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_does_not_leave_the_terminal_raw() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let raw = Raw::on(pty.slave.try_clone().unwrap(), b"").unwrap();
        assert_ne!(tcgetattr(&pty.slave).unwrap(), before);
        assert!(std::thread::spawn(|| panic!("on purpose")).join().is_err());
        // In a release nothing would be dropped.
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
        drop(raw);
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
    }
}
