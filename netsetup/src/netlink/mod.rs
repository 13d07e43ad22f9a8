//! A small synchronous netlink client: batches of requests, their acknowledgements, dumps.
//!
//! The kernel handles requests on a `NETLINK_ROUTE` or `NETLINK_NETFILTER` socket inside
//! `sendmsg(2)`, so every response except the later parts of a dump is queued when the call
//! returns. This makes batches cheap: many requests in one send, and only the last one requests an
//! acknowledgement, since errors are always reported. Nothing here waits longer than [`WAIT`].
//!
//! Sources: netlink(7), rtnetlink(7), `af_netlink.c` and `nfnetlink.c` of the kernel.

mod batch;
mod message;

use netlink_packet_core::Emitable;
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub use batch::Batch;
pub use message::{Message, messages, outcome};
pub(crate) use message::{u16_at, u32_at};

/// Maximum wait for a response. The kernel responds immediately; this is only a safeguard.
pub const WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// A dump that is interrupted by changes is accepted after this many attempts.
const DUMP_TRIES: usize = 8;

/// The kernel fills at most 32 KiB per part of a dump (`NLMSG_GOODSIZE` bound, af_netlink.c).
const BUFFER: usize = 32 * 1024;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
const ALIGN: usize = 4;

/// A netlink error.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// A system call on the socket failed.
    #[error("{call}: {}", .errno.desc())]
    Sys {
        /// The system call.
        call: &'static str,
        /// The error.
        errno: Errno,
    },
    /// The kernel refused a request.
    #[error("{what}: {}{}", .errno.desc(), if .text.is_empty() { String::new() } else { format!(" ({})", .text) })]
    Refused {
        /// The request.
        what: String,
        /// The error.
        errno: Errno,
        /// The kernel's explanation (extended acknowledgement), often empty.
        text: String,
    },
    /// No response within [`WAIT`].
    #[error("{what}: no response from the kernel")]
    NoAnswer {
        /// The request.
        what: String,
    },
    /// A malformed response.
    #[error("{what}: malformed response from the kernel")]
    Malformed {
        /// The request.
        what: String,
    },
}

impl NetlinkError {
    /// The error number, if there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Sys { errno, .. } | Self::Refused { errno, .. } => Some(*errno),
            Self::NoAnswer { .. } | Self::Malformed { .. } => None,
        }
    }
}

