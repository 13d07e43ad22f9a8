//! PID 1's loop: wait for anything, handle it without blocking, repeat.

use crate::exits::{self, Exits};
use crate::fdstore::FdStore;
use crate::kernel::{Kernel, Watch};
use crate::shutdown::{ShutdownProgress, Stage};
use crate::slot::Slot;
use ipc::outbox::RETRY_MS;
use ipc::{
    API_LINK, BootReport, ChannelError, DataDisk, ExitStatus, FromInit, Link, Phase, Service,
    ShutdownKind, ToInit,
};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::rc::Rc;

/// Messages taken from one process before the others get their turn.
const MESSAGES_PER_TURN: usize = 64;

/// Phases of the boot that are kept; a boot has about fifteen.
const MAX_PHASES: usize = 64;

/// From the end of a process's link to its SIGKILL. A process that ends closes its link a moment
/// before it can be reaped; killing it then would hide its own exit status.
const LINK_CLOSED_GRACE_MS: u64 = 1_000;

/// PID 1 never sleeps for longer than this.
const MAX_WAIT_MS: u64 = 60_000;

/// PID 1's state.
pub struct Pid1<K: Kernel> {
    pub(crate) kernel: K,
    exits: Exits,
    store: FdStore<K::Fd>,
    pub(crate) slots: Vec<Slot<K>>,
    /// The link between supervisor and netsetup: kept over the deaths of both.
    net: (K::Link, K::Link),
    data_disk: Option<DataDisk>,
    pub(crate) shutdown: Option<ShutdownProgress>,
    report: BootReport,
    /// The processes that have reported that they are ready.
    ready: Vec<Service>,
}

/// The signals that PID 1 handles, and what each requests. (SIGKILL and SIGSTOP cannot reach it; all
/// others are blocked and have no effect.)
fn meaning(signal: Signal) -> Option<(ShutdownKind, &'static str)> {
    match signal {
        // The kernel sends it for Ctrl-Alt-Del after RB_DISABLE_CAD (reboot(2)).
        Signal::SIGINT => Some((ShutdownKind::Reboot, "Ctrl-Alt-Del")),
        Signal::SIGTERM => Some((ShutdownKind::Poweroff, "SIGTERM")),
        Signal::SIGPWR => Some((ShutdownKind::Poweroff, "power failure (SIGPWR)")),
        _ => None,
    }
}

impl<K: Kernel> Pid1<K> {
    /// PID 1 after the boot: nothing has been started yet.
    ///
    /// # Errors
    /// The link between supervisor and netsetup cannot be made.
    pub fn new(
        mut kernel: K,
        services: impl IntoIterator<Item = Service>,
        start_us: u64,
    ) -> Result<Pid1<K>, ChannelError> {
        let net = kernel.link_pair()?;
        Ok(Pid1 {
            kernel,
            exits: Exits::default(),
            store: FdStore::default(),
            slots: services.into_iter().map(Slot::new).collect(),
            net,
            data_disk: None,
            shutdown: None,
            report: BootReport { start_us, phases: Vec::new() },
            ready: Vec::new(),
        })
    }

    /// Starts every process.
    pub fn start_all(&mut self) {
        for at in 0..self.slots.len() {
            self.start(at);
        }
    }

    /// Waits for whatever comes next, and handles it. Nothing but the wait blocks, and nothing
    /// panics.
    pub fn turn(&mut self) {
        let timeout = self.timeout_ms();
        let mut links = Vec::with_capacity(self.slots.len());
        // Which slot each link belongs to.
        let mut owners = Vec::with_capacity(self.slots.len());
        for (at, slot) in self.slots.iter().enumerate() {
            if let Some(link) = &slot.link {
                links.push(Watch { link, write: slot.outbox.is_blocked() });
                owners.push(at);
            }
        }
        // After an interrupted wait nothing is known, and waiting again loses nothing.
        let Some(ready) = self.kernel.wait(&links, timeout) else { return };
        self.kernel.flush_console();
        for at in ready.into_iter().filter_map(|position| owners.get(position)) {
            self.read_messages(*at, MESSAGES_PER_TURN);
            self.flush(*at);
        }
        self.read_signals();
        self.reap();
        self.kill_without_link();
        self.restart_due();
        self.flush_due();
        self.advance_shutdown();
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.kernel.now_us() / 1000
    }

    /// The time until the next deadline.
    fn timeout_ms(&self) -> Option<u64> {
        let times = |slot: &Slot<K>| [slot.restart_at, slot.kill_at, slot.flush_at];
        let slots = self.slots.iter().flat_map(times).flatten();
        let stage = self.shutdown.iter().map(|shutdown| shutdown.stage.until());
        let due = slots.chain(stage).min()?;
        Some(due.saturating_sub(self.now_ms()).min(MAX_WAIT_MS))
    }

    fn read_signals(&mut self) {
        while let Some(signal) = self.kernel.next_signal() {
            if let Some((kind, reason)) = meaning(signal) {
                self.begin_shutdown(kind, reason);
            }
        }
    }

