//! New namespaces, created with a short-lived child: a process inside a new user namespace can map
//! only a single id itself, and a network namespace is owned by the user namespace of the process
//! that creates it.
//!
//! The child shares the caller's memory and descriptors, and the caller is suspended until it has
//! ended (`CLONE_VM | CLONE_VFORK | CLONE_FILES`, as vfork(2)): copying the caller's page tables
//! costs more than everything else here. The child opens its own namespaces and ends. Until it is
//! waited for, its id maps can still be written.
//!
//! Sharing memory is safe here, but would not be in an existing namespace: no other process is in
//! the new namespaces, so none has capabilities in them.

use super::{IdRange, UserNsError, fail};
use crate::sys;
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// The new namespaces.
pub(super) struct Namespaces {
    /// The user namespace, its maps written.
    pub(super) user: OwnedFd,
    /// The network namespace in it, if requested.
    pub(super) net: Option<OwnedFd>,
}

/// Creates a user namespace with this mapping, and a network namespace in it if `network`.
pub(super) fn namespaces(range: IdRange, network: bool) -> Result<Namespaces, UserNsError> {
    let mut flags = libc::CLONE_NEWUSER as u64;
    if network {
        flags |= libc::CLONE_NEWNET as u64;
    }
    let mut opened = Opened { network, user: NOT_OPENED, net: NOT_OPENED };
    // SAFETY: `open_own` meets the requirements (see there), and `opened` outlives the call.
    let pid = unsafe { sys::clone_and_wait(flags, open_own, &mut opened) }.map_err(fail(
        match network {
            true => "create a user and a network namespace",
            false => "create a user namespace",
        },
    ))?;
    let _child = Ended(pid);
    // Take ownership of both before returning an error for either.
    // SAFETY: the child has opened them in the shared descriptor table, and has ended.
    let user = unsafe { sys::owned_raw(opened.user) };
    // SAFETY: as above.
    let net = network.then(|| unsafe { sys::owned_raw(opened.net) }).transpose();
    let user = user.map_err(fail("open a user namespace"))?;
    let net = net.map_err(fail("open the new network namespace"))?;
    let map = format!("0 {} {}\n", range.first, range.count);
    for file in ["uid_map", "gid_map"] {
        // The kernel accepts a map only in a single write (user_namespaces(7)).
        sys::write_kernel_file(&format!("/proc/{pid}/{file}"), &map)
            .map_err(fail("map the ids of a user namespace"))?;
    }
    Ok(Namespaces { user, net })
}

/// The child's results in shared memory: descriptors, or negative error numbers. Plain integers,
/// each written at once, so that they are valid even if the child is killed.
struct Opened {
    network: bool,
    user: i64,
    net: i64,
}

/// The initial value, which remains if the child is killed before it opens the namespace.
const NOT_OPENED: i64 = -(libc::ECHILD as i64);

/// Runs in the child: opens its own namespaces and ends.
///
/// # Safety
/// Runs on shared memory while the caller is suspended, so it must not allocate, take a lock or
/// unwind: it makes system calls only.
unsafe extern "C" fn open_own(opened: &mut Opened) -> ! {
    opened.user = open_link(c"/proc/self/ns/user");
    if opened.network {
        opened.net = open_link(c"/proc/self/ns/net");
    }
    sys::exit(0)
}

fn open_link(path: &CStr) -> i64 {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the path outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
    if fd < 0 { -i64::from(Errno::last_raw()) } else { fd }
}

/// A child that has ended; waits for it when dropped.
struct Ended(i32);

impl Drop for Ended {
    fn drop(&mut self) {
        sys::wait(self.0);
    }
}
