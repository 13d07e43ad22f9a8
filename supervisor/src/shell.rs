//! The loop: wait, turn what happened into events, carry out what the core orders.

use crate::config::Config;
use crate::now_us;
use crate::poller::{Poller, Source};
use crate::reporting::console::Reporter;
use crate::reporting::events::Events;
use crate::requests::api::{self, Api};
use crate::requests::control::Control;
use crate::running::devices::Devices;
use crate::running::notify;
use crate::running::origin;
use crate::running::runs::{Process, Runs};
use crate::takeover;
use crate::takeover::state_files::StateFiles;
use api_types::EventKind;
use container::Setup;
use ipc::{
    API_LINK, Channel, ChannelError, DataDisk, ExitStatus, FromInit, FromNet, Network, Outbox,
    Phase, Service, ShutdownKind, ToInit, ToNet,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::EpollFlags;
use policy::{Action, Core, Event, Instant, RunEvent};
use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Why the supervisor ends.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// A link cannot be used.
    #[error("link to {0}: {1}")]
    Link(&'static str, ChannelError),
    /// epoll cannot be used.
    #[error("epoll: {0}")]
    Epoll(Errno),
    /// PID 1 has closed the link.
    #[error("PID 1 has closed its link")]
    Orphaned,
    /// The process cannot leave a container's network namespace.
    #[error("{0}")]
    Lost(String),
}

/// Messages that one link may bring before the others get their turn.
const MESSAGES_PER_TURN: usize = 256;

/// A group that does not say that it is empty is asked this often.
const GROUP_POLL_MS: u64 = 50;

/// The supervisor's state around the core.
pub struct Shell {
    pub(crate) core: Core,
    pub(crate) config: Config,
    pub(crate) runs: Runs,
    pub(crate) poller: Poller,
    net: Channel,
    pub(crate) net_state: Network,
    pub(crate) data_disk: DataDisk,
    pub(crate) files: StateFiles,
    pub(crate) reporter: Reporter,
    pub(crate) control: Control,
    pub(crate) api: Api,
    pub(crate) events: Events,
    /// A shutdown that was asked for: when (ms), how it ends, why.
    pub(crate) going_down: Option<(u64, ShutdownKind, String)>,
    /// What the units' cgroups are given.
    pub(crate) devices: Devices,
    /// Layers that are mounted.
    pub(crate) layers: BTreeSet<String>,
    /// Units whose state could not be written.
    pub(crate) unsaved: BTreeSet<String>,
    /// State files written since the start.
    pub(crate) persists: u64,
    pub(crate) init: Channel,
    pub(crate) to_init: Outbox<ToInit>,
    to_net: Outbox<ToNet>,
    pub(crate) actions: VecDeque<Action>,
    /// Units whose group is being emptied without a notice yet.
    pub(crate) draining: BTreeSet<String>,
    /// Runs taken over in the middle of their set-up: unit, run, process.
    pub(crate) in_setup: Vec<(String, u64, i32)>,
    fatal: Option<ShellError>,
}

/// `CLOCK_MONOTONIC` for the core.
pub(crate) fn now() -> Instant {
    Instant::from_millis(now_us() / 1000)
}

impl Shell {
    /// Reads the host folder, takes over what an earlier supervisor left, and sets the units going.
    ///
    /// # Errors
    /// The links to the other processes.
    pub fn start(dir: &Path) -> Result<Shell, ShellError> {
        let begin = now_us();
        let init =
            Channel::inherited(ipc::fds::INIT).map_err(|error| ShellError::Link("PID 1", error))?;
        let net = Channel::inherited(ipc::fds::NET)
            .map_err(|error| ShellError::Link("netsetup", error))?;
        let mut poller = Poller::new().map_err(ShellError::Epoll)?;
        let config = Config::load(dir);
        let loaded = now_us();
        let (stored, early) = takeover::stored_descriptors(&init)?;
        poller.add(Source::Init, &init, EpollFlags::EPOLLIN).map_err(ShellError::Epoll)?;
        poller.add(Source::Net, &net, EpollFlags::EPOLLIN).map_err(ShellError::Epoll)?;
        let files = StateFiles::default();
        let (saved, unreadable) = files.load();
        for error in &unreadable {
            log::warn!("{error}: the unit starts without a history");
        }
        let restart = !saved.is_empty();
        let (core, actions) = Core::restore(
            config.host.units.clone(),
            config.broken.clone(),
            begin,
            saved.clone(),
            Instant::from_millis(begin / 1000),
        );
        let control = Control::open(&mut poller);
        let api = Api::new(api::clients(&config.host.host));
        let mut shell = Shell {
            core,
            config,
            runs: Runs::default(),
            poller,
            net,
            net_state: Network::default(),
            data_disk: DataDisk { path: None, reason: "still looking".to_owned(), pending: true },
            files,
            reporter: Reporter::new(restart),
            control,
            api,
            events: Events::default(),
            going_down: None,
            devices: Devices::default(),
            layers: takeover::mounted_layers(),
            unsaved: BTreeSet::new(),
            persists: 0,
            init,
            to_init: Outbox::default(),
            to_net: Outbox::default(),
            actions: actions.into(),
            draining: BTreeSet::new(),
            in_setup: Vec::new(),
            fatal: None,
        };
        for problem in &shell.config.problems {
            log::error!("{problem}");
        }
        if restart {
            log::info!("taking over after a restart");
            let event = EventKind::Supervisor;
            shell.reporter.note(&event.to_string());
            shell.record(None, event);
        } else {
            shell.reporter.problems(&shell.config.problems);
        }
        takeover::take_over(&mut shell, stored, &saved);
        // The clock condition holds unless PID 1 had to set the clock itself.
        let clock = !takeover::clock_was_raised();
        shell.feed(Event::ConditionChanged {
            condition: units::model::Condition::Clock,
            holds: clock,
        });
        for message in early {
            shell.init_says(message.message, message.fds);
        }
        let ports = shell.config.published();
        shell.tell_net(ToNet::Ports { units: ports }, Vec::new());
        shell.tell_init(ToInit::Ready, Vec::new());
        if !restart {
            let note = format!("{} units", shell.config.host.units.len());
            let phase = Phase { name: "units".to_owned(), note, start_us: begin, end_us: loaded };
            shell.tell_init(ToInit::Phase(phase), Vec::new());
        }
        shell.feed(Event::Boot);
        Ok(shell)
    }

    /// Runs until PID 1 is gone.
    ///
    /// # Errors
    /// What makes it impossible to go on.
    pub fn run(mut self) -> Result<(), ShellError> {
        loop {
            self.drain_to_start();
            self.reporter.settle(&self.core, &self.config);
            if let Some(error) = self.fatal.take() {
                return Err(error);
            }
            self.flush_outboxes();
            self.watch_console();
            let timeout = if self.actions.is_empty() { self.timeout() } else { Some(0) };
            for (source, flags) in self.poller.wait(timeout) {
                self.happened(source, flags)?;
            }
            self.check_draining();
            self.check_setups();
            self.check_probes();
            self.go_down_if_due();
            if self.core.next_deadline().is_some_and(|due| due <= now()) {
                self.feed(Event::Tick);
            }
        }
    }

    fn timeout(&self) -> Option<u64> {
        let now = now();
        let core = self.core.next_deadline().map(|due| due.as_millis());
        let probes = self.runs.iter().filter_map(|(_, unit)| Some(unit.probe.as_ref()?.until_ms));
        let polls = (!self.draining.is_empty() || !self.in_setup.is_empty())
            .then(|| now.as_millis() + GROUP_POLL_MS);
        let settle = self.reporter.due_ms();
        let down = self.going_down.as_ref().map(|(due, _, _)| *due);
        let due = core.into_iter().chain(probes).chain(polls).chain(settle).chain(down).min()?;
        Some(due.saturating_sub(now.as_millis()))
    }

    /// Tells the core, and queues what it orders.
    pub(crate) fn feed(&mut self, event: Event) {
        self.actions.extend(self.core.handle(now(), event));
    }

    /// Tells the core about a run.
    pub(crate) fn feed_run(&mut self, unit: &str, generation: u64, event: RunEvent) {
        self.feed(Event::Run { unit: unit.to_owned(), generation, event });
    }

    /// Carries out everything that is ordered, in order.
    pub(crate) fn drain(&mut self) {
        while let Some(action) = self.actions.pop_front() {
            self.perform(action);
        }
    }

    /// Carries out orders up to the next start of a container, the one that takes long: with many
    /// units to start, what those that run have to say is heard in between.
    fn drain_to_start(&mut self) {
        while let Some(action) = self.actions.pop_front() {
            let start = matches!(action, Action::Start { .. });
            self.perform(action);
            if start {
                return;
            }
        }
    }

    /// Ends the supervisor at the end of this turn.
    pub(crate) fn fail(&mut self, error: ShellError) {
        self.fatal.get_or_insert(error);
    }

    fn happened(&mut self, source: Source, flags: EpollFlags) -> Result<(), ShellError> {
        match source {
            Source::Init => self.read_init()?,
            Source::Net => self.read_net(),
            Source::Api => self.read_api(),
            Source::Exec(id) => self.exec_set_up(id),
            Source::Setup(unit) => self.read_setup(&unit, None),
            Source::Group(unit) => self.check_group(&unit),
            Source::Notify(unit) => self.read_notify(&unit),
            Source::Probe(unit) => self.advance_probe(&unit),
            Source::Listener => self.control.accept(&mut self.poller),
            Source::Connection(id) => self.serve(id, flags),
            Source::Console => self.reporter.console.flush(),
        }
        Ok(())
    }

    fn read_init(&mut self) -> Result<(), ShellError> {
        for _ in 0..MESSAGES_PER_TURN {
            match self.init.recv::<FromInit>() {
                Ok(None) => break,
                Ok(Some(received)) => self.init_says(received.message, received.fds),
                Err(ChannelError::Decode { size: 0, .. } | ChannelError::Sys { .. }) => {
                    return Err(ShellError::Orphaned);
                }
                Err(error) => log::warn!("PID 1: {error}"),
            }
        }
        Ok(())
    }

    fn init_says(&mut self, message: FromInit, fds: Vec<OwnedFd>) {
        match message {
            FromInit::Exited { seq, pid, status, at_ms } => {
                self.exited(pid, status, at_ms);
                // Recorded means on file: only then may PID 1 forget it, and all before it.
                self.drain();
                for unit in self.unsaved.clone() {
                    self.perform(Action::Persist { unit });
                }
                if self.unsaved.is_empty() {
                    self.tell_init(ToInit::AckExits { seq }, Vec::new());
                }
            }
            FromInit::StopUnits { kind } => {
                log::info!("stopping all units ({kind:?})");
                self.feed(Event::ShutdownRequested);
            }
            FromInit::DataDisk(disk) => self.data_disk_is(disk),
            FromInit::Stored { key } if key == API_LINK => {
                if let Some(link) = fds.into_iter().next() {
                    self.api.connect(&mut self.poller, link.into(), false);
                }
            }
            FromInit::Stored { .. } | FromInit::StoredEnd => drop(fds),
        }
    }

    /// A child of PID 1 has ended.
    fn exited(&mut self, pid: i32, status: ExitStatus, at_ms: u64) {
        match self.runs.processes.remove(&pid) {
            Some(Process::Main { unit, generation }) => {
                // What the set-up said comes first: it explains the exit.
                self.read_setup(&unit, Some(status));
                let runtime = self.runs.of(&unit);
                runtime.timeline.exited_us = at_ms * 1000;
                let mut oom = false;
                if let Some(run) = runtime.run.as_mut().filter(|run| run.generation == generation) {
                    run.ended = true;
                    run.pidfd = None;
                    let kills =
                        runtime.cgroup.as_ref().and_then(|group| group.stats().ok()?.oom_kill);
                    oom = kills.is_some_and(|kills| kills > run.oom_before);
                }
                self.feed_run(&unit, generation, RunEvent::Exited { status, oom });
                self.draining.insert(unit.clone());
                self.drain();
                self.check_group(&unit);
            }
            Some(Process::Exec { id }) => self.exec_ended(id, status),
            Some(Process::Probe { unit }) => self.probe_command_ended(&unit, pid, status),
            // A helper of a health probe, or a process of a run that is over.
            None => log::debug!("process {pid} ended: {status:?}"),
        }
    }

    /// Looks at a set-up's status pipe; `exit` is how the process ended, once that is known.
    fn read_setup(&mut self, unit: &str, exit: Option<ExitStatus>) {
        let runtime = self.runs.of(unit);
        let Some(run) = runtime.run.as_mut() else { return };
        let Some(status) = &run.status else { return };
        // Its end says that the program runs, or that the process was killed before: of one that is
        // dead, how it ended tells which.
        let event = match (container::read_status(status), exit) {
            (Ok(Setup::Pending | Setup::Prepared), _) => return,
            (Ok(Setup::Done), None) if run.pidfd.as_ref().is_some_and(has_ended) => return,
            (Ok(Setup::Done), Some(ExitStatus::Signal(_))) => None,
            (Ok(Setup::Done), _) => {
                run.exec = true;
                runtime.timeline.exec_us = now_us();
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
            self.poller.remove(&Source::Setup(unit.to_owned()), &status);
        }
        run.go = None;
        if let Some(event) = event {
            self.feed_run(unit, generation, event);
        }
    }

    /// Runs taken over in the middle of their set-up have no pipe any more: their program tells.
    fn check_setups(&mut self) {
        for (unit, generation, pid) in std::mem::take(&mut self.in_setup) {
            match takeover::is_executed(pid) {
                Some(true) => self.feed_run(&unit, generation, RunEvent::ExecSucceeded),
                Some(false) => self.in_setup.push((unit, generation, pid)),
                None => {}
            }
        }
    }

    fn check_draining(&mut self) {
        for unit in self.draining.clone() {
            self.check_group(&unit);
        }
    }

    /// Tells the core when the group of an ended run is empty.
    fn check_group(&mut self, unit: &str) {
        let runtime = self.runs.of(unit);
        let populated =
            runtime.cgroup.as_ref().is_some_and(|group| group.populated().unwrap_or(false));
        let generation = runtime.run.as_ref().filter(|run| run.ended).map(|run| run.generation);
        if populated {
            return;
        }
        self.draining.remove(unit);
        if let Some(generation) = generation {
            self.feed_run(unit, generation, RunEvent::GroupEmpty);
        }
    }

    fn read_notify(&mut self, unit: &str) {
        let mut notices = Vec::new();
        let runtime = self.runs.of(unit);
        if let Some(socket) = &runtime.notify {
            // Bounded: a program that floods its socket gets its turn again later.
            for _ in 0..32 {
                let Some(more) = notify::receive(socket) else { break };
                notices.extend(more);
            }
        }
        let Some(generation) = runtime.run.as_ref().map(|run| run.generation) else { return };
        for notice in notices {
            self.feed_run(unit, generation, RunEvent::Notified(notice));
        }
    }

    fn read_net(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            match self.net.recv::<FromNet>() {
                Ok(None) => return,
                Ok(Some(received)) => self.net_says(received.message),
                // PID 1 keeps both ends: this one has been shut down, and would say so for ever.
                Err(ChannelError::Decode { size: 0, .. } | ChannelError::Sys { .. }) => {
                    log::error!("netsetup: the link is broken");
                    return self.poller.remove(&Source::Net, &self.net);
                }
                Err(error) => log::warn!("netsetup: {error}"),
            }
        }
    }

    /// Sends to PID 1, now or as soon as it takes it.
    pub(crate) fn tell_init(&mut self, message: ToInit, fds: Vec<OwnedFd>) {
        if let Err(error) = self.to_init.send(&self.init, message, fds) {
            log::error!("PID 1: {error}");
        }
    }

    /// Sends to netsetup, now or as soon as it takes it.
    pub(crate) fn tell_net(&mut self, message: ToNet, fds: Vec<OwnedFd>) {
        if let Err(error) = self.to_net.send(&self.net, message, fds) {
            log::error!("netsetup: {error}");
        }
    }

    /// Sends what waits, and watches the links as long as something does.
    fn flush_outboxes(&mut self) {
        let flags = |empty| {
            if empty { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT }
        };
        if let Err(error) = self.to_init.flush(&self.init) {
            log::error!("PID 1: {error}");
        }
        if let Err(error) = self.to_net.flush(&self.net) {
            log::error!("netsetup: {error}");
        }
        self.flush_api();
        let _ = self.poller.change(&Source::Init, &self.init, flags(self.to_init.is_empty()));
        let _ = self.poller.change(&Source::Net, &self.net, flags(self.to_net.is_empty()));
    }

    fn watch_console(&mut self) {
        if let Some(console) = self.reporter.console.waiting() {
            // Already watched is fine.
            let _ = self.poller.add(
                Source::Console,
                console,
                EpollFlags::EPOLLOUT | EpollFlags::EPOLLONESHOT,
            );
            let _ = self.poller.change(
                &Source::Console,
                console,
                EpollFlags::EPOLLOUT | EpollFlags::EPOLLONESHOT,
            );
        }
    }

    /// Asks PID 1 to shut the host down.
    pub(crate) fn request_shutdown(&mut self, kind: ShutdownKind, reason: String) {
        self.tell_init(ToInit::Shutdown { kind, reason }, Vec::new());
    }

    /// Keeps descriptors with PID 1.
    pub(crate) fn keep(&mut self, key: String, holder: Service, fds: Vec<OwnedFd>) {
        self.tell_init(ToInit::Store { key, holder }, fds);
    }
}

/// Whether a process is dead: its pidfd is readable (pidfd_open(2)).
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
}
