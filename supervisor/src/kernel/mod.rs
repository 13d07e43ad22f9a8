//! The supervisor's interface to the kernel, as one trait.
//!
//! [`Shell`](crate::shell::Shell) makes no system call of its own: it calls a [`Kernel`].
//! [`linux::Linux`] is the real one. A simulator implements the trait too and runs the supervisor
//! against simulated processes, cgroups, links, files and time, in one thread and reproducibly.
//!
//! # Contract
//!
//! The methods are operations of the supervisor rather than single system calls, so that both
//! implementations are short. What an implementation may do, and what the supervisor must
//! therefore cope with:
//!
//! *Errors.* Every call that returns a `Result` may fail with any error that its documentation
//! names, at any time, and again at the next attempt. A failed call has changed nothing unless its
//! documentation says otherwise. `ENOMEM` is possible wherever the kernel allocates, `EMFILE` and
//! `ENFILE` wherever a descriptor is made, `EINTR` nowhere (implementations retry). Calls that
//! return something else never fail, or read as "nothing" when they do.
//!
//! *Death.* The supervisor can be killed before and after every call, and in the middle of it where
//! the call is not atomic (its documentation says what a successor then finds). The kernel closes
//! all its descriptors, and with them its links; duplicates that PID 1 keeps stay open. A simulator
//! ends the supervisor by unwinding from a call: nothing in the supervisor's state makes calls when
//! it is dropped.
//!
//! *Processes.* A container's main process, a program run in a container, and the helper of
//! [`Kernel::exec`] are children of PID 1, not of the supervisor. They can end at any moment, also
//! before the call that made them returns. What a process's end makes visible, and in which order:
//! - When it dies, its pidfd becomes readable ([`Kernel::has_ended`]), its status pipe comes to its
//!   end, and [`Kernel::populated`] and [`Kernel::group_processes`] no longer count it, in any
//!   order. PID 1 reaps it later, and only then sends [`ipc::FromInit::Exited`]. So each of these
//!   can be seen long before that message.
//! - PID 1's messages arrive in the order of their `seq`. Processes may be reaped in another order
//!   than they died.
//! - When the main process of a container dies, the kernel kills every other process in its pid
//!   namespace (including programs that [`Kernel::exec`] started there). It is dead only when these
//!   have been reaped, those programs by PID 1. Processes outside that namespace, such as the
//!   helper of [`Kernel::exec`], stay in the cgroup until they end by themselves.
//! - A process number is reused only after it has been reaped. A pidfd never refers to another
//!   process.
//! - A process that the OOM killer ends has been counted ([`Kernel::oom_kills`]) before it is dead.
//!
//! *Notices.* [`Source::Group`] reports a change of `cgroup.events`. The kernel throttles these
//! notices (to one in 10 ms for each cgroup) and merges them: one may come late, and one may stand
//! for several changes or for a change that has been reversed since. After a change, one always
//! comes. [`Kernel::populated`] itself is never out of date. A signal and [`Kernel::kill_group`]
//! act some time after the call has returned, and not at all on a process in uninterruptible sleep
//! until that ends.
//!
//! *Links.* See [`ipc::Link`]. A link's other side may take any time before it reads or answers.
//! Messages on different links have no order among each other.
//!
//! *Time.* [`Kernel::now_us`] never goes back. Any time may pass in any call.
//!
//! *Survivors.* What outlives the supervisor: processes, cgroups with their limits, device filters
//! and notes, mounts, files below `/run`, and what PID 1 keeps. Everything else is gone: pipes and
//! pidfds that only the supervisor held, watches, the control socket's connections.

pub mod linux;
pub mod observe;
mod types;

pub use nix::errno::Errno;
pub use nix::sys::epoll::EpollFlags;
pub use observe::Observe;
pub use types::{
    CallError, ConnectError, ExecRequest, Executed, NetNs, ProcessStatus, Source, StartRequest,
    Started, StateFile,
};

use container::{
    CgroupError, DeviceFilterError, DeviceRule, ExecError, IdRange, InsideError, Limits,
    NetNsError, Setup, SpawnError, UserNsError,
};
use ipc::{ChannelError, Link, Service};
use layout::Cmdline;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The handle types of a kernel. Dropping a value closes its descriptor.
pub trait Handles: Sized {
    /// A file descriptor. It is close-on-exec.
    type Fd;
    /// One end of a link; it is made of a descriptor and can be watched by it.
    type Link: Link<Fd = Self::Fd> + AsRef<Self::Fd> + From<Self::Fd>;
    /// A unit's cgroup.
    type Cgroup;
    /// A unit's user namespace with its ids.
    type UserNs;
}

