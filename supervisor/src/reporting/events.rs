//! What has happened on the host, for those who look from outside.

use crate::now_us;
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

impl Default for Events {
    fn default() -> Events {
        Events { last: now_us(), kept: VecDeque::new() }
    }
}

impl Events {
    /// Takes in something that has just happened.
    pub fn add(&mut self, unit: Option<&str>, kind: &str, text: String) -> EventRecord {
        self.last += 1;
        let record = EventRecord {
            seq: self.last,
            time_us: logger::unix_us(),
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
        let mut events = Events::default();
        let first = events.add(Some("web"), "ready", "ready".to_owned()).seq;
        let total = KEPT as u64 + 10;
        for _ in 1..total {
            events.add(None, "note", String::new());
        }
        let all = events.after(0);
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].seq, first + 10);
        assert_eq!(events.after(first + total - 3).len(), 2);
        assert_eq!(events.after(u64::MAX).len(), 0);
    }
}
