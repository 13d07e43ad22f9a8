//! Who the program is and what surrounds it: session, user, capabilities, limits, descriptors.

use super::beneath::Root;
use super::{About, Done, Ids, Problem, Stdio, dev, kernelfs, outside};
use crate::caps::{self, CapSet, Capability};
use crate::plan::Process;
use crate::rlimit::{Resource, Rlimit};
use crate::sys;
use crate::user::{self, Identity, UserError};
use crate::userns;
use nix::errno::Errno;
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

/// A session without a controlling terminal (CVE-2017-5226), modes taken as written, and no debugger
/// or /proc reader from inside a container until the exec (CVE-2016-9962).
/// What is made in the container's file systems from here on belongs to its root.
pub(super) fn session(ids: Ids) -> Done {
    nix::unistd::setsid()?;
    if let Some((range, _)) = ids {
        userns::make_files_as(range.first)?;
    }
    umask(Mode::empty());
    // SAFETY: prctl with integers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    // Handlers went away at clone3 (CLONE_CLEAR_SIGHAND); what the caller ignores (SIGPIPE in any
    // Rust program) would stay ignored over the exec. libc's wrapper refuses the two signals that
    // it uses itself, which somebody further up may ignore all the same.
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
pub(super) fn oom_score_adj(root: &Root, adjustment: i32) -> Done {
    kernelfs::write(root, "self/oom_score_adj", &adjustment.to_string())
}

/// Finds the user in the image's files.
pub(super) fn identity(root: &Root, process: &Process, ids: Ids) -> Done<Identity> {
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
    let beyond = [identity.uid, identity.gid]
        .into_iter()
        .chain(identity.groups.iter().copied())
        .find(|id| range.host_id(*id).is_none());
    match beyond {
        None => Ok(identity),
        Some(id) => Err(Problem::new(
            Errno::EINVAL,
            format!(
                "id {id} is beyond the {} ids of its user namespace; `userns = \"host\"` has them all",
                range.count
            ),
        )),
    }
}

fn user_problem(error: UserError) -> Problem {
    Problem::new(Errno::EINVAL, error.to_string())
}

/// Reads a user database; a missing one is empty. The image made it: it is only read if it is a
/// plain file of a sane size (CVE-2026-47262), and opening it never blocks.
fn database(root: &Root, path: &str) -> Done<Vec<u8>> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let fd = match root.look_up(path, flags) {
        Err(Problem { errno: Errno::ENOENT | Errno::ENOTDIR, .. }) => return Ok(Vec::new()),
        done => done?,
    };
    let stat = fstat(&fd).about(path)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Problem::new(Errno::EINVAL, format!("the image's {path} is not a file")));
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

/// Enters the working directory, making it when missing as other runtimes do, and makes sure that
/// it lies inside the root: `getcwd(2)` of a directory outside begins with "(unreachable)"
/// (CVE-2024-21626).
pub(super) fn working_dir(root: &Root, path: &str) -> Done {
    let path = if path.is_empty() { "/" } else { path };
    let dir = root.directory(path)?;
    fchdir(&dir).about(path)?;
    let cwd = nix::unistd::getcwd().about(path)?;
    if !cwd.has_root() {
        return Err(Problem::new(Errno::EXDEV, format!("{path} is outside the container's root")));
    }
    Ok(())
}

/// The given descriptors, or the null device in. Pipes are given to the user: opening /dev/stdout is
/// an open of the pipe's inode, which only its owner may. A terminal is as well, and controls the
/// session that [`session`] has begun.
pub(super) fn stdio(root: &Root, stdio: Stdio, identity: &Identity, ids: Ids) -> Done {
    let (uid, gid) = (outside(ids, identity.uid)?, outside(ids, identity.gid)?);
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
        // SAFETY: 0 to 2 of this process belong to nobody; their old files are not used again.
        Errno::result(unsafe { libc::dup2(from, to) })?;
    }
    if stdio.stdin.is_none() {
        // The null device was opened without blocking, which does not matter to it but would show.
        // SAFETY: F_SETFL on an open descriptor is memory-safe.
        Errno::result(unsafe { libc::fcntl(0, libc::F_SETFL, 0) })?;
    }
    if terminal {
        // SAFETY: takes a number. 0: only a session without a terminal gets it, and it is not taken
        // from another.
        match Errno::result(unsafe { libc::ioctl(1, libc::TIOCSCTTY as _, 0) }) {
            // The caller's own terminal, which the program may use and nothing more.
            Err(Errno::EPERM) => {}
            // Its group stays the one that devpts gives (tty).
            Ok(_) if uid != 0 => fchown(stdio.stdout, Some(Uid::from_raw(uid)), None)?,
            done => done.map(drop)?,
        }
    }
    Ok(())
}

