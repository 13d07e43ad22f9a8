//! Starting a container: the parent's side.

use crate::plan::{Plan, PlanError};
use crate::{child, sys};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A container whose setup has begun.
#[derive(Debug)]
pub struct Spawned {
    /// Process id in the caller's pid namespace. The process is a child of the caller's *parent*.
    pub pid: i32,
    /// Its pidfd, which is readable when the process has ended. Close-on-exec.
    pub pidfd: OwnedFd,
    /// The status pipe for [`crate::read_status`], non-blocking: readable with an error message, or
    /// at end of file as soon as the program runs. Close-on-exec.
    pub status: OwnedFd,
    /// With `wait_for_go`: write one byte to let the program start, or close it to end the child.
    /// Close-on-exec.
    pub go: Option<OwnedFd>,
}

/// Why no child was created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    /// The plan is invalid.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A system call failed before the child existed. From clone3, `EAGAIN` means that a limit of
    /// tasks is reached, and `ENODEV` or `EBUSY` that the cgroup cannot have processes.
    #[error("{call}: {}", errno.desc())]
    Sys {
        /// The system call.
        call: &'static str,
        /// The error.
        errno: Errno,
    },
}

/// Starts a container. Returns as soon as the child exists; the result of its setup is read from
/// [`Spawned::status`].
///
/// The calling process must be single-threaded: the child is a copy of the calling thread only and
/// continues in ordinary Rust, so a lock held by another thread would never be released.
/// Descriptors 0 to 2 must be open (to anything).
///
/// # Errors
/// Only failures before the child exists.
pub fn spawn(plan: &Plan<'_>) -> Result<Spawned, SpawnError> {
    plan.check()?;
    let sys_error = |call| move |errno| SpawnError::Sys { call, errno };
    // Both ends are non-blocking: the child writes at most one short message to the empty pipe.
    let (status, status_in_child) = match plan.handover {
        Some(given) => {
            let copy =
                |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(|error| sys::errno_of(&error));
            let reader = copy(given.status_reader).map_err(sys_error("fcntl"))?;
            (reader, copy(given.status).map_err(sys_error("fcntl"))?)
        }
        None => pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(sys_error("pipe2"))?,
    };
    if status_in_child.as_raw_fd() <= 2 {
        return Err(SpawnError::Sys { call: "pipe2", errno: Errno::EBADF });
    }
    let (go_in_child, go) = match plan.wait_for_go && plan.handover.is_none() {
        true => {
            let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(sys_error("pipe2"))?;
            (Some(read), Some(write))
        }
        false => (None, None),
    };
    let namespaces = libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWCGROUP;
    let flags = (namespaces | libc::CLONE_PARENT) as u64 | sys::CLONE_CLEAR_SIGHAND;
    match sys::clone3(flags, Some(plan.cgroup)).map_err(sys_error("clone3"))? {
        sys::Fork::Parent { pid, pidfd } => Ok(Spawned { pid, pidfd, status, go }),
        sys::Fork::Child => {
            let go = plan.handover.map(|given| given.go);
            child::start(plan, &status_in_child, go.or(go_in_child.as_ref().map(AsFd::as_fd)))
        }
    }
}