/// A netlink socket and its sequence numbers.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    next: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket of a family: `libc::NETLINK_ROUTE`, `libc::NETLINK_NETFILTER`.
    ///
    /// # Errors
    /// Those of `socket(2)`; `EPROTONOSUPPORT` while the family's module is not loaded.
    pub fn open(family: i32) -> Result<Netlink, NetlinkError> {
        Netlink::from_fd(socket(family)?)
    }

    /// Uses an existing netlink socket, which may belong to another network namespace.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`: the descriptor is not a netlink socket.
    pub fn from_fd(fd: OwnedFd) -> Result<Netlink, NetlinkError> {
        set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &1i32)?;
        let wait = libc::timeval {
            tv_sec: i64::try_from(WAIT.as_secs()).unwrap_or(1),
            tv_usec: i64::from(WAIT.subsec_micros()),
        };
        set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &wait)?;
        Ok(Netlink { fd, next: 1, buffer: Vec::new() })
    }

    /// Sends a batch, waits until it has been handled completely and passes every message that is
    /// not an acknowledgement to `each`, with the index of its request.
    ///
    /// After an error the kernel continues with the rest of a batch.
    ///
    /// # Errors
    /// The first request that was refused, or an error of the socket.
    pub fn run(
        &mut self,
        mut batch: Batch,
        mut each: impl FnMut(usize, Message<'_>),
    ) -> Result<(), NetlinkError> {
        if batch.acknowledged.is_none() {
            batch.acknowledge_last();
        }
        let Some(awaited) = batch.acknowledged else { return Ok(()) };
        self.submit(&mut batch)?;
        let first = self.next;
        self.next = self.next.wrapping_add(u32::try_from(batch.len()).unwrap_or(0));

        let mut refused = None;
        let mut overflow = None;
        let mut done = false;
        while !done {
            // After an error the acknowledgement may be missing (a netfilter batch is dropped as a
            // whole); all responses are in the queue already.
            let received = self.receive(refused.is_some() || overflow.is_some());
            let bytes = match received {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                // There were more responses than fit in the queue. The kernel reports this before
                // it delivers those that did fit, including the first refusal.
                Err(error) if error.errno() == Some(Errno::ENOBUFS) && overflow.is_none() => {
                    overflow = Some(error);
                    continue;
                }
                Err(error) => return Err(refused.unwrap_or(error)),
            };
            for message in messages(bytes) {
                let index = usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(0);
                if index >= batch.len() {
                    continue; // The response to an earlier request that timed out.
                }
                if i32::from(message.kind) != libc::NLMSG_ERROR {
                    each(index, message);
                    continue;
                }
                let Some((code, text)) = outcome(&message) else {
                    return Err(NetlinkError::Malformed { what: batch.what(index) });
                };
                if code != 0 && refused.is_none() {
                    let errno = Errno::from_raw(-code);
                    refused = Some(NetlinkError::Refused { what: batch.what(index), errno, text });
                }
                done |= index == awaited;
            }
        }
        match refused.or(overflow) {
            Some(error) => Err(error),
            None if done => Ok(()),
            None => Err(NetlinkError::NoAnswer { what: batch.what(awaited) }),
        }
    }

    /// Reads a whole table. A dump that the kernel marks as interrupted by a change is repeated, so
    /// the entries that `each` returns are collected first.
    ///
    /// # Errors
    /// Those of [`Netlink::run`].
    pub fn dump<T>(
        &mut self,
        kind: u16,
        body: &impl Emitable,
        what: &str,
        each: impl Fn(Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let mut found = Vec::new();
        for _ in 0..DUMP_TRIES {
            found.clear();
            let mut batch = Batch::new();
            batch.add(kind, libc::NLM_F_DUMP, body, what);
            if self.dump_once(batch, what, |message| found.extend(each(message)))? {
                break;
            }
        }
        Ok(found)
    }

    /// One pass of a dump; false if it was interrupted.
    fn dump_once(
        &mut self,
        mut batch: Batch,
        what: &str,
        mut each: impl FnMut(Message<'_>),
    ) -> Result<bool, NetlinkError> {
        self.submit(&mut batch)?;
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        let mut whole = true;
        loop {
            let Some(bytes) = self.receive(false)? else {
                return Err(NetlinkError::NoAnswer { what: what.into() });
            };
            for message in messages(bytes).filter(|message| message.sequence == sequence) {
                whole &= i32::from(message.flags) & libc::NLM_F_DUMP_INTR == 0;
                match i32::from(message.kind) {
                    // A finished dump has 0 or an error, like an acknowledgement.
                    libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                        let (code, text) = outcome(&message).unwrap_or_default();
                        if code != 0 {
                            let errno = Errno::from_raw(-code);
                            return Err(NetlinkError::Refused { what: what.into(), errno, text });
                        }
                        return Ok(whole);
                    }
                    _ => each(message),
                }
            }
        }
    }

    fn submit(&mut self, batch: &mut Batch) -> Result<(), NetlinkError> {
        batch.number(self.next);
        let mut grown = false;
        loop {
            // SAFETY: the pointer and the length are those of one live vector.
            let sent = unsafe {
                libc::send(
                    self.fd.as_raw_fd(),
                    batch.bytes.as_ptr().cast(),
                    batch.bytes.len(),
                    libc::MSG_NOSIGNAL,
                )
            };
            match Errno::result(sent) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                // A batch is one message and must fit in the socket's send buffer. The kernel
                // doubles the number, which leaves space for its own data.
                Err(Errno::EMSGSIZE) if !grown => {
                    let size = i32::try_from(batch.bytes.len()).unwrap_or(i32::MAX);
                    // FORCE: ignore the limit of net.core.wmem_max.
                    set_option(&self.fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &size)?;
                    grown = true;
                }
                Err(errno) => return Err(NetlinkError::Sys { call: "send to netlink", errno }),
            }
        }
    }

    /// The next datagram; `None` if none is queued (`queued_only`) or none arrived in time.
    fn receive(&mut self, queued_only: bool) -> Result<Option<&[u8]>, NetlinkError> {
        self.buffer.resize(BUFFER, 0);
        let flags = if queued_only { libc::MSG_DONTWAIT } else { 0 };
        receive(self.fd.as_fd(), &mut self.buffer, flags)
    }
}

/// Opens a netlink socket of a family, close-on-exec.
///
/// # Errors
/// Those of `socket(2)`.
pub fn socket(family: i32) -> Result<OwnedFd, NetlinkError> {
    // SAFETY: plain system call without pointers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, family) };
    let fd = Errno::result(fd)
        .map_err(|errno| NetlinkError::Sys { call: "socket(AF_NETLINK)", errno })?;
    // SAFETY: the kernel has just created this descriptor for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next datagram of a netlink socket, or `None` if there is none (now, or in time).
pub(crate) fn receive<'a>(
    fd: BorrowedFd<'_>,
    buffer: &'a mut [u8],
    flags: i32,
) -> Result<Option<&'a [u8]>, NetlinkError> {
    loop {
        // SAFETY: the pointer and the length are those of one live, writable slice.
        let got =
            unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
        return match Errno::result(got) {
            Ok(length) => Ok(buffer.get(..usize::try_from(length).unwrap_or(0))),
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(NetlinkError::Sys { call: "receive from netlink", errno }),
        };
    }
}

/// `setsockopt(2)` with a plain value.
pub(crate) fn set_option<T: Copy>(
    fd: &impl AsFd,
    level: i32,
    option: i32,
    value: &T,
) -> Result<(), NetlinkError> {
    let size = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: the pointer is to a live value of the size given.
    let done = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(fd.as_fd().as_raw_fd(), level, option, value, size)
    };
    Errno::result(done).map(|_| ()).map_err(|errno| NetlinkError::Sys { call: "setsockopt", errno })
}
