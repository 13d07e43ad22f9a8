//! Standard input on its way to a program, and the escape among what is typed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How much input is read and sent at once.
pub const PIECE: usize = 16 * 1024;

/// How much of what is typed waits for a connection that takes nothing.
const MOST: usize = 256 * 1024;

/// A connection that has taken nothing for this long is one whose program has stopped reading.
const STALL: Duration = Duration::from_secs(2);

/// Input that has been read and not been sent.
///
/// From a pipe no more is read than can be sent. A terminal is always read, for the escape has to be found
/// even if the program does not read: `Enter ~ .` is for just that moment.
pub struct Typed {
    escape: Option<Escape>,
    waiting: VecDeque<u8>,
    /// When the connection took something last.
    moved: Instant,
    /// Too much was typed: nothing is kept until all that waits has gone, so that one piece is missing and
    /// not many.
    losing: bool,
    end: End,
}

/// The end of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    /// Read, and not sent yet.
    Read,
    Sent,
}

/// What has become of a piece of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Took {
    /// It will be sent.
    Kept,
    /// The first piece that is not.
    Lost,
    /// It is the escape.
    Disconnect,
}

impl Typed {
    /// From a terminal, or from something else; without `input` it is at its end at once.
    pub fn new(terminal: bool, input: bool) -> Typed {
        Typed {
            escape: terminal.then(Escape::default),
            waiting: VecDeque::new(),
            moved: Instant::now(),
            losing: false,
            end: if input { End::NotYet } else { End::Read },
        }
    }

    /// Whether it is from a terminal.
    pub fn terminal(&self) -> bool {
        self.escape.is_some()
    }

    /// Whether to read more now. A terminal with a full buffer is not read while the connection still
    /// takes something: a long paste over a slow connection has to arrive as a whole.
    pub fn wanted(&self, now: Instant) -> bool {
        let room = self.terminal() || self.waiting.is_empty();
        self.end == End::NotYet && room && self.wait(now).is_none_or(|wait| wait.is_zero())
    }

    /// After which time more is [`wanted`](Typed::wanted), if nothing else happens before; `None`: time
    /// changes nothing.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        // The escape's filter may add a `~` to a piece.
        let full = self.losing || self.waiting.len() + PIECE >= MOST;
        (self.terminal() && self.end == End::NotYet && full)
            .then(|| STALL.saturating_sub(now.saturating_duration_since(self.moved)))
    }

    /// The connection has taken something.
    pub fn moved(&mut self, now: Instant) {
        self.moved = now;
    }

    /// Takes what was read; nothing: the end.
    pub fn push(&mut self, data: &[u8]) -> Took {
        if data.is_empty() {
            self.end = End::Read;
        }
        let filtered = match &mut self.escape {
            Some(escape) => match escape.filter(data) {
                Some(filtered) => filtered,
                None => return Took::Disconnect,
            },
            None => data.to_vec(),
        };
        if self.losing {
            return Took::Kept;
        }
        if self.terminal() && self.waiting.len() + filtered.len() > MOST {
            self.losing = true;
            return Took::Lost;
        }
        self.waiting.extend(filtered);
        Took::Kept
    }

    /// The next piece to send; empty, once: the end of the input.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        if self.waiting.is_empty() {
            self.losing = false;
            if self.end == End::Read {
                self.end = End::Sent;
                return Some(Vec::new());
            }
            return None;
        }
        let length = self.waiting.len().min(PIECE);
        Some(self.waiting.drain(..length).collect())
    }
}

/// `Enter ~ .` disconnects, as with ssh; `Enter ~ ~` is one `~`.
#[derive(Debug)]
struct Escape {
    /// At the beginning of a line.
    start: bool,
    /// After a `~` there.
    tilde: bool,
}

impl Default for Escape {
    fn default() -> Escape {
        Escape { start: true, tilde: false }
    }
}

impl Escape {
    /// What of the input is for the program; `None`: disconnect.
    fn filter(&mut self, input: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(input.len() + 1);
        for &byte in input {
            if std::mem::take(&mut self.tilde) {
                match byte {
                    b'.' => return None,
                    b'~' => {}
                    _ => out.push(b'~'),
                }
            } else if self.start && byte == b'~' {
                self.tilde = true;
                continue;
            }
            out.push(byte);
            self.start = matches!(byte, b'\r' | b'\n');
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_is_only_one_at_the_beginning_of_a_line() {
        let filter = |pieces: &[&str]| {
            let mut escape = Escape::default();
            let mut out = Vec::new();
            for piece in pieces {
                out.extend(escape.filter(piece.as_bytes())?);
            }
            Some(String::from_utf8(out).unwrap())
        };
        assert_eq!(filter(&["ls ~.\r"]).as_deref(), Some("ls ~.\r"));
        assert_eq!(filter(&["~~.\r~x"]).as_deref(), Some("~.\r~x"));
        assert_eq!(filter(&["\r", "~", "."]), None);
        assert_eq!(filter(&["~."]), None);
    }

    #[test]
    fn the_escape_is_found_although_the_program_has_stopped_reading() {
        let begun = Instant::now();
        let mut typed = Typed::new(true, true);
        // Nothing is ever sent.
        let mut pushed = 0;
        while typed.wanted(begun) {
            assert_eq!(typed.push(&[b'x'; PIECE]), Took::Kept);
            pushed += PIECE;
            assert!(pushed <= MOST);
        }
        // It may be slow only.
        assert_eq!(typed.wait(begun + STALL / 2).map(|wait| wait <= STALL), Some(true));
        let later = Instant::now() + STALL;
        let mut lost = 0;
        for _ in 0..100 {
            assert!(typed.wanted(later));
            lost += usize::from(typed.push(&[b'x'; PIECE]) == Took::Lost);
            assert!(typed.waiting.len() <= MOST);
        }
        assert_eq!(lost, 1);
        assert_eq!(typed.push(b"\r~"), Took::Kept);
        assert_eq!(typed.push(b"."), Took::Disconnect);
    }

    #[test]
    fn what_is_typed_after_a_stall_is_passed_on_again() {
        let mut typed = Typed::new(true, true);
        while typed.push(&[b'x'; PIECE]) == Took::Kept {}
        let mut sent = 0;
        while let Some(piece) = typed.next_piece() {
            sent += piece.len();
        }
        assert_eq!(sent, MOST);
        assert!(typed.wanted(Instant::now()));
        assert_eq!(typed.push(b"y"), Took::Kept);
        assert_eq!(typed.next_piece().as_deref(), Some(&b"y"[..]));
    }

    #[test]
    fn the_end_of_the_input_comes_once_and_after_all_of_it() {
        let mut typed = Typed::new(false, true);
        assert_eq!(typed.push(b"x"), Took::Kept);
        // A pipe is not read ahead.
        assert!(!typed.wanted(Instant::now() + STALL));
        typed.push(b"");
        assert!(!typed.wanted(Instant::now()));
        assert_eq!(typed.next_piece().as_deref(), Some(&b"x"[..]));
        assert_eq!(typed.next_piece().as_deref(), Some(&b""[..]));
        assert_eq!(typed.next_piece(), None);
        let mut none = Typed::new(false, false);
        assert!(!none.wanted(Instant::now()));
        assert_eq!(none.next_piece().as_deref(), Some(&b""[..]));
    }
}
