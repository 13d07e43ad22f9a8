//! The child's side: an ordered list of steps between `clone3(2)` and `execve(2)`.
//!
//! Why this order:
//! - Mount sources are opened while the host's files are still reachable; after [`Step::PivotRoot`]
//!   no path leads to the host any more, whatever links the image contains.
//! - /proc, /sys and /dev are set up, masked and made read-only before the first volume is
//!   attached. Until then no other process can change what a path in the new root resolves to;
//!   afterwards another container may share a volume, so every target is used through a descriptor.
//! - The host's root creates everything; the user namespace is entered when only the credentials of
//!   the process are left to be set (see [`crate::userns`] for why).
//! - Steps that need privilege come before [`Step::SetUser`], and steps that can fail come before
//!   [`Step::Go`], so that only the exec remains once the network is attached.

mod beneath;
mod copy_up;
mod descriptors;
mod dev;
mod files;
mod kernelfs;
mod masks;
mod mounts;
mod process;
mod program;
mod rootfs;
mod terminal;

use crate::plan::{self, Plan, Process};
use crate::seccomp::Filter;
use crate::status::{PREPARED, SetupError, Step};
use crate::sys;
use crate::userns::{IdRange, UserNs};
use beneath::Root;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
pub use program::explain_format;
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Exit code of a child whose setup failed.
pub const SETUP_FAILED: i32 = 125;

/// Called in the child when a step has succeeded. The caller sets it before [`crate::spawn()`].
#[cfg(feature = "trace-steps")]
pub static STEP_ENDED: std::sync::OnceLock<fn(Step)> = std::sync::OnceLock::new();

/// A failure within a step.
#[derive(Debug)]
pub(crate) struct Problem {
    errno: Errno,
    detail: String,
}

impl Problem {
    fn new(errno: Errno, detail: impl Into<String>) -> Problem {
        Problem { errno, detail: detail.into() }
    }
}

impl From<Errno> for Problem {
    fn from(errno: Errno) -> Problem {
        Problem { errno, detail: String::new() }
    }
}

/// A step's result.
type StepResult<T = ()> = Result<T, Problem>;

/// Adds what a failed system call was applied to, usually a path.
trait Context<T> {
    fn context(self, what: impl AsRef<str>) -> StepResult<T>;
}

impl<T> Context<T> for Result<T, Errno> {
    fn context(self, what: impl AsRef<str>) -> StepResult<T> {
        self.map_err(|errno| Problem::new(errno, what.as_ref()))
    }
}

/// Adds the step that failed.
trait At<T> {
    fn at(self, step: Step) -> Result<T, SetupError>;
}

impl<T, P: Into<Problem>> At<T> for Result<T, P> {
    fn at(self, step: Step) -> Result<T, SetupError> {
        #[cfg(feature = "trace-steps")]
        if let (Ok(_), Some(ended)) = (&self, STEP_ENDED.get()) {
            ended(step);
        }
        self.map_err(|problem| {
            let Problem { errno, detail } = problem.into();
            SetupError { step, errno, detail }
        })
    }
}

/// Runs in the child of [`crate::spawn()`].
pub(crate) fn start(plan: &Plan<'_>, status: &OwnedFd, go: Option<BorrowedFd<'_>>) -> ! {
    report(status, || {
        let ([status, stdout, stderr], [go, netns, userns, stdin, console]) =
            descriptors::keep_only(
                [raw(status), plan.stdout.as_raw_fd(), plan.stderr.as_raw_fd()],
                [
                    go.as_ref().map(AsRawFd::as_raw_fd),
                    plan.netns.as_ref().map(AsRawFd::as_raw_fd),
                    plan.userns.map(|userns| userns.as_fd().as_raw_fd()),
                    plan.stdin.as_ref().map(AsRawFd::as_raw_fd),
                    plan.terminal.as_ref().map(|terminal| terminal.socket.as_raw_fd()),
                ],
            )
            .at(Step::Descriptors)?;
        let ids = plan.userns.map(UserNs::range).zip(userns);
        let prepared = plan.handover.map(|_| status);
        let inherited = Inherited { go, prepared, netns, ids, console };
        set_up(plan, Stdio { stdin, stdout, stderr }, inherited)
    })
}

fn raw(fd: &OwnedFd) -> i32 {
    fd.as_raw_fd()
}

