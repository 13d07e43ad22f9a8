//! Processes: who is whose child, in which cgroup, and how they die.
//!
//! A death takes several steps, as in `do_exit` (kernel/exit.c), and others act between them: the
//! descriptors are closed (a status pipe ends), the process leaves its cgroup, and at last it is a
//! zombie: its pidfd is readable and its parent may reap it. The first process of a pid namespace is
//! a zombie only when all others in it are gone.

use super::Machine;
use super::agenda::Event;
use super::objects::Id;
use ipc::{ExitStatus, Service};
use nix::sys::signal::Signal;

/// How far a process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Alive,
    /// It is ending; nothing shows yet.
    Exiting,
    /// Its descriptors are closed.
    FilesClosed,
    /// It has left its cgroup.
    GroupLeft,
    /// It can be reaped.
    Zombie,
}

/// What a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// One of Keelhost's own.
    Service(Service),
    /// The main process of a run, by the run's number.
    Main(usize),
    /// A process that a main process has forked, by the main process's key.
    Member(u64),
    /// A program that the supervisor runs in a container, by the main process's key.
    Program(u64),
    /// The short-lived process with which the supervisor gets into a container.
    Helper,
    /// PID 1's child that unmounts.
    Unmount,
}

/// A process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its number, which another process may get when it has been reaped.
    pub pid: i32,
    /// Its parent; 1 is PID 1.
    pub parent: i32,
    /// What it is.
    pub role: Role,
    /// The unit in whose cgroup it is.
    pub group: Option<String>,
    /// How far it has come.
    pub life: Life,
    /// How it ends or has ended.
    pub status: Option<ExitStatus>,
    /// The run in which it was made, if it is in a unit's cgroup.
    pub run: Option<usize>,
    /// It runs its own program.
    pub executed: bool,
    /// What its descriptors refer to.
    pub holds: Vec<Id>,
    /// SIGKILL is on its way.
    pub killed: bool,
    /// It does not die before this time: it is in uninterruptible sleep.
    pub stuck_until: u64,
}

impl Machine {
    /// A new process; returns its key.
    pub fn new_process(&mut self, role: Role, parent: i32, group: Option<String>) -> u64 {
        let pid = self.free_pid();
        let run = match (&role, &group) {
            (Role::Main(number), _) => Some(*number),
            (_, Some(unit)) => self.runs.iter().rposition(|run| run.unit == *unit),
            _ => None,
        };
        self.last_process += 1;
        let key = self.last_process;
        let process = Process {
            pid,
            parent,
            role,
            group: group.clone(),
            life: Life::Alive,
            status: None,
            run,
            executed: false,
            holds: Vec::new(),
            killed: false,
            stuck_until: 0,
        };
        self.processes.insert(key, process);
        if let Some(unit) = group {
            self.group_changed(&unit);
        }
        key
    }

    /// The next process number that is free. With a small range numbers come back soon.
    fn free_pid(&mut self) -> i32 {
        loop {
            self.last_pid += 1;
            if self.last_pid >= self.options.max_pid {
                self.last_pid = 100;
            }
            let pid = self.last_pid;
            if self.processes.values().all(|process| process.pid != pid) {
                return pid;
            }
        }
    }

    /// The process that has a number now.
    pub fn by_pid(&self, pid: i32) -> Option<u64> {
        self.processes.iter().find(|(_, process)| process.pid == pid).map(|(key, _)| *key)
    }

    /// Whether a process is dead (or has been reaped).
    pub fn is_dead(&self, key: u64) -> bool {
        self.processes.get(&key).is_none_or(|process| process.life == Life::Zombie)
    }

    /// Whether a process that was made in a run is still in its cgroup.
    pub fn is_run_populated(&self, run: usize) -> bool {
        self.processes.values().any(|process| {
            process.run == Some(run)
                && matches!(process.life, Life::Alive | Life::Exiting | Life::FilesClosed)
        })
    }

    /// Whether a process runs, as far as it knows itself.
    pub fn is_alive(&self, key: u64) -> bool {
        self.processes.get(&key).is_some_and(|process| process.life == Life::Alive)
    }

