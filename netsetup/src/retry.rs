//! Pauses between attempts at an operation that may become possible soon, later, or never.

use std::time::Duration;

/// Minimum pause: a module is being loaded.
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// Maximum pause.
const MAX_PAUSE: Duration = Duration::from_secs(5);

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
    /// True if an attempt is due.
    pub fn due(&self, now: Duration) -> bool {
        self.next().is_none_or(|next| next <= now)
    }

    /// When the next attempt is due; `None`: the last one did not fail.
    pub fn next(&self) -> Option<Duration> {
        self.failing.map(|failing| failing.next)
    }

    /// Records a failed attempt. Returns for how long all attempts have failed.
    pub fn failed(&mut self, now: Duration) -> Duration {
        let since = self.failing.map_or(now, |failing| failing.since);
        let failing = now.saturating_sub(since);
        // An eighth of the time so far, so that success is noticed with a small relative delay.
        let pause = (failing / 8).clamp(MIN_PAUSE, MAX_PAUSE);
        self.failing = Some(Failing { since, next: now + pause });
        failing
    }

    /// For how long all attempts have failed.
    pub fn failing(&self, now: Duration) -> Duration {
        self.failing.map_or(Duration::ZERO, |failing| now.saturating_sub(failing.since))
    }

    /// Records a success, or that the operation has changed.
    pub fn reset(&mut self) {
        self.failing = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_short_relative_to_the_wait_so_far_and_at_most_the_maximum() {
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
            assert!(*pause <= (waited / 8).max(MIN_PAUSE).min(MAX_PAUSE));
            waited += *pause;
        }
        assert_eq!(pauses[79], MAX_PAUSE);
        retry.reset();
        assert_eq!(retry.next(), None);
    }
}
