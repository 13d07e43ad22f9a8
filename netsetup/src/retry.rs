//! Pauses between tries at something that may become possible soon, or late, or never.

use std::time::Duration;

/// Shortest pause: a module is just being loaded.
const SHORTEST: Duration = Duration::from_millis(10);
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
        let since = self.failing.map_or(now, |failing| failing.since);
        let failing = now.saturating_sub(since);
        // An eighth of the time so far: what becomes possible is never noticed much too late.
        let pause = (failing / 8).clamp(SHORTEST, LONGEST);
        self.failing = Some(Failing { since, next: now + pause });
        failing
    }

    /// For how long all tries have failed.
    pub fn failing(&self, now: Duration) -> Duration {
        self.failing.map_or(Duration::ZERO, |failing| now.saturating_sub(failing.since))
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
    fn a_pause_is_never_long_against_the_wait_so_far_nor_longer_than_the_longest() {
        let mut retry = Retry::default();
        let mut now = Duration::from_secs(100);
        assert!(retry.due(now));
        let mut pauses = Vec::new();
        for _ in 0..80 {
            retry.failed(now);
            assert!(!retry.due(now));
            let next = retry.next().unwrap();
            pauses.push(next - now);
            now = next;
            assert!(retry.due(now));
        }
        let mut waited = Duration::ZERO;
        for pause in &pauses {
            assert!(*pause <= (waited / 8).max(SHORTEST).min(LONGEST));
            waited += *pause;
        }
        assert_eq!(pauses[79], LONGEST);
        retry.reset();
        assert_eq!(retry.next(), None);
    }
}
