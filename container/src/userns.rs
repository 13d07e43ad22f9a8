//! The user namespace of a unit (user_namespaces(7)): its root is an unprivileged user on the host.
//!
//! A namespace is created once and kept open by a descriptor; each run enters it last, just before
//! it drops its privileges. Setup is therefore done by the host's root, and what it creates (the
//! mount, pid and UTS namespaces, the file systems) is owned by the host: root inside can neither
//! unmount a mask nor make a read-only path writable, whatever capabilities it has.
//!
//! File owners are mapped. Layers and volumes are id-mapped mounts (mount_setattr(2),
//! `MOUNT_ATTR_IDMAP`), so disks and images contain only the container's own ids, and a unit's
//! range may differ from boot to boot.

mod create;
mod join;

pub(crate) use join::create_netns_in;
pub use join::join_userns;

use crate::caps;
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A contiguous range of the host's user and group ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The host's id of 0 inside.
    pub first: u32,
    /// The number of ids.
    pub count: u32,
}

impl IdRange {
    /// Number of ids of a container: 16 bits, as programs expect.
    pub const COUNT: u32 = 65_536;

    /// The range of the container with this number, outside the ids that distributions assign to
    /// users and services (systemd's UIDS-GIDS table reserves 524288 to 1879048191 for containers).
    /// `None`: there are not that many ranges.
    pub fn nth(number: usize) -> Option<IdRange> {
        const FIRST: u32 = 524_288;
        const LAST: u32 = 1_879_048_191;
        let offset = u32::try_from(number).ok()?.checked_mul(Self::COUNT)?;
        let first = FIRST.checked_add(offset)?;
        (first.checked_add(Self::COUNT - 1)? <= LAST)
            .then_some(IdRange { first, count: Self::COUNT })
    }

    /// The host's id of an id inside; `None` if it is outside the range.
    pub fn host_id(self, inside: u32) -> Option<u32> {
        if inside < self.count { self.first.checked_add(inside) } else { None }
    }
}

/// A user namespace, as an open descriptor, and its mapping.
#[derive(Debug)]
pub struct UserNs {
    ns: OwnedFd,
    range: IdRange,
}

impl UserNs {
    /// An existing namespace, from its descriptor (nsfs).
    pub fn from_fd(ns: OwnedFd, range: IdRange) -> UserNs {
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

/// Why a user namespace, or a network namespace in it, was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {}", errno.desc())]
pub struct UserNsError {
    /// The step.
    pub action: &'static str,
    /// The system call's error. `ENOSPC` and `EUSERS`: `user.max_user_namespaces`, or
    /// `user.max_net_namespaces`, is reached. `ECHILD`: the short-lived child was killed.
    pub errno: Errno,
}

fn fail(action: &'static str) -> impl Fn(Errno) -> UserNsError {
    move |errno| UserNsError { action, errno }
}

/// Creates a user namespace that maps ids from 0 to the host's ids from `range.first`.
///
/// The calling process must be single-threaded, and nothing else may wait for its children.
///
/// # Errors
/// The step that failed.
pub fn create_userns(range: IdRange) -> Result<UserNs, UserNsError> {
    let ns = create::namespaces(range, false)?.user;
    Ok(UserNs { ns, range })
}

/// The same, with a network namespace that it owns (not yet set up).
pub(crate) fn create_with_netns(range: IdRange) -> Result<(UserNs, OwnedFd), UserNsError> {
    let made = create::namespaces(range, true)?;
    let net = made.net.ok_or(fail("open the new network namespace")(Errno::EBADF))?;
    Ok((UserNs { ns: made.user, range }, net))
}

/// Sets the user and group that own new files of this process. The kernel drops the file-related
/// capabilities from the effective set with the change (capabilities(7), "Effect of user ID
/// changes"), so they are raised again.
pub(crate) fn set_fs_ids(id: u32) -> Result<(), Errno> {
    // SAFETY: integers only.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, id);
        libc::syscall(libc::SYS_setfsuid, id);
    }
    // The calls report no errors; an invalid id changes nothing and returns the current value.
    for call in [libc::SYS_setfsuid, libc::SYS_setfsgid] {
        // SAFETY: integers only.
        if unsafe { libc::syscall(call, u32::MAX) } != libc::c_long::from(id) {
            return Err(Errno::EPERM);
        }
    }
    caps::raise()
}

/// Runs a function with [`set_fs_ids`], then restores the ids.
pub(crate) fn with_fs_ids<T>(id: u32, run: impl FnOnce() -> T) -> Result<T, Errno> {
    set_fs_ids(id)?;
    let result = run();
    set_fs_ids(0)?;
    Ok(result)
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
        fn ranges_never_overlap(a in 0usize..40_000, b in 0usize..40_000) {
            if let (Some(x), Some(y)) = (IdRange::nth(a), IdRange::nth(b)) {
                let apart = x.first + (x.count - 1) < y.first || y.first + (y.count - 1) < x.first;
                prop_assert_eq!(apart, a != b);
                prop_assert!(x.first >= IdRange::COUNT, "no id of the host itself");
            }
        }
    }
}
