//! What happens to a run after its start: its setup ends, its program reports, its main process exits,
//! its group becomes empty.

use crate::kernel::{Errno, Kernel, Source};
use crate::running::runs::{Process, Run};
use crate::running::{notify, origin};
use crate::shell::Shell;
use container::{SETUP_FAILED, Setup};
use ipc::ExitStatus;
use policy::RunEvent;
use units::model::NetworkMode;

impl<K: Kernel> Shell<K> {
    /// A child of PID 1 has ended.
    pub(crate) fn exited(&mut self, pid: i32, status: ExitStatus, at_ms: u64) {
        match self.runs.processes.remove(&pid) {
            Some(Process::Main { unit, generation }) => {
                // The setup's message comes first: it explains the exit.
                self.read_setup(&unit, Some(status));
                let waits_for_network = self.waits_for_network(&unit);
                let runtime = self.runs.of(&unit);
                runtime.timeline.exited_us = at_ms * 1000;
                let (mut oom, mut abandoned) = (false, false);
                if let Some(run) = runtime.run.as_mut().filter(|run| run.generation == generation) {
                    run.ended = true;
                    abandoned = run.orphaned
                        && !run.exec
                        && waits_for_network
                        && status == ExitStatus::Code(SETUP_FAILED);
                    run.pidfd = None;
                    let group = runtime.cgroup.as_ref();
                    let kills = group.and_then(|group| self.kernel.oom_kills(group).ok()?);
                    oom = kills.is_some_and(|kills| kills > run.oom_before);
                }
                let event = match abandoned {
                    true => RunEvent::SetupAbandoned,
                    false => RunEvent::Exited { status, oom },
                };
                self.feed_run(&unit, generation, event);
                self.draining.insert(unit.clone());
                self.drain();
                self.check_group(&unit);
            }
            Some(Process::Exec { id }) => self.exec_ended(id, status),
            Some(Process::Probe { unit }) => self.probe_command_ended(&unit, pid, status),
            // The helper of a program started in a container, or a process of a run that is over.
            None => log::debug!("process {pid} ended: {status:?}"),
        }
    }

    /// Whether a unit's setup waits until its network is attached. The process exits with
    /// [`SETUP_FAILED`] when the supervisor that would let it go on is killed, although nothing is
    /// wrong with the unit.
    fn waits_for_network(&self, unit: &str) -> bool {
        let unit = self.config.host.units.get(unit);
        unit.is_some_and(|unit| unit.container.network == NetworkMode::Bridge)
    }

    /// Reads a setup's status pipe; `exit` is how the process ended, once that is known.
    pub(crate) fn read_setup(&mut self, unit: &str, exit: Option<ExitStatus>) {
        let runtime = self.runs.of(unit);
        let Some(run) = runtime.run.as_mut() else { return };
        let Some(status) = &run.status else { return };
        // The end of the pipe means that the program runs, or that the process was killed before. A
        // process that is dead or about to be executes nothing: its exit status tells which.
        let runs = |run: &Run<K::Fd>| {
            let ended = run.pidfd.as_ref().map(|pidfd| self.kernel.has_ended(pidfd));
            self.kernel.is_executed(run.pid) == Ok(true) && ended == Some(Ok(false))
        };
        let event = match (self.kernel.read_status(status), exit) {
            (Ok(Setup::Pending | Setup::Prepared), _) => return,
            (Ok(Setup::Done), None) if !runs(run) => {
                // The pipe would report its end in every turn. What the process executes, or its exit,
                // shows the result.
                self.kernel.unwatch(&Source::Setup(unit.to_owned()), status);
                let setup = (unit.to_owned(), run.generation, run.pid);
                if !self.in_setup.contains(&setup) {
                    self.in_setup.push(setup);
                }
                return;
            }
            (Ok(Setup::Done), Some(ExitStatus::Signal(_))) => None,
            (Ok(Setup::Done), _) => {
                run.exec = true;
                runtime.timeline.exec_us = self.kernel.now_us();
                Some(RunEvent::ExecSucceeded)
            }
            (Ok(Setup::Failed(error)), _) => {
                let owner = self.config.host.units.get(unit);
                let image = owner.and_then(|it| self.config.images.images.get(&it.container.image));
                let reason = match owner.zip(image) {
                    Some((unit, image)) => origin::reason(&error, unit, &image.config),
                    None => error.to_string(),
                };
                Some(RunEvent::StartFailed { reason })
            }
            (Err(errno), _) => {
                Some(RunEvent::StartFailed { reason: format!("status pipe: {errno}") })
            }
        };
        let generation = run.generation;
        if let Some(status) = run.status.take() {
            self.kernel.unwatch(&Source::Setup(unit.to_owned()), &status);
        }
        run.go = None;
        if let Some(event) = event {
            self.feed_run(unit, generation, event);
        }
    }

