//! Events about one run, and the deadlines of units.

use super::Core;
use super::entries::Id;
use super::event::{Action, Notice, RunEvent};
use super::health::{HealthTrack, News, tidy};
use super::shutdown::KILL_PATIENCE;
use super::state::{Phase, Stage, StopWhy};
use super::time::millis;
use super::transitions::End;
use api_types::{EventKind, ExitCause};
use units::model::{Kind, Ready, RestartPolicy};

/// Longest `STATUS=` text kept, in characters.
const MAX_STATUS: usize = 200;

impl Core {
    /// Takes an event about a run. Events of other runs than the unit's current one are out of date.
    pub(super) fn run_event(&mut self, unit: &str, generation: u64, event: RunEvent) {
        let Some(&id) = self.index.get(unit) else { return };
        let entry = &self.entries[id];
        if entry.run().is_none() || entry.record.generation != generation {
            return;
        }
        match event {
            RunEvent::Started { pid } => self.started(id, pid),
            RunEvent::StartFailed { reason } => self.start_failed(id, reason),
            RunEvent::ExecSucceeded => self.exec_succeeded(id),
            RunEvent::Exited { status, oom } => {
                self.exited(id, ExitCause::from_status(status, oom));
            }
            RunEvent::SetupAbandoned => self.exited(id, ExitCause::Interrupted),
            RunEvent::GroupEmpty => self.group_empty(id),
            RunEvent::Notified(notice) => self.notified(id, notice),
            RunEvent::Health { result } => self.probed(id, result),
        }
    }

    fn started(&mut self, id: Id, new_pid: i32) {
        let Some(run) = self.change(id).run_mut() else { return };
        match &mut run.stage {
            stage @ Stage::Launching => *stage = Stage::Setup { pid: new_pid },
            // The order to stop came during the start: it is carried out now.
            Stage::Killing { pid: pid @ None, .. } => {
                *pid = Some(new_pid);
                self.act(id, |unit, generation| Action::KillGroup { unit, generation });
            }
            // It ended before its beginning could be reported.
            _ => {}
        }
    }

    fn start_failed(&mut self, id: Id, reason: String) {
        let reason = tidy(&reason, MAX_STATUS);
        let entry = self.change(id);
        let last_exit = entry.record.last_exit.as_mut();
        let Phase::Run(run) = &mut entry.record.phase else { return };
        match &run.stage {
            // There is no process and no group: this ends the run.
            Stage::Launching | Stage::Killing { pid: None, .. } => {
                if let Some(verdict) = self.judge_run(id, ExitCause::SetupFailed(reason)) {
                    self.run_over(id, verdict);
                }
            }
            // The process is about to exit; its exit status says less than this.
            Stage::Setup { .. } => self.end_run(id, StopWhy::Setup(reason)),
            Stage::Unreported { .. } if run.why.is_none() => {
                run.why = Some(StopWhy::Setup(reason));
            }
            // The exit came first and has been counted; only the text becomes better.
            Stage::Draining { exec: false, .. } if run.why.is_none() => {
                if let Some(last) = last_exit {
                    last.cause = ExitCause::SetupFailed(reason);
                }
            }
            _ => {}
        }
    }

    fn exec_succeeded(&mut self, id: Id) {
        let now = self.now;
        let entry = &mut self.entries[id];
        let check = entry.unit.healthcheck.as_ref();
        let ready_now = match entry.unit.ready {
            _ if entry.unit.kind == Kind::Oneshot => false,
            Ready::Started => true,
            Ready::Notify => false,
            Ready::Healthy => check.is_none(),
        };
        let health = check.map(|check| HealthTrack::new(check, now));
        let Some(run) = entry.run_mut() else { return };
        let Stage::Setup { pid } = run.stage else { return };
        run.stage = Stage::Up { pid, leaving: false, health };
        self.change(id);
        if ready_now {
            self.become_ready(id);
        }
    }

    /// The unit is ready, if it was not already.
    fn become_ready(&mut self, id: Id) {
        let now = self.now;
        if self.entries[id].unit.kind == Kind::Oneshot {
            return;
        }
        let Some(run) = self.entries[id].run_mut() else { return };
        if run.ready_at.is_some() || !matches!(run.stage, Stage::Up { .. }) {
            return;
        }
        run.ready_at = Some(now);
        let took_ms = millis(now.since(run.started_at));
        self.change(id);
        self.report(id, EventKind::Ready { took_ms });
        self.changed(id);
    }

    fn notified(&mut self, id: Id, notice: Notice) {
        // A message can arrive before the event of the exec; only the unit's program sends one.
        self.exec_succeeded(id);
        match notice {
            Notice::Ready if self.entries[id].unit.ready == Ready::Notify => self.become_ready(id),
            Notice::Ready => {}
            Notice::Stopping => {
                let run = self.change(id).run_mut();
                if let Some(Stage::Up { leaving, .. }) = run.map(|run| &mut run.stage) {
                    *leaving = true;
                }
                self.changed(id);
            }
            // Not worth a write of its own: it is saved with the next change.
            Notice::Status(text) => {
                self.touch(id).record.status_text = Some(tidy(&text, MAX_STATUS));
            }
        }
    }