/// Enters the user namespace; this process has every capability there, and none outside any more.
///
/// The mounts belong to the host, and whoever has CAP_SYS_ADMIN inside could not add to them. A unit
/// that asks for the capability asks for that: it gets a copy of the mounts of its own, which the
/// kernel gives out locked together, so that masks and read-only paths stay (mount_namespaces(7)).
pub(super) fn user_namespace(userns: BorrowedFd<'static>, set: CapSet) -> Done {
    setns(userns, CloneFlags::CLONE_NEWUSER)?;
    let admin = Capability::from_name("SYS_ADMIN").ok_or(Errno::EINVAL)?;
    if set.contains(admin) {
        unshare(CloneFlags::CLONE_NEWNS).about("mounts of its own")?;
    }
    Ok(())
}

/// A session keyring of its own: keys of the caller's are not reachable from inside.
pub(super) fn keyring() -> Done {
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    let done =
        unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
    match Errno::result(done) {
        Err(Errno::ENOSYS) | Ok(_) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Sets the limits, before the privilege to raise them is gone.
pub(super) fn rlimits(limits: &[Rlimit]) -> Done {
    for limit in limits {
        let Rlimit { resource, soft, hard } = *limit;
        set_rlimit(resource.number(), soft, hard).about(resource.name())?;
    }
    if limits.iter().any(|limit| limit.resource == Resource::NoFile) {
        return Ok(());
    }
    match set_rlimit(libc::RLIMIT_NOFILE, Rlimit::NOFILE, Rlimit::NOFILE) {
        // Not allowed, or fs.nr_open is lower here: the caller's own hard limit, then.
        Err(Errno::EPERM) => {
            let mut own = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the structure lives over the call.
            Errno::result(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut own) })?;
            Ok(set_rlimit(libc::RLIMIT_NOFILE, own.rlim_max, own.rlim_max)?)
        }
        done => done.about("nofile"),
    }
}

fn set_rlimit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the structure lives over the call.
    Errno::result(unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
}

/// Becomes the user. Groups first, the user id last; raw system calls, because libc's wrappers
/// signal every thread it believes to exist.
pub(super) fn set_user(identity: &Identity) -> Done {
    let Identity { uid, gid, groups, .. } = identity;
    // SAFETY: the group list lives over the call and its length is passed.
    let done = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(done).about("the supplementary groups")?;
    // SAFETY: integers only.
    let done = unsafe { libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) };
    Errno::result(done).about(format!("group {gid}"))?;
    // SAFETY: integers only.
    let done = unsafe { libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) };
    Errno::result(done).about(format!("user {uid}"))?;
    Ok(())
}

/// The sets besides the bounding one.
pub(super) struct Capabilities {
    /// The permitted and the effective set up to the exec. One by root sets them anew from the
    /// bounding set, one by another user from the ambient set.
    permitted: CapSet,
    inheritable: CapSet,
    ambient: CapSet,
}

impl Capabilities {
    /// A capability the caller itself lacks cannot be given.
    pub(super) fn of(process: &Process, identity: &Identity) -> Done<Capabilities> {
        let all = process.caps.intersection(caps::effective()?);
        let inheritable = process.inheritable.intersection(all);
        let ambient = process.ambient.intersection(inheritable);
        let permitted = if identity.uid == 0 { all } else { ambient };
        Ok(Capabilities { permitted, inheritable, ambient })
    }

    /// Keeps the permitted set over a change from root to another user, who is to have some of it;
    /// an exec ends that (PR_SET_KEEPCAPS(2const)).
    pub(super) fn keep(&self) -> Done {
        if self.inheritable == CapSet::EMPTY {
            return Ok(());
        }
        // SAFETY: prctl with integers only.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })?;
        Ok(())
    }

    /// Puts them into force.
    pub(super) fn apply(&self) -> Done {
        Ok(caps::apply(self.permitted, self.inheritable, self.ambient)?)
    }
}

/// Nothing that is executed from here on gains privilege: set-user-id bits and file capabilities
/// are inert.
pub(super) fn no_new_privs() -> Done {
    // SAFETY: prctl with integers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    Ok(())
}

/// Marks every descriptor but 0 to 2 as one that the program does not get.
pub(super) fn close_at_exec() -> Done {
    Ok(sys::close_range(3, u32::MAX, true)?)
}

/// The last steps: what programs expect of their surroundings.
pub(super) fn finish(mask: u32) -> Done {
    umask(Mode::from_bits_truncate(mask));
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}
