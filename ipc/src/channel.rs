//! One end of a link: packets of JSON with attached file descriptors.

use crate::Link;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    send, sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Largest packet. The kernel's default send buffer (212,992 bytes) can hold it.
pub const MAX_PACKET: usize = 128 * 1024;

/// Maximum number of descriptors in a packet.
pub const MAX_FDS: usize = 64;

/// Send without blocking, and without SIGPIPE if the other side is closed.
const SEND: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

/// An error of a link.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other side's queue is full; nothing was sent.
    #[error("the other side's queue is full")]
    WouldBlock,
    /// A system call failed.
    #[error("{call}: {errno}")]
    Sys {
        /// Its name.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
    /// A packet that is not a known message; it has been removed from the queue.
    #[error("a packet of {size} bytes is not a known message: {source}")]
    Decode {
        /// Its length.
        size: usize,
        /// The decoder's error.
        source: serde_json::Error,
    },
    /// A packet was truncated: longer than [`MAX_PACKET`] or with more descriptors than
    /// [`MAX_FDS`].
    #[error("a packet was longer than {MAX_PACKET} bytes or held more than {MAX_FDS} descriptors")]
    Truncated,
    /// A message to send that does not fit.
    #[error("a message of {0} bytes does not fit in a packet")]
    TooLong(usize),
    /// A message to send that cannot be encoded.
    #[error("cannot encode a message: {0}")]
    Encode(serde_json::Error),
}

impl ChannelError {
    /// Whether sending can succeed later without any event: the kernel was short of memory, or too
    /// many descriptors are in flight.
    pub fn is_temporary(&self) -> bool {
        use Errno::{ENOBUFS, ENOMEM, ETOOMANYREFS};
        matches!(self, ChannelError::Sys { errno: ENOBUFS | ENOMEM | ETOOMANYREFS, .. })
    }

    /// Whether the link can no longer be used: the other side has closed its end (no message is
    /// empty, so an empty packet is the end of the link), or a system call failed.
    pub fn is_closed(&self) -> bool {
        matches!(self, ChannelError::Decode { size: 0, .. } | ChannelError::Sys { .. })
    }
}

/// A received message with its descriptors (close-on-exec).
#[derive(Debug)]
pub struct Received<M, F = OwnedFd> {
    /// The message.
    pub message: M,
    /// Its descriptors, in the sender's order.
    pub fds: Vec<F>,
}

/// Encodes a message for a packet that also carries `fds` descriptors.
///
/// # Errors
/// [`ChannelError::Encode`] and [`ChannelError::TooLong`].
pub fn encode<M: Serialize>(message: &M, fds: usize) -> Result<Vec<u8>, ChannelError> {
    let bytes = serde_json::to_vec(message).map_err(ChannelError::Encode)?;
    if bytes.len() > MAX_PACKET || fds > MAX_FDS {
        return Err(ChannelError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// Decodes the message in a packet. An empty packet, which means the end of a link, has none.
///
/// # Errors
/// [`ChannelError::Decode`].
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, ChannelError> {
    serde_json::from_slice(bytes)
        .map_err(|source| ChannelError::Decode { size: bytes.len(), source })
}

/// One end of a link. Never blocks.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
}

impl Channel {
    /// A new link: both ends, non-blocking and close-on-exec.
    ///
    /// # Errors
    /// `socketpair(2)`'s.
    pub fn pair() -> Result<(Channel, Channel), ChannelError> {
        let (a, b) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )
        .map_err(|errno| ChannelError::Sys { call: "socketpair", errno })?;
        Ok((Channel { fd: a }, Channel { fd: b }))
    }

    /// Adopts a descriptor that PID 1 left open at a known number ([`crate::fds`]), and sets its
    /// close-on-exec flag.
    ///
    /// # Errors
    /// The number is not an open descriptor.
    pub fn inherited(number: RawFd) -> Result<Channel, ChannelError> {
        // SAFETY: F_SETFD only changes the descriptor's flag.
        let done = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        Errno::result(done).map_err(|errno| ChannelError::Sys { call: "fcntl(F_SETFD)", errno })?;
        // SAFETY: the number is open (checked above), and the process that calls this at its start
        // is its only owner: PID 1 passes each link under one number to one process.
        Ok(Channel { fd: unsafe { OwnedFd::from_raw_fd(number) } })
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`ChannelError::WouldBlock`] when the queue is full (nothing was sent; wait for `POLLOUT`).
    pub fn send<M: Serialize>(
        &self,
        message: &M,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        self.send_packet(&encode(message, raw.len())?, &raw)
    }

    fn send_packet(&self, bytes: &[u8], raw: &[RawFd]) -> Result<(), ChannelError> {
        loop {
            // A process that never sends descriptors does not need permission for sendmsg(2).
            let (call, sent) = if raw.is_empty() {
                ("send", send(self.fd.as_raw_fd(), bytes, SEND))
            } else {
                let (slice, rights) = ([IoSlice::new(bytes)], [ControlMessage::ScmRights(raw)]);
                ("sendmsg", sendmsg::<()>(self.fd.as_raw_fd(), &slice, &rights, SEND, None))
            };
            return match sent {
                Ok(_) => Ok(()),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Err(ChannelError::WouldBlock),
                Err(errno) => Err(ChannelError::Sys { call, errno }),
            };
        }
    }

    /// The next message, or `None` when there is none now.
    ///
    /// # Errors
    /// [`ChannelError::Decode`] and [`ChannelError::Truncated`] lose one packet; the link stays
    /// usable.
    pub fn recv<M: DeserializeOwned>(&self) -> Result<Option<Received<M>>, ChannelError> {
        let mut buffer = vec![0u8; MAX_PACKET];
        // Space for as many as the kernel lets a sender attach (SCM_MAX_FD, include/net/scm.h).
        // With less, some of the descriptors would be installed without a record of which.
        let mut control = nix::cmsg_space!([RawFd; 253]);
        let mut slice = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let got = loop {
            match recvmsg::<()>(self.fd.as_raw_fd(), &mut slice, Some(&mut control), flags) {
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(ChannelError::Sys { call: "recvmsg", errno }),
                Ok(got) => break got,
            }
        };
        let mut fds = Vec::new();
        for message in got.cmsgs().map_err(|_| ChannelError::Truncated)? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just installed these descriptors for this call; nothing
                // else owns them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let cut = got.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
        let size = got.bytes;
        if cut || fds.len() > MAX_FDS {
            return Err(ChannelError::Truncated);
        }
        let message = decode(buffer.get(..size).unwrap_or_default())?;
        Ok(Some(Received { message, fds }))
    }
}

impl Link for Channel {
    type Fd = OwnedFd;

    fn send<M: Serialize>(&self, message: &M, fds: &[&OwnedFd]) -> Result<(), ChannelError> {
        let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        self.send_packet(&encode(message, raw.len())?, &raw)
    }

    fn recv<M: DeserializeOwned>(&self) -> Result<Option<Received<M>>, ChannelError> {
        Channel::recv(self)
    }
}

impl AsRef<OwnedFd> for Channel {
    fn as_ref(&self) -> &OwnedFd {
        &self.fd
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.fd
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Channel {
        Channel { fd }
    }
}