/// The supervisor's interface to the kernel; see the module for the contract.
pub trait Kernel: Observe {
    // Time, waiting.

    /// `CLOCK_MONOTONIC` in microseconds.
    fn now_us(&self) -> u64;

    /// Waits until a watched descriptor is ready or `timeout_ms` has passed (`None`: without
    /// limit), and returns what is ready: at most 64 sources, in any order.
    ///
    /// It may return early, and with nothing. One source can have been unwatched, and its
    /// descriptor closed, while an earlier one of the same call was handled.
    fn wait(&mut self, timeout_ms: Option<u64>) -> Vec<(Source, EpollFlags)>;

    /// Waits until a link is readable (or closed); `false` when `timeout_ms` has passed before.
    /// Only used before the first [`Kernel::wait`]: a simulator must let PID 1 run here.
    ///
    /// # Errors
    /// `ENOMEM` (poll(2)).
    fn wait_for_link(&self, link: &Self::Link, timeout_ms: u16) -> Result<bool, CallError>;

    /// Watches a descriptor for `flags` (`EPOLLIN`, `EPOLLOUT`, `EPOLLPRI`; with `EPOLLET` each
    /// change is reported once, else what is ready is reported by each [`Kernel::wait`]).
    /// `EPOLLHUP` and `EPOLLERR` are always reported: a pipe or socket whose other side is closed.
    ///
    /// A source is watched once: watching it again replaces the earlier watch.
    ///
    /// # Errors
    /// `ENOMEM`; `ENOSPC` (`max_user_watches`); `EEXIST`: this descriptor is watched already
    /// (epoll_ctl(2)).
    fn watch(&mut self, source: Source, fd: &Self::Fd, flags: EpollFlags) -> Result<(), CallError>;

    /// Watches for other flags. With `EPOLLET` what is ready now is reported again.
    ///
    /// # Errors
    /// `ENOENT`: the source is not watched; `ENOMEM`.
    fn rewatch(
        &mut self,
        source: &Source,
        fd: &Self::Fd,
        flags: EpollFlags,
    ) -> Result<(), CallError>;

    /// Stops watching a descriptor. Call this before the descriptor is closed if there may be a
    /// duplicate elsewhere (with PID 1, in a container): a duplicate keeps the watch, which could
    /// then no longer be removed. A source that is not watched is no error.
    fn unwatch(&mut self, source: &Source, fd: &Self::Fd);

    // Descriptors.

    /// The link that PID 1 left open at this number ([`ipc::fds`]). Called once for each.
    ///
    /// # Errors
    /// `EBADF`: nothing is open there.
    fn inherited(&self, number: i32) -> Result<Self::Link, ChannelError>;

    /// Ends a link for all holders of both ends (shutdown(2)): what is queued can still be read,
    /// then both sides find the link closed.
    fn shut_down(&self, link: &Self::Link);

    /// Another descriptor for the same thing.
    ///
    /// # Errors
    /// `EMFILE` (fcntl(2)).
    fn duplicate(&self, fd: &Self::Fd) -> Result<Self::Fd, CallError>;

    /// A pipe: the end to read from and the end to write to, both blocking.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` (pipe(2)).
    fn pipe(&self) -> Result<(Self::Fd, Self::Fd), CallError>;

    /// Makes a descriptor non-blocking.
    ///
    /// # Errors
    /// None that the man page names for it (fcntl(2)).
    fn set_nonblocking(&self, fd: &Self::Fd) -> Result<(), CallError>;

    /// Reads from a non-blocking descriptor; 0 is its end.
    ///
    /// # Errors
    /// `EAGAIN`: there is nothing now. Of a socket also `ECONNRESET`, `ETIMEDOUT`; of a terminal or
    /// a virtio port `EIO`.
    fn read(&self, fd: &Self::Fd, buffer: &mut [u8]) -> Result<usize, Errno>;

    /// Writes as much as is accepted without waiting, to a non-blocking descriptor or an empty
    /// pipe.
    ///
    /// # Errors
    /// `EAGAIN`: nothing is accepted now. `EPIPE`: there is no reader any more. Of a socket also
    /// `ECONNRESET`, `ETIMEDOUT`; of a virtio port `EIO`.
    fn write(&self, fd: &Self::Fd, bytes: &[u8]) -> Result<usize, Errno>;

    /// A file in memory with this content, to be read from its beginning.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM` (memfd_create(2)), `ENOSPC` (write(2)).
    fn memory_file(&self, content: &[u8]) -> Result<Self::Fd, CallError>;

    // The boot, the console.

