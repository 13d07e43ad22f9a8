//! Restart delays: none after a stable run, then doubling delays with jitter, and the opt-in limit of
//! attempts. Pure arithmetic on the unit's own history.

use super::time::Instant;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;
use units::model::Restart;

/// A run that was ready this long was stable: it restarts at once, and the delays begin anew.
pub const STABLE: Duration = Duration::from_secs(10);

/// No delay after an unstable run is shorter, whatever the unit file says: restarts without a delay
/// are a storm (two init systems in the field make 200 to 1,000 starts a second).
pub const MIN_DELAY: Duration = Duration::from_millis(10);

/// Most moments remembered for `max_attempts` within `window`, so that the state file of a unit
/// stays small. A larger limit counts as this one.
const MAX_RECENT: u32 = 1024;

/// What comes after an end that was not requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Start again after this delay.
    Retry(Duration),
    /// `max_attempts` has been reached, by this many attempts.
    Limit(u32),
}

/// A unit's place in the sequence of delays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Backoff {
    /// Unstable ends in a row, since the last stable run or the last start by hand.
    attempts: u32,
    /// When the last ends were, kept only for a limit with a window; oldest first.
    recent: VecDeque<Instant>,
    /// State of the jitter's generator. It is part of the saved state, so that a restored core
    /// continues with the same numbers.
    jitter: u64,
}

impl Backoff {
    /// The beginning. Different seeds give different jitter, so that units that died together do
    /// not all come back in the same instant.
    pub(super) fn new(seed: u64) -> Self {
        Self { attempts: 0, recent: VecDeque::new(), jitter: seed }
    }

    /// Unstable ends in a row.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// A person requested a start: the history no longer delays it.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
        self.recent.clear();
    }

    /// Records an end that was not requested and says what comes next. `stable`: the run had been
    /// ready for [`STABLE`].
    pub(super) fn after_end(&mut self, now: Instant, stable: bool, restart: &Restart) -> Pace {
        let exponent = if stable {
            self.attempts = 0;
            None
        } else {
            self.attempts = self.attempts.saturating_add(1);
            Some(self.attempts - 1)
        };
        if let Some(counted) = self.used_up(now, restart) {
            return Pace::Limit(counted);
        }
        Pace::Retry(exponent.map_or(Duration::ZERO, |exponent| self.delay(exponent, restart)))
    }

    /// The number of attempts that count, if they have reached the limit.
    fn used_up(&mut self, now: Instant, restart: &Restart) -> Option<u32> {
        let limit = restart.max_attempts?.max(1);
        let Some(window) = restart.window else {
            return (self.attempts >= limit).then_some(self.attempts);
        };
        let limit = limit.min(MAX_RECENT);
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|first| now.since(*first) > window)
            || self.recent.len() > MAX_RECENT as usize
        {
            self.recent.pop_front();
        }
        let counted = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        (counted >= limit).then_some(counted)
    }

    /// `delay` doubled `exponent` times, at most `max_delay`, and up to a tenth more or less.
    fn delay(&mut self, exponent: u32, restart: &Restart) -> Duration {
        let first = restart.delay.max(MIN_DELAY);
        let longest = restart.max_delay.max(first);
        let factor = 1_u32.checked_shl(exponent).unwrap_or(u32::MAX);
        let plain = first.checked_mul(factor).unwrap_or(longest).min(longest);
        let nanos = u64::try_from(plain.as_nanos()).unwrap_or(u64::MAX);
        let tenth = nanos / 10;
        let offset = self.random() % tenth.saturating_mul(2).saturating_add(1);
        let jittered = Duration::from_nanos((nanos - tenth).saturating_add(offset));
        jittered.max(MIN_DELAY)
    }

    /// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014):
    /// eight bytes of state and good enough to spread restarts.
    fn random(&mut self) -> u64 {
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.jitter;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
