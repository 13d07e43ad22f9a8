//! The core on simulated time and simulated processes.

mod backoff;
mod checks;
mod events;
mod explain;
mod health;
mod properties;
mod regressions;
mod replay;
mod shutdown;
mod table;
mod world;

use super::*;
use api_types::{
    By, Desired, ExitCause, ExitStatus, HealthState, LastExit, State, Unmet, WaitReason, human,
};
use std::collections::BTreeMap;
use std::time::Duration;
use units::model::*;

/// A service that restarts always at the default pace.
pub(super) fn unit(name: &str) -> Unit {
    Unit {
        name: name.into(),
        description: String::new(),
        after: vec![],
        requires: vec![],
        wants: vec![],
        wait_for: vec![],
        wait_timeout: None,
        kind: Kind::Service,
        ready: Ready::Started,
        start_timeout: None,
        restart: Restart {
            policy: RestartPolicy::Always,
            delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(60),
            max_attempts: None,
            window: None,
        },
        stop_signal: None,
        stop_timeout: Duration::from_secs(10),
        on_failure: OnFailure::Continue,
        enabled: true,
        container: Container {
            image: String::new(),
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            user: None,
            working_dir: None,
            hostname: None,
            volumes: vec![],
            tmpfs: vec![],
            ports: vec![],
            network: NetworkMode::None,
            read_only: false,
            cap_add: vec![],
            cap_drop: vec![],
            userns: UserNamespace::Auto,
            no_new_privileges: true,
            sysctls: BTreeMap::new(),
            unmask: vec![],
            devices: vec![],
            seccomp: units::model::Seccomp::Default,
        },
        healthcheck: None,
        limits: Limits::default(),
        log: LogPolicy { max_size: 1, max_files: 1 },
    }
}

/// A one-shot without restarts.
pub(super) fn oneshot(name: &str) -> Unit {
    let mut unit = unit(name);
    unit.kind = Kind::Oneshot;
    unit.restart.policy = RestartPolicy::Never;
    unit
}

/// A health check with these settings.
pub(super) fn check(interval: u64, retries: u32, start_period: u64) -> Healthcheck {
    Healthcheck {
        probe: Probe::Tcp { port: 1 },
        interval: Duration::from_secs(interval),
        timeout: Duration::from_secs(1),
        retries,
        start_period: Duration::from_secs(start_period),
    }
}

/// A core, a clock that the test moves, and all actions that the core has ordered so far.
pub(super) struct Bench {
    pub(super) core: Core,
    pub(super) now: Instant,
    pub(super) all: Vec<Action>,
}

impl Bench {
    pub(super) fn new(units: impl IntoIterator<Item = Unit>) -> Self {
        let now = Instant::from_millis(1_000);
        let config = units.into_iter().map(|unit| (unit.name.clone(), unit)).collect();
        Self { core: Core::new(config, BTreeMap::new(), 1, now), now, all: vec![] }
    }

    /// The same after boot.
    pub(super) fn booted(units: impl IntoIterator<Item = Unit>) -> Self {
        let mut bench = Self::new(units);
        bench.handle(Event::Boot);
        bench
    }

    pub(super) fn handle(&mut self, event: Event) -> Vec<Action> {
        let actions = self.core.handle(self.now, event);
        self.all.extend(actions.clone());
        actions
    }

    /// An event of the unit's current run.
    pub(super) fn run(&mut self, unit: &str, event: RunEvent) -> Vec<Action> {
        let generation = self.status(unit).generation;
        self.handle(Event::Run { unit: unit.into(), generation, event })
    }

    /// The process exists and executes its program.
    pub(super) fn up(&mut self, unit: &str) {
        self.run(unit, RunEvent::Started { pid: 100 });
        self.run(unit, RunEvent::ExecSucceeded);
    }

    /// The main process ends and its group is gone.
    pub(super) fn end(&mut self, unit: &str, status: ExitStatus) {
        self.run(unit, RunEvent::Exited { status, oom: false });
        self.run(unit, RunEvent::GroupEmpty);
    }

    pub(super) fn start(&mut self, unit: &str) -> Vec<Action> {
        self.handle(Event::Command(Command::Start { unit: unit.into() }))
    }

    pub(super) fn stop(&mut self, unit: &str) -> Vec<Action> {
        self.handle(Event::Command(Command::Stop { unit: unit.into() }))
    }

    pub(super) fn restart(&mut self, unit: &str) -> Vec<Action> {
        self.handle(Event::Command(Command::Restart { unit: unit.into() }))
    }

    /// Lets time pass, with ticks when the core requests them.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now.plus(span);
        let mut ticks_now = 0;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            ticks_now = if at <= self.now { ticks_now + 1 } else { 0 };
            assert!(ticks_now < 5, "the core asks to be called again and again at one moment");
            self.now = self.now.max(at);
            self.handle(Event::Tick);
        }
        self.now = end;
    }

    pub(super) fn secs(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    pub(super) fn status(&self, unit: &str) -> api_types::Unit {
        self.core.status(unit, self.now).unwrap()
    }

    pub(super) fn decided(&self, unit: &str) -> (Desired, By) {
        let status = self.status(unit);
        (status.desired, status.by.unwrap())
    }

    pub(super) fn state(&self, unit: &str) -> State {
        self.status(unit).state
    }

    /// Number of starts ordered so far.
    pub(super) fn starts(&self, unit: &str) -> usize {
        let start = |action: &&Action| matches!(action, Action::Start { unit: u, .. } if u == unit);
        self.all.iter().filter(start).count()
    }
}

/// Whether an order to kill the unit's group is among these.
pub(super) fn kills(actions: &[Action], unit: &str) -> bool {
    actions.iter().any(|action| matches!(action, Action::KillGroup { unit: u, .. } if u == unit))
}

/// Whether a signal to the unit is among these.
pub(super) fn signals(actions: &[Action], unit: &str) -> bool {
    actions.iter().any(|action| matches!(action, Action::Signal { unit: u, .. } if u == unit))
}

/// The index of the first such action.
pub(super) fn position(actions: &[Action], wanted: impl Fn(&Action) -> bool) -> usize {
    actions.iter().position(wanted).expect("the action is there")
}
