//! Process attributes of the program: session, user, capabilities, limits, descriptors.

use super::beneath::Root;
use super::{Context, Ids, Problem, Stdio, StepResult, dev, host_id, kernelfs};
use crate::caps::{self, CapSet, Capability};
use crate::plan::Process;
use crate::rlimit::{Resource, Rlimit};
use crate::sys;
use crate::user::{self, Identity, UserError};
use crate::userns;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{Gid, Uid, fchdir, fchown};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `keyctl(2)`'s KEYCTL_JOIN_SESSION_KEYRING.
const JOIN_SESSION_KEYRING: libc::c_long = 1;

/// The kernel's `_NSIG`: the highest signal number.
const LAST_SIGNAL: libc::c_long = 64;

/// Starts a session without a controlling terminal (CVE-2017-5226), sets the umask to 0, and makes
/// the process undumpable, so that no debugger or /proc reader in a container can reach it before
/// the exec (CVE-2016-9962). Files created from here on belong to the container's root.
pub(super) fn session(ids: Ids) -> StepResult {
    nix::unistd::setsid()?;
    if let Some((range, _)) = ids {
        userns::set_fs_ids(range.first)?;
    }
    umask(Mode::empty());
    // SAFETY: prctl with integers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    // clone3 has reset the handlers (CLONE_CLEAR_SIGHAND), but signals that the caller ignores
    // (SIGPIPE in any Rust program) would stay ignored across the exec. The raw call is needed for
    // the two signals that libc reserves for itself, which an ancestor may ignore nevertheless.
    let default = [0u64; 4];
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: the kernel's struct sigaction (handler, flags, restorer, mask) is four words, and
        // all zeroes mean SIG_DFL, which runs no code of this process. SIGKILL and SIGSTOP fail.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                8,
            )
        };
    }
    Ok(())
}

/// Writes `oom_score_adj`.
pub(super) fn oom_score_adj(root: &Root, adjustment: i32) -> StepResult {
    kernelfs::write(root, "self/oom_score_adj", &adjustment.to_string())
}

/// Looks up the user in the image's files.
pub(super) fn identity(root: &Root, process: &Process, ids: Ids) -> StepResult<Identity> {
    let spec = user::parse(&process.user).map_err(user_problem)?;
    let passwd = database(root, "/etc/passwd")?;
    let group = match user::needs_group_file(&spec) {
        true => database(root, "/etc/group")?,
        false => Vec::new(),
    };
    let mut identity = user::resolve(&spec, &passwd, &group).map_err(user_problem)?;
    if let Some(groups) = &process.groups {
        identity.groups.clone_from(groups);
    }
    let Some((range, _)) = ids else { return Ok(identity) };
    let unmapped = [identity.uid, identity.gid]
        .into_iter()
        .chain(identity.groups.iter().copied())
        .find(|id| range.host_id(*id).is_none());
    match unmapped {
        None => Ok(identity),
        Some(id) => Err(Problem::new(
            Errno::EINVAL,
            format!(
                "id {id} is outside the {} ids of the user namespace; \
                 `userns = \"host\"` gives the container every id",
                range.count
            ),
        )),
    }
}

fn user_problem(error: UserError) -> Problem {
    Problem::new(Errno::EINVAL, error.to_string())
}

/// Reads a user database; a missing one is empty. The image is untrusted: the file must be a
/// regular file of limited size (CVE-2026-47262), and opening it never blocks.
fn database(root: &Root, path: &str) -> StepResult<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let fd = match root.look_up(path, flags) {
        Err(Problem { errno: Errno::ENOENT | Errno::ENOTDIR, .. }) => return Ok(Vec::new()),
        done => done?,
    };
    let stat = fstat(&fd).context(path)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Problem::new(
            Errno::EINVAL,
            format!("the image's {path} is not a regular file"),
        ));
    }
    let expected = usize::try_from(stat.st_size).unwrap_or(0).min(user::MAX_FILE);
    let mut content = Vec::with_capacity(expected + 1);
    File::from(fd)
        .take(user::MAX_FILE as u64 + 1)
        .read_to_end(&mut content)
        .map_err(|error| Problem::new(sys::errno_of(&error), path))?;
    if content.len() > user::MAX_FILE {
        let text = format!("the image's {path} is larger than 1 MiB");
        return Err(Problem::new(Errno::EFBIG, text));
    }
    Ok(content)
}

