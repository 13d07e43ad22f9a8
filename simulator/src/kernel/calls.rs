//! The longer calls of the supervisor's kernel.

use super::SupervisorKernel;
use super::handles::SimFd;
use super::supervisor::OPEN;
use crate::machine::Machine;
use crate::machine::agenda::Event;
use crate::machine::objects::Object;
use crate::machine::processes::Role;
use container::{ExecError, NetNsError, SpawnError};
use nix::sys::signal::Signal;
use supervisor::kernel::{
    CallError, EpollFlags, Errno, ExecRequest, Executed, Kernel, NetNs, ProcessStatus, Source,
    StartRequest, Started,
};

impl SupervisorKernel {
    /// Lets others act until something watched is ready, or the time is over.
    pub(super) fn wait_for_any(&self, timeout_ms: Option<u64>) -> Vec<(Source, EpollFlags)> {
        let Some(world) = self.caller.world.upgrade() else { return Vec::new() };
        self.caller.call("wait", Machine::supervisor_waits);
        let deadline = timeout_ms.map(|ms| self.now_us() + ms * 1000);
        let found = world.wait_until(deadline, |machine| {
            let (mut ready, stale) = machine.ready();
            if ready.is_empty() && !stale {
                return None;
            }
            machine.rng.shuffle(&mut ready);
            ready.truncate(64);
            let numbers: Vec<u64> = ready.iter().map(|(number, ..)| *number).collect();
            machine.reported(&numbers);
            Some(ready)
        });
        let found = found.unwrap_or_default();
        self.caller.call("woken", |machine| machine.supervisor_wakes(found.len()));
        found.into_iter().map(|(_, source, flags)| (source, flags)).collect()
    }

    /// Writes a state file, which the rules are checked against.
    pub(super) fn write_state(&self, unit: &str, text: &str) -> Result<(), CallError> {
        let errors = [Errno::ENOSPC, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE];
        self.caller.call("save_state", |machine| {
            if let Some(errno) = machine.fault("save_state", &errors) {
                machine.checker.not_saved(unit);
                return Err(CallError::new(format!("{unit}.json"), errno));
            }
            machine.files.insert(unit.to_owned(), text.to_owned());
            machine.check_save(unit, text);
            Ok(())
        })
    }

    /// A network namespace; rarely the supervisor is lost in it.
    pub(super) fn new_netns(&self) -> Result<NetNs<SimFd>, NetNsError> {
        let errors = [Errno::ENOSPC, Errno::EUSERS, Errno::ENOMEM, Errno::EMFILE, Errno::EPERM];
        let made = self.caller.call("create_netns", |machine| {
            match machine.fault("create_netns", &errors) {
                Some(errno) => {
                    // Rarely on the way back.
                    Err(match machine.rng.percent(10) {
                        true => NetNsError::Lost { errno },
                        false => NetNsError::Failed { action: "unshare", errno },
                    })
                }
                None => {
                    let number = machine.new_namespace();
                    let ns = machine.make(Object::NetNs(number));
                    let socket = machine.make(Object::RouteSocket(number));
                    Ok((self.caller.open(machine, ns), self.caller.open(machine, socket)))
                }
            }
        });
        let (ns, route_socket) = made?;
        Ok(NetNs { ns: self.caller.own(ns), route_socket: self.caller.own(route_socket) })
    }

    /// Starts a container.
    pub(super) fn start_container(
        &self,
        request: &StartRequest<'_, SupervisorKernel>,
    ) -> Result<Started<SimFd>, SpawnError> {
        let errors = [
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::EAGAIN,
            Errno::ENOMEM,
            Errno::ENOSPC,
            Errno::EBUSY,
        ];
        let network = request.netns.filter(|_| request.wait_for_go).map(|fd| fd.id);
        let outputs = [request.stdout.id, request.stderr.id];
        let started = self
            .caller
            .fallible("spawn", &errors, |machine| {
                let made = machine.spawn(request.unit, network, request.wait_for_go, outputs);
                Ok((
                    made.pid,
                    self.caller.open(machine, made.pidfd),
                    self.caller.open(machine, made.status),
                    made.go.map(|go| self.caller.open(machine, go)),
                ))
            })
            .map_err(|errno| SpawnError::Sys { call: "clone3", errno })?;
        let (pid, pidfd, status, go) = started;
        Ok(Started {
            pid,
            pidfd: self.caller.own(pidfd),
            status: self.caller.own(status),
            go: go.map(|go| self.caller.own(go)),
        })
    }

