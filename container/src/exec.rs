//! Runs a program inside a running container: for health checks, and for users.
//!
//! A process cannot change its own pid namespace, only that of its future children. So a helper
//! process enters the container's namespaces and creates the actual process, which like every
//! container process becomes a child of the caller's parent (`CLONE_PARENT`).

use crate::cgroup::Cgroup;
use crate::child::{self, Stdio};
use crate::plan::{PlanError, Process};
use crate::seccomp::Filter;
use crate::status::{SetupError, Step, decode_status};
use crate::sys;
use crate::userns::IdRange;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::unistd::pipe2;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Time limit for the helper, in milliseconds. It makes a handful of system calls; if it takes
/// longer, the machine is badly overloaded, and the caller must not hang with it.
const HELPER_TIMEOUT: u16 = 5_000;

/// First byte of the helper's answer.
const STARTED: u8 = 1;
const FAILED: u8 = 0;

/// What to run, and in which container.
#[derive(Debug, Clone)]
pub struct Execution<'a> {
    /// The container's main process.
    pub pidfd: BorrowedFd<'a>,
    /// The container's cgroup; the program counts against its limits.
    pub cgroup: &'a Cgroup,
    /// The ids of the user namespace that the container was started in, if it was.
    pub ids: Option<IdRange>,
    /// The program, its user and its attributes; usually the container's own except for `argv`.
    pub process: Process,
    /// The system calls it may make, as in [`crate::Plan::seccomp`].
    pub seccomp: Option<&'a Filter>,
    /// Its standard input; `None`: the null device.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Its standard output. If it is a terminal, it becomes the program's controlling terminal.
    pub stdout: BorrowedFd<'a>,
    /// Its standard error.
    pub stderr: BorrowedFd<'a>,
}

/// A process created inside a container.
#[derive(Debug)]
pub struct Executed {
    /// Its process id in the caller's pid namespace; a child of the caller's parent.
    pub pid: i32,
    /// Its pidfd. Close-on-exec.
    pub pidfd: OwnedFd,
    /// The status pipe, as [`crate::Spawned::status`].
    pub status: OwnedFd,
    /// The helper's process id. The helper has ended or is about to; the caller's parent reaps it,
    /// too.
    pub helper: i32,
}

/// Why no process was created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// The request is invalid.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A system call of the caller failed.
    #[error("{call}: {}", errno.desc())]
    Sys {
        /// The system call.
        call: &'static str,
        /// The error.
        errno: Errno,
    },
    /// The helper failed. [`Step::Join`] with `ESRCH`: the container has ended.
    #[error(transparent)]
    Helper(#[from] SetupError),
    /// The helper ended without an answer, or did not answer in time and was killed.
    #[error("the helper process did not answer")]
    NoAnswer,
}

/// Runs a program inside a running container. Blocks until the process exists (well under a
/// millisecond); the result of its setup is read from [`Executed::status`].
///
/// The calling process must be single-threaded (see [`crate::spawn()`]).
///
/// # Errors
/// Only failures before the process exists.
pub fn exec(execution: &Execution<'_>) -> Result<Executed, ExecError> {
    execution.process.check()?;
    let sys_error = |call| move |errno| ExecError::Sys { call, errno };
    let (status, status_in_child) =
        pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(sys_error("pipe2"))?;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(sys_error("socketpair"))?;
    if status_in_child.as_raw_fd() <= 2 || theirs.as_raw_fd() <= 2 {
        return Err(ExecError::Sys { call: "pipe2", errno: Errno::EBADF });
    }
    let flags = libc::CLONE_PARENT as u64 | sys::CLONE_CLEAR_SIGHAND;
    match sys::clone3(flags, None::<BorrowedFd<'_>>).map_err(sys_error("clone3"))? {
        sys::Fork::Child => help(execution, &theirs, &status_in_child),
        sys::Fork::Parent { pid: helper, pidfd } => {
            drop((theirs, status_in_child));
            match answer(&ours) {
                Ok((pid, pidfd)) => Ok(Executed { pid, pidfd, status, helper }),
                Err(error) => {
                    if error == ExecError::NoAnswer {
                        // It may have ended already.
                        let _ = sys::send_signal(&pidfd, libc::SIGKILL);
                    }
                    Err(error)
                }
            }
        }
    }
}

