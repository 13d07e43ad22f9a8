//! The loop: wait, turn what happened into events, carry out the core's actions.

use crate::config::Config;
use crate::kernel::{CallError, EpollFlags, Handles, Kernel, Source};
use crate::reporting::console::Reporter;
use crate::reporting::events::Events;
use crate::requests::api::{self, Api};
use crate::requests::control::Control;
use crate::running::runs::Runs;
use crate::takeover;
use api_types::EventKind;
use ipc::outbox::RETRY_MS;
use ipc::{
    API_LINK, ChannelError, DataDisk, FromInit, FromNet, Link, Network, Outbox, Phase, Service,
    ShutdownKind, ToInit, ToNet,
};
use policy::{Action, Core, Event, Instant, RunEvent};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Why the supervisor ends.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// A link cannot be used.
    #[error("link to {0}: {1}")]
    Link(&'static str, ChannelError),
    /// A link cannot be watched.
    #[error(transparent)]
    Watch(CallError),
    /// PID 1 has closed the link.
    #[error("PID 1 has closed its link")]
    Orphaned,
    /// What an earlier supervisor left cannot be read now. The next attempt begins anew: continuing
    /// without it could start a container beside one that is still running.
    #[error("taking over: {0}")]
    TakeOver(String),
    /// The process cannot leave a container's network namespace.
    #[error("{0}")]
    Lost(String),
}

/// Messages read from one link before the others get their turn.
const MESSAGES_PER_TURN: usize = 256;

/// How often a group that has not reported that it is empty is checked.
const GROUP_POLL_MS: u64 = 50;

/// The delay before another attempt to write a unit's state.
const SAVE_AGAIN_MS: u64 = 1_000;

/// The supervisor's state around the core.
pub struct Shell<K: Kernel> {
    pub(crate) kernel: K,
    pub(crate) core: Core,
    pub(crate) config: Config,
    pub(crate) runs: Runs<K>,
    net: K::Link,
    pub(crate) net_state: Network,
    pub(crate) data_disk: DataDisk,
    pub(crate) reporter: Reporter,
    pub(crate) control: Control<K::Fd>,
    pub(crate) api: Api<K>,
    pub(crate) events: Events,
    /// A requested shutdown: when (ms), how it ends, why.
    pub(crate) pending_shutdown: Option<(u64, ShutdownKind, String)>,
    /// Layers that are mounted.
    pub(crate) layers: BTreeSet<String>,
    /// Units whose state could not be written.
    pub(crate) unsaved: BTreeSet<String>,
    /// State files written since the start.
    pub(crate) persists: u64,
    pub(crate) init: K::Link,
    pub(crate) to_init: Outbox<ToInit, Fds<K>>,
    to_net: Outbox<ToNet, Fds<K>>,
    pub(crate) actions: VecDeque<Action>,
    /// Units whose group is being emptied and has not reported that it is empty.
    pub(crate) draining: BTreeSet<String>,
    /// Runs taken over in the middle of their setup: unit, run, process.
    pub(crate) in_setup: Vec<(String, u64, i32)>,
    /// Starts that wait until the unit's group is empty and PID 1 has taken what it must keep: unit,
    /// run.
    pub(crate) held: BTreeMap<String, u64>,
    /// The number of the last request to netsetup.
    pub(crate) requests: u64,
    /// Units whose attachment could not be requested.
    pub(crate) unattached: BTreeSet<String>,
    /// When units whose state could not be written are tried again.
    pub(crate) save_again_ms: Option<u64>,
    /// The last exit that PID 1 still keeps because a unit's state could not be written.
    unacknowledged: Option<u64>,
    fatal: Option<ShellError>,
}

/// Descriptors beside a message.
pub(crate) type Fds<K> = Vec<<K as Handles>::Fd>;

/// `CLOCK_MONOTONIC` for the core.
pub(crate) fn now(kernel: &impl Kernel) -> Instant {
    Instant::from_millis(kernel.now_us() / 1000)
}

