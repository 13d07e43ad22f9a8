//! A simulated world around the core: processes that start, fail, exit, run out of memory, ignore
//! signals or refuse to die; events of them that come late and in any order; a supervisor that is
//! killed and restarted. It carries out the core's actions and checks every one of them.

use super::super::state::Stage;
use super::*;
use std::collections::BTreeSet;

/// A unit's name and a run's number.
pub(super) type Key = (String, u64);

/// A process group as the kernel knows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub(super) pid: Option<i32>,
    pub(super) exec: bool,
    pub(super) main_ended: bool,
    pub(super) empty: bool,
    /// The start was aborted or failed before there was a process.
    pub(super) void: bool,
    pub(super) obeys: bool,
    /// Milliseconds that its processes outlive SIGKILL.
    pub(super) undead: u64,
    pub(super) reported_end: Option<(ExitStatus, bool)>,
}

/// Something that happens in the world at its time.
#[derive(Debug, Clone)]
enum Happening {
    Create(Key),
    FailBefore(Key),
    FailInSetup(Key),
    Exec(Key),
    Notify(Key),
    MainEnds(Key, ExitStatus, bool),
    GroupEnds(Key),
    Tell(Event),
}

pub(super) struct World {
    pub(super) core: Core,
    pub(super) now: Instant,
    pub(super) config: BTreeMap<String, Unit>,
    pub(super) groups: BTreeMap<Key, Group>,
    agenda: Vec<(u64, Happening)>,
    /// What `Persist` wrote.
    pub(super) disk: BTreeMap<String, String>,
    rng: u64,
    pub(super) stopped_by_hand: BTreeSet<String>,
    pub(super) cleaned: BTreeSet<Key>,
    pub(super) ends: BTreeMap<String, u64>,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) true_conditions: BTreeSet<Condition>,
    pub(super) units_stopped: bool,
    pub(super) shutting_down: bool,
    /// How many more actions this supervisor carries out before it is killed.
    pub(super) fuse: Option<u64>,
    seed: u64,
}