    fn reap(&mut self) {
        while let Some((pid, status)) = self.kernel.reap() {
            if let Some(Stage::Unmount { pid: child, until }) =
                self.shutdown.as_mut().map(|shutdown| &mut shutdown.stage)
                && *child == pid
            {
                *until = 0;
                continue;
            }
            if let Some(at) = self.slots.iter().position(|slot| slot.pid == Some(pid)) {
                self.service_ended(at, status);
                continue;
            }
            let exit = self.exits.add(pid, status, self.now_ms());
            self.send(Service::Supervisor, exited(&exit), Rc::default());
        }
    }

    /// One of our own processes has ended: handles the messages it sent before, and plans its
    /// restart.
    fn service_ended(&mut self, at: usize, status: ExitStatus) {
        // Everything that it sent is handled, as if it were still running.
        self.read_messages(at, usize::MAX);
        let now = self.now_ms();
        let stopping = self
            .shutdown
            .as_ref()
            .is_some_and(|shutdown| !matches!(shutdown.stage, Stage::Units { .. }));
        let Some(slot) = self.slots.get_mut(at) else { return };
        slot.ended();
        if slot.service == Service::Api {
            // A supervisor that starts now gets no link to a process that is gone.
            self.store.remove(API_LINK, Service::Supervisor);
        }
        if stopping {
            return;
        }
        let ran = now.saturating_sub(slot.started_ms);
        let delay = slot.restart_after(now, ran);
        let applet = slot.service.applet();
        let status = describe(status);
        log::warn!("{applet} ended after {ran} ms ({status}); restarting in {delay} ms");
    }

    /// A process has closed its link. PID 1 stops watching the link, because it would report its end
    /// again and again; and a process that has no link to PID 1 is of no use.
    fn link_ended(&mut self, at: usize) {
        let kill_at = self.now_ms() + LINK_CLOSED_GRACE_MS;
        let Some(slot) = self.slots.get_mut(at) else { return };
        slot.link = None;
        slot.outbox.clear();
        slot.kill_at = Some(kill_at);
        log::debug!("{}: link closed", slot.service.applet());
    }

    /// Kills processes that closed their link and are still running; the usual restart follows.
    fn kill_without_link(&mut self) {
        let now = self.now_ms();
        for slot in &mut self.slots {
            if slot.kill_at.take_if(|due| *due <= now).is_none() {
                continue;
            }
            let Some(pid) = slot.pid else { continue };
            let applet = slot.service.applet();
            log::error!("{applet} closed its link but is still running; killing it");
            self.kernel.kill(pid, Signal::SIGKILL);
        }
    }

    fn restart_due(&mut self) {
        let now = self.now_ms();
        for at in 0..self.slots.len() {
            if self.slots.get(at).and_then(|slot| slot.restart_at).is_some_and(|due| due <= now) {
                self.start(at);
            }
        }
    }

    /// Sends again what the kernel did not take.
    fn flush_due(&mut self) {
        let now = self.now_ms();
        for at in 0..self.slots.len() {
            if self.slots.get(at).and_then(|slot| slot.flush_at).is_some_and(|due| due <= now) {
                self.flush(at);
            }
        }
    }

    /// Starts a process with a new link, and sends it everything that still holds.
    fn start(&mut self, at: usize) {
        let now = self.now_ms();
        let Some(slot) = self.slots.get_mut(at) else { return };
        slot.restart_at = None;
        slot.started_ms = now;
        let service = slot.service;
        let started = match service {
            Service::Supervisor => launch(&mut self.kernel, service, &[&self.net.0]),
            Service::Netsetup => launch(&mut self.kernel, service, &[&self.net.1]),
            Service::Api => launch_api(&mut self.kernel),
            Service::Logger | Service::Devices => launch(&mut self.kernel, service, &[]),
        };
        let partner = match started {
            Ok(Started { pid, link, partner }) => {
                slot.pid = Some(pid);
                slot.link = Some(link);
                partner
            }
            Err(why) => {
                let delay = slot.retry_start();
                log::error!("{why}; retrying in {delay} ms");
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
            if let Some(ShutdownProgress { kind, stage: Stage::Units { .. } }) = &self.shutdown {
                plain(FromInit::StopUnits { kind: *kind });
            }
        }
        self.flush(at);
        if let Some(partner) = partner {
            self.link_to_api(partner);
        }
    }

    /// Sends the supervisor its end of the link to a new api, and keeps a copy for each supervisor
    /// that starts while this api runs.
    fn link_to_api(&mut self, link: K::Link) {
        let fds =
            match self.store.store(API_LINK.to_owned(), Service::Supervisor, vec![link.into()]) {
                Ok(fds) => fds,
                // The api finds its link closed, exits, and is restarted later.
                Err(error) => return log::error!("{error}"),
            };
        // An api that keeps dying must not fill the memory while the supervisor reads nothing: only
        // the newest link counts.
        let is_link =
            |message: &FromInit| matches!(message, FromInit::Stored { key } if key == API_LINK);
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.service == Service::Supervisor) {
            slot.outbox.retain(|message| !is_link(message));
        }
        self.send(Service::Supervisor, FromInit::Stored { key: API_LINK.to_owned() }, fds);
    }

