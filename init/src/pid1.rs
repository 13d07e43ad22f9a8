//! PID 1's loop: wait for anything, handle it without waiting, again.

use crate::clock::{monotonic_ms, monotonic_ns};
use crate::exits::{self, Exits};
use crate::fdstore::FdStore;
use crate::going_down::GoingDown;
use crate::shutdown::Stage;
use crate::{VERSION, boot, fatal, services};
use ipc::{
    API_LINK, BootReport, Channel, ChannelError, DataDisk, ExitStatus, FromInit, Outbox, Phase,
    Service, ShutdownKind, ToInit,
};
use kmsg::console::Console;
use layout::paths;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// Messages taken from one process before the others get their turn.
const MESSAGES_PER_TURN: usize = 64;

/// Phases of the boot that are kept; there are some fifteen.
const MAX_PHASES: usize = 64;

/// From the end of a process's link to its SIGKILL. A process that ends closes its link a moment
/// before; that moment is its own, and how it ended is what it says itself.
const LINKLESS_MS: u64 = 1_000;

/// One of Keelhost's own processes, as PID 1 sees it.
pub(crate) struct Slot {
    service: Service,
    pub(crate) pid: Option<i32>,
    link: Option<Channel>,
    outbox: Outbox<FromInit, Rc<[OwnedFd]>>,
    started_ms: u64,
    attempt: u32,
    pub(crate) restart_at: Option<u64>,
    /// Its link has ended: if it still lives then, it is killed.
    kill_at: Option<u64>,
}

impl Slot {
    fn new(service: Service) -> Slot {
        Slot {
            service,
            pid: None,
            link: None,
            outbox: Outbox::default(),
            started_ms: 0,
            attempt: 0,
            restart_at: None,
            kill_at: None,
        }
    }
}

pub(crate) struct Pid1 {
    signals: SignalFd,
    pub(crate) console: Console,
    exits: Exits,
    store: FdStore,
    pub(crate) slots: Vec<Slot>,
    /// The link between supervisor and netsetup: kept over the deaths of both.
    net: (Channel, Channel),
    data_disk: Option<DataDisk>,
    pub(crate) down: Option<GoingDown>,
    report: BootReport,
    /// Whoever has said that it is up.
    ready: Vec<Service>,
}

/// Boots the host and runs it until it goes down.
pub fn run() -> ! {
    let start_us = monotonic_ns() / 1000;
    fatal::install_panic_hook();
    let booted = match boot::run() {
        Ok(booted) => booted,
        Err(why) => fatal::die(&why),
    };
    for trouble in &booted.troubles {
        log::warn!("{trouble}");
    }
    let fault = booted.cmdline.fault.clone();
    let mut pid1 = match Pid1::new(start_us, booted) {
        Ok(pid1) => pid1,
        Err(why) => fatal::die(&why),
    };
    for at in 0..pid1.slots.len() {
        pid1.start(at);
    }
    if fault.as_deref() == Some("panic") {
        panic!("made to fail by keel.fault");
    }
    loop {
        pid1.turn();
    }
}

/// The signals that PID 1 answers to, and what each asks for. (A SIGKILL or SIGSTOP cannot reach
/// it; all others are blocked and stay without effect.)
fn meaning(signal: Signal) -> Option<(ShutdownKind, &'static str)> {
    match signal {
        // Ctrl-Alt-Del, as the kernel passes it on after RB_DISABLE_CAD (reboot(2)).
        Signal::SIGINT => Some((ShutdownKind::Reboot, "Ctrl-Alt-Del")),
        Signal::SIGTERM => Some((ShutdownKind::Poweroff, "SIGTERM")),
        Signal::SIGPWR => Some((ShutdownKind::Poweroff, "the power is failing (SIGPWR)")),
        _ => None,
    }
}

impl Pid1 {
    fn new(start_us: u64, booted: boot::Boot) -> Result<Pid1, String> {
        let mut mask = SigSet::all();
        // A fault of our own must stay deadly: the kernel's panic reboots the machine.
        for signal in
            [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT]
        {
            mask.remove(signal);
        }
        mask.thread_block().map_err(|errno| format!("sigprocmask: {errno}"))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(|errno| format!("signalfd: {errno}"))?;
        if let Err(errno) = nix::sys::reboot::set_cad_enabled(false) {
            log::warn!("Ctrl-Alt-Del stays with the kernel: {errno}");
        }
        let mut console = Console::open();
        console.line("");
        console.line(&format!("  Keelhost {VERSION}  {}  {}", booted.hostname, machine()));
        console.line("");
        let mut pid1 = Pid1 {
            signals,
            console,
            exits: Exits::default(),
            store: FdStore::default(),
            slots: Service::ALL
                .into_iter()
                .filter(|service| *service != Service::Api || booted.api)
                .map(Slot::new)
                .collect(),
            net: Channel::pair().map_err(|error| error.to_string())?,
            data_disk: None,
            down: None,
            report: BootReport { start_us, phases: Vec::new() },
            ready: Vec::new(),
        };
        for phase in booted.phases {
            pid1.record_phase(phase);
        }
        Ok(pid1)
    }

