//! Arguments and results of the calls of a [`Kernel`].

use crate::kernel::{Errno, Kernel};
use container::seccomp::Filter;
use container::{IdRange, InlineFile, Mount, Process};
use std::borrow::Cow;
use std::path::PathBuf;
use units::model::Unit;

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {}", errno.desc())]
pub struct CallError {
    /// The system call's name, or the file that it was about.
    pub call: Cow<'static, str>,
    /// Its error.
    pub errno: Errno,
}

impl CallError {
    /// Whether the call was about a process that does not exist any more.
    pub fn is_gone(&self) -> bool {
        matches!(self.errno, Errno::ENOENT | Errno::ESRCH)
    }

    /// The error of this call.
    pub fn new(call: impl Into<Cow<'static, str>>, errno: Errno) -> CallError {
        CallError { call: call.into(), errno }
    }
}

/// Why no connection was begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// A step failed; the supervisor is in its own network namespace, as before.
    #[error(transparent)]
    Failed(CallError),
    /// The supervisor is in a container's network namespace and cannot return: it must end.
    #[error("cannot return to the host's network namespace: {}", .0.desc())]
    Lost(Errno),
}

/// The role of a watched descriptor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The link to PID 1.
    Init,
    /// The link to netsetup.
    Net,
    /// The link to api.
    Api,
    /// The status pipe of a program run in a container, by the number of the request.
    Exec(u64),
    /// A unit's status pipe.
    Setup(String),
    /// A unit's `cgroup.events`.
    Group(String),
    /// A unit's notify socket.
    Notify(String),
    /// A health check's socket or pipe, by the unit's name.
    Probe(String),
    /// The listening control socket.
    Listener,
    /// A control connection.
    Connection(u64),
}

/// The request to start a container: a unit and its image, resolved, with the resources that were
/// created for them.
pub struct StartRequest<'a, K: Kernel> {
    /// The unit.
    pub unit: &'a Unit,
    /// Where the image's layers are mounted, highest first.
    pub layers: Vec<PathBuf>,
    /// The program.
    pub process: Process,
    /// Volumes, host paths and tmpfs.
    pub mounts: Vec<Mount>,
    /// Small files such as `/etc/hosts`.
    pub files: Vec<InlineFile>,
    /// The system calls that the program may make; `None`: all.
    pub filter: Option<&'a Filter>,
    /// The unit's cgroup.
    pub group: &'a K::Cgroup,
    /// The unit's user namespace; `None`: the host's.
    pub userns: Option<&'a K::UserNs>,
    /// The unit's network namespace; `None`: the host's.
    pub netns: Option<&'a K::Fd>,
    /// Its standard output.
    pub stdout: &'a K::Fd,
    /// Its standard error.
    pub stderr: &'a K::Fd,
    /// The program waits for a byte on [`Started::go`] after the setup.
    pub wait_for_go: bool,
}

/// A container whose setup has begun.
#[derive(Debug)]
pub struct Started<F> {
    /// The main process.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: F,
    /// Its status pipe, for [`Kernel::read_status`].
    pub status: F,
    /// With [`StartRequest::wait_for_go`]: the pipe to write the byte to. The end of the pipe
    /// without a byte ends the process: it exits with 125.
    pub go: Option<F>,
}

/// A program to run in a running container.
pub struct ExecRequest<'a, K: Kernel> {
    /// The container's main process.
    pub pidfd: &'a K::Fd,
    /// The container's cgroup.
    pub group: &'a K::Cgroup,
    /// The ids of the container's user namespace.
    pub ids: Option<IdRange>,
    /// The program.
    pub process: Process,
    /// The system calls that it may make; `None`: all.
    pub filter: Option<&'a Filter>,
    /// Its standard input; `None`: the null device.
    pub stdin: Option<&'a K::Fd>,
    /// Its standard output; a terminal becomes the program's controlling terminal.
    pub stdout: &'a K::Fd,
    /// Its standard error.
    pub stderr: &'a K::Fd,
}

/// A program that was started in a container.
#[derive(Debug)]
pub struct Executed<F> {
    /// Its process.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: F,
    /// Its status pipe, for [`Kernel::read_status`].
    pub status: F,
}

/// A network namespace and the way to configure it from outside.
#[derive(Debug)]
pub struct NetNs<F> {
    /// The namespace; it exists as long as a descriptor of it or a process in it.
    pub ns: F,
    /// A route socket inside it.
    pub route_socket: F,
}

/// A unit that has a state file, with its text or the error reading it.
pub type StateFile = (String, Result<String, CallError>);

/// A process, as proc_pid_status(5) describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStatus {
    /// Its parent (`PPid`).
    pub parent: i32,
    /// Its number in each pid namespace that it is in (`NSpid`), the host's first.
    pub ns_pids: Vec<i32>,
}
