//! The user namespace of a unit (user_namespaces(7)): its root is nobody on the host.
//!
//! A namespace is made once and kept by a descriptor; each run enters it as the last thing before it
//! gives its privileges away. So the set-up is made by the host's root, and what it makes (the mount,
//! process and host name namespaces, the file systems) belongs to the host: root inside can neither
//! unmount a mask nor make a read-only path writable, whatever capabilities it has been given.
//!
//! Files carry other numbers inside than outside. Layers and volumes are mounted with the
//! namespace's mapping (mount_setattr(2), `MOUNT_ATTR_IDMAP`), so on the disk and in images there are
//! only the container's own numbers, and a unit's range may be another one at each boot.

use crate::{caps, sys};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A stretch of the host's user and group ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// What 0 is inside.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

impl IdRange {
    /// Ids of a container as everybody expects them: as many as 16 bits hold.
    pub const COUNT: u32 = 65_536;

    /// The range of the container with this number, beyond the ids that distributions give to people
    /// and services (systemd's UIDS-GIDS table keeps 524288 to 1879048191 for containers). `None`:
    /// there are not that many.
    pub fn nth(number: usize) -> Option<IdRange> {
        const FIRST: u32 = 524_288;
        const LAST: u32 = 1_879_048_191;
        let offset = u32::try_from(number).ok()?.checked_mul(Self::COUNT)?;
        let first = FIRST.checked_add(offset)?;
        (first.checked_add(Self::COUNT - 1)? <= LAST)
            .then_some(IdRange { first, count: Self::COUNT })
    }

    /// The host's id for an id inside; `None` where the container has no such id.
    pub fn host_id(self, inside: u32) -> Option<u32> {
        if inside < self.count { self.first.checked_add(inside) } else { None }
    }
}

/// A user namespace with its mapping, kept by a descriptor.
#[derive(Debug)]
pub struct UserNs {
    ns: OwnedFd,
    range: IdRange,
}

impl UserNs {
    /// One that was made before, by its descriptor (nsfs).
    pub fn kept(ns: OwnedFd, range: IdRange) -> UserNs {
        UserNs { ns, range }
    }

    /// Its ids on the host.
    pub fn range(&self) -> IdRange {
        self.range
    }
}

impl AsFd for UserNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ns.as_fd()
    }
}

/// Why no user namespace was made, or nothing was made in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {}", errno.desc())]
pub struct UserNsError {
    /// What was tried.
    pub action: &'static str,
    /// The system call's error. `ENOSPC` and `EUSERS`: `user.max_user_namespaces` is reached.
    pub errno: Errno,
}

fn fail(action: &'static str) -> impl Fn(Errno) -> UserNsError {
    move |errno| UserNsError { action, errno }
}

/// Makes a user namespace in which the ids from 0 are the host's from `range.first`.
///
/// The calling process must be single-threaded, and nobody else may wait for its children: a
/// short-lived child is the namespace's first process, because only from outside a mapping of more
/// than one id can be written.
///
/// # Errors
/// Which step failed.
pub fn create_userns(range: IdRange) -> Result<UserNs, UserNsError> {
    let map = format!("0 {} {}\n", range.first, range.count);
    let helper = Helper::start(libc::CLONE_NEWUSER as u64, || Ok(()))
        .map_err(fail("create a user namespace"))?;
    for file in ["uid_map", "gid_map"] {
        // The kernel takes a map in one write only (user_namespaces(7)).
        let done = std::fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/{}/{file}", helper.pid))
            .and_then(|mut file| file.write_all(map.as_bytes()));
        done.map_err(|error| {
            fail("map the ids of a user namespace")(Errno::from_raw(
                error.raw_os_error().unwrap_or(libc::EIO),
            ))
        })?;
    }
    let ns = helper.namespace("user").map_err(fail("open a user namespace"))?;
    Ok(UserNs { ns, range })
}

/// Takes part in a user namespace that somebody else has made, if its mapping is one that
/// containers have here: the ids from 0, in one stretch, the same for users and groups.
///
/// The calling process must be single-threaded, and nobody else may wait for its children.
///
/// # Errors
/// Which step failed; `EINVAL` for another mapping.
pub fn join_userns(ns: OwnedFd) -> Result<UserNs, UserNsError> {
    let helper = Helper::start(0, || setns(&ns, CloneFlags::CLONE_NEWUSER))
        .map_err(fail("enter the user namespace"))?;
    let mapping = |file: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", helper.pid)).ok()?;
        one_stretch(&text)
    };
    match (mapping("uid_map"), mapping("gid_map")) {
        (Some(users), Some(groups)) if users == groups => Ok(UserNs { ns, range: users }),
        _ => Err(fail("use the mapping of the user namespace")(Errno::EINVAL)),
    }
}

