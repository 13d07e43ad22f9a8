//! Using an existing user namespace. A short-lived copy of this process enters it, because a
//! process that has entered a user namespace cannot return.

use super::{IdRange, UserNs, UserNsError, fail};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Uses a user namespace created by another process. Its mapping must be a single range that starts
/// at id 0, the same for users and groups.
///
/// The calling process must be single-threaded, and nothing else may wait for its children.
///
/// # Errors
/// The step that failed; `EINVAL` for any other mapping.
pub fn join_userns(ns: OwnedFd) -> Result<UserNs, UserNsError> {
    let helper = Helper::start(|| setns(&ns, CloneFlags::CLONE_NEWUSER))
        .map_err(fail("enter the user namespace"))?;
    let mapping = |file: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", helper.pid)).ok()?;
        single_range(&text)
    };
    match (mapping("uid_map"), mapping("gid_map")) {
        (Some(users), Some(groups)) if users == groups => Ok(UserNs { ns, range: users }),
        _ => Err(fail("use the id mapping of the user namespace")(Errno::EINVAL)),
    }
}

/// The range of a map with a single line that starts at 0 inside.
fn single_range(map: &str) -> Option<IdRange> {
    let mut numbers = map.split_whitespace().map(|word| word.parse::<u32>().ok());
    let (inside, first, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
    (inside == 0 && count > 0 && numbers.next().is_none()).then_some(IdRange { first, count })
}

/// Creates a network namespace owned by `userns`: root inside can configure it if it has
/// CAP_NET_ADMIN.
///
/// # Errors
/// The step that failed.
pub(crate) fn create_netns_in(userns: &UserNs) -> Result<OwnedFd, UserNsError> {
    let helper = Helper::start(|| {
        setns(userns, CloneFlags::CLONE_NEWUSER)?;
        unshare(CloneFlags::CLONE_NEWNET)
    })
    .map_err(fail("create a network namespace"))?;
    helper.namespace("net").map_err(fail("open the new network namespace"))
}

/// A child that holds namespaces open until this is dropped.
struct Helper {
    pid: i32,
    /// Closing it ends the child.
    hold: Option<OwnedFd>,
}

impl Helper {
    /// Creates a child, which then runs `first`.
    fn start(first: impl FnOnce() -> Result<(), Errno>) -> Result<Helper, Errno> {
        let (held, hold) = pipe2(OFlag::O_CLOEXEC)?;
        let (ready, tell) = pipe2(OFlag::O_CLOEXEC)?;
        match sys::clone3(sys::CLONE_CLEAR_SIGHAND, None::<BorrowedFd<'_>>)? {
            sys::Fork::Child => {
                drop((hold, ready));
                // It has a copy of the caller's memory and enters a namespace in which another
                // process may already be root.
                // SAFETY: prctl with integers only.
                unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
                let errno = first().err().map_or(0, |errno| errno as i32);
                // The parent is waiting or has ended; in that case `held` is at end of file.
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
        sys::wait(self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::{IdRange, single_range};

    #[test]
    fn a_foreign_map_must_be_a_single_range_from_0() {
        assert_eq!(single_range("  0 1000 5\n"), Some(IdRange { first: 1000, count: 5 }));
        for map in ["", "1 1000 5", "0 1000 0", "0 1 2\n3 4 5\n", "0 x 1", "0 1"] {
            assert_eq!(single_range(map), None, "{map:?}");
        }
    }
}
