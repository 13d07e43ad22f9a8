//! Splits bytes into lines. Pure: the result depends only on the bytes, not on how they were
//! divided into chunks, so that the next logger can repeat the work of a killed one.

use crate::line::{Flags, MAX_TEXT};

/// The part of a stream that becomes one record.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The text without the newline.
    pub text: &'a [u8],
    /// Whether it is a whole line.
    pub flags: Flags,
    /// Bytes consumed, including the newline.
    pub taken: usize,
}

/// The first piece of `data`, or `None` if more bytes are needed to determine its end. `in_line`:
/// the previous piece had [`Flags::CONTINUES`]. `eof`: nothing follows `data`.
///
/// At most [`MAX_TEXT`] bytes are left waiting for more.
pub fn next_piece(data: &[u8], in_line: bool, eof: bool) -> Option<Piece<'_>> {
    let began = if in_line { Flags::CONTINUED } else { Flags::NONE };
    // One byte more than the longest text: a newline there still ends a whole line.
    let window = data.get(..=MAX_TEXT).unwrap_or(data);
    if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
        let text = window.get(..end).unwrap_or_default();
        return Some(Piece { text, flags: began, taken: end.saturating_add(1) });
    }
    if let Some(text) = data.get(..MAX_TEXT)
        && data.len() > MAX_TEXT
    {
        return Some(Piece { text, flags: began.and(Flags::CONTINUES), taken: MAX_TEXT });
    }
    if eof && !data.is_empty() {
        let flags = began.and(Flags::UNTERMINATED);
        return Some(Piece { text: data, flags, taken: data.len() });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(chunks: &[Vec<u8>]) -> Vec<(Vec<u8>, Flags)> {
        let (mut out, mut held, mut in_line) = (Vec::new(), Vec::new(), false);
        for (index, chunk) in chunks.iter().enumerate() {
            held.extend_from_slice(chunk);
            let eof = index + 1 == chunks.len();
            while let Some(piece) = next_piece(&held, in_line, eof) {
                in_line = piece.flags.has(Flags::CONTINUES);
                out.push((piece.text.to_vec(), piece.flags));
                let taken = piece.taken;
                held.drain(..taken);
            }
            assert!(held.len() <= MAX_TEXT);
        }
        assert!(held.is_empty());
        out
    }

    /// Lines with lengths around the limit.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![
            0usize..40,
            MAX_TEXT - 2..MAX_TEXT + 3,
            2 * MAX_TEXT - 2..2 * MAX_TEXT + 3,
        ];
        let line = (length, any::<u8>(), any::<bool>()).prop_map(|(length, byte, ends)| {
            let mut line = vec![if byte == b'\n' { 0xff } else { byte }; length];
            if ends {
                line.push(b'\n');
            }
            line
        });
        prop::collection::vec(line, 0..6).prop_map(|lines| lines.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn chunk_boundaries_change_nothing_and_no_byte_is_lost(
            text in text(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let whole = feed(std::slice::from_ref(&text));
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let chunks: Vec<Vec<u8>> =
                at.windows(2).map(|pair| text[pair[0]..pair[1]].to_vec()).collect();
            prop_assert_eq!(feed(&chunks), whole.clone());
            let mut back = Vec::new();
            for (piece, flags) in &whole {
                prop_assert!(piece.len() <= MAX_TEXT && !piece.contains(&b'\n'));
                back.extend_from_slice(piece);
                if !flags.has(Flags::CONTINUES) && !flags.has(Flags::UNTERMINATED) {
                    back.push(b'\n');
                }
            }
            prop_assert_eq!(back, text);
        }
    }
}
