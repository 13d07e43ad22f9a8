//! A small synchronous netlink client: batches of requests, their acknowledgements, dumps.
//!
//! The kernel handles what is sent on a `NETLINK_ROUTE` or `NETLINK_NETFILTER` socket inside
//! `sendmsg(2)`, so every answer but the later parts of a dump is queued when the call returns.
//! That is what makes batches cheap: many requests in one send, and only the last one asks for an
//! acknowledgement, since a failure is always reported. Nothing here waits longer than [`WAIT`].
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

/// Longest wait for an answer. The kernel answers at once; this bounds a broken assumption.
pub const WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// A dump that other changes kept interrupting is taken as it is after this many tries.
const DUMP_TRIES: usize = 8;

/// The kernel fills at most 32 KiB per part of a dump (`NLMSG_GOODSIZE` bound, af_netlink.c).
const BUFFER: usize = 32 * 1024;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
const ALIGN: usize = 4;

/// What can go wrong between us and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// A system call on the socket failed.
    #[error("{call}: {}", .errno.desc())]
    Sys {
        /// Its name.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
    /// The kernel refused a request.
    #[error("{what}: {}{}", .errno.desc(), if .text.is_empty() { String::new() } else { format!(" ({})", .text) })]
    Refused {
        /// What was asked for.
        what: String,
        /// The kernel's answer.
        errno: Errno,
        /// The kernel's own explanation (extended acknowledgement), often empty.
        text: String,
    },
    /// No answer within [`WAIT`].
    #[error("{what}: the kernel did not answer")]
    Silent {
        /// What was asked for.
        what: String,
    },
    /// An answer that is not netlink.
    #[error("{what}: the kernel's answer cannot be read")]
    Malformed {
        /// What was asked for.
        what: String,
    },
}

impl NetlinkError {
    /// The kernel's error number, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Sys { errno, .. } | Self::Refused { errno, .. } => Some(*errno),
            Self::Silent { .. } | Self::Malformed { .. } => None,
        }
    }
}

/// A netlink socket with the numbering of its requests.
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
    /// `socket(2)`'s; `EPROTONOSUPPORT` while the family's module is not loaded.
    pub fn open(family: i32) -> Result<Netlink, NetlinkError> {
        Netlink::from_fd(socket(family)?)
    }

    /// Takes over a netlink socket, which may live in another network namespace.
    ///
    /// # Errors
    /// `setsockopt(2)`'s: the descriptor is not a netlink socket.
    pub fn from_fd(fd: OwnedFd) -> Result<Netlink, NetlinkError> {
        set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &1i32)?;
        let wait = libc::timeval {
            tv_sec: i64::try_from(WAIT.as_secs()).unwrap_or(1),
            tv_usec: i64::from(WAIT.subsec_micros()),
        };
        set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &wait)?;
        Ok(Netlink { fd, next: 1, buffer: Vec::new() })
    }

    /// Sends a batch, waits until all of it has been handled and hands every message that is not
    /// an acknowledgement to `each`, with the index of the request that it answers.
    ///
    /// The kernel goes on with the rest of a batch after a failure.
    ///
    /// # Errors
    /// The first request that was refused, or a failure of the socket.
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
            // After an error the acknowledgement may never come (a netfilter batch is dropped as
            // a whole); all that will come is in the queue already.
            let received = self.receive(refused.is_some() || overflow.is_some());
            let bytes = match received {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                // There were more answers than the queue takes. The kernel says so before it hands
                // out those that it did take, the first refusal among them.
                Err(error) if error.errno() == Some(Errno::ENOBUFS) && overflow.is_none() => {
                    overflow = Some(error);
                    continue;
                }
                Err(error) => return Err(refused.unwrap_or(error)),
            };
            for message in messages(bytes) {
                let index = usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(0);
                if index >= batch.len() {
                    continue; // The answer to an earlier request that was given up.
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
            None => Err(NetlinkError::Silent { what: batch.what(awaited) }),
        }
    }

    /// Reads a whole table. `each` sees every entry exactly once; a dump that the kernel marks as
    /// interrupted by a change is asked for again, so entries are collected first.
    ///
    /// # Errors
    /// As [`Netlink::run`].
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
                return Err(NetlinkError::Silent { what: what.into() });
            };
            for message in messages(bytes).filter(|message| message.sequence == sequence) {
                whole &= i32::from(message.flags) & libc::NLM_F_DUMP_INTR == 0;
                match i32::from(message.kind) {
                    // A finished dump says 0 or an error, like an acknowledgement.
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
                // A batch is one message, and that must fit into the socket's send buffer. The
                // kernel doubles the number, which leaves it room for its own.
                Err(Errno::EMSGSIZE) if !grown => {
                    let size = i32::try_from(batch.bytes.len()).unwrap_or(i32::MAX);
                    // FORCE: the administrator's bound (net.core.wmem_max) is for others.
                    set_option(&self.fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &size)?;
                    grown = true;
                }
                Err(errno) => return Err(NetlinkError::Sys { call: "send to netlink", errno }),
            }
        }
    }

    /// The next datagram; `None` if none is queued (`queued_only`) or none came in time.
    fn receive(&mut self, queued_only: bool) -> Result<Option<&[u8]>, NetlinkError> {
        self.buffer.resize(BUFFER, 0);
        let flags = if queued_only { libc::MSG_DONTWAIT } else { 0 };
        receive(self.fd.as_fd(), &mut self.buffer, flags)
    }
}

/// A netlink socket of a family, close-on-exec.
///
/// # Errors
/// `socket(2)`'s.
pub fn socket(family: i32) -> Result<OwnedFd, NetlinkError> {
    // SAFETY: plain system call without pointers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, family) };
    let fd = Errno::result(fd)
        .map_err(|errno| NetlinkError::Sys { call: "socket(AF_NETLINK)", errno })?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next datagram of a netlink socket, or `None` when there is none (now, or in time).
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
