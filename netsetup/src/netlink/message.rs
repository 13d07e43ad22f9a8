//! Parsing responses.

use super::{ALIGN, HEADER};
use crate::attr::Attrs;

/// A message of a response: its header fields and its body.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// Everything after the header.
    pub body: &'a [u8],
}

/// The messages of a datagram. Ends at the first truncated one.
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

/// The error number and the message text of an `NLMSG_ERROR` (0: an acknowledgement).
pub fn outcome(message: &Message<'_>) -> Option<(i32, String)> {
    // The libc crate does not define these.
    const NLM_F_CAPPED: u16 = 0x100;
    const NLM_F_ACK_TLVS: u16 = 0x200;
    const NLMSGERR_ATTR_MSG: u16 = 1;

    let code = i32::from_ne_bytes(message.body.get(..4)?.try_into().ok()?);
    let mut text = String::new();
    if message.flags & NLM_F_ACK_TLVS != 0 {
        // The request follows, complete unless capped, and then the attributes.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parsing_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                let _ = outcome(&message);
            }
        }
    }
}
