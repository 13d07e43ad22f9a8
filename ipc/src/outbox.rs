//! Messages that wait until the other side can accept them.

use crate::{ChannelError, Link};
use serde::Serialize;
use std::collections::VecDeque;
use std::ops::Deref;
use std::os::fd::OwnedFd;

/// The time after which a stalled outbox is flushed again, milliseconds.
pub const RETRY_MS: u64 = 100;

/// A queue in front of a link, for a sender that must neither block nor lose messages.
///
/// `F` holds the descriptors attached to a message: a `Vec` of the link's descriptors, or an
/// `Rc<[_]>` where the sender keeps them too.
#[derive(Debug)]
pub struct Outbox<M, F = Vec<OwnedFd>> {
    queue: VecDeque<(M, F)>,
    stalled: bool,
}

impl<M, F> Default for Outbox<M, F> {
    fn default() -> Outbox<M, F> {
        Outbox { queue: VecDeque::new(), stalled: false }
    }
}

impl<M, F> Outbox<M, F> {
    /// Sends a message after those that are queued, now or in a later [`Outbox::flush`].
    ///
    /// # Errors
    /// As `flush`.
    pub fn send<L: Link>(&mut self, link: &L, message: M, fds: F) -> Result<(), ChannelError>
    where
        M: Serialize,
        F: Deref<Target = [L::Fd]>,
    {
        self.push(message, fds);
        self.flush(link)
    }

    /// Queues a message for the next [`Outbox::flush`].
    pub fn push(&mut self, message: M, fds: F) {
        self.queue.push_back((message, fds));
    }

    /// Sends as much as the other side accepts now. Watch the link for `POLLOUT` while
    /// [`Outbox::is_empty`] is false, and call this when it is reported. After a temporary error
    /// (the kernel is short of memory) the outbox is stalled: the messages stay queued, and
    /// `POLLOUT` is not a useful signal; call this again later.
    ///
    /// # Errors
    /// A message that cannot be sent at all; it has been dropped.
    pub fn flush<L: Link>(&mut self, link: &L) -> Result<(), ChannelError>
    where
        M: Serialize,
        F: Deref<Target = [L::Fd]>,
    {
        self.stalled = false;
        while let Some((message, fds)) = self.queue.front() {
            let borrowed: Vec<&L::Fd> = fds.iter().collect();
            match link.send(message, &borrowed) {
                Err(ChannelError::WouldBlock) => return Ok(()),
                Err(error) if error.is_temporary() => {
                    self.stalled = true;
                    return Ok(());
                }
                done => {
                    self.queue.pop_front();
                    done?;
                }
            }
        }
        Ok(())
    }

    /// Removes the queued messages for which `keep` is false, for example because a newer one
    /// replaces them.
    pub fn retain(&mut self, mut keep: impl FnMut(&M) -> bool) {
        self.queue.retain(|(message, _)| keep(message));
    }

    /// Removes all queued messages: the other side is gone.
    pub fn clear(&mut self) {
        self.stalled = false;
        self.queue.clear();
    }

    /// Whether the messages wait for the kernel and not for the other side: do not watch for
    /// `POLLOUT`, but flush again after [`RETRY_MS`].
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Whether the messages wait for the other side: watch for `POLLOUT`.
    pub fn is_blocked(&self) -> bool {
        !self.stalled && !self.queue.is_empty()
    }

    /// Number of queued messages.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no message is queued.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Channel;

    #[test]
    fn a_full_queue_loses_no_message_and_keeps_the_order() {
        let (a, b) = Channel::pair().unwrap();
        let mut outbox: Outbox<u32> = Outbox::default();
        for number in 0..5000u32 {
            outbox.send(&a, number, Vec::new()).unwrap();
        }
        assert!(!outbox.is_empty());
        for number in 0..5000u32 {
            let received = match b.recv::<u32>().unwrap() {
                Some(received) => received,
                None => {
                    outbox.flush(&a).unwrap();
                    b.recv().unwrap().unwrap()
                }
            };
            assert_eq!(received.message, number);
        }
        assert!(outbox.is_empty());
    }
}
