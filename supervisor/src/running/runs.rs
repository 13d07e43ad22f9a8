//! What belongs to a unit while the supervisor runs: descriptors, and the current run.

use crate::health::probe::NetProbe;
use crate::kernel::{Handles, Started};
use api_types::Timeline;
use container::{DeviceRule, IdRange};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// A unit's network namespace. It belongs to the unit, not to a run: it is kept over restarts of the
/// container, and with it the unit's address, its virtual Ethernet link and its port maps.
#[derive(Debug)]
pub struct UnitNet<F> {
    /// The namespace.
    pub ns: F,
    /// A route socket inside it.
    pub route_socket: F,
    /// The number of the latest request to attach it.
    pub request: u64,
    /// netsetup has given it its place on the bridge.
    pub attached: bool,
}

/// A run of a container.
#[derive(Debug)]
pub struct Run<F> {
    /// Its number.
    pub generation: u64,
    /// Main process.
    pub pid: i32,
    /// The main process, safe from reuse of its number.
    pub pidfd: Option<F>,
    /// The status pipe of the setup; `None` when the setup has ended.
    pub status: Option<F>,
    /// Lets the program start; `None` when it has been started.
    pub go: Option<F>,
    /// `oom_kill` of the cgroup when the run began: the cgroup is older than the run.
    pub oom_before: u64,
    /// Its setup was taken over from a supervisor that was killed, which was the only holder of its
    /// pipes.
    pub orphaned: bool,
    /// The program has been executed.
    pub exec: bool,
    /// The main process has ended; the group may still hold others.
    pub ended: bool,
}

/// A health check in progress.
#[derive(Debug)]
pub struct Probe<F> {
    /// The run that is checked.
    pub generation: u64,
    /// When it began; microseconds of `CLOCK_MONOTONIC`.
    pub began_us: u64,
    /// When it has failed for lack of an answer; milliseconds of `CLOCK_MONOTONIC`.
    pub until_ms: u64,
    /// How.
    pub kind: ProbeKind<F>,
}

/// How health is checked.
#[derive(Debug)]
pub enum ProbeKind<F> {
    /// A connection.
    Net(NetProbe<F>),
    /// A command inside the container.
    Command {
        /// Its process.
        pid: i32,
        /// The same, safe from reuse.
        pidfd: F,
        /// Its standard output and error.
        output: F,
        /// The end of its output.
        said: Vec<u8>,
        /// The status pipe of its setup.
        status: F,
    },
}

/// Everything of one unit.
pub struct UnitRuntime<K: Handles> {
    /// Its cgroup, created at the first start and reused by the others.
    pub cgroup: Option<Rc<K::Cgroup>>,
    /// The devices that its processes may open: the cgroup's filter.
    pub devices: Option<Vec<DeviceRule>>,
    /// Watches `cgroup.events` while the group is being emptied.
    pub group_events: Option<K::Fd>,
    /// Its user namespace and the ids in it (not with `userns = "host"`). It is kept as the network
    /// namespace is, which belongs to it.
    pub userns: Option<(K::UserNs, IdRange)>,
    /// Its network namespace (not with `network = "host"`).
    pub net: Option<UnitNet<K::Fd>>,
    /// Its sd_notify socket.
    pub notify: Option<K::Fd>,
    /// The ends for the container to write to, of pipes whose other ends are on their way to PID 1, and
    /// the run that they are for.
    pub outputs: Option<(u64, [K::Fd; 2])>,
    /// The run.
    pub run: Option<Run<K::Fd>>,
    /// The probe.
    pub probe: Option<Probe<K::Fd>>,
    /// How long the last one took that was answered, microseconds.
    pub latency_us: Option<u64>,
    /// When the steps of the latest start happened.
    pub timeline: Timeline,
}

impl<K: Handles> Default for UnitRuntime<K> {
    fn default() -> UnitRuntime<K> {
        UnitRuntime {
            cgroup: None,
            devices: None,
            group_events: None,
            userns: None,
            net: None,
            notify: None,
            outputs: None,
            run: None,
            probe: None,
            latency_us: None,
            timeline: Timeline::default(),
        }
    }
}

impl<K: Handles> UnitRuntime<K> {
    /// The ids of its containers.
    pub fn ids(&self) -> Option<IdRange> {
        self.userns.as_ref().map(|(_, ids)| *ids)
    }
}

/// What a process is that PID 1 will reap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Process {
    /// The main process of a run.
    Main {
        /// The unit.
        unit: String,
        /// The run.
        generation: u64,
    },
    /// A program that a person runs in a container.
    Exec {
        /// The number of the request.
        id: u64,
    },
    /// A health probe's command.
    Probe {
        /// The unit.
        unit: String,
    },
}

/// All units, and what each process is.
pub struct Runs<K: Handles> {
    units: BTreeMap<String, UnitRuntime<K>>,
    /// Processes that have not been reported as ended.
    pub processes: HashMap<i32, Process>,
}

impl<K: Handles> Default for Runs<K> {
    fn default() -> Runs<K> {
        Runs { units: BTreeMap::new(), processes: HashMap::new() }
    }
}

impl<K: Handles> Runs<K> {
    /// A unit's part; created when it is first needed.
    pub fn of(&mut self, unit: &str) -> &mut UnitRuntime<K> {
        self.units.entry(unit.to_owned()).or_default()
    }

    /// A unit's part, if it ever had one.
    pub fn get(&self, unit: &str) -> Option<&UnitRuntime<K>> {
        self.units.get(unit)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &UnitRuntime<K>)> {
        self.units.iter()
    }

    /// A unit's run, if it has this number.
    pub fn run(&mut self, unit: &str, generation: u64) -> Option<&mut Run<K::Fd>> {
        self.units.get_mut(unit)?.run.as_mut().filter(|run| run.generation == generation)
    }

    /// Records a container that has just been started.
    pub fn began(&mut self, unit: &str, generation: u64, started: Started<K::Fd>, oom_before: u64) {
        let main = Process::Main { unit: unit.to_owned(), generation };
        self.processes.insert(started.pid, main);
        self.of(unit).run = Some(Run {
            generation,
            pid: started.pid,
            pidfd: Some(started.pidfd),
            status: Some(started.status),
            go: started.go,
            oom_before,
            orphaned: false,
            exec: false,
            ended: false,
        });
    }
}
