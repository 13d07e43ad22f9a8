//! The moves between phases. Every start and every judgement of an end is here and nowhere else.

use super::Core;
use super::backoff::{Pace, STABLE};
use super::entries::Id;
use super::event::Action;
use super::shutdown::KILL_PATIENCE;
use super::state::{Phase, Rest, Run, Stage, StopWhy, Sweep, Verdict};
use super::time::{Instant, millis};
use api_types::{EventKind, ExitCause, Failure, LastExit, ShutdownKind};
use std::time::Duration;
use units::model::{Condition, Kind, OnFailure, RestartPolicy};

/// The pause after a start that was interrupted because the supervisor ended. It is not the unit's
/// fault and is not counted, but it must not become a loop without a pause either.
const INTERRUPTED_PAUSE: Duration = Duration::from_millis(100);

/// What is needed to judge an end.
pub(super) struct End {
    /// How.
    pub(super) what: ExitCause,
    /// It was requested (stop, restart, shutdown).
    pub(super) asked: bool,
    /// It had been ready for [`STABLE`].
    pub(super) stable: bool,
    /// When the attempt began.
    pub(super) began: Instant,
}

impl Core {
    /// A condition of the host changed: units that wait for it may start. Nothing else happens,
    /// because conditions count only before a start.
    pub(super) fn condition(&mut self, condition: Condition, holds: bool) {
        if !holds {
            self.conditions.remove(&condition);
            return;
        }
        let waits = |core: &Core, id: Id| {
            let entry = &core.entries[id];
            matches!(entry.record.phase, Phase::Waiting { .. })
                && entry.unit.wait_for.contains(&condition)
        };
        let ids: Vec<Id> = self.entries.ids().filter(|&id| waits(self, id)).collect();
        self.queue.extend(ids);
        self.conditions.insert(condition);
    }

    /// The unit's readiness or state changed: units that wait for it may start.
    pub(super) fn changed(&mut self, id: Id) {
        let waits = |other: &Id| matches!(self.entries[*other].record.phase, Phase::Waiting { .. });
        let dependents = self.graph.of(id).dependents.iter().copied();
        let waiting: Vec<Id> = dependents.filter(waits).collect();
        self.queue.extend(waiting);
    }

    /// Begins to wait for dependencies and conditions (perhaps for no time at all).
    pub(super) fn begin_waiting(&mut self, id: Id, retry: bool) {
        let since = self.now;
        let entry = self.change(id);
        entry.record.phase = Phase::Waiting { since, retry };
        entry.fresh_wait = true;
        self.queue.push_back(id);
    }

    /// Starts the unit if nothing keeps it from starting; else reports why not, once for each wait.
    pub(super) fn consider(&mut self, id: Id) {
        let entry = &self.entries[id];
        if !entry.wanted_up() || !matches!(entry.record.phase, Phase::Waiting { .. }) {
            return;
        }
        let reasons = self.blockers(id);
        if reasons.is_empty() {
            self.launch(id);
        } else if std::mem::take(&mut self.entries[id].fresh_wait) {
            self.report(id, EventKind::Waiting { reasons });
        }
    }

    /// Orders a start: the one place where a run begins.
    fn launch(&mut self, id: Id) {
        let started_at = self.now;
        let record = &mut self.change(id).record;
        if let Phase::Waiting { retry: true, .. } = record.phase {
            record.restarts = record.restarts.saturating_add(1);
        }
        record.generation = record.generation.saturating_add(1);
        record.status_text = None;
        record.phase = Phase::Run(Box::new(Run {
            started_at,
            ready_at: None,
            why: None,
            again: false,
            stage: Stage::Launching,
        }));
        let generation = record.generation;
        self.report(id, EventKind::Starting { generation });
        self.act(id, |unit, generation| Action::Start { unit, generation });
    }

    /// Comes to rest.
    pub(super) fn rest(&mut self, id: Id, rest: Rest) {
        let report = match &rest {
            Rest::Stopped => EventKind::Stopped,
            Rest::Done => EventKind::Done,
            Rest::Failed(why) => EventKind::Failed(why.clone()),
        };
        self.change(id).record.phase = Phase::Rest(rest);
        self.report(id, report);
        self.changed(id);
    }

    /// Begins to end the run, if that has not begun: by the stop signal if the unit's program runs and
    /// its `start_timeout` is not the reason, else by killing the group.
    pub(super) fn end_run(&mut self, id: Id, why: StopWhy) {
        if self.entries[id].run().is_none_or(|run| run.ending()) {
            return;
        }
        let now = self.now;
        let entry = self.change(id);
        let (grace, signal) = (entry.unit.stop_timeout, entry.unit.stop_signal);
        let Some(run) = entry.run_mut() else { return };
        let graceful = !matches!(why, StopWhy::StartTimeout | StopWhy::Setup(_));
        run.why = Some(why);
        match run.stage {
            Stage::Up { pid, .. } if graceful => {
                run.stage = Stage::Terminating { pid, kill_at: now.plus(grace) };
                self.act(id, |unit, generation| Action::Signal { unit, generation, signal });
            }
            _ => self.kill(id),
        }
        self.changed(id);
    }