    /// Keelhost's parameters on the kernel command line.
    fn cmdline(&self) -> Cmdline;

    /// Whether PID 1 had to set the clock in this boot, because it was before the image was made.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM` (open(2)).
    fn clock_was_raised(&self) -> Result<bool, CallError>;

    /// Prints a line on the console, now or when the console accepts it. If the console is too
    /// slow, lines are lost.
    fn print(&mut self, line: &str);

    // State files: one for each unit, below /run.

    /// All state files. Each may be unreadable by itself: `EMFILE`, `ENFILE`, `ENOMEM`, `EIO`, or
    /// `EILSEQ` when it is not UTF-8.
    ///
    /// # Errors
    /// The folder cannot be read: `EMFILE`, `ENFILE`, `ENOMEM`, `ENOENT` (open(2)).
    fn state_files(&self) -> Result<Vec<StateFile>, CallError>;

    /// Replaces a unit's state file atomically: if it fails, or the supervisor is killed in the
    /// middle of it, the file has its old content. After it has returned successfully the new
    /// content outlives the supervisor.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`, `EMFILE`, `ENFILE` (open(2), write(2), rename(2)).
    fn save_state(&self, unit: &str, text: &str) -> Result<(), CallError>;

    // Cgroups.

    /// The names of all units that have a cgroup.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM` (open(2), getdents(2)).
    fn groups(&self) -> Result<BTreeSet<String>, CallError>;

    /// Makes a unit's cgroup with these limits, or takes an existing one over and sets its limits.
    /// Not atomic: after an error, or a death in the middle of it, there may be a cgroup without
    /// all of its limits.
    ///
    /// # Errors
    /// `ENOMEM`, `ENOSPC` and `EAGAIN` (`cgroup.max.descendants`), `EMFILE`, `ENFILE`; of a limit
    /// `EINVAL`, `ERANGE`, `EBUSY`; `ENOENT`: its controller is not enabled.
    fn create_group(&self, unit: &str, limits: &Limits) -> Result<Self::Cgroup, CgroupError>;

    /// Opens the cgroup that a unit has.
    ///
    /// # Errors
    /// `ENOENT`: it has none; `EMFILE`, `ENFILE`, `ENOMEM`.
    fn open_group(&self, unit: &str) -> Result<Self::Cgroup, CgroupError>;

    /// Opens `cgroup.events` to be watched for `EPOLLPRI | EPOLLET`; see the module about notices.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`; `ENODEV`: the cgroup has been removed.
    fn group_events(&self, group: &Self::Cgroup) -> Result<Self::Fd, CgroupError>;

    /// Whether it contains a process. One that is dead and not yet reaped does not count.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`, `ENODEV`.
    fn populated(&self, group: &Self::Cgroup) -> Result<bool, CgroupError>;

    /// Sends SIGKILL to all its processes, including those that are made during the call. They die
    /// some time later.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`, `ENODEV`. None of them, or only some, may have been sent it.
    fn kill_group(&self, group: &Self::Cgroup) -> Result<(), CgroupError>;

    /// How many of its processes the OOM killer has ended since it was made; `None`: not counted.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`, `ENODEV`.
    fn oom_kills(&self, group: &Self::Cgroup) -> Result<Option<u64>, CgroupError>;

    /// Stores a number with the cgroup; it outlives the supervisor.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM` (fsetxattr(2)).
    fn set_note(&self, group: &Self::Cgroup, number: u64) -> Result<(), CgroupError>;

    /// The number that was stored; `None`: there is none, or it cannot be read.
    fn note(&self, group: &Self::Cgroup) -> Option<u64>;

    /// The processes in it that are not dead, without those of cgroups below it.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`, `ENODEV`.
    fn group_processes(&self, group: &Self::Cgroup) -> Result<Vec<i32>, CgroupError>;

    /// The rule that allows the device node at `path`; `None`: there is no such node.
    fn device_rule(&self, path: &Path) -> Option<DeviceRule>;

    /// Lets the processes of a cgroup open exactly these devices. It outlives the supervisor.
    ///
    /// # Errors
    /// `ENOMEM`, `EMFILE`, `ENFILE`, `EPERM`, `E2BIG` (bpf(2)).
    fn set_device_filter(
        &mut self,
        group: &Self::Cgroup,
        rules: &[DeviceRule],
    ) -> Result<(), DeviceFilterError>;

    /// Limits what its processes read from and write to the disk that `path` is on, in bytes a
    /// second; `None` is no limit.
    ///
    /// # Errors
    /// `ENOENT`: the kernel has no `io` controller; `ENODEV`: there is no such disk, or it has no
    /// number; `EMFILE`, `ENFILE`, `ENOMEM`.
    fn limit_io(
        &self,
        group: &Self::Cgroup,
        path: &str,
        read: Option<u64>,
        write: Option<u64>,
    ) -> Result<(), CgroupError>;

