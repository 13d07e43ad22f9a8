//! Network namespaces, which belong to a unit and outlive each run of its container.

use crate::sys;
use crate::userns::{self, IdRange, UserNs, UserNsError};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::stat::Mode;
use std::os::fd::{AsRawFd, OwnedFd};

/// Sysctls of a new namespace, the same as in other runtimes: programs inside need no capability
/// for low ports or for echo sockets.
const SYSCTLS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
];

/// A network namespace and a way to configure it from outside.
#[derive(Debug)]
pub struct NetNs {
    /// The namespace (nsfs); the open descriptor keeps it alive. Close-on-exec.
    pub ns: OwnedFd,
    /// A `NETLINK_ROUTE` socket created inside it. Close-on-exec.
    pub route_socket: OwnedFd,
}

/// Why no namespace was created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetNsError {
    /// A step failed; the process is still in its own namespace.
    #[error("{action}: {}", errno.desc())]
    Failed {
        /// The step.
        action: &'static str,
        /// The system call's error.
        errno: Errno,
    },
    /// The namespace could not be created inside the unit's user namespace.
    #[error(transparent)]
    UserNs(#[from] UserNsError),
    /// The process could not return and is still inside the new namespace: it must exit.
    #[error("cannot return to the host's network namespace: {}", errno.desc())]
    Lost {
        /// The system call's error.
        errno: Errno,
    },
}

/// Creates a network namespace in which only the loopback link is up. It is owned by `userns`,
/// whose root can then configure it if it has CAP_NET_ADMIN; without one, by the host.
///
/// The calling process must be single-threaded and enters the namespace for a moment, because the
/// socket can only be created inside. /proc must be mounted.
///
/// # Errors
/// After [`NetNsError::Lost`] the caller must exit at once: it is in the wrong network namespace.
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

/// Does [`crate::create_userns`] and [`create_netns`] in one step, which is cheaper.
///
/// # Errors
/// Those of both functions.
pub fn create_userns_and_netns(range: IdRange) -> Result<(UserNs, NetNs), NetNsError> {
    let (userns, ns) = userns::create_with_netns(range)?;
    Ok((userns, enter(ns)?))
}

/// Sets up a new namespace.
fn enter(ns: OwnedFd) -> Result<NetNs, NetNsError> {
    visit(|| {
        setns(&ns, CloneFlags::CLONE_NEWNET).map_err(|errno| NetNsError::Failed {
            action: "enter the new network namespace",
            errno,
        })?;
        Ok(ns)
    })
}

/// Enters a new network namespace, sets it up, and returns to the host's.
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

/// Sets up the new namespace while the process is in it.
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
            // A kernel without IPv4 or without echo sockets does not have the sysctl.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(fail("set the port sysctls")(errno)),
        }
    }
    Ok(NetNs { ns, route_socket })
}

/// `SIOCSIFFLAGS` (netdevice(7)); the kernel then adds 127.0.0.1/8 and ::1/128 by itself.
fn loopback_up() -> Result<(), Errno> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: ifreq is plain data for which all zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *byte as libc::c_char;
    }
    // The loopback link of a new namespace has no other flag that must be kept.
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request outlives the call and has the type that the ioctl takes.
    let done = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    Errno::result(done).map(drop)
}
