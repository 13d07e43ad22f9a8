//! Which lines of a ring are wanted, and how they look as JSON.

use crate::follow::BATCH;
use bytes::Bytes;
use logger::{Line, Reader, RingError, Stream};
use rest::LogLine;
use std::collections::VecDeque;

/// Which lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The last so many of those that the rest allows; `None`: all.
    pub tail: Option<usize>,
    /// After this one.
    pub since: Option<u64>,
    /// From the first one that is not older, microseconds since 1970.
    pub since_time: Option<i64>,
    /// Of this stream alone.
    pub stream: Option<Stream>,
}

/// A line, ready to be sent.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Its number.
    pub seq: u64,
    /// Its stream.
    pub stream: Stream,
    /// A [`LogLine`].
    pub json: Bytes,
}

/// As a client sees it.
pub fn log_line(line: &Line) -> LogLine {
    LogLine {
        seq: line.seq,
        time_us: line.unix_us,
        stream: line.stream.name().to_owned(),
        generation: line.generation,
        text: String::from_utf8_lossy(&line.text).into_owned(),
    }
}

/// Makes lines ready.
pub fn pieces(lines: Vec<Line>) -> Vec<Piece> {
    let piece = |line: Line| Piece {
        seq: line.seq,
        stream: line.stream,
        json: serde_json::to_vec(&log_line(&line)).unwrap_or_default().into(),
    };
    lines.into_iter().map(piece).collect()
}

impl Wanted {
    /// Whether a line's stream is wanted.
    pub fn takes(&self, stream: Stream) -> bool {
        self.stream.is_none_or(|only| only == stream)
    }

    /// The number of the line after which what is wanted begins.
    ///
    /// # Errors
    /// The ring cannot be read.
    pub fn start(&self, reader: &Reader) -> Result<u64, RingError> {
        let counters = reader.counters()?;
        let oldest = counters.evicted;
        // A number from before a reboot: lines are counted from 1 in each boot.
        let since = self.since.filter(|since| *since <= counters.lines).unwrap_or(oldest);
        if self.stream.is_none() && self.since_time.is_none() {
            let tail = self.tail.map_or(u64::MAX, |tail| tail as u64);
            return Ok(since.max(counters.lines.saturating_sub(tail)));
        }
        let (mut position, mut found, mut begun) = (since, VecDeque::new(), false);
        loop {
            let batch = reader.since(position, BATCH)?;
            // What is written meanwhile is not searched: a busy unit would never let it end.
            let Some(last) = batch.last().filter(|_| position < counters.lines) else { break };
            position = last.seq;
            for line in batch {
                begun |= self.since_time.is_none_or(|time| line.unix_us >= time);
                if !begun || !self.takes(line.stream) {
                    continue;
                }
                match self.tail {
                    // The first one is all that matters.
                    None => return Ok(line.seq.saturating_sub(1)),
                    Some(0) => {}
                    Some(tail) => {
                        if found.len() >= tail {
                            found.pop_front();
                        }
                        found.push_back(line.seq);
                    }
                }
            }
        }
        Ok(found.front().map_or(position, |first: &u64| first.saturating_sub(1)))
    }
}
