//! The simulated machine: the ground truth against which the supervisor's view is checked.
//!
//! One value holds everything: the time, the events to come ([`agenda`]), processes, cgroups,
//! descriptors, pipes and links, the state files, and the scripted processes that the real PID 1 and
//! the real supervisor talk to. It never looks into those two.

pub mod agenda;
pub mod groups;
pub mod links;
pub mod objects;
pub mod pipes;
pub mod processes;
pub mod sockets;
pub mod watches;

use crate::actors::Actor;
use crate::actors::container::Run;
use crate::actors::people::People;
use crate::check::Checker;
use crate::kernel::init::InitWait;
use crate::rng::Rng;
use crate::scenario::Options;
use crate::trace::{self, Trace};
use agenda::Event;
use groups::Group;
use ipc::{BootReport, ExitStatus, Service, ShutdownKind};
use links::LinkState;
use nix::sys::signal::Signal;
use objects::{Id, Objects, Owner};
use pipes::Pipe;
use processes::{Life, Process, Role};
use sockets::{Connection, Tcp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use supervisor::kernel::Errno;
use watches::Watches;

/// A supervisor that PID 1 has started.
#[derive(Debug, Clone, Copy)]
pub struct SupervisorLife {
    /// Its process.
    pub key: u64,
    /// Its end of the link to PID 1: a reference.
    pub init: Id,
    /// Its end of the link to netsetup: a reference.
    pub net: Id,
    /// When its program runs.
    pub boot_at: u64,
}

/// The machine.
pub struct Machine {
    /// `CLOCK_MONOTONIC`, microseconds.
    pub now_us: u64,
    /// All choices.
    pub rng: Rng,
    /// What may go wrong, and how often.
    pub options: Options,
    /// For people.
    pub trace: Trace,
    /// The rules that must hold.
    pub checker: Checker,
    agenda: BTreeMap<(u64, u64), Event>,
    last_event: u64,
    /// All processes that have not been reaped, by key.
    pub processes: BTreeMap<u64, Process>,
    last_process: u64,
    last_pid: i32,
    groups: BTreeMap<String, Group>,
    objects: Objects,
    pipes: BTreeMap<u64, Pipe>,
    last_pipe: u64,
    links: Vec<LinkState>,
    /// What the supervisor watches.
    pub watches: Watches,
    /// What waits in the units' notify sockets.
    pub notices: BTreeMap<String, VecDeque<Vec<u8>>>,
    listener: Option<Id>,
    /// Connections of the control socket.
    pub connections: BTreeMap<u64, Connection>,
    last_connection: u64,
    tcp: BTreeMap<u64, Tcp>,
    /// The state files.
    pub files: BTreeMap<String, String>,
    /// The layers that are mounted.
    pub layers: BTreeSet<String>,
    /// The file with the phases of the boot.
    pub boot_report: BootReport,
    last_namespace: u64,
    /// The network namespaces that netsetup has attached.
    pub attached: BTreeSet<u64>,
    /// Every run of a container that there has been.
    pub runs: Vec<Run>,
    /// The scripted processes of Keelhost, by their process.
    pub actors: BTreeMap<u64, Actor>,
    /// Which of them waits for what.
    pub actor_objects: BTreeMap<Id, (Service, u64)>,
    actors_due: BTreeSet<u64>,
    /// The people at the control socket.
    pub people: People,
    /// The supervisor that PID 1 has started last, until it is dead.
    pub supervisor: Option<SupervisorLife>,
    /// It dies at its next call.
    pub supervisor_to_be_killed: bool,
    /// Signals that PID 1 has not read.
    pub pending_signals: Vec<i32>,
    /// The end of the machine.
    pub finished: Option<ShutdownKind>,
    /// The schedule is over; what is closed now is closed by nobody.
    pub over: bool,
    /// Nothing goes wrong any more.
    pub calm: bool,
    /// Calls that supervisors have made.
    pub calls: u64,
    /// What PID 1 waits for; `None`: it has something to do.
    pub init_wait: Option<InitWait>,
    /// When PID 1 wakes up, because something is ready.
    pub init_wakes_at: Option<u64>,
    /// Waits of the supervisor in a row that brought nothing, without any time passing.
    idle_turns: u32,
    steps: u64,
    waited_since: u64,
    fingerprint: u64,
}

/// No schedule takes as many steps as this.
const MAX_STEPS: u64 = 1_000_000;

/// So many waits that bring nothing while no time passes are a loop that spins.
const MAX_IDLE_TURNS: u32 = 200;

impl Machine {
    /// A machine on which nothing runs yet.
    pub fn new(seed: u64, options: Options, people: People, trace: Trace) -> Machine {
        Machine {
            now_us: 1_500_000,
            rng: Rng::new(seed),
            options,
            trace,
            checker: Checker::default(),
            agenda: BTreeMap::new(),
            last_event: 0,
            processes: BTreeMap::new(),
            last_process: 0,
            last_pid: 100,
            groups: BTreeMap::new(),
            objects: Objects::default(),
            pipes: BTreeMap::new(),
            last_pipe: 0,
            links: Vec::new(),
            watches: Watches::default(),
            notices: BTreeMap::new(),
            listener: None,
            connections: BTreeMap::new(),
            last_connection: 0,
            tcp: BTreeMap::new(),
            files: BTreeMap::new(),
            layers: BTreeSet::new(),
            boot_report: BootReport::default(),
            last_namespace: 0,
            attached: BTreeSet::new(),
            runs: Vec::new(),
            actors: BTreeMap::new(),
            actor_objects: BTreeMap::new(),
            actors_due: BTreeSet::new(),
            people,
            supervisor: None,
            supervisor_to_be_killed: false,
            pending_signals: Vec::new(),
            finished: None,
            over: false,
            calm: false,
            calls: 0,
            init_wait: None,
            init_wakes_at: None,
            idle_turns: 0,
            steps: 0,
            waited_since: 0,
            fingerprint: 0,
        }
    }

    /// Mixes something that happened into the fingerprint of the schedule.
    pub fn mix(&mut self, value: u64) {
        self.fingerprint = (self.fingerprint ^ value ^ self.now_us.rotate_left(32))
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(7);
    }

    /// A number that two schedules share if the same happened in both.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Something happens; a schedule in which too much happens does not come to its end.
    pub(crate) fn count_step(&mut self) {
        self.steps += 1;
        if self.steps == MAX_STEPS {
            self.violated("the schedule does not come to its end");
        }
    }

    /// The supervisor is about to wait.
    pub(crate) fn supervisor_waits(&mut self) {
        self.waited_since = self.now_us;
        self.check_descriptors(16);
    }

    /// The supervisor's wait is over: does it spin?
    pub(crate) fn supervisor_wakes(&mut self, found: usize) {
        let idle = found == 0 && self.now_us < self.waited_since + 1_000;
        self.idle_turns = if idle { self.idle_turns + 1 } else { 0 };
        if self.idle_turns > MAX_IDLE_TURNS {
            self.violated("the supervisor spins: it waits again and again without a time-out");
        }
    }

    /// Adds a line to the trace, after what has been logged.
    pub fn note(&mut self, actor: &str, text: impl FnOnce() -> String) {
        if self.trace.wanted() {
            self.note_log();
        }
        self.trace.add(self.now_us, actor, text);
    }

    /// Adds what has been logged to the trace.
    pub fn note_log(&mut self) {
        for line in trace::logged() {
            self.trace.add(self.now_us, "log", || line);
        }
    }

    /// A rule has been broken.
    pub fn violated(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.note("VIOLATION", || what.clone());
        self.checker.violations.push(what);
    }

    /// Whether a call fails now, and with which of the errors that it may fail with.
    pub fn fault(&mut self, call: &str, errors: &[Errno]) -> Option<Errno> {
        let only = &self.options.fault_calls;
        let chosen = only.is_empty() || only.contains(&call);
        if self.calm || errors.is_empty() || !chosen || !self.rng.ppm(self.options.fault_ppm) {
            return None;
        }
        let errno = self.rng.pick(errors).copied()?;
        self.checker.faults += 1;
        self.note("fate", || format!("{call} fails: {errno}"));
        Some(errno)
    }

    /// Something about an object has changed: tells whoever waits for that.
    pub fn changed(&mut self, id: Id) {
        self.watches.changed(id);
        if let Some((service, key)) = self.actor_objects.get(&id).copied() {
            let delay = self.rng.latency(300, 100_000);
            self.wake_actor(service, key, delay);
        }
    }

    /// Lets a scripted process act, some time later.
    pub fn wake_actor(&mut self, service: Service, key: u64, delay: u64) {
        if self.actors_due.insert(key) {
            self.after(delay, Event::Actor(service, key));
        }
    }

    pub(crate) fn actor_awake(&mut self, key: u64) {
        self.actors_due.remove(&key);
    }

    /// A unit's cgroup, made when it is not there.
    pub fn group(&mut self, unit: &str) -> &mut Group {
        self.groups.entry(unit.to_owned()).or_default()
    }

    /// The units that have a cgroup.
    pub fn group_names(&self) -> BTreeSet<String> {
        self.groups.keys().cloned().collect()
    }

    /// A number for a namespace.
    pub fn new_namespace(&mut self) -> u64 {
        self.last_namespace += 1;
        self.last_namespace
    }

    /// Kills one of Keelhost's processes, if it runs.
    pub fn kill_service(&mut self, service: Service) {
        let found = self.processes.iter().find(|(_, process)| {
            process.role == Role::Service(service) && process.life == Life::Alive
        });
        if let Some(key) = found.map(|(key, _)| *key) {
            self.note("fate", || format!("kill {service:?}"));
            self.kill_process(key);
        }
    }

    /// The supervisor is dead from here on: its descriptors are closed at once.
    pub fn supervisor_dies(&mut self, status: ExitStatus) {
        self.supervisor_to_be_killed = false;
        let Some(life) = self.supervisor.take() else { return };
        self.note("supervisor", || format!("DIES: {status:?}"));
        self.watches.clear();
        self.close_all(Owner::Supervisor);
        self.checker.supervisor_died();
        self.begin_exit(life.key, status);
    }

    /// The supervisor is killed before its program runs.
    pub fn supervisor_dies_early(&mut self, life: SupervisorLife) {
        self.release(life.init);
        self.release(life.net);
        self.supervisor_dies(ExitStatus::Signal(9));
    }

    /// From here on nothing goes wrong any more.
    pub fn calm_down(&mut self) {
        self.note("fate", || "calm: no more faults, kills and commands".to_owned());
        self.calm = true;
        self.options.kill_ppm = 0;
    }

    /// A signal for one of PID 1's own children.
    pub fn signal_child(&mut self, pid: i32, signal: Signal) {
        let Some(key) = self.by_pid(pid) else { return };
        self.note("init", || format!("kill({pid}, {signal})"));
        if signal == Signal::SIGKILL {
            self.kill_process(key);
        } else {
            self.terminate_service(key, signal);
        }
    }

    /// How many descriptors PID 1 and the supervisor have open.
    pub fn descriptor_counts(&self) -> (usize, usize) {
        (self.open_count(Owner::Init), self.open_count(Owner::Supervisor))
    }
}