/// The program's input (`None`: the null device) and outputs.
#[derive(Clone, Copy)]
pub(crate) struct Stdio {
    pub(crate) stdin: Option<BorrowedFd<'static>>,
    pub(crate) stdout: BorrowedFd<'static>,
    pub(crate) stderr: BorrowedFd<'static>,
}

/// The id range of the container and its user namespace; `None`: the host's ids.
type Ids = Option<(IdRange, BorrowedFd<'static>)>;

/// Maps an id of the container to the host's.
fn host_id(ids: Ids, id: u32) -> Result<u32, Errno> {
    ids.map_or(Some(id), |(range, _)| range.host_id(id)).ok_or(Errno::EINVAL)
}

/// Descriptors and ids that the child of [`crate::spawn()`] has besides its outputs.
struct Inherited {
    go: Option<BorrowedFd<'static>>,
    /// Where to report that it is about to wait.
    prepared: Option<BorrowedFd<'static>>,
    /// Where to send the other end of its terminal.
    console: Option<BorrowedFd<'static>>,
    netns: Option<BorrowedFd<'static>>,
    ids: Ids,
}

/// Runs the steps.
fn set_up(
    plan: &Plan<'_>,
    stdio: Stdio,
    Inherited { go, prepared, netns, ids, console }: Inherited,
) -> Result<Infallible, SetupError> {
    process::session(ids).at(Step::Session)?;
    if let Some(netns) = netns {
        setns(netns, CloneFlags::CLONE_NEWNET).at(Step::Network)?;
    }
    nix::unistd::sethostname(&plan.hostname).at(Step::Hostname)?;

    rootfs::make_private().at(Step::PrivateMounts)?;
    let sources = mounts::open_sources(plan, ids).at(Step::Sources)?;
    let devices = dev::open_sources(plan).at(Step::Sources)?;
    match &plan.root {
        plan::Root::Layers { layers, writable_size } => {
            rootfs::writable_layer(plan, *writable_size).at(Step::WritableLayer)?;
            rootfs::overlay(plan, layers, ids).at(Step::OverlayRoot)?;
        }
        plan::Root::Directory(path) => {
            rootfs::directory(plan, path, ids).at(Step::DirectoryRoot)?;
        }
    }
    let root = rootfs::pivot().at(Step::PivotRoot)?;

    kernelfs::proc(&root).at(Step::Proc)?;
    // /dev comes before /sys, the order in which a config.json usually lists them.
    dev::set_up(&root, &devices, ids).at(Step::Dev)?;
    kernelfs::sys(&root).at(Step::Sys)?;
    kernelfs::cgroup(&root).at(Step::CgroupFs)?;
    kernelfs::sysctls(&root, &plan.sysctls).at(Step::Sysctls)?;
    process::oom_score_adj(&root, plan.process.oom_score_adj).at(Step::OomScore)?;
    masks::mask(&root, plan).at(Step::Mask)?;
    masks::read_only(plan).at(Step::ReadOnlyPaths)?;

    mounts::attach(&root, sources, ids).at(Step::Mounts)?;
    files::write(&root, &plan.files).at(Step::Files)?;
    masks::plan_paths(&root, plan).at(Step::MorePaths)?;
    let terminal = plan.terminal.as_ref().zip(console);
    let terminal = terminal.map(|(plan, socket)| terminal::open(&root, plan, socket)).transpose();
    let stdio = match terminal.at(Step::Terminal)? {
        Some(fd) => Stdio { stdin: Some(fd), stdout: fd, stderr: fd },
        None => stdio,
    };
    let ready =
        credentials(&plan.process, plan.seccomp, &root, stdio, ids, || match plan.read_only {
            true => rootfs::make_read_only(&root),
            false => Ok(()),
        })?;
    if let Some(go) = go {
        if let Some(status) = prepared {
            nix::unistd::write(status, &[PREPARED]).at(Step::Go)?;
        }
        wait_for(go).at(Step::Go)?;
    }
    execute(&ready)
}

/// The steps up to the exec that a container's own program shares with a program run in it later.
/// `seal` runs when nothing is left to be created in the root.
fn credentials<'p>(
    process: &Process,
    filter: Option<&'p Filter>,
    root: &Root,
    stdio: Stdio,
    ids: Ids,
    seal: impl FnOnce() -> StepResult,
) -> Result<Ready<'p>, SetupError> {
    let identity = process::identity(root, process, ids).at(Step::ResolveUser)?;
    process::working_dir(root, &process.cwd).at(Step::WorkingDir)?;
    seal().at(Step::ReadOnlyRoot)?;
    process::stdio(root, stdio, &identity, ids).at(Step::Stdio)?;
    process::rlimits(&process.rlimits).at(Step::Rlimits)?;
    if let Some((_, userns)) = ids {
        process::user_namespace(userns, process.caps).at(Step::UserNamespace)?;
    }
    process::keyring().at(Step::Keyring)?;
    // Before any filter: some profiles are older than close_range and forbid it.
    process::close_at_exec().at(Step::Final)?;
    // Without no_new_privs, loading a filter needs CAP_SYS_ADMIN (seccomp(2), EACCES).
    let (early, late) = if process.no_new_privs { (None, filter) } else { (filter, None) };
    early.map_or(Ok(()), Filter::load).at(Step::Seccomp)?;
    crate::caps::limit_bounding_set(process.caps).at(Step::BoundingSet)?;
    let caps = process::Capabilities::of(process, &identity).at(Step::Capabilities)?;
    caps.keep().at(Step::Capabilities)?;
    process::set_user(&identity).at(Step::SetUser)?;
    caps.apply().at(Step::Capabilities)?;
    if process.no_new_privs {
        process::no_new_privs().at(Step::NoNewPrivs)?;
    }
    let program = program::Program::new(process, &identity).at(Step::Exec)?;
    if process.no_new_privs {
        program.warn(&identity);
    }
    Ok(Ready { program, umask: process.umask, filter: late })
}