    // Resources of containers.

    /// The layers that are mounted.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM` (open(2)).
    fn mounted_layers(&self) -> Result<BTreeSet<String>, CallError>;

    /// Mounts a layer that is not mounted yet at [`Kernel::layer_path`]. It outlives the
    /// supervisor.
    ///
    /// # Errors
    /// `ENOMEM`, `ENODEV`, `EINVAL`, `EIO`, `EMFILE` (mount(2)); `ENOENT`: there is no such layer;
    /// `ENOSPC`. A directory without a mount may be left behind.
    fn mount_layer(&self, layer: &str) -> Result<(), CallError>;

    /// Where a layer is mounted.
    fn layer_path(&self, layer: &str) -> PathBuf;

    /// Makes a directory; one that exists already is fine and keeps its mode.
    ///
    /// # Errors
    /// `ENOSPC`, `EDQUOT`, `EROFS`, `ENOTDIR`, `ENOENT` (its parent), `ENOMEM`, `EIO`, `EACCES`
    /// (mkdir(2)).
    fn make_dir(&self, path: &Path, mode: u32) -> Result<(), CallError>;

    /// Makes a user namespace in which the ids from 0 are the host's from `ids.first`.
    ///
    /// # Errors
    /// `ENOSPC`, `EUSERS`, `ENOMEM`, `EAGAIN`, `EPERM`, `EMFILE`, `ENFILE`; `ECHILD`: the process
    /// that makes it was killed (clone(2), user_namespaces(7)).
    fn create_userns(&self, ids: IdRange) -> Result<Self::UserNs, UserNsError>;

    /// Makes a network namespace that belongs to `userns` (`None`: the host's).
    ///
    /// # Errors
    /// `ENOSPC`, `EUSERS`, `ENOMEM`, `EMFILE`, `ENFILE`, `EAGAIN`, `EPERM` (unshare(2), setns(2)).
    /// After [`NetNsError::Lost`] the supervisor must end.
    fn create_netns(&self, userns: Option<&Self::UserNs>) -> Result<NetNs<Self::Fd>, NetNsError>;

    /// Makes both.
    ///
    /// # Errors
    /// As the two.
    fn create_userns_and_netns(
        &self,
        ids: IdRange,
    ) -> Result<(Self::UserNs, NetNs<Self::Fd>), NetNsError>;

    /// The user namespace that PID 1 has kept.
    fn kept_userns(&self, ns: Self::Fd, ids: IdRange) -> Self::UserNs;

    /// Another descriptor of a user namespace, for PID 1 to keep.
    ///
    /// # Errors
    /// `EMFILE` (fcntl(2)).
    fn duplicate_userns(&self, userns: &Self::UserNs) -> Result<Self::Fd, CallError>;

    /// Makes a unit's notify socket at [`crate::running::notify::path`], in place of one that is
    /// there.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`, `ENOBUFS`, `EADDRINUSE`, `ENOSPC` (socket(2), bind(2)).
    fn notify_socket(&self, unit: &str) -> Result<Self::Fd, CallError>;

    /// The next datagram of a notify socket, as far as it fits, which stays in the socket; `None`:
    /// there is none now. A successor finds it there, if this supervisor dies before what it says is
    /// saved.
    fn peek_notice(&self, socket: &Self::Fd, buffer: &mut [u8]) -> Option<usize>;

    /// Takes the datagram away that [`Kernel::peek_notice`] has shown.
    fn drop_notice(&self, socket: &Self::Fd);

    // Processes.

