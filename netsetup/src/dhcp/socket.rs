//! The sockets of a DHCP client: a packet socket while there is no address, UDP afterwards.

use nix::errno::Errno;
use std::mem::zeroed;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::client::To;
use super::{CLIENT_PORT, SERVER_PORT, frame};
use crate::netlink::{NetlinkError, set_option};

/// Buffer size. No DHCP message is longer: the client requests at most 1472 bytes (option 57), and
/// links have an MTU of 1500 bytes.
const BUFFER: usize = 1600;

/// A socket that could not be opened or used.
#[derive(Debug, thiserror::Error)]
#[error("{call} on {link}: {}", .errno.desc())]
pub struct SocketError {
    /// The system call.
    pub call: &'static str,
    /// The link.
    pub link: String,
    /// The error.
    pub errno: Errno,
}

/// The sockets of a link. Each is open only while it is needed.
#[derive(Debug)]
pub struct Sockets {
    index: i32,
    name: String,
    raw: Option<OwnedFd>,
    udp: Option<UdpSocket>,
}

impl Sockets {
    /// For the link with this index and name; no socket is open yet.
    pub fn new(index: u32, name: &str) -> Sockets {
        let index = i32::try_from(index).unwrap_or(0);
        Sockets { index, name: name.into(), raw: None, udp: None }
    }

    fn error(&self, call: &'static str) -> impl Fn(Errno) -> SocketError {
        let link = self.name.clone();
        move |errno| SocketError { call, link: link.clone(), errno }
    }

    /// Opens and closes sockets: `raw` for responses to an address that the host does not have,
    /// `udp` for responses to an address that it has (and so that the kernel does not send "port
    /// unreachable").
    ///
    /// # Errors
    /// A requested socket cannot be opened.
    pub fn want(&mut self, raw: bool, udp: bool) -> Result<(), SocketError> {
        if raw && self.raw.is_none() {
            self.raw = Some(self.open_raw()?);
        } else if !raw {
            self.raw = None;
        }
        if udp && self.udp.is_none() {
            self.udp = Some(self.open_udp()?);
        } else if !udp {
            self.udp = None;
        }
        Ok(())
    }

    /// The open sockets, to poll.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let raw = self.raw.iter().map(AsFd::as_fd);
        raw.chain(self.udp.iter().map(AsFd::as_fd))
    }

    fn link_address(&self) -> libc::sockaddr_ll {
        // SAFETY: all-zero bytes are a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        address.sll_ifindex = self.index;
        address.sll_halen = 6;
        address.sll_addr = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];
        address
    }

    fn open_raw(&self) -> Result<OwnedFd, SocketError> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0 receives nothing before the filter is set and the socket is bound.
        // SAFETY: plain system call without pointers.
        let fd = Errno::result(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })
            .map_err(self.error("socket(AF_PACKET)"))?;
        // SAFETY: the kernel has just created this descriptor for this call.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        set_filter(fd.as_fd()).map_err(self.error("setsockopt(SO_ATTACH_FILTER)"))?;
        let on = 1i32;
        set_option(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &on)
            .map_err(|error| self.error("setsockopt(PACKET_AUXDATA)")(errno_of(&error)))?;
        let address = self.link_address();
        let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
        // SAFETY: the pointer is to a live sockaddr_ll of the size given.
        let done = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size) };
        Errno::result(done).map_err(self.error("bind(AF_PACKET)"))?;
        Ok(fd)
    }

    fn open_udp(&self) -> Result<UdpSocket, SocketError> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain system call without pointers.
        let fd = Errno::result(unsafe { libc::socket(libc::AF_INET, kind, 0) })
            .map_err(self.error("socket(AF_INET)"))?;
        // SAFETY: the kernel has just created this descriptor for this call.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // Every link has a socket on the same port.
        for option in [libc::SO_REUSEADDR, libc::SO_BROADCAST] {
            set_option(&fd, libc::SOL_SOCKET, option, &1i32)
                .map_err(|error| self.error("setsockopt")(errno_of(&error)))?;
        }
        nix::sys::socket::setsockopt(
            &fd,
            nix::sys::socket::sockopt::BindToDevice,
            &self.name.clone().into(),
        )
        .map_err(self.error("setsockopt(SO_BINDTODEVICE)"))?;
        let any = nix::sys::socket::SockaddrIn::new(0, 0, 0, 0, CLIENT_PORT);
        nix::sys::socket::bind(fd.as_raw_fd(), &any).map_err(self.error("bind to port 68"))?;
        Ok(UdpSocket::from(fd))
    }

    /// Sends a message, opening the socket if necessary.
    ///
    /// # Errors
    /// It cannot be sent now. The client repeats it later.
    pub fn send(&mut self, payload: &[u8], to: To) -> Result<(), SocketError> {
        let address = match to {
            To::Link => return self.send_raw(payload),
            To::Broadcast => Ipv4Addr::BROADCAST,
            To::Server(server) => server,
        };
        if self.udp.is_none() {
            self.udp = Some(self.open_udp()?);
        }
        let Some(udp) = &self.udp else { return Ok(()) };
        udp.send_to(payload, (address, SERVER_PORT))
            .map(|_| ())
            .map_err(|error| self.error("sendto")(io_errno(&error)))
    }

    fn send_raw(&mut self, payload: &[u8]) -> Result<(), SocketError> {
        if self.raw.is_none() {
            self.raw = Some(self.open_raw()?);
        }
        let Some(raw) = &self.raw else { return Ok(()) };
        let packet = frame::broadcast(payload);
        let address = self.link_address();
        let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
        // SAFETY: both pointers are to live values of the sizes given.
        let sent = unsafe {
            libc::sendto(
                raw.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                libc::MSG_NOSIGNAL,
                (&raw const address).cast(),
                size,
            )
        };
        Errno::result(sent).map(|_| ()).map_err(self.error("sendto(AF_PACKET)"))
    }

    /// The next message for the client's port, from either socket; `None` if there is none now.
    /// Damaged and unrelated packets are skipped.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; BUFFER];
        if let Some(raw) = &self.raw {
            // An error here means that the link is down and nothing is queued.
            while let Ok((length, check)) = receive_raw(raw.as_fd(), &mut buffer) {
                let packet = buffer.get(..length).unwrap_or_default();
                if let Some(payload) = frame::payload(packet, check) {
                    return Some(payload.to_vec());
                }
            }
        }
        let length = self.udp.as_ref()?.recv(&mut buffer).ok()?;
        Some(buffer.get(..length)?.to_vec())
    }
}

