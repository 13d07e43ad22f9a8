//! What has happened on the host, for those who look from outside.

use ipc::api::EventRecord;
use std::collections::VecDeque;

/// Events that are kept, some 100 KiB: for an `api` that was restarted, and for followers that are
/// further behind than it keeps them itself.
const KEPT: usize = 512;

/// The last events. Numbers go on rising when the supervisor is restarted: they begin at the
/// microseconds since boot, and no host has an event in each of them.
#[derive(Debug)]
pub struct Events {
    last: u64,
    kept: VecDeque<EventRecord>,
}

impl Events {
    /// No event yet; `now_us` is the time since boot.
    pub fn new(now_us: u64) -> Events {
        Events { last: now_us, kept: VecDeque::new() }
    }

    /// Takes in something that has just happened, at `time_us` of the wall clock.
    pub fn add(
        &mut self,
        time_us: i64,
        unit: Option<&str>,
        kind: &str,
        text: String,
    ) -> EventRecord {
        self.last += 1;
        let record = EventRecord {
            seq: self.last,
            time_us,
            unit: unit.map(str::to_owned),
            kind: kind.to_owned(),
            text,
        };
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(record.clone());
        record
    }

    /// Those after `seq` that are still kept, oldest first.
    pub fn after(&self, seq: u64) -> Vec<&EventRecord> {
        self.kept.iter().filter(|record| record.seq > seq).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_the_oldest_go_first() {
        let mut events = Events::new(0);
        let first = events.add(0, Some("web"), "ready", "ready".to_owned()).seq;
        let total = KEPT as u64 + 10;
        for _ in 1..total {
            events.add(0, None, "note", String::new());
        }
        let all = events.after(0);
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].seq, first + 10);
        assert_eq!(events.after(first + total - 3).len(), 2);
        assert_eq!(events.after(u64::MAX).len(), 0);
    }
}