/// Enters the working directory, creating it if missing as other runtimes do, and checks that it is
/// inside the root: `getcwd(2)` of a directory outside begins with "(unreachable)"
/// (CVE-2024-21626).
pub(super) fn working_dir(root: &Root, path: &str) -> StepResult {
    let path = if path.is_empty() { "/" } else { path };
    let dir = root.directory(path)?;
    fchdir(&dir).context(path)?;
    let cwd = nix::unistd::getcwd().context(path)?;
    if !cwd.has_root() {
        return Err(Problem::new(Errno::EXDEV, format!("{path} is outside the container's root")));
    }
    Ok(())
}

/// Installs descriptors 0 to 2; without a standard input, 0 is the null device. The user becomes
/// the owner of pipes and of a terminal: opening /dev/stdout opens the pipe's inode, which only its
/// owner may. A terminal becomes the controlling terminal of the session that [`session`] started.
pub(super) fn stdio(root: &Root, stdio: Stdio, identity: &Identity, ids: Ids) -> StepResult {
    let (uid, gid) = (host_id(ids, identity.uid)?, host_id(ids, identity.gid)?);
    let null = dev::open_null(root)?;
    let stdin = stdio.stdin.map_or(null.as_raw_fd(), |fd| fd.as_raw_fd());
    let terminal = nix::unistd::isatty(stdio.stdout).unwrap_or(false);
    if uid != 0 {
        for fd in [Some(stdio.stdout), Some(stdio.stderr), stdio.stdin].into_iter().flatten() {
            let kind = SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT;
            if kind == SFlag::S_IFIFO {
                fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            }
        }
    }
    for (from, to) in [(stdin, 0), (stdio.stdout.as_raw_fd(), 1), (stdio.stderr.as_raw_fd(), 2)] {
        // SAFETY: nothing owns descriptors 0 to 2 of this process; their old files are not used.
        Errno::result(unsafe { libc::dup2(from, to) })?;
    }
    if stdio.stdin.is_none() {
        // The null device was opened with O_NONBLOCK, which the program must not inherit.
        // SAFETY: F_SETFL on an open descriptor is memory-safe.
        Errno::result(unsafe { libc::fcntl(0, libc::F_SETFL, 0) })?;
    }
    if terminal {
        // SAFETY: takes a number. 0: do not steal the terminal from another session.
        match Errno::result(unsafe { libc::ioctl(1, libc::TIOCSCTTY as _, 0) }) {
            // The caller's own terminal; the program may use it without controlling it.
            Err(Errno::EPERM) => {}
            // The group stays the one that devpts sets (tty).
            Ok(_) if uid != 0 => fchown(stdio.stdout, Some(Uid::from_raw(uid)), None)?,
            done => done.map(drop)?,
        }
    }
    Ok(())
}

/// Enters the user namespace. From here on this process has every capability inside it and none
/// outside.
///
/// The mount namespace belongs to the host, so CAP_SYS_ADMIN inside would not allow mounting. A
/// container that is given the capability therefore gets its own copy of the mount namespace; the
/// kernel locks the copied mounts together, so masks and read-only paths stay
/// (mount_namespaces(7)).
pub(super) fn user_namespace(userns: BorrowedFd<'static>, set: CapSet) -> StepResult {
    setns(userns, CloneFlags::CLONE_NEWUSER)?;
    let admin = Capability::from_name("SYS_ADMIN").ok_or(Errno::EINVAL)?;
    if set.contains(admin) {
        unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS)")?;
    }
    Ok(())
}