    /// Waits for whatever comes next, and handles it.
    fn turn(&mut self) {
        let timeout = self.timeout();
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        // Which slot each further entry belongs to.
        let mut owners = Vec::new();
        for (at, slot) in self.slots.iter().enumerate() {
            if let Some(link) = &slot.link {
                let out =
                    if slot.outbox.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
                fds.push(PollFd::new(link.as_fd(), PollFlags::POLLIN | out));
                owners.push(at);
            }
        }
        if let Some(console) = self.console.waiting() {
            fds.push(PollFd::new(console, PollFlags::POLLOUT));
        }
        if poll(&mut fds, timeout).is_err() {
            // Interrupted: nothing is known of the descriptors, and nothing is lost by asking again.
            return;
        }
        let busy: Vec<usize> = owners
            .iter()
            .zip(fds.iter().skip(1))
            .filter(|(_, fd)| fd.any().unwrap_or(true))
            .map(|(at, _)| *at)
            .collect();
        drop(fds);
        self.console.flush();
        for at in busy {
            self.read_messages(at, MESSAGES_PER_TURN);
            self.flush(at);
        }
        self.read_signals();
        self.reap();
        self.kill_linkless();
        self.restart_due();
        self.go_down();
    }

    /// Until the next thing that is due by time.
    fn timeout(&self) -> PollTimeout {
        let slots = self.slots.iter().flat_map(|slot| [slot.restart_at, slot.kill_at]).flatten();
        let stage = self.down.iter().map(|down| down.stage.until());
        match slots.chain(stage).min() {
            None => PollTimeout::NONE,
            Some(due) => {
                let wait = due.saturating_sub(monotonic_ms()).min(60_000);
                PollTimeout::try_from(i32::try_from(wait).unwrap_or(60_000))
                    .unwrap_or(PollTimeout::ZERO)
            }
        }
    }

