//! Which lines of a ring a client wants, and their JSON.

use crate::follow::{BATCH, MAX_BATCH_BYTES};
use bytes::Bytes;
use logger::{Counters, Line, Reader, RingError, Stream};
use std::collections::VecDeque;

/// Which lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// At most this many of those that the other fields select, the last ones; `None`: all.
    pub tail: Option<usize>,
    /// Those after this line.
    pub since: Option<u64>,
    /// From the first one that is not older than this, microseconds since 1970.
    pub since_time: Option<i64>,
    /// Those of this stream only.
    pub stream: Option<Stream>,
}

/// A log line as JSON, ready to be sent to any number of clients.
#[derive(Debug, Clone)]
pub struct EncodedLine {
    /// Its number.
    pub seq: u64,
    /// Its stream.
    pub stream: Stream,
    /// A [`api_types::LogLine`].
    pub json: Bytes,
}

/// Where the wanted lines begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The number of the line after which they begin in the ring.
    pub after: u64,
    /// This many more lines may be wanted that the ring no longer has; `usize::MAX`: all.
    pub lacking: usize,
}

/// Encodes a line; `boot` as in [`api_types::LogLine::boot`].
pub fn encode(line: &Line, boot: u64) -> EncodedLine {
    let json = serde_json::to_vec(&line.to_log_line(boot)).unwrap_or_default().into();
    EncodedLine { seq: line.seq, stream: line.stream, json }
}

/// Encodes lines of this boot: the first ones, up to [`MAX_BATCH_BYTES`], but at least one.
pub fn encode_batch(lines: &[Line]) -> Vec<EncodedLine> {
    let mut batch: Vec<EncodedLine> = Vec::new();
    let mut size = 0;
    for line in lines {
        let line = encode(line, 0);
        size += line.json.len();
        if size > MAX_BATCH_BYTES && !batch.is_empty() {
            break;
        }
        batch.push(line);
    }
    batch
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

    /// [`Start::lacking`] after this many were found; none if the wanted lines begin `within` what was
    /// searched.
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
