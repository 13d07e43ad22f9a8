//! Encoding requests.

use netlink_packet_core::Emitable;

use super::{ALIGN, HEADER};

/// Requests to be sent together, in order.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    entries: Vec<Entry>,
    pub(super) acknowledged: Option<usize>,
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

    /// The number of requests.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nothing has been added.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a request with an encoded body. `what` describes it in errors.
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

    /// Requests an acknowledgement for the request added last; [`super::Netlink::run`] waits for
    /// it. Without this, it waits for the last request of the batch.
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
    pub(super) fn number(&mut self, first: u32) {
        for (offset, entry) in (0u32..).zip(&self.entries) {
            let number = first.wrapping_add(offset).to_ne_bytes();
            for (byte, new) in self.bytes.iter_mut().skip(entry.at + 8).zip(number) {
                *byte = new;
            }
        }
    }

    pub(super) fn what(&self, index: usize) -> String {
        self.entries.get(index).map(|entry| entry.what.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_batch_is_parsed_back(
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
