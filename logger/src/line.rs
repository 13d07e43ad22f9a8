//! A stored line, as returned by a reader of the ring.

use api_types::LogLine;

pub use api_types::Stream;

/// Maximum text length of a record in bytes. A longer line is split into several records
/// ([`Flags::CONTINUES`], [`Flags::CONTINUED`]).
pub const MAX_TEXT: usize = 16 * 1024;

/// The number of a stream in a ring.
pub(crate) fn stream_code(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
        Stream::System => 3,
    }
}

/// The stream of a number in a ring.
pub(crate) fn stream_from_code(code: u8) -> Option<Stream> {
    Stream::ALL.into_iter().find(|stream| stream_code(*stream) == code)
}

/// How a record relates to the line that the container wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Flags(u8);

impl Flags {
    /// A whole line.
    pub const NONE: Flags = Flags(0);
    /// The line continues in the stream's next record.
    pub const CONTINUES: Flags = Flags(1);
    /// The line began in the stream's previous record.
    pub const CONTINUED: Flags = Flags(2);
    /// The stream ended without a newline after this text.
    pub const UNTERMINATED: Flags = Flags(4);

    /// The union of both sets.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether every flag of `other` is set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u8) -> Option<Flags> {
        if bits < 8 { Some(Flags(bits)) } else { None }
    }
}

/// A record of a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Increases by one with each record of the unit since boot; the first is 1.
    pub seq: u64,
    /// Wall clock time when the logger read it, in microseconds since 1970-01-01T00:00:00Z.
    pub unix_us: i64,
    /// `CLOCK_MONOTONIC` at the same moment, in milliseconds.
    pub mono_ms: u64,
    /// The number of the unit's start that it belongs to.
    pub generation: u64,
    /// Its origin.
    pub stream: Stream,
    /// Whether it is a whole line.
    pub flags: Flags,
    /// The bytes between the newlines, unchanged; not necessarily UTF-8.
    pub text: Vec<u8>,
}

impl Line {
    /// Converts it for users and clients; `boot` as in [`LogLine::boot`].
    pub fn to_log_line(&self, boot: u64) -> LogLine {
        LogLine {
            seq: self.seq,
            boot,
            time_us: self.unix_us,
            stream: self.stream,
            generation: self.generation,
            text: String::from_utf8_lossy(&self.text).into_owned(),
        }
    }
}