    /// Starts a container. The process exists from some moment in this call: a death in the middle
    /// of it may leave a process in the cgroup that nothing else knows of.
    ///
    /// # Errors
    /// [`SpawnError::Plan`]: the request is wrong. [`SpawnError::Sys`]: `EMFILE`, `ENFILE` (pipe2);
    /// `EAGAIN`, `ENOMEM`, `ENOSPC`, `EUSERS`, `EPERM`, `EBUSY`, `ENODEV`, `EOPNOTSUPP` (clone3).
    /// No process was made.
    fn spawn(&self, request: &StartRequest<'_, Self>) -> Result<Started<Self::Fd>, SpawnError>;

    /// Runs a program in a running container. Blocks for up to five seconds. A death in the middle
    /// of it may leave the helper, the program or both.
    ///
    /// # Errors
    /// As [`Kernel::spawn`]; [`ExecError::Helper`]: a step of the helper failed, with `ESRCH` when
    /// the container has ended; [`ExecError::NoAnswer`]: the helper was killed (the program may
    /// exist).
    fn exec(&self, request: &ExecRequest<'_, Self>) -> Result<Executed<Self::Fd>, ExecError>;

    /// What the status pipe of a start says. [`Setup::Done`] is the end of the pipe: the program
    /// was executed, or the process was killed before. A failed setup says why, once, before the
    /// process exits with 125; after that the pipe is at its end.
    ///
    /// # Errors
    /// `EIO`, `ENOMEM` (read(2)).
    fn read_status(&self, status: &Self::Fd) -> Result<Setup, Errno>;

    /// Sends a signal to the process of a pidfd.
    ///
    /// # Errors
    /// `ESRCH`: it has been reaped; `ENOMEM`, `EAGAIN` (real-time signals). One that is dead but
    /// not reaped takes it and does nothing.
    fn signal(&self, pidfd: &Self::Fd, signal: i32) -> Result<(), Errno>;

    /// Whether the process of a pidfd is dead.
    ///
    /// # Errors
    /// `ENOMEM` (poll(2)).
    fn has_ended(&self, pidfd: &Self::Fd) -> Result<bool, CallError>;

    /// The pidfd of a process.
    ///
    /// # Errors
    /// `ESRCH`: there is no such process; `EMFILE`, `ENFILE`, `ENOMEM` (pidfd_open(2)).
    fn open_pidfd(&self, pid: i32) -> Result<Self::Fd, CallError>;

    /// Whether a process has executed its own program, and is no longer a copy of the supervisor.
    ///
    /// # Errors
    /// `ENOENT`, `ESRCH`: there is no such process, or it is dead; `ENOMEM`.
    fn is_executed(&self, pid: i32) -> Result<bool, CallError>;

    /// What the kernel says of a process.
    ///
    /// # Errors
    /// `ENOENT`, `ESRCH`: it is gone; `EMFILE`, `ENFILE`, `ENOMEM` (open(2), read(2)).
    fn process_status(&self, pid: i32) -> Result<ProcessStatus, CallError>;

    /// Sends a signal to one of PID 1's services and returns its process ID.
    ///
    /// # Errors
    /// `ESRCH`: it does not run; `EMFILE`, `ENFILE`, `ENOMEM`.
    fn signal_service(&self, service: Service, signal: i32) -> Result<i32, CallError>;

    /// A new terminal of a running container: the end for the user, and the end for the program.
    ///
    /// # Errors
    /// See [`InsideError`]; `EMFILE`, `ENFILE`, `ENOMEM`, `ENOSPC`.
    fn open_terminal(
        &self,
        pid: i32,
        pidfd: &Self::Fd,
    ) -> Result<(Self::Fd, Self::Fd), InsideError>;

    /// Sets the size of a terminal.
    ///
    /// # Errors
    /// `EIO` (ioctl_tty(2)).
    fn resize_terminal(&self, terminal: &Self::Fd, rows: u16, columns: u16) -> Result<(), Errno>;

    // Health checks over the network.

    /// Begins to connect to a TCP port on loopback in a network namespace (`None`: the host's). The
    /// socket is non-blocking.
    ///
    /// # Errors
    /// [`ConnectError::Failed`]: `EMFILE`, `ENFILE`, `ENOMEM`, `ENOBUFS`, `ECONNREFUSED`,
    /// `EADDRNOTAVAIL`, `ENETUNREACH` (socket(2), connect(2), setns(2)). After
    /// [`ConnectError::Lost`] the supervisor must end.
    fn connect(&self, netns: Option<&Self::Fd>, port: u16) -> Result<Self::Fd, ConnectError>;

    /// Whether the connection is established yet.
    ///
    /// # Errors
    /// Why it never will be: `ECONNREFUSED`, `ETIMEDOUT`, `ECONNRESET`, `ENETUNREACH`.
    fn is_connected(&self, socket: &Self::Fd) -> Result<bool, Errno>;

    // The control socket.

    /// Listens on the control socket, in place of one that is there. The socket is non-blocking.
    ///
    /// # Errors
    /// As [`Kernel::notify_socket`].
    fn listen_control(&self) -> Result<Self::Fd, CallError>;

    /// Takes a connection of the control socket, non-blocking; `None`: there is none now, or it
    /// cannot be taken.
    fn accept_control(&self, listener: &Self::Fd) -> Option<Self::Fd>;

    /// Opens the virtio port of this name, non-blocking; `None`: there is none.
    fn open_port(&self, name: &str) -> Option<Self::Fd>;
}
