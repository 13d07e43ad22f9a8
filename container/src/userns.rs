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

mod create;
mod join;

pub(crate) use join::create_netns_in;
pub use join::join_userns;

use crate::caps;
use nix::errno::Errno;
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
    /// The system call's error. `ENOSPC` and `EUSERS`: `user.max_user_namespaces`, or
    /// `user.max_net_namespaces`, is reached. `ECHILD`: the short-lived child was killed.
    pub errno: Errno,
}

fn fail(action: &'static str) -> impl Fn(Errno) -> UserNsError {
    move |errno| UserNsError { action, errno }
}

/// Makes a user namespace in which the ids from 0 are the host's from `range.first`.
///
/// The calling process must be single-threaded, and nobody else may wait for its children.
///
/// # Errors
/// Which step failed.
pub fn create_userns(range: IdRange) -> Result<UserNs, UserNsError> {
    let ns = create::namespaces(range, false)?.user;
    Ok(UserNs { ns, range })
}

/// The same with a network namespace that belongs to it (nothing is set in that one yet).
pub(crate) fn create_with_netns(range: IdRange) -> Result<(UserNs, OwnedFd), UserNsError> {
    let made = create::namespaces(range, true)?;
    let net = made.net.ok_or(fail("open the new network namespace")(Errno::EBADF))?;
    Ok((UserNs { ns: made.user, range }, net))
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
    use super::IdRange;
    use proptest::prelude::*;

    #[test]
    fn a_range_ends_where_the_next_one_begins() {
        let (first, second) = (IdRange::nth(0).unwrap(), IdRange::nth(1).unwrap());
        assert_eq!(first.host_id(0), Some(524_288));
        assert_eq!(first.host_id(65_535).map(|id| id + 1), second.host_id(0));
        assert_eq!(first.host_id(65_536), None);
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
