//! The state of a container, determined from the kernel.

use crate::error::{Error, sys};
use crate::store::{Entry, Identity, State};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

/// The states of the specification (runtime-spec `runtime.md`, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `create` has not finished.
    Creating,
    /// Set up and waiting for `start`.
    Created,
    /// Its program runs.
    Running,
    /// Its process has ended, reaped or not.
    Stopped,
}

impl Status {
    /// The name in the specification.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Stopped => "stopped",
        }
    }
}

/// Opens a pidfd of a process, unless it has ended or its ID has been reused.
///
/// # Errors
/// A system call failed.
pub fn hold(process: Identity) -> Result<Option<OwnedFd>, Error> {
    // SAFETY: integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.pid, 0) };
    let fd = match Errno::result(fd) {
        Err(Errno::ESRCH) => return Ok(None),
        done => RawFd::try_from(done.map_err(sys("pidfd_open"))?).map_err(|_| Errno::EBADF),
    };
    // SAFETY: the kernel has just made it for this call.
    let pidfd = unsafe { OwnedFd::from_raw_fd(fd.map_err(sys("pidfd_open"))?) };
    // A process ID is not reused before its process is reaped. So if the start time matches and the
    // process has not ended after that, the pidfd refers to the recorded process.
    match start_time(process.pid) {
        Some(time) if time == process.start_time && !has_ended(&pidfd)? => Ok(Some(pidfd)),
        _ => Ok(None),
    }
}

/// Whether a process has ended, reaped or not.
pub(crate) fn has_ended(pidfd: &OwnedFd) -> Result<bool, Error> {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, PollTimeout::ZERO).map_err(sys("poll"))? > 0)
}

/// When a process was started; `None`: it does not exist.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything; field 3 follows it (proc_pid_stat(5)).
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(22 - 3)?.parse().ok()
}

/// The write end of the FIFO that a created container waits on; `None`: no process waits. The only
/// reader is ever the container's process before its exec.
///
/// # Errors
/// The FIFO cannot be opened.
pub(crate) fn go(entry: &Entry) -> Result<Option<OwnedFd>, Error> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    match open(&entry.path("go"), flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENXIO | Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::Sys { call: "open", errno }),
    }
}

/// The state of a container, and its process if it has not ended.
///
/// # Errors
/// The state directory cannot be read.
pub fn of(entry: &Entry, state: &State) -> Result<(Status, Option<OwnedFd>), Error> {
    let pidfd = match state.process {
        Some(process) => hold(process)?,
        None => None,
    };
    let status = match (&pidfd, state.created) {
        (_, false) => Status::Creating,
        (None, true) => Status::Stopped,
        (Some(_), true) => match go(entry)? {
            Some(_) => Status::Created,
            None => Status::Running,
        },
    };
    Ok((status, pidfd))
}

/// The state in JSON, as printed and as passed to hooks.
pub fn report(state: &State, status: Status) -> Value {
    let pid = match (status, state.process) {
        (Status::Stopped, _) | (_, None) => 0,
        (_, Some(process)) => process.pid,
    };
    json!({
        "ociVersion": state.version,
        "id": state.id,
        "status": status.name(),
        "pid": pid,
        "bundle": state.bundle,
        "annotations": state.annotations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_process_id_is_another_process() {
        let pid = std::process::id() as i32;
        let start_time = start_time(pid).unwrap();
        assert!(hold(Identity { pid, start_time }).unwrap().is_some());
        assert!(hold(Identity { pid, start_time: start_time - 1 }).unwrap().is_none());
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let pid = child.id() as i32;
        let identity = Identity { pid, start_time: start_time(pid).unwrap() };
        let pidfd = hold(identity).unwrap().unwrap();
        container::send_signal(&pidfd, libc::SIGKILL).unwrap();
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        assert!(start_time_is(identity), "it is a zombie now");
        assert!(hold(identity).unwrap().is_none());
        child.wait().unwrap();
        assert!(hold(identity).unwrap().is_none());
    }

    fn start_time_is(identity: Identity) -> bool {
        start_time(identity.pid) == Some(identity.start_time)
    }
}