impl World {
    pub(super) fn new(config: BTreeMap<String, Unit>, seed: u64) -> Self {
        let now = Instant::from_millis(5_000);
        let mut world = Self {
            core: Core::new(config.clone(), BTreeMap::new(), seed, now),
            now,
            config,
            groups: BTreeMap::new(),
            agenda: vec![],
            disk: BTreeMap::new(),
            rng: seed,
            stopped_by_hand: BTreeSet::new(),
            cleaned: BTreeSet::new(),
            ends: BTreeMap::new(),
            failures: BTreeMap::new(),
            true_conditions: BTreeSet::new(),
            units_stopped: false,
            shutting_down: false,
            fuse: None,
            seed,
        };
        world.handle(Event::Boot);
        world
    }

    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.rng = self.rng.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.rng >> 33) % n
    }

    fn later(&mut self, within: u64, happening: Happening) {
        let at = self.now.as_millis() + self.below(within + 1);
        self.agenda.push((at, happening));
    }

    pub(super) fn handle(&mut self, event: Event) {
        self.note_command(&event);
        let tick = event == Event::Tick;
        let actions = self.core.handle(self.now, event);
        self.carry_out(actions);
        if self.fuse == Some(0) {
            self.kill_supervisor(true);
        } else {
            self.check(tick);
        }
    }

    fn run_event(&mut self, key: &Key, within: u64, event: RunEvent) {
        let event = Event::Run { unit: key.0.clone(), generation: key.1, event };
        self.later(within, Happening::Tell(event));
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            // The supervisor dies between two actions; the rest is lost with it.
            match &mut self.fuse {
                Some(0) => return,
                Some(left) => *left -= 1,
                None => {}
            }
            match action {
                Action::Persist { unit } => {
                    let text = self.core.saved(&unit).unwrap().to_json().unwrap();
                    self.disk.insert(unit, text);
                }
                Action::Start { unit, generation } => self.start((unit, generation)),
                Action::Signal { unit, generation, .. } => {
                    self.on_record(&unit);
                    let key = (unit, generation);
                    let group = self.groups[&key].clone();
                    assert!(group.exec, "a signal to {key:?} that nothing would understand");
                    if group.obeys && !group.main_ended {
                        let status = ExitStatus::Signal(15);
                        self.later(8_000, Happening::MainEnds(key, status, false));
                    }
                }
                Action::KillGroup { unit, generation } => {
                    self.on_record(&unit);
                    self.kill((unit, generation));
                }
                Action::Cleanup { unit, generation } => {
                    self.on_record(&unit);
                    let key = (unit, generation);
                    let group = &self.groups[&key];
                    assert!(group.empty || group.void, "clean-up of the living {key:?}");
                    self.cleaned.insert(key);
                }
                Action::ProbeNow { unit, generation } => {
                    let result = match self.below(10) {
                        0..=6 => Ok(()),
                        7 | 8 => Err("no".into()),
                        _ => continue,
                    };
                    self.run_event(&(unit, generation), 900, RunEvent::Health { result });
                }
                Action::Report { unit, report } => self.note_report(&unit, &report),
                Action::HostDown { .. } => {
                    self.later(100, Happening::Tell(Event::ShutdownRequested));
                }
                Action::UnitsStopped => {
                    let runs = self.core.statuses(self.now);
                    assert!(runs.iter().all(|s| s.stuck || !s.state.eq(&State::Stopping)));
                    self.units_stopped = true;
                }
            }
        }
    }

    fn start(&mut self, key: Key) {
        self.check_start(&key);
        let mut group = Group { obeys: self.below(4) > 0, ..Group::default() };
        group.undead = if self.below(12) == 0 { 30_000 } else { 20 };
        self.groups.insert(key.clone(), group);
        match self.below(12) {
            0 => self.later(300, Happening::FailBefore(key)),
            1 => {} // The start hangs before there is a process.
            _ => self.later(50, Happening::Create(key)),
        }
    }

    fn kill(&mut self, key: Key) {
        let group = self.groups.get_mut(&key).unwrap();
        if group.void || group.empty {
        } else if group.pid.is_none() {
            group.void = true;
            self.run_event(&key, 20, RunEvent::StartFailed { reason: "aborted".into() });
        } else {
            let undead = group.undead;
            if !group.main_ended {
                let end = Happening::MainEnds(key.clone(), ExitStatus::Signal(9), false);
                self.later(undead, end);
            }
            self.later(undead, Happening::GroupEnds(key));
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tell(event) => self.handle(event),
            Happening::Create(key) => {
                let fate = self.below(12);
                let pid = i32::try_from(self.below(30_000)).unwrap() + 2;
                let group = self.groups.get_mut(&key).unwrap();
                if group.void {
                    return;
                }
                group.pid = Some(pid);
                self.run_event(&key, 3, RunEvent::Started { pid });
                // What the setup says comes through one pipe, which is read in order.
                let at = self.now.as_millis() + 4 + self.below(60);
                match fate {
                    0 => self.agenda.push((at, Happening::FailInSetup(key))),
                    1 => {} // The setup hangs.
                    _ => self.agenda.push((at, Happening::Exec(key))),
                }
            }
            Happening::FailBefore(key) => {
                let group = self.groups.get_mut(&key).unwrap();
                if !std::mem::replace(&mut group.void, true) {
                    self.run_event(&key, 5, RunEvent::StartFailed { reason: "no layer".into() });
                }
            }
            Happening::FailInSetup(key) => {
                if !self.groups[&key].main_ended {
                    self.run_event(&key, 3, RunEvent::StartFailed { reason: "mount".into() });
                    self.later(3, Happening::MainEnds(key, ExitStatus::Code(1), false));
                }
            }
            Happening::Exec(key) => {
                let group = self.groups.get_mut(&key).unwrap();
                if group.main_ended {
                    return;
                }
                group.exec = true;
                self.run_event(&key, 5, RunEvent::ExecSucceeded);
                self.later(4_000, Happening::Notify(key.clone()));
                let code = ExitStatus::Code(i32::try_from(self.below(3)).unwrap());
                match self.below(8) {
                    0 => self.later(0, Happening::MainEnds(key, code, false)),
                    1 | 2 => self.later(2_000, Happening::MainEnds(key, code, false)),
                    3 => self.later(40_000, Happening::MainEnds(key, code, false)),
                    4 => {
                        let killed = ExitStatus::Signal(9);
                        self.later(20_000, Happening::MainEnds(key, killed, true));
                    }
                    _ => {}
                }
            }
            Happening::Notify(key) => {
                if !self.groups[&key].main_ended && self.below(4) > 0 {
                    self.run_event(&key, 3, RunEvent::Notified(Notice::Ready));
                }
            }
            Happening::MainEnds(key, status, oom) => self.main_ends(key, status, oom),
            Happening::GroupEnds(key) => {
                if self.groups[&key].main_ended && !self.groups[&key].empty {
                    self.groups.get_mut(&key).unwrap().empty = true;
                    self.run_event(&key, 5, RunEvent::GroupEmpty);
                }
            }
        }
    }

    fn main_ends(&mut self, key: Key, status: ExitStatus, oom: bool) {
        let lost = self.below(40) == 0;
        let without_children = self.below(3) > 0;
        let group = self.groups.get_mut(&key).unwrap();
        if std::mem::replace(&mut group.main_ended, true) {
            return;
        }
        group.reported_end = (!lost).then_some((status, oom));
        if !lost {
            self.run_event(&key, 5, RunEvent::Exited { status, oom });
            // PID 1 repeats the report until it is acknowledged.
            if self.below(4) == 0 {
                self.run_event(&key, 20, RunEvent::Exited { status, oom });
            }
        }
        // Some leave children behind, which live until the group is killed. (With such children, the
        // core would never learn of a lost exit; PID 1 makes sure that this cannot happen.)
        if without_children || lost {
            self.later(5, Happening::GroupEnds(key));
        }
    }

    /// Lets time pass; each event happens at its time.
    pub(super) fn pass(&mut self, span: u64) {
        let end = self.now.as_millis() + span;
        let mut at_once = 0;
        loop {
            let next = self.agenda.iter().map(|(at, _)| *at).min();
            let tick = self.core.next_deadline().map(|at| at.as_millis().max(self.now.as_millis()));
            let Some(at) = next.into_iter().chain(tick).min().filter(|at| *at <= end) else {
                break;
            };
            at_once = if at <= self.now.as_millis() { at_once + 1 } else { 0 };
            assert!(at_once < 500, "the clock stands still");
            self.now = self.now.max(Instant::from_millis(at));
            match self.agenda.iter().position(|(due, _)| *due <= at) {
                Some(n) => {
                    let (_, happening) = self.agenda.swap_remove(n);
                    self.happen(happening);
                }
                None => self.handle(Event::Tick),
            }
        }
        self.now = Instant::from_millis(end);
    }

    /// Kills the supervisor; its successor reads the state files and looks for running processes.
    /// With `between_actions`, not everything has been written or carried out.
    pub(super) fn kill_supervisor(&mut self, between_actions: bool) {
        self.fuse = None;
        let seed = self.seed;
        let before = self.core.statuses(self.now);
        // PID 1 keeps exits. All other events for the supervisor are lost, and so are starts that it
        // had not carried out.
        self.agenda.retain(|(_, happening)| match happening {
            Happening::Tell(Event::Run { event, .. }) => matches!(event, RunEvent::Exited { .. }),
            Happening::Create(_) | Happening::FailBefore(_) => false,
            _ => true,
        });
        let saved = self
            .disk
            .iter()
            .map(|(name, text)| (name.clone(), SavedState::from_json(text).unwrap()));
        let saved: BTreeMap<String, SavedState> = saved.collect();
        let (core, actions) =
            Core::restore(self.config.clone(), BTreeMap::new(), seed, saved.clone(), self.now);
        self.core = core;
        for (old, new) in before.iter().zip(self.core.statuses(self.now)) {
            let view = |s: &api_types::Unit| {
                let wanted = (s.desired, s.by.clone());
                let api_types::Unit { state, since_ms, pid, generation, ready, .. } = *s;
                let retry = (s.next_retry_ms, s.restarts, s.failures, s.attempts);
                let exit = s.last_exit.clone();
                (state, since_ms, wanted, pid, generation, ready, retry, exit)
            };
            // What never changed was never written.
            if !between_actions && !self.shutting_down && saved.contains_key(&old.name) {
                assert_eq!(view(old), view(&new), "{} is not what it was", old.name);
            }
        }
        self.sweep(&saved);
        if between_actions {
            self.forget_unsaved();
        }
        self.report_runs(&saved);
        self.carry_out(actions);
        self.handle(Event::Boot);
        for condition in self.true_conditions.clone() {
            self.handle(Event::ConditionChanged { condition, holds: true });
        }
        if self.shutting_down {
            self.handle(Event::ShutdownRequested);
        }
    }

    /// The successor removes whatever belongs to no recorded run.
    fn sweep(&mut self, saved: &BTreeMap<String, SavedState>) {
        for ((name, generation), group) in &self.groups {
            if saved.get(name).and_then(SavedState::generation) != Some(*generation) {
                assert!(group.empty || group.void, "{name}'s run {generation} is forgotten");
                self.cleaned.insert((name.clone(), *generation));
            }
        }
    }

    /// Forgets what was reported or requested but not written.
    fn forget_unsaved(&mut self) {
        self.stopped_by_hand.clear();
        for status in self.core.statuses(self.now) {
            let name = status.name;
            if (status.desired, status.by) == (Desired::Down, Some(By::Person)) {
                self.stopped_by_hand.insert(name.clone());
            }
            let entry = self.core.entries.iter().find(|entry| entry.unit.name == name).unwrap();
            let judged = entry.run().is_some_and(|run| matches!(run.stage, Stage::Draining { .. }));
            let over = status.generation - u64::from(entry.run().is_some());
            self.cleaned.extend((1..=over).map(|generation| (name.clone(), generation)));
            self.ends.insert(name.clone(), over + u64::from(judged));
            self.failures.insert(name, status.failures);
        }
    }

    /// What the successor finds out about each run.
    fn report_runs(&mut self, saved: &BTreeMap<String, SavedState>) {
        for (name, state) in saved {
            let Some(generation) = state.generation() else { continue };
            let key = (name.clone(), generation);
            // The start may not have been carried out.
            let group = self.groups.entry(key.clone()).or_default();
            if group.pid.is_none() {
                group.void = true;
                self.run_event(&key, 5, RunEvent::GroupEmpty);
                continue;
            }
            let group = group.clone();
            if let (true, Some(pid)) = (state.launching(), group.pid) {
                let event = RunEvent::Started { pid };
                self.handle_now(&key, event);
            }
            if group.exec {
                self.handle_now(&key, RunEvent::ExecSucceeded);
            } else if group.main_ended {
                self.handle_now(&key, RunEvent::StartFailed { reason: "mount".into() });
            }
            if let Some((status, oom)) = group.reported_end {
                self.run_event(&key, 5, RunEvent::Exited { status, oom });
            }
            if group.empty {
                self.run_event(&key, 5, RunEvent::GroupEmpty);
            }
        }
    }

    fn handle_now(&mut self, key: &Key, event: RunEvent) {
        self.handle(Event::Run { unit: key.0.clone(), generation: key.1, event });
    }
}