/// Joins a new session keyring, so that the caller's keys are not reachable from inside.
pub(super) fn keyring() -> StepResult {
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    let done =
        unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
    match Errno::result(done) {
        Err(Errno::ENOSYS) | Ok(_) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Sets the limits, before the privilege to raise them is gone.
pub(super) fn rlimits(limits: &[Rlimit]) -> StepResult {
    for limit in limits {
        let Rlimit { resource, soft, hard } = *limit;
        set_rlimit(resource.number(), soft, hard).context(resource.name())?;
    }
    if limits.iter().any(|limit| limit.resource == Resource::NoFile) {
        return Ok(());
    }
    match set_rlimit(libc::RLIMIT_NOFILE, Rlimit::NOFILE, Rlimit::NOFILE) {
        // Not permitted, or fs.nr_open is lower: fall back to the caller's hard limit.
        Err(Errno::EPERM) => {
            let mut own = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the structure outlives the call.
            Errno::result(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut own) })?;
            Ok(set_rlimit(libc::RLIMIT_NOFILE, own.rlim_max, own.rlim_max)?)
        }
        done => done.context("nofile"),
    }
}

fn set_rlimit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the structure outlives the call.
    Errno::result(unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
}

/// Changes to the user: groups first, the user id last. Raw system calls, because libc's wrappers
/// signal every thread that libc knows of.
pub(super) fn set_user(identity: &Identity) -> StepResult {
    let Identity { uid, gid, groups, .. } = identity;
    // SAFETY: the group list outlives the call and its length is passed.
    let done = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(done).context("setgroups")?;
    // SAFETY: integers only.
    let done = unsafe { libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) };
    Errno::result(done).context(format!("setresgid({gid})"))?;
    // SAFETY: integers only.
    let done = unsafe { libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) };
    Errno::result(done).context(format!("setresuid({uid})"))?;
    Ok(())
}

/// The capability sets except the bounding set.
pub(super) struct Capabilities {
    /// The permitted and effective sets up to the exec. The exec computes them anew: for root from
    /// the bounding set, for other users from the ambient set.
    permitted: CapSet,
    inheritable: CapSet,
    ambient: CapSet,
}

impl Capabilities {
    /// Computes the sets; capabilities that the caller itself lacks are left out.
    pub(super) fn of(process: &Process, identity: &Identity) -> StepResult<Capabilities> {
        let all = process.caps.intersection(caps::effective()?);
        let inheritable = process.inheritable.intersection(all);
        let ambient = process.ambient.intersection(inheritable);
        let permitted = if identity.uid == 0 { all } else { ambient };
        Ok(Capabilities { permitted, inheritable, ambient })
    }

    /// Keeps the permitted set across the change from root to another user that keeps some of it;
    /// an exec clears the flag (PR_SET_KEEPCAPS(2const)).
    pub(super) fn keep(&self) -> StepResult {
        if self.inheritable == CapSet::EMPTY {
            return Ok(());
        }
        // SAFETY: prctl with integers only.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })?;
        Ok(())
    }

    /// Applies the sets.
    pub(super) fn apply(&self) -> StepResult {
        Ok(caps::apply(self.permitted, self.inheritable, self.ambient)?)
    }
}

/// Sets no_new_privs: set-user-id bits and file capabilities have no effect from here on.
pub(super) fn no_new_privs() -> StepResult {
    // SAFETY: prctl with integers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    Ok(())
}

/// Marks every descriptor above 2 close-on-exec.
pub(super) fn close_at_exec() -> StepResult {
    Ok(sys::close_range(3, u32::MAX, true)?)
}

/// Sets the umask and clears the signal mask.
pub(super) fn finish(mask: u32) -> StepResult {
    umask(Mode::from_bits_truncate(mask));
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}