    /// Runs taken over in the middle of their setup have no pipe any more, and the pipes of others have
    /// ended: what their process executes shows how far they are.
    pub(crate) fn check_setups(&mut self) {
        for (unit, generation, pid) in std::mem::take(&mut self.in_setup) {
            match self.kernel.is_executed(pid) {
                Ok(true) => {
                    let exec_us = self.kernel.now_us();
                    let runtime = self.runs.of(&unit);
                    let run = runtime.run.as_mut().filter(|run| run.generation == generation);
                    // Of a run that has ended, the number may be another process's by now.
                    if let Some(run) = run.filter(|run| !run.ended) {
                        run.exec = true;
                        run.status = None;
                        run.go = None;
                        runtime.timeline.exec_us = exec_us;
                        self.feed_run(&unit, generation, RunEvent::ExecSucceeded);
                    }
                }
                Ok(false) => self.in_setup.push((unit, generation, pid)),
                Err(error) if error.is_gone() => {}
                Err(error) => {
                    log::warn!("{unit}: {error}");
                    self.in_setup.push((unit, generation, pid));
                }
            }
        }
    }

    /// Goes on with the starts that wait for an empty group, or for PID 1.
    pub(crate) fn check_held(&mut self) {
        if !self.held.is_empty()
            && let Err(error) = self.to_init.flush(&self.init)
        {
            log::error!("PID 1: {error}");
        }
        for (unit, generation) in self.held.clone() {
            self.start_unit(&unit, generation);
        }
    }

    pub(crate) fn check_draining(&mut self) {
        for unit in self.draining.clone() {
            self.check_group(&unit);
        }
    }

    /// Reports to the core when the group of an ended run is empty.
    pub(crate) fn check_group(&mut self, unit: &str) {
        let runtime = self.runs.of(unit);
        let generation = runtime.run.as_ref().filter(|run| run.ended).map(|run| run.generation);
        match runtime.cgroup.as_ref().map(|group| self.kernel.populated(group)) {
            Some(Ok(true)) => return,
            // Removed, so nothing can live in it.
            Some(Err(error)) if error.errno == Errno::ENODEV => {}
            // Not known to be empty: the next run must not begin. It is checked again soon.
            Some(Err(error)) => {
                log::error!("{error}");
                if generation.is_some() {
                    self.draining.insert(unit.to_owned());
                }
                return;
            }
            Some(Ok(false)) | None => {}
        }
        self.draining.remove(unit);
        if let Some(generation) = generation {
            self.feed_run(unit, generation, RunEvent::GroupEmpty);
        }
    }

    pub(crate) fn read_notify(&mut self, unit: &str) {
        // Bounded: a program that floods its socket gets its turn again later.
        for _ in 0..32 {
            let runtime = self.runs.of(unit);
            let Some(socket) = &runtime.notify else { return };
            let Some(notices) = notify::peek(&self.kernel, socket) else { return };
            if let Some(generation) = runtime.run.as_ref().map(|run| run.generation) {
                for notice in notices {
                    self.feed_run(unit, generation, RunEvent::Notified(notice));
                }
                // Saved first: the program does not repeat it to a successor.
                self.save_now_if_due(unit);
            }
            if let Some(socket) = &self.runs.of(unit).notify {
                self.kernel.drop_notice(socket);
            }
        }
    }
}
