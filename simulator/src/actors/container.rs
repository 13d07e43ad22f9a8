//! Containers: processes that set themselves up, run for a while and end, as a script says that was
//! drawn when they were started.

use crate::machine::Machine;
use crate::machine::agenda::Event;
use crate::machine::objects::{Id, Object};
use crate::machine::processes::Role;
use container::{SetupError, Step as SetupStep};
use ipc::ExitStatus;
use nix::errno::Errno;

/// The exit code of a container whose set-up failed.
pub const SETUP_FAILED: i32 = 125;

/// What a container will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// How long its set-up takes, microseconds.
    pub setup_us: u64,
    /// Its set-up fails.
    pub setup_fails: bool,
    /// It is killed during its set-up, by somebody else than the supervisor.
    pub setup_killed: bool,
    /// When its program says READY=1, microseconds after it began.
    pub ready_us: Option<u64>,
    /// How many processes it forks.
    pub forks: u8,
    /// When it ends by itself, and how; `None`: never.
    pub ends: Option<(u64, ExitStatus)>,
    /// It ends because the kernel is out of memory.
    pub oom: bool,
    /// How it answers its stop signal: after how long, and with which status; `None`: not at all.
    pub on_stop: Option<(u64, ExitStatus)>,
    /// SIGKILL takes this long, because it is in uninterruptible sleep.
    pub stuck_us: u64,
}

/// A step of a container's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Its set-up is done, but for the network.
    SetUp,
    /// It reads the pipe that lets it go on.
    Go,
    /// Its program says that it is ready.
    Ready,
    /// It ends by itself.
    End(ExitStatus),
    /// SIGKILL arrives.
    Killed,
}

/// One run of a container, as it really was.
#[derive(Debug, Clone)]
pub struct Run {
    /// The unit.
    pub unit: String,
    /// The number that the supervisor's record gave it.
    pub generation: u64,
    /// That number is a guess, because the record could not be written.
    pub uncertain: bool,
    /// Its program has said that it is ready, and somebody could have heard it.
    pub said_ready: bool,
    /// Its main process was in the record before it ended.
    pub noted: bool,
    /// Its main process, by key.
    pub key: u64,
    /// Its main process's number.
    pub pid: i32,
    /// What it does.
    pub script: Script,
    /// Its network namespace, if it must be attached.
    pub network: Option<u64>,
    /// The writing end of its status pipe, while the process has it.
    pub status: Id,
    /// The reading end of its go pipe, while the process waits.
    pub go: Option<Id>,
    /// It has come so far that it waits for its go.
    pub waits: bool,
    /// Its program has been executed.
    pub executed: bool,
    /// Nobody let it go: it ended with 125 although nothing was wrong with it.
    pub abandoned: bool,
    /// How its main process ended.
    pub ended: Option<ExitStatus>,
    /// The kernel killed it for lack of memory.
    pub oom: bool,
    /// When it was started.
    pub began_us: u64,
    /// The supervisor has sent it a signal, or tried to.
    pub signalled: bool,
}

impl Machine {
    /// Draws what the next container of a unit does.
    pub fn draw_script(&mut self, oneshot: bool) -> Script {
        let calm = self.calm || self.options.benign;
        let rng = &mut self.rng;
        let ms = |low: u64, high: u64, rng: &mut crate::rng::Rng| rng.between(low, high) * 1000;
        if calm {
            return Script {
                setup_us: 3_000,
                setup_fails: false,
                setup_killed: false,
                ready_us: Some(20_000),
                forks: 0,
                ends: oneshot.then_some((50_000, ExitStatus::Code(0))),
                oom: false,
                on_stop: Some((10_000, ExitStatus::Code(0))),
                stuck_us: 0,
            };
        }
        let oom = rng.percent(5);
        let status = match rng.below(10) {
            _ if oom => ExitStatus::Signal(9),
            0..5 => ExitStatus::Code(0),
            5..8 => ExitStatus::Code(i32::try_from(rng.between(1, 3)).unwrap_or(1)),
            8 => ExitStatus::Code(SETUP_FAILED),
            _ => ExitStatus::Signal(11),
        };
        let ends = if oneshot || oom || rng.percent(50) {
            Some((rng.latency(20_000, 15_000_000), status))
        } else {
            None
        };
        Script {
            setup_us: rng.latency(5_000, 8_000_000),
            setup_fails: rng.percent(5),
            setup_killed: rng.percent(3),
            ready_us: rng.percent(95).then(|| rng.latency(50_000, 8_000_000)),
            forks: u8::try_from(rng.below(3)).unwrap_or(0),
            ends,
            oom,
            on_stop: rng.percent(80).then(|| {
                let code = if rng.percent(70) { 0 } else { 143 };
                (ms(0, 400, rng), ExitStatus::Code(code))
            }),
            stuck_us: if rng.percent(3) { ms(100, 14_000, rng) } else { 0 },
        }
    }

    /// A step of a container's process.
    pub fn container_step(&mut self, key: u64, step: Step) {
        if !self.is_alive(key) {
            return;
        }
        match step {
            Step::Killed => self.begin_exit(key, ExitStatus::Signal(9)),
            Step::End(status) => self.ends_by_itself(key, status),
            Step::SetUp => self.is_set_up(key),
            Step::Go => self.reads_go(key),
            Step::Ready => self.says_ready(key),
        }
    }

