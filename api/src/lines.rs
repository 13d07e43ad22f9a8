//! Which lines of a ring are wanted, and how they look as JSON.

use crate::follow::{BATCH, MAX_PIECE};
use bytes::Bytes;
use logger::{Counters, Line, Reader, RingError, Stream};
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
    /// A [`api_types::LogLine`].
    pub json: Bytes,
}

/// Where what is wanted begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The number of the line after which it begins in the ring.
    pub after: u64,
    /// So many more lines may be wanted that the ring no longer has; `usize::MAX`: all that there are.
    pub lacking: usize,
}

/// Makes a line ready; `boot` as in [`api_types::LogLine::boot`].
pub fn piece(line: &Line, boot: u64) -> Piece {
    let json = serde_json::to_vec(&line.to_log_line(boot)).unwrap_or_default().into();
    Piece { seq: line.seq, stream: line.stream, json }
}

/// Makes lines of this boot ready: the first ones, up to [`MAX_PIECE`] bytes, but at least one.
pub fn pieces(lines: &[Line]) -> Vec<Piece> {
    let mut ready: Vec<Piece> = Vec::new();
    let mut size = 0;
    for line in lines {
        let piece = piece(line, 0);
        size += piece.json.len();
        if size > MAX_PIECE && !ready.is_empty() {
            break;
        }
        ready.push(piece);
    }
    ready
}

impl Wanted {
    /// Whether a line's stream is wanted.
    pub fn takes(&self, stream: Stream) -> bool {
        self.stream.is_none_or(|only| only == stream)
    }

    /// What is lacking while a unit has no ring.
    pub fn without_ring(&self) -> usize {
        self.lacking(0, self.since.is_some())
    }

    /// [`Start::lacking`] once so many were found; nothing is if what is wanted begins `within` what
    /// was searched.
    fn lacking(&self, found: usize, within: bool) -> usize {
        if within { 0 } else { self.tail.map_or(usize::MAX, |tail| tail.saturating_sub(found)) }
    }

    /// The line of this boot after which it begins, if it is about this boot alone. A number from
    /// before a reboot is none of this one's: lines are counted from 1 in each boot.
    pub fn after(&self, counters: &Counters) -> Option<u64> {
        self.since.map(|since| if since <= counters.lines { since } else { 0 })
    }

    /// Where what is wanted begins.
    ///
    /// # Errors
    /// The ring cannot be read.
    pub fn start(&self, reader: &Reader) -> Result<Start, RingError> {
        let counters = reader.counters()?;
        let oldest = counters.evicted;
        let after = self.after(&counters);
        let since = after.unwrap_or(oldest);
        // What is wanted begins within the ring.
        let within = after.is_some_and(|after| after >= oldest);
        if self.stream.is_none() && self.since_time.is_none() {
            let there = counters.lines.saturating_sub(since.max(oldest));
            let there = usize::try_from(there).unwrap_or(usize::MAX);
            let last = |tail: usize| counters.lines.saturating_sub(tail.min(there) as u64);
            let after = self.tail.map_or(since, last);
            return Ok(Start { after, lacking: self.lacking(there, within) });
        }
        let (mut position, mut found, mut begun) = (since, VecDeque::new(), false);
        let mut older = false;
        loop {
            let batch = reader.since(position, BATCH)?;
            // What is written meanwhile is not searched: a busy unit would never let it end.
            let Some(last) = batch.last().filter(|_| position < counters.lines) else { break };
            position = last.seq;
            for line in batch {
                begun |= self.since_time.is_none_or(|time| line.unix_us >= time);
                older |= !begun;
                if !begun || !self.takes(line.stream) {
                    continue;
                }
                match self.tail {
                    // The first one is all that matters.
                    None => {
                        let lacking = self.lacking(0, within || older);
                        return Ok(Start { after: line.seq.saturating_sub(1), lacking });
                    }
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
        let lacking = self.lacking(found.len(), within || older);
        let after = found.front().map_or(position, |first: &u64| first.saturating_sub(1));
        Ok(Start { after, lacking })
    }
}
