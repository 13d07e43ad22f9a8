//! Running a command in a container: what the client asks for, and the frames that then go both
//! ways over the connection.
//!
//! A frame is one byte for its kind, four for the length of its payload (big-endian), and the
//! payload.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bytes before a frame's payload.
pub const FRAME_HEADER: usize = 5;

/// Longest payload. Longer input or output takes several frames.
pub const MAX_FRAME: usize = 64 * 1024;

/// What to run; goes into the header `X-Keel-Exec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The program and its arguments; the program is searched in the container's `PATH`.
    pub command: Vec<String>,
    /// Variables in addition to those of the unit; they take precedence.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Lines and characters of its terminal; none: no terminal.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<[u16; 2]>))]
    pub tty: Option<(u16, u16)>,
}

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// From the client: input; without payload, end of input.
    Stdin,
    /// From the host: what the command wrote to its standard output, or to its terminal.
    Stdout,
    /// From the host: what it wrote to its standard error.
    Stderr,
    /// From the client: the terminal's new size, a [`Resize`].
    Resize,
    /// From the host, the last frame: the JSON of an [`crate::ExitStatus`].
    Exit,
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            FrameKind::Stdin => 0,
            FrameKind::Stdout => 1,
            FrameKind::Stderr => 2,
            FrameKind::Resize => 3,
            FrameKind::Exit => 4,
        }
    }

    fn from_code(code: u8) -> Result<FrameKind, FrameError> {
        Ok(match code {
            0 => FrameKind::Stdin,
            1 => FrameKind::Stdout,
            2 => FrameKind::Stderr,
            3 => FrameKind::Resize,
            4 => FrameKind::Exit,
            other => return Err(FrameError::Kind(other)),
        })
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: FrameKind,
    /// At most [`MAX_FRAME`] bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The header of a frame of this kind and length, for callers that have the payload
    /// in a buffer of its own.
    ///
    /// # Errors
    /// The payload is longer than [`MAX_FRAME`].
    pub fn header(kind: FrameKind, len: usize) -> Result<[u8; FRAME_HEADER], FrameError> {
        let length = u32::try_from(len).ok().filter(|_| len <= MAX_FRAME);
        let [a, b, c, d] = length.ok_or(FrameError::TooLong(len))?.to_be_bytes();
        Ok([kind.code(), a, b, c, d])
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// The payload is longer than [`MAX_FRAME`]; nothing is appended.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        out.extend_from_slice(&Frame::header(self.kind, self.payload.len())?);
        out.extend_from_slice(&self.payload);
        Ok(())
    }
}

/// A terminal's size, the payload of [`FrameKind::Resize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl Resize {
    /// As a payload.
    pub fn encode(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.rows.to_be_bytes(), self.columns.to_be_bytes());
        [a, b, c, d]
    }

    /// From a payload.
    ///
    /// # Errors
    /// It does not have four bytes.
    pub fn decode(payload: &[u8]) -> Result<Resize, FrameError> {
        let [a, b, c, d] = *payload else { return Err(FrameError::Size(payload.len())) };
        Ok(Resize { rows: u16::from_be_bytes([a, b]), columns: u16::from_be_bytes([c, d]) })
    }
}

/// Bytes that are not a frame. Nothing after them on the connection can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// No kind has this code.
    Kind(u8),
    /// A payload of this length is longer than [`MAX_FRAME`].
    TooLong(usize),
    /// A terminal's size of this length.
    Size(usize),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FrameError::Kind(code) => write!(f, "unknown kind of frame: {code}"),
            FrameError::TooLong(len) => {
                write!(f, "frame of {len} bytes; at most {MAX_FRAME} are allowed")
            }
            FrameError::Size(len) => write!(f, "terminal size of {len} bytes; expected 4"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Splits a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    held: Vec<u8>,
    /// This many bytes of `held` have been returned already.
    taken: usize,
}

impl Decoder {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        // Returned bytes are removed here and not in `next`, so that a piece with many small frames
        // is moved once and not once per frame.
        self.held.drain(..self.taken);
        self.taken = 0;
        self.held.extend_from_slice(bytes);
    }

    /// The next frame, or `None` if it is incomplete.
    ///
    /// # Errors
    /// The bytes are not a frame. All further calls fail.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = self.held.get(self.taken..).unwrap_or_default();
        let Some((&[code, a, b, c, d], after)) = rest.split_first_chunk::<FRAME_HEADER>() else {
            return Ok(None);
        };
        let kind = FrameKind::from_code(code)?;
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if len > MAX_FRAME {
            return Err(FrameError::TooLong(len));
        }
        let Some(payload) = after.get(..len) else { return Ok(None) };
        let frame = Frame { kind, payload: payload.to_vec() };
        self.taken += FRAME_HEADER + len;
        Ok(Some(frame))
    }

    /// Whether an incomplete frame has been received.
    pub fn is_partial(&self) -> bool {
        self.taken < self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let frame =
            (0u8..5, proptest::collection::vec(any::<u8>(), 0..300)).prop_map(|(code, payload)| {
                Frame { kind: FrameKind::from_code(code).unwrap(), payload }
            });
        proptest::collection::vec(frame, 0..12)
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(frames in frames(), cuts in proptest::collection::vec(1usize..50, 1..20)) {
            let mut bytes = Vec::new();
            for frame in &frames {
                frame.encode(&mut bytes).unwrap();
            }
            let (mut decoder, mut got, mut rest) = (Decoder::default(), Vec::new(), &bytes[..]);
            for cut in cuts.into_iter().cycle() {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    got.push(frame);
                }
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(got, frames);
            prop_assert!(!decoder.is_partial());
        }

        #[test]
        fn arbitrary_bytes_give_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            let mut eaten = 0;
            while let Ok(Some(frame)) = decoder.next_frame() {
                eaten += FRAME_HEADER + frame.payload.len();
            }
            prop_assert!(eaten <= bytes.len());
        }

        #[test]
        fn a_size_survives(rows: u16, columns: u16) {
            let size = Resize { rows, columns };
            prop_assert_eq!(Resize::decode(&size.encode()), Ok(size));
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_both_sides() {
        let frame = Frame { kind: FrameKind::Stdin, payload: vec![0; MAX_FRAME + 1] };
        assert_eq!(frame.encode(&mut Vec::new()), Err(FrameError::TooLong(MAX_FRAME + 1)));
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLong(u32::MAX as usize)));
    }
}