    /// The run whose main process this is.
    pub fn run_of(&mut self, key: u64) -> Option<&mut Run> {
        let Role::Main(number) = self.processes.get(&key)?.role else { return None };
        self.runs.get_mut(number)
    }

    fn ends_by_itself(&mut self, key: u64, status: ExitStatus) {
        if let Some(run) = self.run_of(key)
            && run.script.oom
            && matches!(status, ExitStatus::Signal(_))
        {
            run.oom = true;
            let unit = run.unit.clone();
            self.group(&unit).oom_kills += 1;
        }
        self.begin_exit(key, status);
    }

    fn is_set_up(&mut self, key: u64) {
        let Some(run) = self.run_of(key) else { return };
        if run.script.setup_killed {
            self.begin_exit(key, ExitStatus::Signal(9));
        } else if run.script.setup_fails {
            let failure = SetupError {
                step: SetupStep::Mounts,
                errno: Errno::ENOENT,
                detail: "simulated".to_owned(),
            };
            let status = run.status;
            self.write_failure(status, failure);
            self.begin_exit(key, ExitStatus::Code(SETUP_FAILED));
        } else if run.go.is_some() {
            run.waits = true;
            self.reads_go(key);
        } else {
            self.executes(key);
        }
    }

    /// Something came into the pipe of a process that may wait for its go, or its end.
    pub fn go_came(&mut self, key: u64) {
        if self.run_of(key).is_some_and(|run| run.waits) {
            let delay = self.rng.latency(200, 50_000);
            self.after(delay, Event::Process(key, Step::Go));
        }
    }

    fn reads_go(&mut self, key: u64) {
        let Some(run) = self.run_of(key).filter(|run| run.waits) else { return };
        let (Some(go), status) = (run.go, run.status) else { return };
        let Some(pipe) = self.pipe_of(go) else { return };
        if pipe.bytes.pop_front().is_some() {
            self.executes(key);
        } else if !pipe.writable {
            let failure = SetupError {
                step: SetupStep::Go,
                errno: Errno::ECANCELED,
                detail: "the set-up was abandoned".to_owned(),
            };
            self.write_failure(status, failure);
            if let Some(run) = self.run_of(key) {
                run.abandoned = true;
            }
            self.begin_exit(key, ExitStatus::Code(SETUP_FAILED));
        }
    }

    /// Its program runs: descriptors that the program must not have are closed.
    fn executes(&mut self, key: u64) {
        let Some(run) = self.run_of(key) else { return };
        run.executed = true;
        run.waits = false;
        let (status, go, unit, network) =
            (run.status, run.go.take(), run.unit.clone(), run.network);
        let script = run.script.clone();
        if let Some(process) = self.processes.get_mut(&key) {
            process.executed = true;
            process.holds.retain(|id| *id != status && Some(*id) != go);
        }
        self.note("kernel", || format!("{unit}: exec"));
        for id in [Some(status), go].into_iter().flatten() {
            self.release(id);
        }
        if network.is_some_and(|network| !self.attached.contains(&network)) {
            self.violated(format!("{unit}: the program runs and its network is not attached"));
        }
        if let Some(after) = script.ready_us {
            self.after(after, Event::Process(key, Step::Ready));
        }
        let main = self.processes.get(&key).map_or(0, |process| process.pid);
        for _ in 0..script.forks {
            self.new_process(Role::Member(key), main, Some(unit.clone()));
        }
        if let Some((after, status)) = script.ends {
            self.after(after, Event::Process(key, Step::End(status)));
        }
    }

    fn says_ready(&mut self, key: u64) {
        let Some(run) = self.run_of(key) else { return };
        let unit = run.unit.clone();
        let heard = self.send_notice(&unit, b"READY=1");
        if let Some(run) = self.run_of(key) {
            run.said_ready = heard;
        }
    }

    /// A datagram into a unit's notify socket; `false`: there is none.
    fn send_notice(&mut self, unit: &str, text: &[u8]) -> bool {
        let sockets =
            self.sockets_where(|object| matches!(object, Object::Notify(name) if name == unit));
        if sockets.is_empty() {
            return false;
        }
        self.notices.entry(unit.to_owned()).or_default().push_back(text.to_vec());
        for id in sockets {
            self.changed(id);
        }
        true
    }

    /// The supervisor sends a signal to a container's process.
    pub fn signal_process(&mut self, key: u64, signal: i32) {
        if signal == 9 {
            return self.kill_process(key);
        }
        // The kernel keeps signals without a handler from the first process of a pid namespace, which
        // it is from the beginning.
        let Some(run) = self.run_of(key) else { return };
        run.signalled = true;
        if !run.executed {
            return;
        }
        if let Some((after, status)) = run.script.on_stop {
            self.after(after, Event::Process(key, Step::End(status)));
        }
    }

    /// A process begins to end: what is known of its run.
    pub(crate) fn process_ends(&mut self, key: u64, role: &Role, status: ExitStatus) {
        if let Role::Main(number) = role
            && let Some(run) = self.runs.get_mut(*number)
        {
            run.ended = Some(status);
            run.waits = false;
        }
        if let Role::Service(_) = role {
            self.actors.remove(&key);
            self.actor_objects.retain(|_, (_, of)| *of != key);
        }
    }
}