    fn read_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal =
                i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            if let Some((kind, reason)) = signal.and_then(meaning) {
                self.shut_down(kind, reason);
            }
        }
    }

    fn reap(&mut self) {
        while let Some((pid, status)) = exits::reap() {
            if let Some(Stage::Unmount { pid: child, until }) =
                self.down.as_mut().map(|down| &mut down.stage)
                && *child == pid
            {
                *until = 0;
                continue;
            }
            if let Some(at) = self.slots.iter().position(|slot| slot.pid == Some(pid)) {
                self.service_ended(at, status);
                continue;
            }
            let exit = self.exits.add(pid, status, monotonic_ms());
            self.send(Service::Supervisor, exited(&exit), Rc::default());
        }
    }

    /// One of our own processes has ended: take in what it said last, and plan its return.
    fn service_ended(&mut self, at: usize, status: ExitStatus) {
        // Everything that it had sent counts, as if it had lived.
        self.read_messages(at, usize::MAX);
        let now = monotonic_ms();
        let going_down =
            self.down.as_ref().is_some_and(|down| !matches!(down.stage, Stage::Units { .. }));
        let Some(slot) = self.slots.get_mut(at) else { return };
        slot.pid = None;
        slot.link = None;
        slot.kill_at = None;
        slot.outbox.clear();
        if slot.service == Service::Api {
            // A supervisor that starts now finds no link to a dead one.
            self.store.remove(API_LINK, Service::Supervisor);
        }
        if going_down {
            return;
        }
        let ran = now.saturating_sub(slot.started_ms);
        slot.attempt = if ran >= 10_000 { 0 } else { slot.attempt.saturating_add(1) };
        let delay = services::restart_delay_ms(ran, slot.attempt.saturating_sub(1));
        slot.restart_at = Some(now + delay);
        let applet = slot.service.applet();
        log::warn!("{applet} ended after {ran} ms ({}), again in {delay} ms", describe(status));
    }

    /// The link of a process has ended. It is watched no longer, because its end would be reported
    /// for ever; and the process is of no use any more.
    fn link_ended(&mut self, at: usize) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        slot.link = None;
        slot.outbox.clear();
        slot.kill_at = Some(monotonic_ms() + LINKLESS_MS);
        log::debug!("{}: its link has ended", slot.service.applet());
    }

    /// Kills whoever goes on without a link; the usual restart follows.
    fn kill_linkless(&mut self) {
        let now = monotonic_ms();
        for slot in &mut self.slots {
            if slot.kill_at.take_if(|due| *due <= now).is_none() {
                continue;
            }
            let Some(pid) = slot.pid else { continue };
            log::error!("{} lives on without its link: it is killed", slot.service.applet());
            // SAFETY: the process is our child and not reaped yet, so the number is its.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }

    fn restart_due(&mut self) {
        let now = monotonic_ms();
        for at in 0..self.slots.len() {
            if self.slots.get(at).and_then(|slot| slot.restart_at).is_some_and(|due| due <= now) {
                self.start(at);
            }
        }
    }

    /// Starts a process, with a new link, and says to it all that still holds.
    fn start(&mut self, at: usize) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        slot.restart_at = None;
        slot.started_ms = monotonic_ms();
        let service = slot.service;
        let started = match service {
            Service::Supervisor => services::start_one(service, &[self.net.0.as_fd()]),
            Service::Netsetup => services::start_one(service, &[self.net.1.as_fd()]),
            Service::Api => services::start_api(),
            Service::Logger | Service::Devices => services::start_one(service, &[]),
        };
        let partner = match started {
            Ok(services::Started { pid, link, partner }) => {
                slot.pid = Some(pid);
                slot.link = Some(link);
                partner
            }
            Err(why) => {
                slot.attempt = slot.attempt.saturating_add(1);
                let delay = services::restart_delay_ms(0, slot.attempt);
                slot.restart_at = Some(slot.started_ms + delay);
                log::error!("{why}; again in {delay} ms");
                return;
            }
        };
        slot.outbox.clear();
        for (key, fds) in self.store.of(service) {
            slot.outbox.push(FromInit::Stored { key: key.clone() }, Rc::clone(fds));
        }
        let mut plain = |message| slot.outbox.push(message, Rc::default());
        if let Some(disk) = &self.data_disk {
            plain(FromInit::DataDisk(disk.clone()));
        }
        plain(FromInit::StoredEnd);
        if service == Service::Supervisor {
            self.exits.pending().for_each(|exit| plain(exited(exit)));
            if let Some(GoingDown { kind, stage: Stage::Units { .. } }) = &self.down {
                plain(FromInit::StopUnits { kind: *kind });
            }
        }
        self.flush(at);
        if let Some(partner) = partner {
            self.link_to_api(partner);
        }
    }

    /// Hands the supervisor its end of the link to a new api, and keeps a copy for each supervisor
    /// that starts while this api lives.
    fn link_to_api(&mut self, link: Channel) {
        let fds =
            match self.store.store(API_LINK.to_owned(), Service::Supervisor, vec![link.into()]) {
                Ok(fds) => fds,
                // The api finds its link closed, ends, and is started again later.
                Err(error) => return log::error!("{error}"),
            };
        // An api that dies again and again must not fill the memory while the supervisor takes
        // nothing in: only the newest link counts.
        let is_link =
            |message: &FromInit| matches!(message, FromInit::Stored { key } if key == API_LINK);
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.service == Service::Supervisor) {
            slot.outbox.retain(|message| !is_link(message));
        }
        self.send(Service::Supervisor, FromInit::Stored { key: API_LINK.to_owned() }, fds);
    }

    /// Queues a message for a process; one that does not run now hears it at its next start, as
    /// part of what still holds.
    pub(crate) fn send(&mut self, to: Service, message: FromInit, fds: Rc<[OwnedFd]>) {
        let Some(at) = self.slots.iter().position(|slot| slot.service == to) else { return };
        if let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.link.is_some()) {
            slot.outbox.push(message, fds);
            self.flush(at);
        }
    }

    fn flush(&mut self, at: usize) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        let Some(link) = &slot.link else { return };
        // What the process does not take now goes out when it has read some. After an error it is
        // about to be reaped; its successor hears everything again.
        if let Err(error) = slot.outbox.flush(link) {
            log::debug!("{}: {error}", slot.service.applet());
            slot.outbox.clear();
        }
    }

    fn read_messages(&mut self, at: usize, most: usize) {
        for _ in 0..most {
            let Some(slot) = self.slots.get(at) else { return };
            let Some(link) = &slot.link else { return };
            let service = slot.service;
            match link.recv::<ToInit>() {
                Ok(None) => return,
                Ok(Some(received)) => self.handle(service, received.message, received.fds),
                // Said once of a process that left something unread when it ended (unix_release_sock in
                // net/unix/af_unix.c), before what itself has sent.
                Err(ChannelError::Sys { errno: Errno::ECONNRESET, .. }) => {}
                // A packet of no bytes is how SOCK_SEQPACKET says that the other side has closed.
                Err(ChannelError::Decode { size: 0, .. } | ChannelError::Sys { .. }) => {
                    return self.link_ended(at);
                }
                Err(error) => log::warn!("{}: {error}", service.applet()),
            }
        }
    }

    fn handle(&mut self, from: Service, message: ToInit, fds: Vec<OwnedFd>) {
        if !may_say(from, &message) {
            log::warn!("{} has no business to say {message:?}", from.applet());
            return;
        }
        match message {
            ToInit::Ready => {
                if !self.ready.contains(&from) {
                    self.ready.push(from);
                    log::info!("{} is up", from.applet());
                }
            }
            ToInit::Store { key, holder } => match self.store.store(key.clone(), holder, fds) {
                Ok(fds) if holder != from => self.send(holder, FromInit::Stored { key }, fds),
                Ok(_) => {}
                Err(error) => log::error!("{}: {error}", from.applet()),
            },
            ToInit::Drop { key } => self.store.remove(&key, from),
            ToInit::AckExits { seq } => self.exits.acknowledge(seq),
            ToInit::Shutdown { kind, reason } => self.shut_down(kind, &reason),
            ToInit::UnitsStopped => {
                if let Some(GoingDown { stage: Stage::Units { until }, .. }) = &mut self.down {
                    *until = 0;
                }
            }
            ToInit::Phase(phase) => self.record_phase(phase),
            ToInit::DataDisk(disk) => {
                log::info!("data disk: {}", disk.reason);
                for to in [Service::Supervisor, Service::Logger, Service::Api] {
                    self.send(to, FromInit::DataDisk(disk.clone()), Rc::default());
                }
                self.data_disk = Some(disk);
            }
        }
    }

    /// Shows a phase on the console and keeps it for `info`.
    fn record_phase(&mut self, phase: Phase) {
        let took = phase.end_us.saturating_sub(phase.start_us) as f64 / 1000.0;
        let at = phase.end_us.saturating_sub(self.report.start_us) as f64 / 1000.0;
        self.console.line(&format!(
            "  {:<12} {took:>8.1} ms   at {at:>7.1} ms   {}",
            phase.name, phase.note
        ));
        log::info!(
            "phase {}: {took:.1} ms, done {at:.1} ms after start {}",
            phase.name,
            phase.note
        );
        if self.report.phases.len() < MAX_PHASES {
            self.report.phases.push(phase);
        }
        let write = || -> std::io::Result<()> {
            let text = serde_json::to_vec(&self.report)?;
            let fresh = format!("{}.new", paths::RUN_BOOT);
            std::fs::write(&fresh, text)?;
            std::fs::rename(&fresh, paths::RUN_BOOT)
        };
        if let Err(error) = write() {
            log::warn!("{}: {error}", paths::RUN_BOOT);
        }
    }
}

