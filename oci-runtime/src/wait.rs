//! Waits for a setup, or for a program while forwarding signals to it.

use crate::error::{Error, sys};
use container::{Setup, read_status};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::fd::{AsFd, OwnedFd};

/// Signals that are forwarded to the program.
const FORWARDED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// Waits for a setup's report, or for the end of its process without one ([`Setup::Done`]).
pub(crate) fn set_up(status: &OwnedFd, pidfd: &OwnedFd) -> Result<Setup, Error> {
    loop {
        match read_status(status).map_err(sys("read"))? {
            Setup::Pending => {}
            setup => return Ok(setup),
        }
        let mut fds = [
            PollFd::new(status.as_fd(), PollFlags::POLLIN),
            PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::Sys { call: "poll", errno }),
        }
    }
}

/// Blocks the signals that [`program`] waits for, before the program exists. Children set their own
/// mask.
pub(crate) fn block_signals() -> Result<SigSet, Error> {
    let mut set = SigSet::from_iter(FORWARDED);
    set.add(Signal::SIGCHLD);
    set.thread_block().map_err(sys("pthread_sigmask"))?;
    Ok(set)
}

/// Waits for the end of a child, forwards signals to it, and reaps all other children. Returns the
/// exit code, or 128 plus the signal number.
pub(crate) fn program(blocked: &SigSet, pid: i32, pidfd: &OwnedFd) -> Result<u8, Error> {
    loop {
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(WaitStatus::Exited(ended, code)) if ended.as_raw() == pid => {
                    return Ok(code as u8);
                }
                Ok(WaitStatus::Signaled(ended, signal, _)) if ended.as_raw() == pid => {
                    return Ok(128 + signal as i32 as u8);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::Sys { call: "waitpid", errno }),
            }
        }
        match blocked.wait().map_err(sys("sigwait"))? {
            Signal::SIGCHLD => {}
            // It may have ended already.
            signal => drop(container::send_signal(pidfd, signal as i32)),
        }
    }
}

/// Waits for one child; true if it exited with 0.
pub(crate) fn child(pid: Pid) -> Result<bool, Error> {
    loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => {}
            done => return Ok(matches!(done, Ok(WaitStatus::Exited(_, 0)))),
        }
    }
}
