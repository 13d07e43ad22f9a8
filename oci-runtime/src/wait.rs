//! Waiting: for a set-up, and for a program while signals are passed on to it.

use crate::error::{Error, sys};
use container::{Setup, read_status};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::fd::{AsFd, OwnedFd};

/// Signals that are meant for the program.
const PASSED_ON: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// Waits until a set-up tells something, or its process has ended without ([`Setup::Done`]).
pub(crate) fn set_up(status: &OwnedFd, pidfd: &OwnedFd) -> Result<Setup, Error> {
    loop {
        match read_status(status).map_err(sys("read"))? {
            Setup::Pending => {}
            told => return Ok(told),
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

/// Keeps back what [`program`] waits for, from before there is a program. Children have their own mask.
pub(crate) fn keep_signals() -> Result<SigSet, Error> {
    let mut set = SigSet::from_iter(PASSED_ON);
    set.add(Signal::SIGCHLD);
    set.thread_block().map_err(sys("pthread_sigmask"))?;
    Ok(set)
}

/// Waits for the end of a child, passes signals on to it, and reaps whatever else ends. The result is
/// the exit code, or 128 and the number of the signal.
pub(crate) fn program(kept: &SigSet, pid: i32, pidfd: &OwnedFd) -> Result<u8, Error> {
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
        match kept.wait().map_err(sys("sigwait"))? {
            Signal::SIGCHLD => {}
            // It may have ended meanwhile.
            signal => drop(container::send_signal(pidfd, signal as i32)),
        }
    }
}

/// Waits for one child; `Ok` if it has ended with 0.
pub(crate) fn child(pid: Pid) -> Result<bool, Error> {
    loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => {}
            done => return Ok(matches!(done, Ok(WaitStatus::Exited(_, 0)))),
        }
    }
}