fn errno_of(error: &NetlinkError) -> Errno {
    error.errno().unwrap_or(Errno::UnknownErrno)
}

fn io_errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

/// Accepts only unfragmented UDP packets for port 68, so that a busy link does not wake the
/// process. The data begins with the IP header (packet(7), `SOCK_DGRAM`).
fn set_filter(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap_or(0),
        jt,
        jf,
        k,
    };
    let (ld, ldx, jmp, ret) = (libc::BPF_LD, libc::BPF_LDX, libc::BPF_JMP, libc::BPF_RET);
    let (byte, half, k) = (libc::BPF_B, libc::BPF_H, libc::BPF_K);
    let mut program = [
        op(ld | byte | libc::BPF_ABS, 0, 0, 9), // protocol
        op(jmp | libc::BPF_JEQ | k, 0, 6, 17),
        op(ld | half | libc::BPF_ABS, 0, 0, 6), // fragment offset and "more fragments"
        op(jmp | libc::BPF_JSET | k, 4, 0, 0x3fff),
        op(ldx | byte | libc::BPF_MSH, 0, 0, 0), // header length
        op(ld | half | libc::BPF_IND, 0, 0, 2),  // destination port
        op(jmp | libc::BPF_JEQ | k, 0, 1, CLIENT_PORT.into()),
        op(ret | k, 0, 0, u32::MAX),
        op(ret | k, 0, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(0),
        filter: program.as_mut_ptr(),
    };
    let size = libc::socklen_t::try_from(size_of_val(&filter)).unwrap_or(0);
    // SAFETY: the pointers are to live values; the kernel copies the program.
    let done = unsafe {
        let filter = (&raw const filter).cast();
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, filter, size)
    };
    Errno::result(done).map(|_| ())
}

/// Receives a packet. Returns its length, and whether the sender has filled in its UDP checksum.
fn receive_raw(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, bool), Errno> {
    #[repr(C, align(8))]
    struct Control([u8; 64]);
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    // SAFETY: the header points to live, writable memory of the sizes that it states.
    let got = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let length = usize::try_from(Errno::result(got)?).unwrap_or(0);

    // SAFETY: the header is as recvmsg(2) filled it in.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: not null, so it points to a control message header within `control`.
    let message = unsafe { first.as_ref() };
    let auxiliary = message.filter(|message| {
        message.cmsg_level == libc::SOL_PACKET && message.cmsg_type == libc::PACKET_AUXDATA
    });
    let filled_in = auxiliary.is_none_or(|message| {
        // SAFETY: a PACKET_AUXDATA message contains a tpacket_auxdata; it is copied unaligned.
        let data: libc::tpacket_auxdata =
            unsafe { libc::CMSG_DATA(message).cast::<libc::tpacket_auxdata>().read_unaligned() };
        data.tp_status & libc::TP_STATUS_CSUMNOTREADY == 0
    });
    Ok((length, filled_in))
}
