//! Standard input on its way to a program, and the escape sequence of a terminal.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Size of one read, and of one frame that is sent.
pub const CHUNK: usize = 16 * 1024;

/// Limit of the input that is buffered while the connection does not accept any.
const MAX_BUFFERED: usize = 256 * 1024;

/// If the connection has not accepted data for this long, the program has stopped reading.
const STALL: Duration = Duration::from_secs(2);

/// Input that has been read and not sent yet.
///
/// A pipe is only read when the input can be sent. A terminal is always read, so that `Enter ~ .` works even
/// if the program does not read.
pub struct Input {
    escape: Option<Escape>,
    buffer: VecDeque<u8>,
    /// When the connection last accepted data.
    last_progress: Instant,
    /// The buffer was full. Input is dropped until all of it has been sent, so that one part is missing and
    /// not many.
    dropping: bool,
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

/// What [`Input::push`] did with the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It will be sent, or has been dropped after an earlier part.
    Kept,
    /// It is the first part that was dropped.
    Dropped,
    /// It contains the escape sequence.
    Disconnect,
}

impl Input {
    /// Input from a terminal or from something else; without `input` it is empty.
    pub fn new(terminal: bool, input: bool) -> Input {
        Input {
            escape: terminal.then(Escape::default),
            buffer: VecDeque::new(),
            last_progress: Instant::now(),
            dropping: false,
            end: if input { End::NotYet } else { End::Read },
        }
    }

    /// Whether the input is a terminal.
    pub fn terminal(&self) -> bool {
        self.escape.is_some()
    }

    /// Whether to read more now. With a full buffer, a terminal is not read while the connection still
    /// accepts data, so that a long paste over a slow connection arrives completely.
    pub fn wanted(&self, now: Instant) -> bool {
        let has_room = self.terminal() || self.buffer.is_empty();
        self.end == End::NotYet && has_room && self.wait(now).is_none_or(|wait| wait.is_zero())
    }

    /// After which time input is [`wanted`](Input::wanted) if nothing else happens; `None` if time does not
    /// matter.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        // The filter of escape sequences may add a `~`.
        let full = self.dropping || self.buffer.len() + CHUNK >= MAX_BUFFERED;
        (self.terminal() && self.end == End::NotYet && full)
            .then(|| STALL.saturating_sub(now.saturating_duration_since(self.last_progress)))
    }

    /// The connection has accepted data.
    pub fn progress(&mut self, now: Instant) {
        self.last_progress = now;
    }

    /// Adds what was read; empty at the end of the input.
    pub fn push(&mut self, data: &[u8]) -> Pushed {
        if data.is_empty() {
            self.end = End::Read;
        }
        let filtered = match &mut self.escape {
            Some(escape) => match escape.filter(data) {
                Some(filtered) => filtered,
                None => return Pushed::Disconnect,
            },
            None => data.to_vec(),
        };
        if self.dropping {
            return Pushed::Kept;
        }
        if self.terminal() && self.buffer.len() + filtered.len() > MAX_BUFFERED {
            self.dropping = true;
            return Pushed::Dropped;
        }
        self.buffer.extend(filtered);
        Pushed::Kept
    }

    /// The next bytes to send; empty, once, at the end of the input.
    pub fn next_chunk(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            self.dropping = false;
            if self.end == End::Read {
                self.end = End::Sent;
                return Some(Vec::new());
            }
            return None;
        }
        let length = self.buffer.len().min(CHUNK);
        Some(self.buffer.drain(..length).collect())
    }
}

/// Escape sequences as in ssh(1): `Enter ~ .` disconnects, `Enter ~ ~` sends one `~`.
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
    fn the_escape_is_recognized_only_at_the_beginning_of_a_line() {
        let filter = |chunks: &[&str]| {
            let mut escape = Escape::default();
            let mut out = Vec::new();
            for chunk in chunks {
                out.extend(escape.filter(chunk.as_bytes())?);
            }
            Some(String::from_utf8(out).unwrap())
        };
        assert_eq!(filter(&["ls ~.\r"]).as_deref(), Some("ls ~.\r"));
        assert_eq!(filter(&["~~.\r~x"]).as_deref(), Some("~.\r~x"));
        assert_eq!(filter(&["\r", "~", "."]), None);
        assert_eq!(filter(&["~."]), None);
    }

    #[test]
    fn the_escape_is_found_even_if_the_program_does_not_read() {
        let begun = Instant::now();
        let mut input = Input::new(true, true);
        // Nothing is sent.
        let mut pushed = 0;
        while input.wanted(begun) {
            assert_eq!(input.push(&[b'x'; CHUNK]), Pushed::Kept);
            pushed += CHUNK;
            assert!(pushed <= MAX_BUFFERED);
        }
        // The connection may just be slow.
        assert_eq!(input.wait(begun + STALL / 2).map(|wait| wait <= STALL), Some(true));
        let later = Instant::now() + STALL;
        let mut dropped = 0;
        for _ in 0..100 {
            assert!(input.wanted(later));
            dropped += usize::from(input.push(&[b'x'; CHUNK]) == Pushed::Dropped);
            assert!(input.buffer.len() <= MAX_BUFFERED);
        }
        assert_eq!(dropped, 1);
        assert_eq!(input.push(b"\r~"), Pushed::Kept);
        assert_eq!(input.push(b"."), Pushed::Disconnect);
    }

    #[test]
    fn input_after_a_stall_is_sent_again() {
        let mut input = Input::new(true, true);
        while input.push(&[b'x'; CHUNK]) == Pushed::Kept {}
        let mut sent = 0;
        while let Some(chunk) = input.next_chunk() {
            sent += chunk.len();
        }
        assert_eq!(sent, MAX_BUFFERED);
        assert!(input.wanted(Instant::now()));
        assert_eq!(input.push(b"y"), Pushed::Kept);
        assert_eq!(input.next_chunk().as_deref(), Some(&b"y"[..]));
    }

    #[test]
    fn the_end_of_the_input_comes_once_and_last() {
        let mut input = Input::new(false, true);
        assert_eq!(input.push(b"x"), Pushed::Kept);
        // A pipe is not read ahead.
        assert!(!input.wanted(Instant::now() + STALL));
        input.push(b"");
        assert!(!input.wanted(Instant::now()));
        assert_eq!(input.next_chunk().as_deref(), Some(&b"x"[..]));
        assert_eq!(input.next_chunk().as_deref(), Some(&b""[..]));
        assert_eq!(input.next_chunk(), None);
        let mut none = Input::new(false, false);
        assert!(!none.wanted(Instant::now()));
        assert_eq!(none.next_chunk().as_deref(), Some(&b""[..]));
    }
}
