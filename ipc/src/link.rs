//! The interface of one end of a link, independent of its transport.
//!
//! [`crate::Channel`] is the real one: a socket. A simulator has its own, and runs both sides of a
//! link in one process.

use crate::{ChannelError, Received};
use serde::{Serialize, de::DeserializeOwned};

/// One end of a link. Messages arrive complete, in order and at most once. No call blocks.
pub trait Link {
    /// A file descriptor that can be attached to a message.
    type Fd;

    /// Sends one message with duplicates of `fds`; the sender keeps its own.
    ///
    /// A simulated link encodes with [`crate::channel::encode`], so that what does not fit on a
    /// real link does not fit there either.
    ///
    /// # Errors
    /// - [`ChannelError::WouldBlock`]: the other side's queue is full. Nothing was sent; try again
    ///   when the link is writable.
    /// - [`ChannelError::Sys`]: `EPIPE` and `ECONNRESET` when the other side has closed its end;
    ///   `ENOBUFS` and `ENOMEM`; with descriptors also `ETOOMANYREFS` (sendmsg(2), unix(7)).
    ///   Nothing was sent.
    /// - [`ChannelError::TooLong`], [`ChannelError::Encode`]: this message can never be sent.
    fn send<M: Serialize>(&self, message: &M, fds: &[&Self::Fd]) -> Result<(), ChannelError>;

    /// The next message, or `None` when there is none now.
    ///
    /// A message that was sent before its sender died can still be received.
    ///
    /// # Errors
    /// - [`ChannelError::Sys`]: `ECONNRESET` when the other side has closed its end with messages
    ///   in its queue that it had not read (reported once, then the messages that are left, then
    ///   the end); `ENOMEM`.
    /// - [`ChannelError::Decode`] with `size: 0` when the other side has closed its end and no
    ///   message is left; every further call returns it again.
    /// - [`ChannelError::Decode`] and [`ChannelError::Truncated`] otherwise: one message is lost,
    ///   and its descriptors are closed; the link can still be used.
    fn recv<M: DeserializeOwned>(&self) -> Result<Option<Received<M, Self::Fd>>, ChannelError>;
}