/// The only line of a map, if it begins with 0 inside.
fn one_stretch(map: &str) -> Option<IdRange> {
    let mut numbers = map.split_whitespace().map(|word| word.parse::<u32>().ok());
    let (inside, first, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
    (inside == 0 && count > 0 && numbers.next().is_none()).then_some(IdRange { first, count })
}

/// Makes a network namespace that belongs to `userns`: root inside may configure it if it has the
/// capability to.
///
/// # Errors
/// Which step failed.
pub(crate) fn create_netns_in(userns: &UserNs) -> Result<OwnedFd, UserNsError> {
    let helper = Helper::start(0, || {
        setns(userns, CloneFlags::CLONE_NEWUSER)?;
        unshare(CloneFlags::CLONE_NEWNET)
    })
    .map_err(fail("create a network namespace"))?;
    helper.namespace("net").map_err(fail("open the new network namespace"))
}

/// A child that holds namespaces open until this is dropped.
struct Helper {
    pid: i32,
    /// Its end is the child's.
    hold: Option<OwnedFd>,
}

impl Helper {
    /// Makes a child, which then does `first`.
    fn start(flags: u64, first: impl FnOnce() -> Result<(), Errno>) -> Result<Helper, Errno> {
        let (held, hold) = pipe2(OFlag::O_CLOEXEC)?;
        let (ready, tell) = pipe2(OFlag::O_CLOEXEC)?;
        match sys::clone3(flags | sys::CLONE_CLEAR_SIGHAND, None::<BorrowedFd<'_>>)? {
            sys::Fork::Child => {
                drop((hold, ready));
                // It holds a copy of the caller's memory, and may enter a container's namespace.
                // SAFETY: prctl with integers only.
                unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
                let errno = first().err().map_or(0, |errno| errno as i32);
                // Whoever made this child is waiting, or gone; then the second pipe has ended, too.
                let _ = nix::unistd::write(&tell, &errno.to_le_bytes());
                let mut byte = [0];
                while nix::unistd::read(&held, &mut byte) == Err(Errno::EINTR) {}
                sys::exit(0)
            }
            sys::Fork::Parent { pid, .. } => {
                drop((held, tell));
                let helper = Helper { pid, hold: Some(hold) };
                let mut word = [0; 4];
                loop {
                    match nix::unistd::read(&ready, &mut word) {
                        Err(Errno::EINTR) => continue,
                        Ok(4) => break,
                        Ok(_) => return Err(Errno::ECHILD),
                        Err(errno) => return Err(errno),
                    }
                }
                match i32::from_le_bytes(word) {
                    0 => Ok(helper),
                    errno => Err(Errno::from_raw(errno)),
                }
            }
        }
    }

    fn namespace(&self, kind: &str) -> Result<OwnedFd, Errno> {
        let path = format!("/proc/{}/ns/{kind}", self.pid);
        open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.hold = None;
        // `__WALL`: its end is announced by no signal (see `sys::clone3`). It ends at once.
        loop {
            // SAFETY: a null status is allowed.
            let done = unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL) };
            if Errno::result(done) != Err(Errno::EINTR) {
                return;
            }
        }
    }
}

/// From now on files that this process makes belong to this user and group, and it goes on having
/// all its rights: the kernel takes those over files away with the change (capabilities(7), "Effect
/// of user ID changes"), so they are raised again.
pub(crate) fn make_files_as(id: u32) -> Result<(), Errno> {
    // SAFETY: integers only. Raw, because libc's wrappers would do the same.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, id);
        libc::syscall(libc::SYS_setfsuid, id);
    }
    // The calls tell no errors; an id that is none leaves everything and tells what is.
    for call in [libc::SYS_setfsuid, libc::SYS_setfsgid] {
        // SAFETY: integers only.
        if unsafe { libc::syscall(call, u32::MAX) } != libc::c_long::from(id) {
            return Err(Errno::EPERM);
        }
    }
    caps::raise()
}

/// Does something as [`make_files_as`], and goes back.
pub(crate) fn with_files_as<T>(id: u32, what: impl FnOnce() -> T) -> Result<T, Errno> {
    make_files_as(id)?;
    let done = what();
    make_files_as(0)?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::{IdRange, one_stretch};
    use proptest::prelude::*;

    #[test]
    fn a_range_ends_where_the_next_one_begins() {
        let (first, second) = (IdRange::nth(0).unwrap(), IdRange::nth(1).unwrap());
        assert_eq!(first.host_id(0), Some(524_288));
        assert_eq!(first.host_id(65_535).map(|id| id + 1), second.host_id(0));
        assert_eq!(first.host_id(65_536), None);
    }

    #[test]
    fn a_foreign_map_must_be_one_stretch_from_0() {
        assert_eq!(one_stretch("  0 1000 5\n"), Some(IdRange { first: 1000, count: 5 }));
        for map in ["", "1 1000 5", "0 1000 0", "0 1 2\n3 4 5\n", "0 x 1", "0 1"] {
            assert_eq!(one_stretch(map), None, "{map:?}");
        }
    }

    proptest! {
        #[test]
        fn ranges_never_meet(a in 0usize..40_000, b in 0usize..40_000) {
            if let (Some(x), Some(y)) = (IdRange::nth(a), IdRange::nth(b)) {
                let apart = x.first + (x.count - 1) < y.first || y.first + (y.count - 1) < x.first;
                prop_assert_eq!(apart, a != b);
                prop_assert!(x.first >= IdRange::COUNT, "no id of the host's own");
            }
        }
    }
}
