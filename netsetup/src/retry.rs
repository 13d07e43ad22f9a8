//! Pauses between tries at something that may become possible soon, or late, or never.

use std::time::Duration;

/// First pause: a module that PID 1 is loading at this very moment.
const FIRST: Duration = Duration::from_millis(10);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// When to try again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    failing: Option<Failing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failing {
    since: Duration,
    pause: Duration,
    next: Duration,
}

impl Retry {
    /// True if a try is due.
    pub fn due(&self, now: Duration) -> bool {
        self.next().is_none_or(|next| next <= now)
    }

    /// When the next try is due; `None`: the last one did not fail.
    pub fn next(&self) -> Option<Duration> {
        self.failing.map(|failing| failing.next)
    }

    /// A try failed. Returns for how long all of them have.
    pub fn failed(&mut self, now: Duration) -> Duration {
        let (since, pause) = match self.failing {
            None => (now, FIRST),
            Some(failing) => (failing.since, (failing.pause * 2).min(LONGEST)),
        };
        self.failing = Some(Failing { since, pause, next: now + pause });
        now.saturating_sub(since)
    }

    /// It worked, or what is to be done has changed.
    pub fn reset(&mut self) {
        self.failing = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut retry = Retry::default();
        let mut now = Duration::from_secs(100);
        assert!(retry.due(now));
        let mut pauses = Vec::new();
        for _ in 0..14 {
            retry.failed(now);
            assert!(!retry.due(now));
            let next = retry.next().unwrap();
            pauses.push(next - now);
            now = next;
            assert!(retry.due(now));
        }
        assert!(pauses.windows(2).all(|pair| pair[1] == (pair[0] * 2).min(LONGEST)));
        assert_eq!(pauses[13], LONGEST);
        retry.reset();
        assert_eq!(retry.next(), None);
    }
}
