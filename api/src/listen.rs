//! The listening socket.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind,
    listen, setsockopt, socket, sockopt,
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};

/// Connections that the kernel queues while this process is busy or being restarted.
const BACKLOG: i32 = 512;

/// Listens on a port of all addresses, IPv6 and IPv4; on a kernel without IPv6 of IPv4 only.
///
/// # Errors
/// Those of socket(2), bind(2) and listen(2).
pub fn on(port: u16) -> Result<TcpListener, Errno> {
    let six = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0));
    match open(AddressFamily::Inet6, &six) {
        Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {
            let four = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
            open(AddressFamily::Inet, &four)
        }
        result => result,
    }
}

fn open(family: AddressFamily, address: &dyn SockaddrLike) -> Result<TcpListener, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd: OwnedFd = socket(family, SockType::Stream, flags, None)?;
    // A restarted process must not wait for the TIME_WAIT of earlier connections.
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if family == AddressFamily::Inet6 {
        setsockopt(&fd, sockopt::Ipv6V6Only, &false)?;
    }
    // Accepted sockets inherit it: what a client that never reads can cost.
    setsockopt(&fd, sockopt::SndBuf, &(128 * 1024))?;
    bind(fd.as_raw_fd(), address)?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from(fd))
}
