//! Sockets: for sd_notify(3), for health checks, and for control requests.

use super::{errno_of, retry};
use crate::kernel::{CallError, ConnectError};
use crate::running::notify;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, UnixAddr, accept4, bind, connect,
    getpeername, getsockopt, recv, socket, sockopt,
};
use nix::sys::stat::Mode;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

const FLAGS: SockFlag = SockFlag::SOCK_CLOEXEC.union(SockFlag::SOCK_NONBLOCK);

/// Creates a unit's notify socket. Only root can access its directory; the socket itself is
/// accessible to all users, because the container's program (which sees only the socket) may run as
/// any user.
///
/// # Errors
/// socket(2)'s and bind(2)'s.
pub fn notify(unit: &str) -> Result<OwnedFd, Errno> {
    let path = notify::path(unit);
    // A socket that an earlier supervisor left behind is useless.
    let _ = fs::remove_file(&path);
    let fd = socket(AddressFamily::Unix, SockType::Datagram, FLAGS, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(&path)?)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))
        .map_err(|error| errno_of(&error))?;
    Ok(fd)
}

/// The next datagram, if there is one now.
pub fn receive(fd: &OwnedFd, buffer: &mut [u8], flags: MsgFlags) -> Option<usize> {
    retry(|| recv(fd.as_raw_fd(), buffer, flags | MsgFlags::MSG_DONTWAIT)).ok()
}

/// Starts to connect to port `port` on loopback, inside `netns` (`None`: the host's own). This
/// enters the namespace briefly to create the socket, which can then be used from outside.
///
/// # Errors
/// After [`ConnectError::Lost`] this process must end.
pub fn connect_loopback(netns: Option<&OwnedFd>, port: u16) -> Result<OwnedFd, ConnectError> {
    let failed = |call| move |errno| ConnectError::Failed(CallError::new(call, errno));
    let tcp = || socket(AddressFamily::Inet, SockType::Stream, FLAGS, None);
    let socket = match netns {
        None => tcp(),
        Some(netns) => {
            const HOME: &str = "/proc/self/ns/net";
            let home = open(HOME, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(failed(HOME))?;
            setns(netns, CloneFlags::CLONE_NEWNET)
                .map_err(failed("cannot enter the network namespace"))?;
            let socket = tcp();
            setns(home, CloneFlags::CLONE_NEWNET).map_err(ConnectError::Lost)?;
            socket
        }
    };
    let socket = socket.map_err(failed("socket"))?;
    match connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(ConnectError::Failed(CallError::new(format!("port {port}"), errno))),
    }
}

/// Whether a connection is established yet.
///
/// # Errors
/// Why it never will be.
pub fn is_connected(fd: &OwnedFd) -> Result<bool, Errno> {
    match getsockopt(fd, sockopt::SocketError)? {
        0 => Ok(getpeername::<SockaddrIn>(fd.as_raw_fd()).is_ok()),
        errno => Err(Errno::from_raw(errno)),
    }
}

/// Listens on a unix socket that only root can connect to.
///
/// # Errors
/// bind(2)'s.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    // The socket of an earlier supervisor has no listener.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

/// The next connection, if there is one now.
pub fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    let fd = retry(|| accept4(listener.as_raw_fd(), FLAGS)).ok()?;
    // SAFETY: the kernel has just created this descriptor; nothing else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The port whose name sysfs gives (`/sys/class/virtio-ports/*/name`).
pub fn open_port(name: &str) -> Option<OwnedFd> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let found = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if found.trim_end() == name {
            let path = format!("/dev/{}", entry.file_name().to_string_lossy());
            let opened =
                File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
            return opened.ok().map(OwnedFd::from);
        }
    }
    None
}