/// Waits for the helper's packet.
fn answer(socket: &OwnedFd) -> Result<(i32, OwnedFd), ExecError> {
    let sys_error = |call| move |errno| ExecError::Sys { call, errno };
    loop {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(HELPER_TIMEOUT)) {
            Ok(0) => return Err(ExecError::NoAnswer),
            Ok(_) => break,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(sys_error("poll")(errno)),
        }
    }
    let mut buffer = [0u8; 1024];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let got = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)
        .map_err(sys_error("recvmsg"))?;
    let mut pidfd = None;
    for message in got.cmsgs().map_err(sys_error("recvmsg"))? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            // SAFETY: the kernel has just installed these descriptors for this call.
            pidfd = raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).next();
        }
    }
    let length = got.bytes;
    match (buffer.get(..length), pidfd) {
        (Some([STARTED, p0, p1, p2, p3]), Some(pidfd)) => {
            Ok((i32::from_le_bytes([*p0, *p1, *p2, *p3]), pidfd))
        }
        (Some([FAILED, error @ ..]), _) => Err(decode_status(error).into()),
        _ => Err(ExecError::NoAnswer),
    }
}

/// Runs in the helper.
fn help(execution: &Execution<'_>, socket: &OwnedFd, status: &OwnedFd) -> ! {
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| enter(execution, socket, status)));
    let error = match outcome {
        Ok(Ok(())) => sys::exit(0),
        Ok(Err(error)) => error,
        Err(_) => SetupError {
            step: Step::Internal,
            errno: Errno::ENOTRECOVERABLE,
            detail: "the helper panicked".into(),
        },
    };
    let mut packet = vec![FAILED];
    packet.extend(error.encode());
    // The caller may have stopped waiting.
    let _ = nix::unistd::write(socket, &packet);
    sys::exit(1)
}

fn enter(execution: &Execution<'_>, socket: &OwnedFd, status: &OwnedFd) -> Result<(), SetupError> {
    let failed = |step| move |errno: Errno| SetupError { step, errno, detail: String::new() };
    let ([container, cgroup, _, _, stdout, stderr], [stdin]) = child::keep_only(
        [
            execution.pidfd.as_raw_fd(),
            execution.cgroup.as_fd().as_raw_fd(),
            socket.as_raw_fd(),
            status.as_raw_fd(),
            execution.stdout.as_raw_fd(),
            execution.stderr.as_raw_fd(),
        ],
        [execution.stdin.as_ref().map(AsRawFd::as_raw_fd)],
    )
    .map_err(|errno| failed(Step::Descriptors)(errno))?;
    // The container shares the pid namespace from here on and must not be able to read this copy of
    // the caller's memory (CVE-2016-9962).
    // SAFETY: prctl with integers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })
        .map_err(failed(Step::Session))?;
    // Not the cgroup namespace: with the host's cgroup file system mounted "nsdelegate", a helper
    // inside it could not create a process there, because its own cgroup is outside.
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID;
    setns(container, namespaces).map_err(failed(Step::Join))?;
    match sys::clone3(libc::CLONE_PARENT as u64, Some(cgroup)).map_err(failed(Step::Join))? {
        sys::Fork::Child => child::start_inside(
            &execution.process,
            execution.seccomp,
            container,
            status,
            Stdio { stdin, stdout, stderr },
            execution.ids,
        ),
        sys::Fork::Parent { pid, pidfd } => {
            let mut packet = vec![STARTED];
            packet.extend(pid.to_le_bytes());
            let fds = [pidfd.as_raw_fd()];
            sendmsg::<()>(
                socket.as_raw_fd(),
                &[IoSlice::new(&packet)],
                &[ControlMessage::ScmRights(&fds)],
                MsgFlags::MSG_NOSIGNAL,
                None,
            )
            .map(drop)
            .map_err(failed(Step::Join))
        }
    }
}
