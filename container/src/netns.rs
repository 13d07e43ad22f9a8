//! A network namespace that belongs to a unit and outlives each run of its container.

use crate::sys;
use crate::userns::{self, IdRange, UserNs, UserNsError};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::stat::Mode;
use std::os::fd::{AsRawFd, OwnedFd};

/// Settings of a fresh namespace, as other runtimes choose them: with ports and echo sockets free
/// for everybody inside, no program needs a capability for either.
const SYSCTLS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
];

/// A network namespace and a way to configure it from outside.
#[derive(Debug)]
pub struct NetNs {
    /// The namespace (nsfs); whoever holds this keeps it alive. Close-on-exec.
    pub ns: OwnedFd,
    /// A `NETLINK_ROUTE` socket made inside it. Close-on-exec.
    pub route_socket: OwnedFd,
}

/// Why no namespace was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetNsError {
    /// A step failed; the process is in its own namespace as before.
    #[error("{action}: {}", errno.desc())]
    Failed {
        /// What was tried.
        action: &'static str,
        /// The system call's error.
        errno: Errno,
    },
    /// The namespace could not be made inside the unit's user namespace.
    #[error(transparent)]
    UserNs(#[from] UserNsError),
    /// The process could not go back and is still inside the new namespace: it must end.
    #[error("cannot return to the host's network namespace: {}", errno.desc())]
    Lost {
        /// The system call's error.
        errno: Errno,
    },
}

/// Makes a network namespace with its loopback link up (and nothing else in it). It belongs to
/// `userns`, whose root may then configure it if it has the capability to; without one, to the host.
///
/// The calling process, which must be single-threaded, visits it for a moment: only there can the
/// socket be made. /proc must be mounted.
///
/// # Errors
/// After [`NetNsError::Lost`] the caller must end at once: it sees the wrong network.
pub fn create_netns(userns: Option<&UserNs>) -> Result<NetNs, NetNsError> {
    match userns {
        None => visit(|| {
            let fail = |action| move |errno| NetNsError::Failed { action, errno };
            unshare(CloneFlags::CLONE_NEWNET).map_err(fail("create a network namespace"))?;
            open_own().map_err(fail("open the new network namespace"))
        }),
        Some(userns) => enter(userns::create_netns_in(userns)?),
    }
}

/// [`crate::create_userns`] and [`create_netns`] in it at once, which is cheaper than one after the
/// other.
///
/// # Errors
/// As both have them.
pub fn create_userns_and_netns(range: IdRange) -> Result<(UserNs, NetNs), NetNsError> {
    let (userns, ns) = userns::create_with_netns(range)?;
    Ok((userns, enter(ns)?))
}

/// Sets up a namespace that has just been made.
fn enter(ns: OwnedFd) -> Result<NetNs, NetNsError> {
    visit(|| {
        setns(&ns, CloneFlags::CLONE_NEWNET).map_err(|errno| NetNsError::Failed {
            action: "enter the new network namespace",
            errno,
        })?;
        Ok(ns)
    })
}

/// Goes into a new network namespace, sets it up, and comes back.
fn visit(go: impl FnOnce() -> Result<OwnedFd, NetNsError>) -> Result<NetNs, NetNsError> {
    let home = open_own().map_err(|errno| NetNsError::Failed {
        action: "open the host's network namespace",
        errno,
    })?;
    let made = go().and_then(inside);
    setns(&home, CloneFlags::CLONE_NEWNET).map_err(|errno| NetNsError::Lost { errno })?;
    made
}

fn open_own() -> Result<OwnedFd, Errno> {
    open("/proc/self/ns/net", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

/// What is done while the process is in the new namespace.
fn inside(ns: OwnedFd) -> Result<NetNs, NetNsError> {
    let fail = |action| move |errno| NetNsError::Failed { action, errno };
    let route_socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )
    .map_err(fail("open a route socket in the new network namespace"))?;
    loopback_up().map_err(fail("bring up the loopback link"))?;
    for (path, value) in SYSCTLS {
        match sys::write_kernel_file(path, value) {
            // A kernel without IPv4 or without echo sockets has no such setting to relax.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(fail("relax the port settings")(errno)),
        }
    }
    Ok(NetNs { ns, route_socket })
}

/// `SIOCSIFFLAGS` (netdevice(7)); the kernel then adds 127.0.0.1/8 and ::1/128 by itself.
fn loopback_up() -> Result<(), Errno> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: ifreq is plain data for which all zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as libc::c_char;
    }
    // The union's only field in use; a fresh namespace's loopback link has no other flag to keep.
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request lives over the call and has the type that the ioctl takes.
    let done = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    Errno::result(done).map(drop)
}