    /// Kills the group of a run whose main process has not ended yet.
    pub(super) fn kill(&mut self, id: Id) {
        let sweep = self.new_sweep();
        if let Some(run) = self.change(id).run_mut() {
            run.stage = Stage::Killing { pid: run.pid(), sweep };
        }
        self.act(id, |unit, generation| Action::KillGroup { unit, generation });
    }

    /// The wait for a group that is killed now.
    pub(super) fn new_sweep(&self) -> Sweep {
        Sweep { again_at: self.now.plus(KILL_PATIENCE), stuck: false }
    }

    /// Judges an end: records it, counts it, and says what comes next. Called exactly once for
    /// each run and each attempt that does not get so far.
    pub(super) fn judge(&mut self, id: Id, end: End) -> Verdict {
        let now = self.now;
        let End { what, asked, stable, began } = end;
        let ran_ms = millis(now.since(began));
        let end = LastExit { cause: what.clone(), at: now.as_millis(), asked, ran_ms };
        self.report(id, EventKind::Ended(end.clone()));
        let entry = self.change(id);
        let (restart, kind) = (&entry.unit.restart, entry.unit.kind);
        let record = &mut entry.record;
        record.last_exit = Some(end);
        let reason = if asked { "asked" } else { what.reason() };
        let count = record.exits.entry(reason.to_owned()).or_default();
        *count = count.saturating_add(1);
        if asked {
            return Verdict::Asked;
        }
        if what == ExitCause::Interrupted {
            return Verdict::Retry(now.plus(INTERRUPTED_PAUSE));
        }
        let enough = kind == Kind::Oneshot || restart.policy != RestartPolicy::Always;
        if what.success() && enough {
            record.backoff.reset();
            return Verdict::Finished;
        }
        if !what.success() {
            record.failures = record.failures.saturating_add(1);
        }
        if restart.policy == RestartPolicy::Never {
            return Verdict::GivenUp(Failure::NotRestarted { last: what });
        }
        match record.backoff.after_end(now, stable, restart) {
            Pace::Retry(delay) => Verdict::Retry(now.plus(delay)),
            Pace::Limit(attempts) => {
                let window_ms = restart.window.map(millis);
                Verdict::GivenUp(Failure::StartLimit { attempts, window_ms, last: what })
            }
        }
    }

    /// Judges the end of the current run. What the core ended it for comes before what the kernel
    /// says of the end.
    pub(super) fn judge_run(&mut self, id: Id, reported: ExitCause) -> Option<Verdict> {
        let now = self.now;
        let run = self.entries[id].run()?;
        let good_until = match &run.why {
            Some(StopWhy::Health { good_until, .. }) => *good_until,
            _ => Some(now),
        };
        let stable = match (run.ready_at, good_until) {
            (Some(ready), Some(good)) => good.since(ready) >= STABLE,
            _ => false,
        };
        let asked = run.why == Some(StopWhy::Asked);
        let what = match &run.why {
            Some(StopWhy::Health { error, .. }) => ExitCause::Health(error.clone()),
            Some(StopWhy::StartTimeout) => ExitCause::StartTimeout,
            Some(StopWhy::Setup(reason)) => ExitCause::SetupFailed(reason.clone()),
            Some(StopWhy::Asked) | None => reported,
        };
        let began = run.started_at;
        Some(self.judge(id, End { what, asked, stable, began }))
    }

    /// The run is over: its end is judged and its group is empty.
    pub(super) fn run_over(&mut self, id: Id, verdict: Verdict) {
        let again = self.entries[id].run().is_some_and(|run| run.again);
        let verdict = if again {
            self.change(id).record.backoff.reset();
            Verdict::Asked
        } else {
            verdict
        };
        self.follow(id, verdict, true);
    }

    /// Goes where the verdict and the desired state lead. The phase changes before the old run is
    /// cleaned up, so that a state file never names a run whose group may be gone.
    pub(super) fn follow(&mut self, id: Id, verdict: Verdict, cleanup: bool) {
        let now = self.now;
        let up = self.entries[id].wanted_up();
        let attempts = self.entries[id].record.backoff.attempts();
        let mut failure = None;
        match verdict {
            _ if !up => self.rest(id, Rest::Stopped),
            Verdict::Asked => self.begin_waiting(id, false),
            Verdict::Retry(at) if at <= now => self.begin_waiting(id, true),
            Verdict::Retry(until) => {
                self.change(id).record.phase = Phase::Backoff { until };
                let delay_ms = millis(until.since(now));
                self.report(id, EventKind::Backoff { delay_ms, attempts });
            }
            Verdict::Finished => self.rest(id, Rest::Done),
            Verdict::GivenUp(why) => {
                failure = Some(why.clone());
                self.rest(id, Rest::Failed(why));
            }
        }
        if cleanup {
            self.act(id, |unit, generation| Action::Cleanup { unit, generation });
        }
        if let Some(why) = failure {
            self.react(id, &why);
        }
        self.changed(id);
    }

    /// The host's reaction to a unit that has failed permanently.
    pub(super) fn react(&mut self, id: Id, why: &Failure) {
        let kind = match self.entries[id].unit.on_failure {
            OnFailure::Continue => return,
            OnFailure::Reboot => ShutdownKind::Reboot,
            OnFailure::Poweroff => ShutdownKind::Poweroff,
        };
        let reason = why.to_string();
        self.act(id, |unit, _| Action::HostDown { unit, kind, reason });
    }
}
