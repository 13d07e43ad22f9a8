//! The schedule of health checks: when to probe, which results count, when a unit is unhealthy.

use super::time::Instant;
use api_types::HealthState;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use units::model::Healthcheck;

/// Probes of a unit that has not passed one yet are this close at first, then twice as far each
/// time up to its `interval`: units that wait for `ready = "healthy"` should not have to wait for a
/// long interval. The early failures do not count (see [`HealthTrack::answer`]).
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// No two probes are closer, whatever the unit file says.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The prober enforces `timeout`; this much later the core no longer expects an answer.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// Longest error text kept, in characters.
const MAX_ERROR: usize = 200;

/// When the next probe is due, or the answer to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Next {
    /// Probe then.
    At(Instant),
    /// A probe was ordered; without an answer by then it has failed.
    AnswerBy(Instant),
}

/// The health of one run. It exists only while the program runs, so that no probe can be due for
/// a unit that is being set up or stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HealthTrack {
    health: HealthState,
    /// Failures in a row that count.
    streak: u32,
    /// The last success.
    last_ok: Option<Instant>,
    /// The last failure's text, until a success.
    last_error: Option<String>,
    next: Next,
    /// Pause before the next probe while none has passed yet.
    pause: Duration,
    /// Failures before this moment do not count.
    counts_from: Instant,
    /// End of `start_period`.
    grace_until: Instant,
}

/// What a probe's answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing to report.
    Nothing,
    /// The first success, or the first after being unhealthy.
    Healthy,
    /// Too many failures in a row.
    Unhealthy,
}

impl HealthTrack {
    /// The track of a program that began to run at `exec_at`.
    pub(super) fn new(check: &Healthcheck, exec_at: Instant) -> Self {
        let grace = check.start_period.max(interval(check));
        Self {
            health: HealthState::Unknown,
            streak: 0,
            last_ok: None,
            last_error: None,
            next: Next::At(exec_at),
            pause: FIRST_PAUSE,
            counts_from: exec_at.plus(grace),
            grace_until: exec_at.plus(check.start_period),
        }
    }

    /// When to call [`HealthTrack::expire`].
    pub(super) fn due(&self) -> Instant {
        match self.next {
            Next::At(at) | Next::AnswerBy(at) => at,
        }
    }

    /// The due moment has come: `true` if a probe is to be made now, `false` if an ordered probe has not
    /// been answered in time, which the caller must report as a failure.
    pub(super) fn expire(&mut self, check: &Healthcheck, now: Instant) -> bool {
        match self.next {
            Next::At(_) => {
                let patience = check.timeout.saturating_add(ANSWER_GRACE);
                self.next = Next::AnswerBy(now.plus(patience));
                true
            }
            Next::AnswerBy(_) => false,
        }
    }

    /// Whether an answer is expected; any other is late and ignored.
    pub(super) fn awaits_answer(&self) -> bool {
        matches!(self.next, Next::AnswerBy(_))
    }

    /// Takes a probe's answer.
    ///
    /// A failure counts only outside `start_period`, and only if it comes at least an interval
    /// after the last one that counted (or after the start): the quick probes of a young program
    /// must not use up its `retries`.
    pub(super) fn answer(
        &mut self,
        check: &Healthcheck,
        now: Instant,
        result: Result<(), String>,
    ) -> News {
        let news = match result {
            Ok(()) => {
                self.streak = 0;
                self.last_ok = Some(now);
                self.last_error = None;
                self.counts_from = self.grace_until;
                let news =
                    if self.health == HealthState::Healthy { News::Nothing } else { News::Healthy };
                self.health = HealthState::Healthy;
                news
            }
            Err(error) => {
                self.last_error = Some(tidy(&error, MAX_ERROR));
                if now >= self.counts_from {
                    self.streak = self.streak.saturating_add(1);
                    self.counts_from = now.plus(interval(check));
                }
                if self.streak >= check.retries.max(1) && self.health != HealthState::Unhealthy {
                    self.health = HealthState::Unhealthy;
                    News::Unhealthy
                } else {
                    News::Nothing
                }
            }
        };
        let pause = match self.last_ok {
            Some(_) => interval(check),
            None => {
                let pause = self.pause.min(interval(check));
                self.pause = self.pause.saturating_mul(2).min(interval(check));
                pause
            }
        };
        self.next = Next::At(now.plus(pause));
        news
    }

    /// After a restart of the supervisor: the answer to an old probe is lost, so probe again. Successes
    /// in a row are not saved one by one; without a failure the last result was good.
    pub(super) fn resume(&mut self, now: Instant) {
        self.next = Next::At(now);
        if self.streak == 0 && self.last_ok.is_some() {
            self.last_ok = Some(now);
        }
    }

    /// The last result.
    pub(super) fn health(&self) -> HealthState {
        self.health
    }

    /// Failures in a row that count.
    pub(super) fn streak(&self) -> u32 {
        self.streak
    }

    /// The last success.
    pub(super) fn last_ok(&self) -> Option<Instant> {
        self.last_ok
    }

    /// The last failure's text, if nothing has succeeded since.
    pub(super) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }
}

/// The pause between probes, with its lower bound.
fn interval(check: &Healthcheck) -> Duration {
    check.interval.max(MIN_INTERVAL)
}

/// Sanitizes text from a container for the console and state files: one line, no control characters,
/// at most `max` characters.
pub(super) fn tidy(text: &str, max: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(max).collect()
}
