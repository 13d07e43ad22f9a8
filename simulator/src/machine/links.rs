//! Links: SOCK_SEQPACKET socket pairs whose packets carry descriptors. What unix(7) and
//! net/unix/af_unix.c say of them: packets stay whole and in order; a queue is bounded; the close of
//! an end that had unread packets is reported to the other end once as ECONNRESET, before what was
//! sent to it; then comes the end.

use super::Machine;
use super::objects::{Id, Object};
use ipc::ChannelError;
use ipc::channel::{decode, encode};
use nix::errno::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;

/// One end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    link: usize,
    side: usize,
}

impl End {
    fn other(self) -> End {
        End { side: 1 - self.side, ..self }
    }
}

struct Packet {
    bytes: Vec<u8>,
    descriptors: Vec<Id>,
}

#[derive(Default)]
struct Side {
    id: Id,
    queue: VecDeque<Packet>,
    closed: bool,
    /// The other end was closed with unread packets: reported once.
    reset: bool,
}

/// A link.
#[derive(Default)]
pub struct LinkState {
    sides: [Side; 2],
    shut: bool,
}

impl Machine {
    fn side(&mut self, end: End) -> Option<&mut Side> {
        self.links.get_mut(end.link)?.sides.get_mut(end.side)
    }

    fn peek(&self, end: End) -> Option<&Side> {
        self.links.get(end.link)?.sides.get(end.side)
    }

    /// A new link: both ends, a reference each.
    pub fn make_link(&mut self) -> (Id, Id) {
        let link = self.links.len();
        let (a, b) = (End { link, side: 0 }, End { link, side: 1 });
        let ids = (self.make(Object::Link(a)), self.make(Object::Link(b)));
        let side = |id| Side { id, ..Side::default() };
        self.links.push(LinkState { sides: [side(ids.0), side(ids.1)], shut: false });
        ids
    }

    /// The end that an object is.
    pub fn end_of(&self, id: Id) -> Option<End> {
        match self.object(id)? {
            Object::Link(end) => Some(*end),
            _ => None,
        }
    }

    /// Whether an end has a packet to read, or has something else to say (an error, its end).
    pub fn link_readable(&self, end: End) -> bool {
        let own = self.peek(end);
        own.is_some_and(|side| !side.queue.is_empty() || side.reset) || self.link_hung_up(end)
    }

    /// Whether the other end is closed.
    pub fn link_hung_up(&self, end: End) -> bool {
        let shut = self.links.get(end.link).is_some_and(|link| link.shut);
        shut || self.peek(end.other()).is_none_or(|side| side.closed)
    }

    /// Whether an end takes another packet now (or an error instead).
    pub fn link_writable(&self, end: End) -> bool {
        let free = |side: &Side| side.queue.len() < self.options.queue;
        self.link_hung_up(end) || self.peek(end.other()).is_some_and(free)
    }

    /// Sends a message with references of its own to `descriptors`.
    ///
    /// # Errors
    /// As [`ipc::Link::send`].
    pub fn send<M: Serialize>(
        &mut self,
        end: End,
        message: &M,
        descriptors: &[Id],
    ) -> Result<(), ChannelError> {
        let bytes = encode(message, descriptors.len())?;
        if self.link_hung_up(end) {
            return Err(ChannelError::Sys { call: "sendmsg", errno: Errno::EPIPE });
        }
        if !self.link_writable(end) {
            return Err(ChannelError::WouldBlock);
        }
        for id in descriptors {
            self.refer(*id);
        }
        let packet = Packet { bytes, descriptors: descriptors.to_vec() };
        if let Some(side) = self.side(end.other()) {
            side.queue.push_back(packet);
            let id = side.id;
            self.changed(id);
        }
        Ok(())
    }

    /// The next message with its descriptors, whose references are the caller's now.
    ///
    /// # Errors
    /// As [`ipc::Link::recv`].
    pub fn recv<M: DeserializeOwned>(
        &mut self,
        end: End,
    ) -> Result<Option<(M, Vec<Id>)>, ChannelError> {
        let hung_up = self.link_hung_up(end);
        let Some(side) = self.side(end) else { return Ok(None) };
        if std::mem::take(&mut side.reset) {
            return Err(ChannelError::Sys { call: "recvmsg", errno: Errno::ECONNRESET });
        }
        let Some(packet) = side.queue.pop_front() else {
            return if hung_up { decode::<M>(&[]).map(|_| None) } else { Ok(None) };
        };
        if let Some(other) = self.peek(end.other()) {
            self.changed(other.id);
        }
        match decode(&packet.bytes) {
            Ok(message) => Ok(Some((message, packet.descriptors))),
            Err(error) => {
                for id in packet.descriptors {
                    self.release(id);
                }
                Err(error)
            }
        }
    }

    pub(super) fn close_end(&mut self, end: End) {
        let Some(side) = self.side(end) else { return };
        side.closed = true;
        let unread: Vec<Packet> = side.queue.drain(..).collect();
        if let Some(other) = self.side(end.other()) {
            other.reset |= !unread.is_empty();
            let id = other.id;
            self.changed(id);
        }
        for id in unread.into_iter().flat_map(|packet| packet.descriptors) {
            self.release(id);
        }
    }

    /// shutdown(2): the link is at its end for both sides, once they have read what is queued.
    pub fn shut_link(&mut self, end: End) {
        let Some(link) = self.links.get_mut(end.link) else { return };
        link.shut = true;
        let ids = [0, 1].map(|side| link.sides.get(side).map_or(0, |side: &Side| side.id));
        for id in ids {
            self.changed(id);
        }
    }
}