impl<K: Kernel> Shell<K> {
    /// Loads the host folder, takes over what an earlier supervisor left, and starts the units.
    ///
    /// # Errors
    /// The links to the other processes.
    pub fn start(mut kernel: K, load: impl FnOnce() -> Config) -> Result<Shell<K>, ShellError> {
        let begin = kernel.now_us();
        let link =
            |number, peer| kernel.inherited(number).map_err(|error| ShellError::Link(peer, error));
        let init = link(ipc::fds::INIT, "PID 1")?;
        let net = link(ipc::fds::NET, "netsetup")?;
        let config = load();
        let loaded = kernel.now_us();
        let (stored, early) = takeover::stored_descriptors(&kernel, &init)?;
        let readable = EpollFlags::EPOLLIN;
        kernel.watch(Source::Init, init.as_ref(), readable).map_err(ShellError::Watch)?;
        kernel.watch(Source::Net, net.as_ref(), readable).map_err(ShellError::Watch)?;
        let (saved, unreadable) = takeover::saved_states(&kernel)?;
        let restart = !saved.is_empty();
        let (core, actions) = Core::restore(
            config.host.units.clone(),
            config.broken.clone(),
            begin,
            saved.clone(),
            Instant::from_millis(begin / 1000),
        );
        let cmdline = kernel.cmdline();
        let control = Control::open(&mut kernel, cmdline.control.as_deref());
        let api = Api::new(api::clients(&config.host.host, &cmdline));
        let reporter = Reporter::new(restart, now(&kernel));
        let events = Events::new(kernel.now_us());
        let layers = kernel.mounted_layers().map_err(takeover::failed)?;
        let clock = !kernel.clock_was_raised().map_err(takeover::failed)?;
        let mut shell = Shell {
            kernel,
            core,
            config,
            runs: Runs::default(),
            net,
            net_state: Network::default(),
            data_disk: DataDisk { path: None, reason: "still looking".to_owned(), pending: true },
            reporter,
            control,
            api,
            events,
            pending_shutdown: None,
            layers,
            unsaved: BTreeSet::new(),
            persists: 0,
            init,
            to_init: Outbox::default(),
            to_net: Outbox::default(),
            actions: actions.into(),
            draining: BTreeSet::new(),
            in_setup: Vec::new(),
            held: BTreeMap::new(),
            requests: 0,
            unattached: BTreeSet::new(),
            save_again_ms: None,
            unacknowledged: None,
            fatal: None,
        };
        for problem in &shell.config.problems {
            log::error!("{problem}");
        }
        if restart {
            log::info!("taking over after a restart");
            let event = EventKind::Supervisor;
            shell.reporter.note(&mut shell.kernel, &event.to_string());
            shell.record(None, event);
        } else {
            shell.reporter.problems(&mut shell.kernel, &shell.config.problems);
        }
        takeover::take_over(&mut shell, stored, &saved)?;
        for unit in unreadable {
            // An unreadable file is out of date, even if a later supervisor can read it.
            shell.perform(Action::Persist { unit });
        }
        // The clock condition holds unless PID 1 had to set the clock itself.
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
    /// What makes it impossible to continue.
    pub fn run(mut self) -> Result<(), ShellError> {
        loop {
            self.turn()?;
        }
    }

    /// One turn of the loop: carries out what is due, waits once ([`Kernel::wait`]), and handles what
    /// has happened.
    ///
    /// # Errors
    /// What makes it impossible to continue.
    pub fn turn(&mut self) -> Result<(), ShellError> {
        self.drain_to_start();
        self.reporter.settle(&mut self.kernel, &self.core, &self.config);
        if let Some(error) = self.fatal.take() {
            return Err(error);
        }
        self.flush_outboxes();
        let timeout = if self.actions.is_empty() { self.timeout() } else { Some(0) };
        for (source, flags) in self.kernel.wait(timeout) {
            self.happened(source, flags)?;
        }
        self.check_draining();
        self.check_setups();
        self.check_held();
        self.attach_again();
        self.save_again();
        self.check_probes();
        self.go_down_if_due();
        if self.core.next_deadline().is_some_and(|due| due <= self.now()) {
            self.feed(Event::Tick);
        }
        Ok(())
    }

    /// The kernel that it runs on.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// The policy's view of the units.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The units' runs and descriptors.
    pub fn runs(&self) -> &Runs<K> {
        &self.runs
    }

    /// The units whose state could not be written.
    pub fn unsaved(&self) -> &BTreeSet<String> {
        &self.unsaved
    }

    /// What the policy has ordered and is not yet carried out.
    pub fn pending(&self) -> &VecDeque<Action> {
        &self.actions
    }

    pub(crate) fn now(&self) -> Instant {
        now(&self.kernel)
    }

    /// The time until something is due, milliseconds.
    fn timeout(&self) -> Option<u64> {
        let now = self.now();
        let core = self.core.next_deadline().map(|due| due.as_millis());
        let probes = self.runs.iter().filter_map(|(_, unit)| Some(unit.probe.as_ref()?.until_ms));
        let polls = !self.draining.is_empty() || !self.in_setup.is_empty() || !self.held.is_empty();
        let polls = polls.then(|| now.as_millis() + GROUP_POLL_MS);
        let stalled =
            self.to_init.is_stalled() || self.to_net.is_stalled() || self.api.is_stalled();
        let stalled = stalled || !self.unattached.is_empty();
        let stalled = stalled.then(|| now.as_millis() + RETRY_MS);
        let again = || self.save_again_ms.unwrap_or(now.as_millis() + SAVE_AGAIN_MS);
        let unsaved = (!self.unsaved.is_empty()).then(again);
        let settle = self.reporter.due_ms();
        let down = self.pending_shutdown.as_ref().map(|(due, _, _)| *due);
        let due = core
            .into_iter()
            .chain(probes)
            .chain(polls)
            .chain(stalled)
            .chain(unsaved)
            .chain(settle)
            .chain(down)
            .min()?;
        Some(due.saturating_sub(now.as_millis()))
    }

    /// Passes an event to the core and queues the actions that it orders.
    pub(crate) fn feed(&mut self, event: Event) {
        let now = self.now();
        self.actions.extend(self.core.handle(now, event));
    }

    /// Passes an event about a run to the core.
    pub(crate) fn feed_run(&mut self, unit: &str, generation: u64, event: RunEvent) {
        self.feed(Event::Run { unit: unit.to_owned(), generation, event });
    }

    /// Carries out all queued actions, in order.
    pub(crate) fn drain(&mut self) {
        while let Some(action) = self.actions.pop_front() {
            self.perform(action);
        }
    }

    /// Carries out queued actions up to and including the next start of a container, which takes
    /// longest: with many units to start, messages are handled in between.
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
            Source::Listener => self.control.accept(&mut self.kernel),
            Source::Connection(id) => self.serve(id, flags),
        }
        Ok(())
    }

    fn read_init(&mut self) -> Result<(), ShellError> {
        for _ in 0..MESSAGES_PER_TURN {
            match self.init.recv::<FromInit>() {
                Ok(None) => break,
                Ok(Some(received)) => self.init_says(received.message, received.fds),
                Err(error) if error.is_closed() => return Err(ShellError::Orphaned),
                Err(error) => log::warn!("PID 1: {error}"),
            }
        }
        Ok(())
    }

    fn init_says(&mut self, message: FromInit, fds: Fds<K>) {
        match message {
            FromInit::Exited { seq, pid, status, at_ms } => {
                self.exited(pid, status, at_ms);
                // Recorded means saved: only then may PID 1 forget this exit and all before it.
                self.drain();
                self.unacknowledged = Some(seq);
                self.save_unsaved();
            }
            FromInit::StopUnits { kind } => {
                log::info!("stopping all units ({kind:?})");
                self.feed(Event::ShutdownRequested);
            }
            FromInit::DataDisk(disk) => self.data_disk_is(disk),
            FromInit::Stored { key } if key == API_LINK => {
                if let Some(link) = fds.into_iter().next() {
                    self.api.connect(&mut self.kernel, link.into(), false);
                }
            }
            FromInit::Stored { .. } | FromInit::StoredEnd => drop(fds),
        }
    }

    /// Writes the states that could not be written, and acknowledges the exits that waited for it.
    fn save_unsaved(&mut self) {
        for unit in self.unsaved.clone() {
            self.perform(Action::Persist { unit });
        }
        if self.unsaved.is_empty()
            && let Some(seq) = self.unacknowledged.take()
        {
            self.tell_init(ToInit::AckExits { seq }, Vec::new());
        }
    }

    /// As [`Self::save_unsaved`], at intervals.
    fn save_again(&mut self) {
        let now = self.now().as_millis();
        if self.unsaved.is_empty() && self.unacknowledged.is_none() {
            self.save_again_ms = None;
        } else if self.save_again_ms.is_none_or(|due| due <= now) {
            self.save_unsaved();
            let still = !self.unsaved.is_empty();
            self.save_again_ms = still.then_some(now + SAVE_AGAIN_MS);
        }
    }

    fn read_net(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            match self.net.recv::<FromNet>() {
                Ok(None) => return,
                Ok(Some(received)) => self.net_says(received.message),
                // PID 1 keeps both ends: this one has been shut down, and would be reported forever.
                Err(error) if error.is_closed() => {
                    log::error!("netsetup: the link is broken");
                    return self.kernel.unwatch(&Source::Net, self.net.as_ref());
                }
                Err(error) => log::warn!("netsetup: {error}"),
            }
        }
    }

    /// Sends to PID 1, now or as soon as it takes it.
    pub(crate) fn tell_init(&mut self, message: ToInit, fds: Fds<K>) {
        if let Err(error) = self.to_init.send(&self.init, message, fds) {
            log::error!("PID 1: {error}");
        }
    }

    /// Sends to netsetup, now or as soon as it takes it.
    pub(crate) fn tell_net(&mut self, message: ToNet, fds: Fds<K>) {
        if let Err(error) = self.to_net.send(&self.net, message, fds) {
            log::error!("netsetup: {error}");
        }
    }

    /// Sends what waits, and watches the links as long as something does.
    fn flush_outboxes(&mut self) {
        let flags = |blocked| {
            if blocked { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN }
        };
        if let Err(error) = self.to_init.flush(&self.init) {
            log::error!("PID 1: {error}");
        }
        if let Err(error) = self.to_net.flush(&self.net) {
            log::error!("netsetup: {error}");
        }
        self.flush_api();
        let (init, net) = (flags(self.to_init.is_blocked()), flags(self.to_net.is_blocked()));
        let _ = self.kernel.rewatch(&Source::Init, self.init.as_ref(), init);
        let _ = self.kernel.rewatch(&Source::Net, self.net.as_ref(), net);
    }

    /// Asks PID 1 to shut the host down.
    pub(crate) fn request_shutdown(&mut self, kind: ShutdownKind, reason: String) {
        self.tell_init(ToInit::Shutdown { kind, reason }, Vec::new());
    }

    /// Keeps descriptors with PID 1.
    pub(crate) fn keep(&mut self, key: String, holder: Service, fds: Fds<K>) {
        self.tell_init(ToInit::Store { key, holder }, fds);
    }
}
