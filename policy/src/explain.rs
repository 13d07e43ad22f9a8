//! The answer to "why is it not running?": the whole chain, from the unit to its root causes.

use super::Core;
use super::entries::{Entry, Id};
use super::event::unstable;
use super::exit::LastExit;
use super::graph::Reason;
use super::state::{DownBy, Phase, Rest, Stage, State, StopWhy, UpBy, Wanted};
use super::time::{Instant, human};
use std::collections::BTreeSet;
use std::time::Duration;
use units::model::{Kind, Ready};

impl Core {
    /// Why the unit is in its state, for people: one line for each link of the chain, two spaces
    /// deeper for each level; `None` if the unit does not exist.
    ///
    /// ```text
    /// web has been waiting for 8 s: wanted since boot
    ///   it requires db, which is not ready yet (backoff)
    ///     db starts again in 12 s (7 unstable runs in a row)
    ///       its last attempt ended 3 s ago: exit code 1 (7 failures so far)
    /// ```
    pub fn explain(&self, unit: &str, now: Instant) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        match (self.index.get(unit), self.problems.get(unit)) {
            (Some(&id), _) => self.explain_into(id, now, 0, &mut BTreeSet::new(), &mut lines),
            (None, Some(problem)) => {
                lines.push(format!("{unit} has failed: invalid unit file: {problem}"));
            }
            (None, None) => return None,
        }
        Some(lines)
    }

    fn explain_into(
        &self,
        id: Id,
        now: Instant,
        depth: usize,
        seen: &mut BTreeSet<Id>,
        lines: &mut Vec<String>,
    ) {
        let entry = &self.entries[id];
        let name = &entry.unit.name;
        let mut say = |depth: usize, text: String| lines.push(format!("{}{text}", indent(depth)));
        if !seen.insert(id) {
            say(depth, format!("{name}: see above"));
            return;
        }
        say(depth, self.headline(id, now));
        match &entry.record.phase {
            Phase::Waiting { since, .. } => {
                let until = entry.unit.wait_timeout.map(|span| since.plus(span));
                if let Some(until) = until {
                    let left = human(until.since(now));
                    say(depth + 1, format!("this attempt ends in {left} (wait_timeout)"));
                }
                for reason in self.blockers(id) {
                    self.explain_reason(&reason, now, depth + 1, seen, lines);
                }
            }
            Phase::Backoff { .. } | Phase::Rest(Rest::Failed(_)) => {
                lines.extend(
                    last_end(entry, now).map(|text| format!("{}{text}", indent(depth + 1))),
                );
            }
            Phase::Rest(_) => {}
            Phase::Run(run) => {
                if let Some(text) = &entry.record.status_text {
                    say(depth + 1, format!("it says: {text}"));
                }
                if run.ready_at.is_none() {
                    lines.extend(
                        last_end(entry, now).map(|text| format!("{}{text}", indent(depth + 1))),
                    );
                }
            }
        }
    }

    fn explain_reason(
        &self,
        reason: &Reason,
        now: Instant,
        depth: usize,
        seen: &mut BTreeSet<Id>,
        lines: &mut Vec<String>,
    ) {
        lines.push(match reason {
            Reason::Condition { .. } => format!("{}it waits for {reason}", indent(depth)),
            _ => format!("{}it {reason}", indent(depth)),
        });
        match reason {
            Reason::Condition { .. } => {}
            Reason::Requires { unit, .. } | Reason::After { unit, .. } => {
                match (self.index.get(unit), self.problems.get(unit)) {
                    (Some(&id), _) => self.explain_into(id, now, depth + 1, seen, lines),
                    (None, Some(problem)) => {
                        let text = format!("invalid unit file: {problem}");
                        lines.push(format!("{}{text}", indent(depth + 1)));
                    }
                    (None, None) => {}
                }
            }
        }
    }

    /// The unit, its state, for how long, and why.
    fn headline(&self, id: Id, now: Instant) -> String {
        let entry = &self.entries[id];
        let name = &entry.unit.name;
        let age = human(Duration::from_millis(self.state_age(id, now)));
        let wanted = wanted_by(&entry.record.wanted);
        match &entry.record.phase {
            Phase::Rest(Rest::Stopped) => format!("{name} has been stopped for {age}: {wanted}"),
            Phase::Rest(Rest::Done) => format!("{name} finished with exit code 0 {age} ago"),
            Phase::Rest(Rest::Failed(why)) => format!("{name} failed {age} ago: {why}"),
            Phase::Waiting { .. } => format!("{name} has been waiting for {age}: {wanted}"),
            Phase::Backoff { until } => {
                let left = human(until.since(now));
                match entry.record.backoff.attempts() {
                    0 => format!("{name} starts again in {left}"),
                    n => format!("{name} starts again in {left} ({} in a row)", unstable(n)),
                }
            }
            Phase::Run(run) => {
                let what = match (&run.stage, entry.state()) {
                    (Stage::Launching | Stage::Setup { .. }, _) => "its container is being set up",
                    (Stage::Up { .. }, State::Starting) => match entry.unit.ready {
                        Ready::Healthy => "its first health check has not passed yet",
                        Ready::Notify => "it has not sent READY=1 yet",
                        Ready::Started => "it is not ready yet",
                    },
                    (Stage::Up { .. }, _) if entry.unit.kind == Kind::Oneshot => "it is running",
                    (Stage::Up { leaving: true, .. }, _) => "it has sent STOPPING=1",
                    (Stage::Up { .. }, _) => "it is ready",
                    (Stage::Unreported { .. }, _) => "its exit status has not been reported yet",
                    (Stage::Draining { sweep, .. } | Stage::Killing { sweep, .. }, _)
                        if sweep.stuck =>
                    {
                        "it was killed but is still running (stuck in the kernel)"
                    }
                    (Stage::Draining { .. }, _) => {
                        "its main process has ended, and the others are being killed"
                    }
                    (Stage::Killing { .. }, _) => "it has been killed",
                    (Stage::Terminating { .. }, _) => match run.why {
                        Some(StopWhy::Health { .. }) => "it is unhealthy and was asked to stop",
                        _ => "it has been asked to stop",
                    },
                };
                format!("{name} has been {} for {age}: {what}; {wanted}", entry.state())
            }
        }
    }
}

/// How the last attempt ended and how many have failed.
fn last_end(entry: &Entry, now: Instant) -> Option<String> {
    let last = entry.record.last_exit.as_ref().filter(|last| !last.asked)?;
    let ago = human(now.since(last.at));
    let what: &LastExit = &last.what;
    let failures = match entry.record.failures {
        1 => "1 failure".to_string(),
        n => format!("{n} failures"),
    };
    Some(format!("its last attempt ended {ago} ago: {what} ({failures} so far)"))
}

/// The desired state and who asked for it.
fn wanted_by(wanted: &Wanted) -> String {
    match wanted {
        Wanted::Up(UpBy::Boot) => "wanted since boot".into(),
        Wanted::Up(by) => format!("started {by}"),
        Wanted::Down(DownBy::Default) => "not enabled, and not started by hand".into(),
        Wanted::Down(by) => format!("stopped {by}"),
    }
}

fn indent(depth: usize) -> String {
    "  ".repeat(depth)
}