    /// Sends SIGKILL to a process. It dies some time later.
    pub fn kill_process(&mut self, key: u64) {
        let now = self.now_us;
        let Some(process) = self.processes.get_mut(&key) else { return };
        if std::mem::replace(&mut process.killed, true) || process.life != Life::Alive {
            return;
        }
        if process.role == Role::Service(Service::Supervisor) {
            self.supervisor_to_be_killed = true;
            return;
        }
        let held_back = process.stuck_until.saturating_sub(now);
        let delay = held_back + self.rng.latency(300, 20_000);
        self.after(delay, Event::Process(key, crate::actors::container::Step::Killed));
    }

    /// Sends SIGKILL to all processes of a cgroup.
    pub fn kill_group(&mut self, unit: &str) {
        let keys: Vec<u64> = self
            .processes
            .iter()
            .filter(|(_, process)| process.group.as_deref() == Some(unit))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.kill_process(key);
        }
    }

    /// A process begins to end. What it leaves behind follows step by step.
    pub fn begin_exit(&mut self, key: u64, status: ExitStatus) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        if process.life != Life::Alive {
            return;
        }
        process.life = Life::Exiting;
        process.status = Some(status);
        let (pid, role) = (process.pid, process.role.clone());
        self.note("kernel", || format!("process {pid} ({role:?}) ends: {status:?}"));
        self.process_ends(key, &role, status);
        let delay = self.rng.latency(50, 2_000);
        self.after(delay, Event::Dying(key));
    }

    /// The next step of a death.
    pub(super) fn dying(&mut self, key: u64) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let role = process.role.clone();
        match process.life {
            Life::Alive | Life::Zombie => return,
            Life::Exiting => {
                process.life = Life::FilesClosed;
                for id in std::mem::take(&mut process.holds) {
                    self.release(id);
                }
            }
            Life::FilesClosed => {
                process.life = Life::GroupLeft;
                if let Some(unit) = process.group.clone() {
                    self.group_changed(&unit);
                }
                if matches!(role, Role::Main(_)) {
                    for member in self.namespace_of(key) {
                        self.kill_process(member);
                    }
                }
            }
            Life::GroupLeft => {
                if matches!(role, Role::Main(_)) && !self.namespace_of(key).is_empty() {
                    // zap_pid_ns_processes waits for the others.
                    self.after(50, Event::Dying(key));
                    return;
                }
                if matches!(role, Role::Member(_)) {
                    // Its own parent or the namespace's first process reaps it.
                    self.processes.remove(&key);
                    return;
                }
                if let Some(process) = self.processes.get_mut(&key) {
                    process.life = Life::Zombie;
                    let pid = process.pid;
                    self.note("kernel", || format!("process {pid} is dead"));
                }
                let pidfds = self.objects_where(
                    |object| matches!(object, super::objects::Object::Pidfd(of) if *of == key),
                );
                for id in pidfds {
                    self.changed(id);
                }
                self.pending_signals.push(Signal::SIGCHLD as i32);
                return;
            }
        }
        let delay = self.rng.latency(30, 3_000);
        self.after(delay, Event::Dying(key));
    }

    /// The other processes in the pid namespace of a main process.
    pub fn namespace_of(&self, main: u64) -> Vec<u64> {
        let inside = self.processes.iter().filter(|(_, process)| {
            matches!(process.role, Role::Member(of) | Role::Program(of) if of == main)
        });
        inside.map(|(key, _)| *key).collect()
    }

    /// Reaps one of PID 1's children that are dead.
    pub fn reap(&mut self) -> Option<(i32, ExitStatus)> {
        let dead: Vec<u64> = self
            .processes
            .iter()
            .filter(|(_, process)| process.life == Life::Zombie && process.parent == 1)
            .map(|(key, _)| *key)
            .collect();
        let key = *self.rng.pick(&dead)?;
        let process = self.processes.remove(&key)?;
        Some((process.pid, process.status.unwrap_or(ExitStatus::Code(0))))
    }

    /// Whether PID 1 has a child, dead or alive.
    pub fn has_children(&self) -> bool {
        self.processes.values().any(|process| process.parent == 1)
    }
}