    /// Runs a program in a container.
    pub(super) fn start_program(
        &self,
        request: &ExecRequest<'_, SupervisorKernel>,
    ) -> Result<Executed<SimFd>, ExecError> {
        let errors = [Errno::EMFILE, Errno::ENFILE, Errno::EAGAIN, Errno::ENOMEM];
        let made = self.caller.call("exec", |machine| {
            if let Some(errno) = machine.fault("exec", &errors) {
                return Err(ExecError::Sys { call: "clone3", errno });
            }
            let outputs = [request.stdout.id, request.stderr.id];
            let made = machine.exec_program(request.pidfd.id, &request.group.unit, outputs)?;
            Ok((
                made.pid,
                self.caller.open(machine, made.pidfd),
                self.caller.open(machine, made.status),
            ))
        });
        let (pid, pidfd, status) = made?;
        Ok(Executed { pid, pidfd: self.caller.own(pidfd), status: self.caller.own(status) })
    }

    /// Sends a signal, which the rules are checked against.
    pub(super) fn send_signal(&self, pidfd: &SimFd, signal: i32) -> Result<(), Errno> {
        self.caller.call("signal", |machine| {
            let Some(Object::Pidfd(key)) = machine.object(pidfd.id).cloned() else {
                return Err(Errno::EBADF);
            };
            if let Some(errno) = machine.fault("signal", &[Errno::ENOMEM, Errno::EAGAIN]) {
                if let Some(run) = machine.run_of(key) {
                    run.signalled = true;
                }
                return Err(errno);
            }
            let Some(pid) = machine.processes.get(&key).map(|process| process.pid) else {
                return Err(Errno::ESRCH);
            };
            machine.note("supervisor", || format!("sends signal {signal} to {pid}"));
            machine.check_signal(key, signal);
            machine.signal_process(key, signal);
            Ok(())
        })
    }

    /// What the kernel says of a process.
    pub(super) fn status_of(&self, pid: i32) -> Result<ProcessStatus, CallError> {
        let read = self.caller.fallible("process_status", OPEN, |machine| {
            let found = machine.by_pid(pid).and_then(|key| machine.processes.get(&key));
            let process = found.ok_or(Errno::ENOENT)?;
            let ns_pids = match process.role {
                Role::Main(_) => vec![pid, 1],
                Role::Member(_) | Role::Program(_) => vec![pid, 2],
                _ => vec![pid],
            };
            Ok(ProcessStatus { parent: process.parent, ns_pids })
        });
        read.map_err(|errno| CallError::new("process_status", errno))
    }
}

impl Machine {
    /// What came of a health check's connection: after how long (`None`: never), and what.
    pub(crate) fn draw_probe(&mut self) -> (Option<u64>, Result<(), Errno>) {
        let (calm, rng) = (self.calm || self.options.benign, &mut self.rng);
        match rng.below(10) {
            _ if calm => (Some(500), Ok(())),
            0..7 => (Some(rng.latency(1_000, 3_000_000)), Ok(())),
            7..9 => (Some(rng.latency(1_000, 1_000_000)), Err(Errno::ECONNREFUSED)),
            _ => (None, Ok(())),
        }
    }

    /// A signal for PID 1, from a person at the keyboard or from the hypervisor.
    pub fn plan_signal(&mut self, after_us: u64, signal: Signal) {
        self.after(after_us, Event::Signal(signal as i32));
    }
}