    /// Queues a message for a process. One that is not running receives it at its next start, as
    /// part of what still holds.
    pub(crate) fn send(&mut self, to: Service, message: FromInit, fds: Rc<[K::Fd]>) {
        let Some(at) = self.slots.iter().position(|slot| slot.service == to) else { return };
        if let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.link.is_some()) {
            slot.outbox.push(message, fds);
            self.flush(at);
        }
    }

    fn flush(&mut self, at: usize) {
        let retry_at = self.now_ms() + RETRY_MS;
        let Some(slot) = self.slots.get_mut(at) else { return };
        slot.flush_at = None;
        let Some(link) = &slot.link else { return };
        // What does not fit into the process's queue now is sent when it has read some messages. After
        // an error the process is about to be reaped; its successor gets everything again.
        if let Err(error) = slot.outbox.flush(link) {
            log::debug!("{}: {error}", slot.service.applet());
            slot.outbox.clear();
        }
        slot.flush_at = slot.outbox.is_stalled().then_some(retry_at);
    }

    fn read_messages(&mut self, at: usize, most: usize) {
        for _ in 0..most {
            let Some(slot) = self.slots.get(at) else { return };
            let Some(link) = &slot.link else { return };
            let service = slot.service;
            match link.recv::<ToInit>() {
                Ok(None) => return,
                Ok(Some(received)) => self.handle(service, received.message, received.fds),
                // Reported once for a process that ended with messages in its queue (unix_release_sock in
                // net/unix/af_unix.c), before the messages that it sent itself.
                Err(ChannelError::Sys { errno: Errno::ECONNRESET, .. }) => {}
                Err(error) if error.is_closed() => return self.link_ended(at),
                Err(error) => log::warn!("{}: {error}", service.applet()),
            }
        }
    }

    fn handle(&mut self, from: Service, message: ToInit, fds: Vec<K::Fd>) {
        if !may_send(from, &message) {
            log::warn!("{} is not allowed to send {message:?}", from.applet());
            return;
        }
        match message {
            ToInit::Ready => {
                if !self.ready.contains(&from) {
                    self.ready.push(from);
                    log::info!("{} is ready", from.applet());
                }
            }
            ToInit::Store { key, holder } => match self.store.store(key.clone(), holder, fds) {
                Ok(fds) if holder != from => self.send(holder, FromInit::Stored { key }, fds),
                Ok(_) => {}
                Err(error) => log::error!("{}: {error}", from.applet()),
            },
            ToInit::Drop { key } => self.store.remove(&key, from),
            ToInit::AckExits { seq } => self.exits.acknowledge(seq),
            ToInit::Shutdown { kind, reason } => self.begin_shutdown(kind, &reason),
            ToInit::UnitsStopped => {
                if let Some(ShutdownProgress { stage: Stage::Units { until }, .. }) =
                    &mut self.shutdown
                {
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

    /// Shows a phase on the console and keeps it for the boot report.
    pub(crate) fn record_phase(&mut self, phase: Phase) {
        let took = phase.end_us.saturating_sub(phase.start_us) as f64 / 1000.0;
        let at = phase.end_us.saturating_sub(self.report.start_us) as f64 / 1000.0;
        self.kernel.print(&format!(
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
        if let Err(error) = self.kernel.write_boot_report(&self.report) {
            log::warn!("boot report: {error}");
        }
    }
}

/// A process that has been started.
struct Started<L> {
    pid: i32,
    /// PID 1's link to it.
    link: L,
    /// The other end of a link that was made for it, for its partner.
    partner: Option<L>,
}

/// Starts a process with a new link to PID 1 and its links to `partners`.
fn launch<K: Kernel>(
    kernel: &mut K,
    service: Service,
    partners: &[&K::Link],
) -> Result<Started<K::Link>, String> {
    let (link, theirs) = new_link(kernel, service)?;
    let pid = kernel.start(service, &theirs, partners).map_err(|error| error.to_string())?;
    Ok(Started { pid, link, partner: None })
}

/// Starts the api with a new link to the supervisor. A client that took over an earlier api may have
/// shut its link down, which cannot be undone (shutdown(2)): each api gets a link of its own.
fn launch_api<K: Kernel>(kernel: &mut K) -> Result<Started<K::Link>, String> {
    let (supervisors, apis) = new_link(kernel, Service::Api)?;
    let started = launch(kernel, Service::Api, &[&apis])?;
    Ok(Started { partner: Some(supervisors), ..started })
}

fn new_link<K: Kernel>(kernel: &mut K, service: Service) -> Result<(K::Link, K::Link), String> {
    kernel.link_pair().map_err(|error| format!("{}: {error}", service.applet()))
}

/// Which process may send which message. The unprivileged processes read untrusted input; if one of
/// them is compromised, it must not control the machine.
pub fn may_send(from: Service, message: &ToInit) -> bool {
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

#[cfg(test)]
#[path = "pid1_tests.rs"]
mod tests;
