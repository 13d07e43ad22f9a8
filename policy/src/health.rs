//! The schedule of health checks: when to probe, which answers count, and when a unit is unhealthy.

use super::time::Instant;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use units::model::Healthcheck;

/// Probes of a unit that has not passed one yet are this close at first, then twice as far each
/// time up to its `interval`: units that wait for `ready = "healthy"` should not have to wait for a
/// long interval. The early failures do not count (see [`HealthTrack::answer`]).
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// No two probes are closer, whatever the unit file says.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The shell enforces `timeout`; this much later the core no longer expects an answer.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// Longest error text kept, in characters.
const MAX_ERROR: usize = 200;

/// The result of the probes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// No probe has passed, and not enough have failed.
    Unknown,
    /// The last result was good, or there have been too few failures since.
    Healthy,
    /// `retries` failures in a row.
    Unhealthy,
}

/// When the next probe is due, or that one is in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Next {
    /// It is due then.
    At(Instant),
    /// One was asked for; without an answer until then it has failed.
    AnswerBy(Instant),
}

/// The health of one run. It exists only while the program runs, so that no probe can be due for
/// a unit that is being set up or stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HealthTrack {
    health: Health,
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
    /// Nothing that must be reported.
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
            health: Health::Unknown,
            streak: 0,
            last_ok: None,
            last_error: None,
            next: Next::At(exec_at),
            pause: FIRST_PAUSE,
            counts_from: exec_at.plus(grace),
            grace_until: exec_at.plus(check.start_period),
        }
    }

    /// When [`HealthTrack::expire`] wants to be called.
    pub(super) fn due(&self) -> Instant {
        match self.next {
            Next::At(at) | Next::AnswerBy(at) => at,
        }
    }

    /// The due moment has come: `true` if a probe is to be made now, `false` if the one in progress has
    /// had its time, which the caller must report as a failure.
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

    /// Whether a probe is in progress; an answer without one is late and means nothing any more.
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
                    if self.health == Health::Healthy { News::Nothing } else { News::Healthy };
                self.health = Health::Healthy;
                news
            }
            Err(error) => {
                self.last_error = Some(tidy(&error, MAX_ERROR));
                if now >= self.counts_from {
                    self.streak = self.streak.saturating_add(1);
                    self.counts_from = now.plus(interval(check));
                }
                if self.streak >= check.retries.max(1) && self.health != Health::Unhealthy {
                    self.health = Health::Unhealthy;
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
    pub(super) fn health(&self) -> Health {
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

/// Text from a container, made safe for a console and a state file: one line, no control
/// characters, not longer than `max` characters.
pub(super) fn tidy(text: &str, max: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(max).collect()
}