/// Who may say what. The processes without privileges read what others write; one of them that was
/// taken over must not steer the machine.
pub fn may_say(from: Service, message: &ToInit) -> bool {
    match message {
        ToInit::Ready => true,
        ToInit::Drop { .. } => matches!(from, Service::Supervisor | Service::Logger),
        ToInit::Store { .. } | ToInit::AckExits { .. } | ToInit::UnitsStopped => {
            from == Service::Supervisor
        }
        ToInit::Shutdown { .. } | ToInit::Phase(_) => {
            matches!(from, Service::Supervisor | Service::Devices)
        }
        ToInit::DataDisk(_) => from == Service::Devices,
    }
}

fn exited(exit: &exits::Exit) -> FromInit {
    FromInit::Exited { seq: exit.seq, pid: exit.pid, status: exit.status, at_ms: exit.at_ms }
}

fn describe(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exit {code}"),
        ExitStatus::Signal(signal) => format!("signal {signal}"),
    }
}

/// Kernel, processors and memory, for the first line on the console.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let cpus = read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count();
    let memory: u64 = read("/proc/meminfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse().ok()
        })
        .unwrap_or(0);
    format!("Linux {}  {cpus} CPU  {} MiB", kernel.trim(), memory / 1024)
}

#[cfg(test)]
#[path = "pid1_tests.rs"]
mod tests;
