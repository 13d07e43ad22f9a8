//! The terminal: its size, and raw mode.

use api_types::Resize;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use signal_hook::low_level::pipe;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, Once};

/// Raw mode. The previous mode is restored when this is dropped, and after a panic, which drops nothing in
/// release builds.
pub struct Raw {
    before: Arc<Before>,
}

/// The previous state of a terminal.
struct Before {
    /// A descriptor of our own, open until the terminal is restored.
    fd: OwnedFd,
    /// In a mutex because it is not `Sync`.
    mode: Mutex<Termios>,
    /// Written to standard output when the terminal is restored.
    leave: &'static [u8],
}

/// The terminal that a panic has to restore.
static CURRENT: Mutex<Option<Arc<Before>>> = Mutex::new(None);

impl Raw {
    /// Sets standard input to raw mode. `leave` is written to standard output at the end to restore the
    /// screen.
    ///
    /// # Errors
    /// Standard input is not a terminal.
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
        // If this fails, restoring the mode has no effect.
        let entered = Raw { before };
        tcsetattr(&entered.before.fd, SetArg::TCSANOW, &raw)?;
        Ok(entered)
    }
}

impl Before {
    fn restore(&self) {
        // Errors are ignored: the terminal may be gone. `Stdout` is avoided: it may be locked, or the cause
        // of the panic.
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

/// Restores the terminal before a panic message is printed.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // If the lock is held, the terminal is being restored already.
            if let Ok(current) = CURRENT.try_lock()
                && let Some(before) = &*current
            {
                before.restore();
            }
            earlier(info);
        }));
    });
}

/// The size of the terminal, if standard output or input is one.
pub fn size() -> Option<Resize> {
    let of = |fd: libc::c_int| {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCGWINSZ writes one winsize, which lives until the call returns; a closed descriptor is
        // an error without effect.
        let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &mut size) };
        (result == 0 && size.ws_row > 0 && size.ws_col > 0)
            .then_some(Resize { rows: size.ws_row, columns: size.ws_col })
    };
    of(libc::STDOUT_FILENO).or_else(|| of(libc::STDIN_FILENO))
}

/// A socket that becomes readable when one of the signals arrives.
///
/// # Errors
/// There are no file descriptors left, or a signal cannot be caught.
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
        // Checked before the drop, which a release build would not reach.
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
        drop(raw);
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
    }
}
