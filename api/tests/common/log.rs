//! The logger's side of a unit's ring.

use super::Host;
use logger::ring::{Batch, StreamMark, Writer};
use logger::{Flags, Stream};

pub struct Log {
    pub writer: Writer,
    pub batch: Batch,
}

impl Log {
    pub fn new(host: &Host) -> Log {
        let writer = Writer::open(&host.supervisor.ring(), 0).unwrap();
        Log { writer, batch: Batch::default() }
    }

    pub fn line(&mut self, time_us: i64, stream: Stream, text: &str) {
        self.writer.begin(&mut self.batch, time_us, 0);
        assert!(self.batch.push(1, stream, Flags::NONE, text.as_bytes()));
        let room = self.writer.room(&self.batch);
        let mark = StreamMark { generation: 1, stream, in_line: false, offset: 0 };
        self.writer.append(&self.batch, room, mark).unwrap();
    }

    pub fn lines(&mut self, count: usize) {
        let first = self.writer.newest() + 1;
        for number in first..first + count as u64 {
            self.line(0, Stream::Stdout, &format!("line {number}"));
        }
    }
}