/// A process that is set up except for the exec.
struct Ready<'p> {
    program: program::Program,
    umask: u32,
    filter: Option<&'p Filter>,
}

fn execute(ready: &Ready<'_>) -> Result<Infallible, SetupError> {
    process::finish(ready.umask).at(Step::Final)?;
    ready.filter.map_or(Ok(()), Filter::load).at(Step::Seccomp)?;
    Err(ready.program.execute()).at(Step::Exec)
}

/// Runs in the process that [`crate::exec()`] creates inside a running container; the caller has
/// entered every namespace except the cgroup namespace.
pub(crate) fn start_inside(
    process: &Process,
    filter: Option<&Filter>,
    container: BorrowedFd<'static>,
    status: &OwnedFd,
    stdio: Stdio,
    range: Option<IdRange>,
) -> ! {
    report(status, || {
        // The pidfd of the main process stands for its user namespace, too.
        let ids = range.map(|range| (range, container));
        process::session(ids).at(Step::Session)?;
        setns(container, CloneFlags::CLONE_NEWCGROUP).at(Step::Join)?;
        let root = Root::open().at(Step::Join)?;
        process::oom_score_adj(&root, process.oom_score_adj).at(Step::OomScore)?;
        let ready = credentials(process, filter, &root, stdio, ids, || Ok(()))?;
        execute(&ready)
    })
}

pub(crate) use descriptors::keep_only;

/// One byte means go; end of file means that the caller has ended or has cancelled the start.
fn wait_for(go: BorrowedFd<'static>) -> StepResult {
    let mut byte = [0u8];
    loop {
        return match nix::unistd::read(go, &mut byte) {
            Ok(0) => Err(Problem::new(Errno::ECANCELED, "setup was cancelled")),
            Ok(_) => Ok(()),
            Err(Errno::EINTR) => continue,
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Runs the child's steps and writes an error to the status pipe if they fail. A panic must not
/// unwind into the copy of the caller's code.
fn report(status: &OwnedFd, steps: impl FnOnce() -> Result<Infallible, SetupError>) -> ! {
    let error = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(steps)) {
        Ok(Err(error)) => error,
        Ok(Ok(never)) => match never {},
        Err(_) => SetupError {
            step: Step::Internal,
            errno: Errno::ENOTRECOVERABLE,
            detail: "setup panicked".into(),
        },
    };
    // If nobody is reading, the exit code still reports the failure.
    let _ = nix::unistd::write(status, &error.encode());
    sys::exit(SETUP_FAILED)
}
