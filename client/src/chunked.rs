//! Decoder of HTTP's chunked transfer coding (RFC 9112, section 7.1).

/// Longest line with a chunk's size, and longest trailer.
const MAX_LINE: usize = 4096;

/// An incremental decoder.
#[derive(Debug, Default)]
pub struct Chunked {
    state: State,
    line: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the line with the size of the next chunk.
    #[default]
    Size,
    /// In a chunk, of which this many bytes are missing.
    Data(u64),
    /// In the line break after a chunk.
    DataEnd,
    /// After the last chunk, in the trailer section, which is ignored.
    Trailer,
    Done,
}

/// The input is not in chunked coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid chunked encoding")]
pub struct BadChunk;

impl Chunked {
    /// Whether the body is complete.
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes `input` and appends the body's bytes to `out`. Returns how many bytes of `input` belong to
    /// the body; the rest follows it.
    ///
    /// # Errors
    /// The input is invalid. The decoder cannot be used any more.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BadChunk> {
        let mut rest = input;
        while !rest.is_empty() && self.state != State::Done {
            if let State::Data(left) = self.state {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                let (data, after) = rest.split_at(take);
                out.extend_from_slice(data);
                rest = after;
                let left = left - take as u64;
                self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                continue;
            }
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (piece, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            self.line.extend_from_slice(piece);
            rest = after;
            if self.line.len() > MAX_LINE {
                return Err(BadChunk);
            }
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                self.state = self.after_line(trim(&line))?;
            }
        }
        Ok(input.len() - rest.len())
    }

    fn after_line(&self, line: &[u8]) -> Result<State, BadChunk> {
        Ok(match self.state {
            State::Size => match size(line)? {
                0 => State::Trailer,
                size => State::Data(size),
            },
            State::DataEnd if line.is_empty() => State::Size,
            State::DataEnd => return Err(BadChunk),
            State::Trailer if line.is_empty() => State::Done,
            state => state,
        })
    }
}

fn trim(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A hexadecimal number, optionally followed by `;` and an extension.
fn size(line: &[u8]) -> Result<u64, BadChunk> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let text = std::str::from_utf8(digits).map_err(|_| BadChunk)?.trim_end_matches([' ', '\t']);
    // from_str_radix accepts a sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(BadChunk);
    }
    u64::from_str_radix(text, 16).map_err(|_| BadChunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        let (mut rest, mut pieces) = (bytes, Vec::new());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = after;
        }
        pieces
    }

    proptest! {
        #[test]
        fn any_chunks_in_any_pieces_give_the_body(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..80), 0..8),
            cuts in proptest::collection::vec(1usize..40, 1..9),
            after in proptest::collection::vec(any::<u8>(), 0..9),
            trailer in any::<bool>(),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:X};x=y\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(if trailer { b"0\r\nA: b\r\n\r\n" } else { b"0\r\n\r\n" });
            wire.extend_from_slice(&after);
            let (mut decoder, mut body, mut left) = (Chunked::default(), Vec::new(), Vec::new());
            for piece in pieces(&wire, &cuts) {
                let taken = decoder.decode(&piece, &mut body).unwrap();
                left.extend_from_slice(&piece[taken..]);
            }
            prop_assert!(decoder.done());
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(left, after);
        }

        #[test]
        fn any_bytes_end_in_a_body_or_an_error(wire in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut body = Vec::new();
            if let Ok(taken) = Chunked::default().decode(&wire, &mut body) {
                prop_assert!(taken <= wire.len() && body.len() <= wire.len());
            }
        }
    }

    #[test]
    fn wrong_sizes() {
        for wire in ["\r\n", "x\r\n", "-1\r\n", "+1\r\n", "11111111111111111\r\n", "1\r\nab\r\n"] {
            let decoded = Chunked::default().decode(wire.as_bytes(), &mut Vec::new());
            assert_eq!(decoded, Err(BadChunk), "{wire:?}");
        }
        assert!(Chunked::default().decode(&[b'0'; MAX_LINE + 1], &mut Vec::new()).is_err());
    }
}