    /// The main process has ended. The rest of the group is killed, as the end of a pid
    /// namespace's first process does anyway.
    fn exited(&mut self, id: Id, how: ExitCause) {
        let Some(run) = self.entries[id].run() else { return };
        match run.stage {
            Stage::Draining { .. } => {}
            Stage::Unreported { .. } => {
                if let Some(verdict) = self.judge_run(id, how) {
                    self.run_over(id, verdict);
                }
            }
            _ => {
                let exec = !matches!(run.stage, Stage::Launching | Stage::Setup { .. });
                let sweep = self.new_sweep();
                let Some(verdict) = self.judge_run(id, how) else { return };
                if let Some(run) = self.change(id).run_mut() {
                    run.stage = Stage::Draining { verdict, exec, sweep };
                }
                self.act(id, |unit, generation| Action::KillGroup { unit, generation });
                self.changed(id);
            }
        }
    }

    fn group_empty(&mut self, id: Id) {
        let until = self.now.plus(KILL_PATIENCE);
        let Some(run) = self.change(id).run_mut() else { return };
        let pid = run.pid();
        match &mut run.stage {
            Stage::Draining { verdict, .. } => {
                let verdict = verdict.clone();
                self.run_over(id, verdict);
            }
            // The supervisor ended during this start, before there was a process.
            Stage::Launching | Stage::Killing { pid: None, .. } => {
                if let Some(verdict) = self.judge_run(id, ExitCause::Interrupted) {
                    self.run_over(id, verdict);
                }
            }
            Stage::Unreported { .. } => {}
            stage => {
                let exec = !matches!(stage, Stage::Setup { .. });
                *stage = Stage::Unreported { pid, exec, until };
                self.changed(id);
            }
        }
    }

    fn probed(&mut self, id: Id, result: Result<(), String>) {
        let now = self.now;
        let entry = self.touch(id);
        let Some(check) = entry.unit.healthcheck.clone() else { return };
        let restarts = entry.unit.restart.policy != RestartPolicy::Never;
        let gates = entry.unit.ready == Ready::Healthy;
        let stage = entry.run_mut().map(|run| &mut run.stage);
        let Some(Stage::Up { health: Some(track), .. }) = stage else { return };
        if !track.awaits_answer() {
            return;
        }
        let before = (track.streak(), track.health());
        let news = track.answer(&check, now, result);
        // A streak of failures survives the supervisor; the steady state costs no write.
        let changed = before != (track.streak(), track.health());
        let error = track.last_error().unwrap_or_default().to_string();
        let good_until = track.last_ok();
        entry.dirty |= changed;
        match news {
            News::Nothing => {}
            News::Healthy => {
                self.report(id, EventKind::Healthy);
                if gates {
                    self.become_ready(id);
                }
            }
            News::Unhealthy => {
                self.report(id, EventKind::Unhealthy { error: error.clone(), restarts });
                if restarts {
                    self.end_run(id, StopWhy::Health { error, good_until });
                }
            }
        }
    }

    /// Carries out what is due.
    pub(super) fn expire_due(&mut self) {
        let now = self.now;
        let due = self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id);
        for id in due.collect::<Vec<Id>>() {
            self.expire(id);
        }
    }

    fn expire(&mut self, id: Id) {
        let now = self.now;
        let entry = &self.entries[id];
        match &entry.record.phase {
            Phase::Rest(_) => {}
            Phase::Waiting { since, .. } => {
                let began = *since;
                let reasons: Vec<String> =
                    self.blockers(id).iter().map(ToString::to_string).collect();
                // What it waited for may have come at this very moment.
                if reasons.is_empty() {
                    self.queue.push_back(id);
                    return;
                }
                let what = ExitCause::WaitTimeout(reasons.join("; "));
                let verdict = self.judge(id, End { what, asked: false, stable: false, began });
                self.follow(id, verdict, false);
            }
            Phase::Backoff { .. } => self.begin_waiting(id, true),
            Phase::Run(run) => {
                let late = self.entries[id].start_due(run).is_some_and(|at| at <= now);
                match &run.stage {
                    Stage::Launching | Stage::Setup { .. } | Stage::Up { .. } if late => {
                        self.end_run(id, StopWhy::StartTimeout);
                    }
                    Stage::Launching | Stage::Setup { .. } => {}
                    Stage::Up { .. } => self.probe_due(id),
                    Stage::Terminating { .. } => {
                        self.report(id, EventKind::StopTimeout);
                        self.kill(id);
                    }
                    Stage::Killing { .. } | Stage::Draining { .. } => self.kill_again(id),
                    Stage::Unreported { .. } => {
                        if let Some(verdict) = self.judge_run(id, ExitCause::Lost) {
                            self.run_over(id, verdict);
                        }
                    }
                }
            }
        }
    }

    /// Requests a probe, or ends one that has timed out.
    fn probe_due(&mut self, id: Id) {
        let now = self.now;
        let entry = self.touch(id);
        let Some(check) = entry.unit.healthcheck.clone() else { return };
        let stage = entry.run_mut().map(|run| &mut run.stage);
        let Some(Stage::Up { health: Some(track), .. }) = stage else { return };
        if track.due() > now {
            return;
        }
        if track.expire(&check, now) {
            self.act(id, |unit, generation| Action::ProbeNow { unit, generation });
        } else {
            self.probed(id, Err("the probe gave no answer".into()));
        }
    }

    /// The group is not empty although it was killed: kill it again (that costs nothing, and the first
    /// order may have been lost), and report it once.
    fn kill_again(&mut self, id: Id) {
        let again_at = self.now.plus(KILL_PATIENCE);
        let Some(run) = self.change(id).run_mut() else { return };
        let (Stage::Killing { sweep, .. } | Stage::Draining { sweep, .. }) = &mut run.stage else {
            return;
        };
        sweep.again_at = again_at;
        let known = std::mem::replace(&mut sweep.stuck, true);
        if !known {
            self.report(id, EventKind::Stuck);
        }
        self.act(id, |unit, generation| Action::KillGroup { unit, generation });
    }
}
