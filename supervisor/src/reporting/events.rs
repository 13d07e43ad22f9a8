//! The recent events of the host, for clients of the API.

use api_types::{Event, EventKind};
use std::collections::VecDeque;

/// Events that are kept, about 100 KiB: for an `api` that was restarted, and for followers that are
/// further behind than `api` itself keeps events.
const KEPT: usize = 512;

/// The recent events. Their numbers keep rising when the supervisor is restarted: they start at the
/// number of microseconds since boot, and a host has fewer events than that.
#[derive(Debug)]
pub struct Events {
    last: u64,
    kept: VecDeque<Event>,
}

impl Events {
    /// No event yet; `now_us` is the time since boot.
    pub fn new(now_us: u64) -> Events {
        Events { last: now_us, kept: VecDeque::new() }
    }

    /// Adds an event that has just happened, at `time_us` of the wall clock.
    pub fn add(&mut self, time_us: i64, unit: Option<&str>, kind: EventKind) -> Event {
        self.last += 1;
        let event = Event {
            seq: self.last,
            time_us,
            unit: unit.map(str::to_owned),
            text: kind.to_string(),
            kind,
        };
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(event.clone());
        event
    }

    /// The events after `seq` that are still kept, oldest first.
    pub fn after(&self, seq: u64) -> Vec<Event> {
        self.kept.iter().filter(|event| event.seq > seq).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_the_oldest_go_first() {
        let mut events = Events::new(0);
        let first = events.add(0, Some("web"), EventKind::Ready { took_ms: 5 });
        assert_eq!(first.text, "ready after 5 ms");
        let total = KEPT as u64 + 10;
        for _ in 1..total {
            events.add(0, None, EventKind::Supervisor);
        }
        let all = events.after(0);
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].seq, first.seq + 10);
        assert_eq!(events.after(first.seq + total - 3).len(), 2);
        assert_eq!(events.after(u64::MAX).len(), 0);
    }
}
