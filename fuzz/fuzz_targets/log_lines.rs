//! Container output, split into lines; and the lines of log files.
#![no_main]

use fuzz::{pieces, steer};
use libfuzzer_sys::fuzz_target;
use logger::{Flags, Line, MAX_TEXT, Stream, line_seq, next_piece};

fuzz_target!(|data: &[u8]| {
    let (cut, bytes) = steer(data);
    let whole = cut_up(std::iter::once(bytes));
    assert_eq!(cut_up(pieces(bytes, cut)), whole);
    let mut back = Vec::new();
    for (seq, (text, flags)) in (1..).zip(&whole) {
        back.extend_from_slice(text);
        if !flags.has(Flags::CONTINUES) && !flags.has(Flags::UNTERMINATED) {
            back.push(b'\n');
        }
        let line = Line {
            seq,
            unix_us: i64::from(cut) << 50,
            mono_ms: 0,
            generation: 1,
            stream: Stream::Stdout,
            flags: *flags,
            text: text.clone(),
        };
        assert_eq!(line_seq(&line.format()), Some(seq));
        let _ = line_seq(text);
    }
    assert_eq!(back, bytes);
});

fn cut_up<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<(Vec<u8>, Flags)> {
    let (mut found, mut held, mut in_line) = (Vec::new(), Vec::new(), false);
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        held.extend_from_slice(piece);
        while let Some(piece) = next_piece(&held, in_line, pieces.peek().is_none()) {
            in_line = piece.flags.has(Flags::CONTINUES);
            found.push((piece.text.to_vec(), piece.flags));
            let taken = piece.taken;
            held.drain(..taken);
        }
        assert!(held.len() <= MAX_TEXT);
    }
    found
}
