//! The machine as PID 1 sees it. PID 1 is not killed: its death is the machine's.

use super::handles::{Caller, SimFd, SimLink};
use crate::machine::objects::Id;
use init::kernel::{Kernel, StartError, Watch};
use ipc::{BootReport, ChannelError, ExitStatus, Service, ShutdownKind};
use nix::errno::Errno;
use nix::sys::signal::Signal;

/// PID 1's kernel.
pub struct InitKernel {
    pub(crate) caller: Caller,
}

/// What PID 1 waits for.
#[derive(Debug, Clone, Default)]
pub struct InitWait {
    links: Vec<(Id, bool)>,
    /// When it stops waiting.
    pub deadline: Option<u64>,
}

impl crate::machine::Machine {
    fn init_ready(&self, wait: &InitWait) -> Vec<usize> {
        let ready = |(id, write): &(Id, bool)| {
            self.end_of(*id)
                .is_some_and(|end| self.link_readable(end) || (*write && self.link_writable(end)))
        };
        let found = wait.links.iter().enumerate().filter(|(_, link)| ready(link));
        found.map(|(position, _)| position).collect()
    }

    /// When PID 1 goes on: now and then some time later, if something is ready; at its deadline; or
    /// never.
    pub fn init_due(&mut self) -> Option<u64> {
        let Some(wait) = self.init_wait.clone() else { return Some(self.now_us) };
        let ready = !self.pending_signals.is_empty() || !self.init_ready(&wait).is_empty();
        if !ready {
            return wait.deadline;
        }
        let (now, rare) = (self.now_us, if self.calm { 1_000 } else { 800_000 });
        let wakes = match self.init_wakes_at {
            Some(at) => at,
            None => now + self.rng.latency(100, rare),
        };
        self.init_wakes_at = Some(wakes);
        Some(wait.deadline.map_or(wakes, |deadline| deadline.min(wakes)))
    }
}

impl Kernel for InitKernel {
    type Fd = SimFd;
    type Link = SimLink;

    fn now_us(&self) -> u64 {
        self.caller.machine.borrow().now_us
    }

    /// Never blocks: what would block is an interrupted wait, and the world calls PID 1 again when
    /// something that it waits for has happened.
    fn wait(
        &mut self,
        links: &[Watch<'_, SimLink>],
        timeout_ms: Option<u64>,
    ) -> Option<Vec<usize>> {
        let mut machine = self.caller.machine.borrow_mut();
        let now = machine.now_us;
        let before = machine.init_wait.take();
        machine.init_wakes_at = None;
        let expired = before.and_then(|wait| wait.deadline).is_some_and(|at| at <= now);
        let wait = InitWait {
            links: links.iter().map(|watch| (watch.link.as_ref().id, watch.write)).collect(),
            deadline: timeout_ms.map(|ms| now + ms * 1000),
        };
        let ready = machine.init_ready(&wait);
        let over = expired || timeout_ms == Some(0) || !machine.pending_signals.is_empty();
        if ready.is_empty() && !over {
            machine.init_wait = Some(wait);
            return None;
        }
        Some(ready)
    }

    fn next_signal(&mut self) -> Option<Signal> {
        let mut machine = self.caller.machine.borrow_mut();
        let number = machine.pending_signals.pop()?;
        // They coalesce.
        machine.pending_signals.retain(|other| *other != number);
        Signal::try_from(number).ok()
    }

    fn reap(&mut self) -> Option<(i32, ExitStatus)> {
        let mut machine = self.caller.machine.borrow_mut();
        let reaped = machine.reap()?;
        machine.note("init", || format!("reaps {}: {:?}", reaped.0, reaped.1));
        Some(reaped)
    }

    fn link_pair(&mut self) -> Result<(SimLink, SimLink), ChannelError> {
        let errors = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
        let made = self.caller.fallible("socketpair", &errors, |machine| {
            let (a, b) = machine.make_link();
            Ok((self.caller.open(machine, a), self.caller.open(machine, b)))
        });
        let (a, b) = made.map_err(|errno| ChannelError::Sys { call: "socketpair", errno })?;
        Ok((SimLink::from(self.caller.own(a)), SimLink::from(self.caller.own(b))))
    }

    fn start(
        &mut self,
        service: Service,
        link: &SimLink,
        partners: &[&SimLink],
    ) -> Result<i32, StartError> {
        let errors = [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE];
        let started = self.caller.fallible("clone3", &errors, |machine| {
            let link = machine.refer(link.as_ref().id);
            let partner = partners.first().map(|partner| machine.refer(partner.as_ref().id));
            Ok(machine.service_started(service, link, partner))
        });
        started.map_err(|errno| StartError { applet: service.applet(), step: "clone3", errno })
    }

    fn kill(&mut self, pid: i32, signal: Signal) {
        self.caller.machine.borrow_mut().signal_child(pid, signal);
    }

    fn print(&mut self, line: &str) {
        let mut machine = self.caller.machine.borrow_mut();
        machine.checker.shutdown |= line.contains("shutting down: ");
        machine.note("console", || line.to_owned());
    }

    fn flush_console(&mut self) {}

    fn write_boot_report(&mut self, report: &BootReport) -> std::io::Result<()> {
        let errors = [Errno::ENOSPC, Errno::ENOMEM, Errno::EMFILE];
        let written = self.caller.fallible("write", &errors, |machine| {
            machine.boot_report = report.clone();
            Ok(())
        });
        written.map_err(std::io::Error::from)
    }

    fn kill_everything(&mut self) {
        let mut machine = self.caller.machine.borrow_mut();
        machine.note("init", || "kills everything".to_owned());
        let keys: Vec<u64> = machine.processes.keys().copied().collect();
        for key in keys {
            machine.kill_process(key);
        }
    }

    fn nothing_left(&mut self) -> bool {
        !self.caller.machine.borrow().has_children()
    }

    fn start_unmounting(&mut self) -> Result<i32, Errno> {
        self.caller.fallible("fork", &[Errno::EAGAIN, Errno::ENOMEM], |machine| {
            Ok(machine.start_unmounting())
        })
    }

    fn finish(&mut self, kind: ShutdownKind) {
        let mut machine = self.caller.machine.borrow_mut();
        machine.note("init", || format!("{kind:?}"));
        machine.finished = Some(kind);
    }
}
