//! A small synchronous netlink client: batches of requests, their acknowledgements, dumps.
//!
//! The kernel handles what is sent on a `NETLINK_ROUTE` or `NETLINK_NETFILTER` socket inside
//! `sendmsg(2)`, so every answer but the later parts of a dump is queued when the call returns.
//! That is what makes batches cheap: many requests in one send, and only the last one asks for an
//! acknowledgement, since a failure is always reported. Nothing here waits longer than [`WAIT`].
//!
//! Sources: netlink(7), rtnetlink(7), `af_netlink.c` and `nfnetlink.c` of the kernel.

use netlink_packet_core::Emitable;
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::attr::Attrs;

/// Longest wait for an answer. The kernel answers at once; this bounds a broken assumption.
pub const WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// A dump that other changes kept interrupting is taken as it is after this many tries.
const DUMP_TRIES: usize = 8;

/// The kernel fills at most 32 KiB per part of a dump (`NLMSG_GOODSIZE` bound, af_netlink.c).
const BUFFER: usize = 32 * 1024;

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

/// Requests to send in one go, in order.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    acknowledged: Option<usize>,
}

#[derive(Debug)]
struct Entry {
    at: usize,
    what: String,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// True if nothing has been added.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a request whose body is already bytes. `what` names it in errors.
    pub fn raw(&mut self, kind: u16, flags: i32, body: &[u8], what: impl Into<String>) {
        let at = self.bytes.len();
        let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]); // Sequence number and port, set when sent.
        self.bytes.extend_from_slice(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
        self.entries.push(Entry { at, what: what.into() });
    }

    /// Adds a request built with the types of `netlink-packet-route`.
    pub fn add(&mut self, kind: u16, flags: i32, body: &impl Emitable, what: impl Into<String>) {
        let mut bytes = vec![0; body.buffer_len()];
        body.emit(&mut bytes);
        self.raw(kind, flags, &bytes, what);
    }

    /// Asks for an acknowledgement of the request added last; it is what [`Netlink::run`] waits
    /// for. Without this, that is the last request of the batch.
    pub fn acknowledge_last(&mut self) {
        if let Some(entry) = self.entries.last() {
            self.or_flags(entry.at, libc::NLM_F_ACK);
            self.acknowledged = Some(self.entries.len() - 1);
        }
    }

    fn or_flags(&mut self, at: usize, flags: i32) {
        let flags = u16::try_from(flags).unwrap_or(0).to_ne_bytes();
        for (byte, flag) in self.bytes.iter_mut().skip(at + 6).zip(flags) {
            *byte |= flag;
        }
    }

    /// Numbers the requests from `first` on.
    fn number(&mut self, first: u32) {
        for (offset, entry) in (0u32..).zip(&self.entries) {
            let number = first.wrapping_add(offset).to_ne_bytes();
            for (byte, new) in self.bytes.iter_mut().skip(entry.at + 8).zip(number) {
                *byte = new;
            }
        }
    }

    fn what(&self, index: usize) -> String {
        self.entries.get(index).map(|entry| entry.what.clone()).unwrap_or_default()
    }
}

/// One message of an answer: its type and what follows its header.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of one datagram. Ends at the first that is cut.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let body = bytes.get(HEADER..length)?;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            body,
        };
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some(message)
    })
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// The error number and the explanation in an `NLMSG_ERROR` (0: an acknowledgement).
fn outcome(message: &Message<'_>) -> Option<(i32, String)> {
    // The libc crate does not name these.
    const NLM_F_CAPPED: u16 = 0x100;
    const NLM_F_ACK_TLVS: u16 = 0x200;
    const NLMSGERR_ATTR_MSG: u16 = 1;

    let code = i32::from_ne_bytes(message.body.get(..4)?.try_into().ok()?);
    let mut text = String::new();
    if message.flags & NLM_F_ACK_TLVS != 0 {
        // The request follows, whole unless capped, and then the attributes.
        let request = if message.flags & NLM_F_CAPPED != 0 {
            HEADER
        } else {
            usize::try_from(u32_at(message.body, 4)?).ok()?.next_multiple_of(ALIGN)
        };
        let attributes = message.body.get(4 + request..).unwrap_or_default();
        for (kind, value) in Attrs::new(attributes) {
            if kind == NLMSGERR_ATTR_MSG {
                text = crate::attr::text(value);
            }
        }
    }
    Some((code, text))
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
        self.next = self.next.wrapping_add(u32::try_from(batch.entries.len()).unwrap_or(0));

        let mut refused = None;
        let mut done = false;
        while !done {
            // After an error the acknowledgement may never come (a netfilter batch is dropped as
            // a whole); all that will come is in the queue already.
            let received = self.receive(refused.is_some());
            let bytes = match received {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(error) => return Err(refused.unwrap_or(error)),
            };
            for message in messages(bytes) {
                let index = usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(0);
                if index >= batch.entries.len() {
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
        match refused {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                let _ = outcome(&message);
            }
        }

        #[test]
        fn a_batch_reads_back_as_its_requests(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
            first in any::<u32>(),
        ) {
            let mut batch = Batch::new();
            for body in &bodies {
                batch.raw(20, libc::NLM_F_CREATE, body, "test");
            }
            batch.acknowledge_last();
            batch.number(first);
            let read: Vec<_> = messages(&batch.bytes).collect();
            prop_assert_eq!(read.len(), bodies.len());
            for (index, (message, body)) in read.iter().zip(&bodies).enumerate() {
                prop_assert_eq!(message.body, &body[..]);
                prop_assert_eq!(message.sequence, first.wrapping_add(index as u32));
                let acknowledged = i32::from(message.flags) & libc::NLM_F_ACK != 0;
                prop_assert_eq!(acknowledged, index + 1 == bodies.len());
            }
        }
    }
}
