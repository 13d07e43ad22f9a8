//! New namespaces, made with a child that only is there for them: in a user namespace of one's own
//! no mapping of more than one id can be written, and a network namespace belongs to the user
//! namespace of whoever makes it.
//!
//! The child shares the caller's memory and descriptors, and the caller stands still until it has
//! ended (`CLONE_VM | CLONE_VFORK | CLONE_FILES`, as vfork(2)): copying the caller's page tables costs
//! more than everything else here. It opens what it is in and ends. As long as nobody has waited for
//! it, its maps are still there to be written.
//!
//! Sharing memory is safe here and would not be in a namespace that exists already: nobody else is in
//! these, so nobody has capabilities in them but who has them here.

use super::{IdRange, UserNsError, fail};
use crate::sys;
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// What was made.
pub(super) struct Made {
    /// The user namespace, its maps written.
    pub(super) user: OwnedFd,
    /// The network namespace in it, if one was wanted.
    pub(super) net: Option<OwnedFd>,
}

/// Makes a user namespace with this mapping, and a network namespace in it if `network`.
pub(super) fn namespaces(range: IdRange, network: bool) -> Result<Made, UserNsError> {
    let mut wanted = libc::CLONE_NEWUSER as u64;
    if network {
        wanted |= libc::CLONE_NEWNET as u64;
    }
    let mut opened = Opened { network, user: NEVER, net: NEVER };
    // SAFETY: `open_own` is written for it (see there), and `opened` lives over the call.
    let pid = unsafe { sys::clone_and_wait(wanted, open_own, &mut opened) }.map_err(fail(
        match network {
            true => "create a user and a network namespace",
            false => "create a user namespace",
        },
    ))?;
    let _child = Ended(pid);
    // Both are owned before one can be given up.
    // SAFETY: the child has opened them in the table of descriptors that it shared, and has ended.
    let user = unsafe { sys::owned_raw(opened.user) };
    // SAFETY: as above.
    let net = network.then(|| unsafe { sys::owned_raw(opened.net) }).transpose();
    let user = user.map_err(fail("open a user namespace"))?;
    let net = net.map_err(fail("open the new network namespace"))?;
    let map = format!("0 {} {}\n", range.first, range.count);
    for file in ["uid_map", "gid_map"] {
        // The kernel takes a map in one write only (user_namespaces(7)).
        sys::write_kernel_file(&format!("/proc/{pid}/{file}"), &map)
            .map_err(fail("map the ids of a user namespace"))?;
    }
    Ok(Made { user, net })
}

/// What the child leaves in the memory that it shares: descriptors, or negative error numbers. Plain
/// numbers, each written at once, so that a child that is killed leaves the one or the other.
struct Opened {
    network: bool,
    user: i64,
    net: i64,
}

/// What stands there of a child that was killed before it had opened something.
const NEVER: i64 = -(libc::ECHILD as i64);

/// What the child does: it opens the namespaces that it is in and ends.
///
/// # Safety
/// Runs on shared memory while the caller stands still, so it must neither allocate nor take a lock
/// nor unwind: it makes system calls only.
unsafe extern "C" fn open_own(opened: &mut Opened) -> ! {
    opened.user = open_link(c"/proc/self/ns/user");
    if opened.network {
        opened.net = open_link(c"/proc/self/ns/net");
    }
    sys::exit(0)
}

fn open_link(path: &CStr) -> i64 {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the path lives over the call.
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
    if fd < 0 { -i64::from(Errno::last_raw()) } else { fd }
}

/// A child that has ended and is waited for when this is dropped.
struct Ended(i32);

impl Drop for Ended {
    fn drop(&mut self) {
        sys::wait(self.0);
    }
}
