//! Reading and writing netlink attributes (`struct nlattr`).
//!
//! Reading is tolerant by design: a newer kernel sends unknown attributes.

const HEADER: usize = 4;
const ALIGN: usize = 4;
const NESTED: u16 = 0x8000;
/// Removes `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` from a type.
const TYPE_MASK: u16 = 0x3fff;

/// Iterates over attributes as (type, value); ends at the first truncated one.
#[derive(Debug, Clone, Copy)]
pub struct Attrs<'a> {
    bytes: &'a [u8],
}

impl<'a> Attrs<'a> {
    /// The attributes in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Attrs<'a> {
        Attrs { bytes }
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(crate::netlink::u16_at(self.bytes, 0)?);
        let kind = crate::netlink::u16_at(self.bytes, 2)? & TYPE_MASK;
        let value = self.bytes.get(HEADER..length)?;
        self.bytes = self.bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A zero-terminated string.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

/// Writes attributes one after the other.
#[derive(Debug, Default, Clone)]
pub struct AttrWriter {
    bytes: Vec<u8>,
}

impl AttrWriter {
    /// Starts with the fixed header before the attributes (may be empty).
    pub fn after(header: &[u8]) -> AttrWriter {
        AttrWriter { bytes: header.to_vec() }
    }

    /// A plain value.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER]);
        self.bytes.extend_from_slice(value);
        self.finish(at, kind);
        self
    }

    /// A zero-terminated string.
    pub fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// A 32-bit number in network byte order, as netfilter requires.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Attributes inside an attribute.
    pub fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut AttrWriter)) -> &mut Self {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER]);
        inside(self);
        self.finish(at, kind | NESTED);
        self
    }

    /// The bytes written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Sets the header of the attribute begun at `at` and pads what follows it.
    fn finish(&mut self, at: usize, kind: u16) {
        let length = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
        let header = length.to_ne_bytes().into_iter().chain(kind.to_ne_bytes());
        for (byte, new) in self.bytes.iter_mut().skip(at).zip(header) {
            *byte = new;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parsing_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for (_, value) in Attrs::new(&bytes) {
                let _ = text(value);
            }
        }

        #[test]
        fn written_attributes_are_parsed_back(
            values in proptest::collection::vec(
                (0u16..100, proptest::collection::vec(any::<u8>(), 0..20)), 0..8)
        ) {
            let mut writer = AttrWriter::after(&[]);
            writer.nest(7, |inner| {
                for (kind, value) in &values {
                    inner.bytes(*kind, value);
                }
            });
            let outer: Vec<_> = Attrs::new(writer.as_slice()).collect();
            prop_assert_eq!(outer.len(), 1);
            prop_assert_eq!(outer[0].0, 7);
            let inner: Vec<_> = Attrs::new(outer[0].1).map(|(k, v)| (k, v.to_vec())).collect();
            prop_assert_eq!(inner, values);
        }
    }
}
