//! The policy's actions, carried out.

use crate::kernel::{CallError, EpollFlags, Errno, Kernel, NetNs, Source, StartRequest, Started};
use crate::running::notify;
use crate::running::plan;
use crate::running::runs::UnitNet;
use crate::shell::{Fds, Shell, ShellError};
use container::{IdRange, NetNsError};
use ipc::{Service, ToInit};
use layout::images::Image;
use layout::paths;
use policy::{Action, RunEvent};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use units::model::{NetworkMode, Ready, Unit, UserNamespace};

/// The result of an attempt to start a container.
enum Start<F> {
    /// It exists; before it, the OOM killer had killed this many in its group.
    Made(Started<F>, u64),
    /// PID 1 has not taken yet what it must keep.
    Waits,
}

impl<K: Kernel> Shell<K> {
    /// Carries out one action.
    pub(crate) fn perform(&mut self, action: Action) {
        match action {
            Action::Persist { unit } => self.persist(&unit),
            Action::Start { unit, generation } => self.start_unit(&unit, generation),
            Action::Signal { unit, generation, signal } => self.signal(&unit, generation, signal),
            Action::KillGroup { unit, generation } => self.kill_group(&unit, generation),
            Action::Cleanup { unit, generation } => self.clean_up(&unit, generation),
            Action::ProbeNow { unit, generation } => self.probe(&unit, generation),
            Action::Report { unit, report } => {
                self.reporter.report(&mut self.kernel, &unit, &report);
                self.record(Some(&unit), report);
            }
            Action::HostDown { unit, kind, reason } => {
                self.request_shutdown(kind, format!("{unit} has failed permanently: {reason}"));
            }
            Action::UnitsStopped => self.tell_init(ToInit::UnitsStopped, Vec::new()),
        }
    }

    fn persist(&mut self, unit: &str) {
        let Some(state) = self.core.saved(unit) else { return };
        self.persists += 1;
        let saved = match state.to_json() {
            Ok(text) => self.kernel.save_state(unit, &text).map_err(|error| error.to_string()),
            Err(error) => Err(format!("{unit}: its state: {error}")),
        };
        match saved {
            Ok(()) => drop(self.unsaved.remove(unit)),
            // /run is full or broken. Continuing is better than ending, but PID 1 keeps the exits until
            // they are saved (see `init_says`).
            Err(error) => {
                log::error!("{error}");
                self.unsaved.insert(unit.to_owned());
            }
        }
    }

    /// Saves a unit's state now, and not again for the same changes.
    fn save_now(&mut self, name: &str) {
        self.actions.retain(|action| !matches!(action, Action::Persist { unit } if unit == name));
        self.persist(name);
    }

    /// Saves a unit's state now if that is ordered.
    pub(crate) fn save_now_if_due(&mut self, name: &str) {
        let ordered = |action: &Action| matches!(action, Action::Persist { unit } if unit == name);
        if self.actions.iter().any(ordered) {
            self.save_now(name);
        }
    }

    /// Whether the end of a run that has not begun yet is ordered already.
    fn is_aborted(&self, name: &str, generation: u64) -> bool {
        self.actions.iter().any(|action| {
            matches!(action, Action::KillGroup { unit, generation: number }
                if unit == name && *number == generation)
        })
    }

    /// Whether nothing of an earlier run lives in a unit's group. If something does (the supervisor
    /// that knew of it was killed), it is killed, and the start waits.
    fn is_clear(&mut self, name: &str) -> Result<bool, String> {
        let unit = self.config.host.units.get(name).ok_or("the unit is gone")?.clone();
        let group = self.cgroup(&unit)?;
        let populated = self.kernel.populated(&group);
        if populated == Ok(true) {
            if !self.held.contains_key(name) {
                log::warn!("{name}: killing processes of an earlier run before the next");
            }
            self.kernel.kill_group(&group).map_err(|error| error.to_string())?;
        }
        populated.map(|populated| !populated).map_err(|error| error.to_string())
    }

    pub(crate) fn start_unit(&mut self, name: &str, generation: u64) {
        if self.is_aborted(name, generation) {
            self.held.remove(name);
            let reason = "the start was aborted".to_owned();
            return self.feed_run(name, generation, RunEvent::StartFailed { reason });
        }
        match self.is_clear(name) {
            Ok(true) => drop(self.held.remove_entry(name)),
            Ok(false) => {
                self.held.insert(name.to_owned(), generation);
                return;
            }
            Err(reason) => {
                self.held.remove(name);
                return self.feed_run(name, generation, RunEvent::StartFailed { reason });
            }
        }
        self.runs.of(name).timeline = api_types::Timeline {
            ordered_us: self.kernel.now_us(),
            exited_us: self.runs.of(name).timeline.exited_us,
            ..Default::default()
        };
        match self.spawn(name, generation) {
            Ok(Start::Waits) => {
                self.held.insert(name.to_owned(), generation);
            }
            Ok(Start::Made(started, oom_before)) => {
                let pid = started.pid;
                let source = Source::Setup(name.to_owned());
                let watch = self.kernel.watch(source, &started.status, EpollFlags::EPOLLIN);
                if let Err(error) = watch {
                    log::error!("{name}: {error}: polling");
                    self.in_setup.push((name.to_owned(), generation, pid));
                }
                self.runs.began(name, generation, started, oom_before);
                self.runs.of(name).timeline.cloned_us = self.kernel.now_us();
                self.feed_run(name, generation, RunEvent::Started { pid });
                // At once, before anything else: a successor that does not know the process could not
                // tell its exit from that of any other.
                self.save_now(name);
                self.let_go_if_attached(name);
            }
            Err(reason) => self.feed_run(name, generation, RunEvent::StartFailed { reason }),
        }
    }

    /// Creates everything that the container needs, and the container.
    fn spawn(&mut self, name: &str, generation: u64) -> Result<Start<K::Fd>, String> {
        let unit = self.config.host.units.get(name).ok_or("the unit is gone")?.clone();
        let reference = &unit.container.image;
        let image = self.config.images.images.get(reference);
        let image =
            image.ok_or_else(|| format!("image {reference} not found on this host"))?.clone();
        let process = plan::process(&unit, &image).map_err(|error| error.to_string())?;
        let filter = self.config.filters.of(name)?;
        let layers = self.mount_layers(&image)?;
        let cgroup = self.cgroup(&unit)?;
        self.confine_devices(&unit, &cgroup)?;
        let oom_before = self.kernel.oom_kills(&cgroup).map_err(|error| error.to_string())?;
        let oom_before = oom_before.unwrap_or(0);
        if oom_before > 0 {
            // For a supervisor that takes this run over. No note means 0.
            self.kernel.set_note(&cgroup, oom_before).map_err(|error| error.to_string())?;
        }
        self.namespaces(&unit)?;
        self.limit_io(&unit, &cgroup)?;
        if unit.ready == Ready::Notify {
            self.notify_socket(name)?;
        }
        let mounts = plan::mounts(&self.kernel, &unit, &image, &self.volumes_dir());
        let mounts = mounts.map_err(|error| error.to_string())?;
        let gateway = self.config.host.host.network.bridge.addr;
        self.runs.of(name).timeline.prepared_us = self.kernel.now_us();
        let Some([stdout, stderr]) = self.outputs(name, generation)? else {
            return Ok(Start::Waits);
        };
        let runtime = self.runs.get(name);
        let net = runtime.and_then(|runtime| runtime.net.as_ref());
        let request = StartRequest {
            files: plan::files(&unit, &self.config.addresses, gateway),
            unit: &unit,
            layers,
            process,
            mounts,
            filter: filter.as_deref(),
            group: &*cgroup,
            userns: runtime.and_then(|runtime| runtime.userns.as_ref()).map(|(ns, _)| ns),
            netns: net.map(|net| &net.ns),
            stdout: &stdout,
            stderr: &stderr,
            wait_for_go: unit.container.network == NetworkMode::Bridge,
        };
        let started = self.kernel.spawn(&request).map_err(|error| error.to_string())?;
        Ok(Start::Made(started, oom_before))
    }

    /// The ends of pipes that a container writes its output to, once PID 1 has the other ends or will
    /// receive them whatever happens to this process; `None`: PID 1 has not taken them yet. If the
    /// supervisor died with the only copies, the container's output would have no reader, and the
    /// container would die of SIGPIPE.
    fn outputs(&mut self, name: &str, generation: u64) -> Result<Option<[K::Fd; 2]>, String> {
        let kept = self.runs.of(name).outputs.take().filter(|(run, _)| *run == generation);
        let outputs = match kept {
            Some((_, outputs)) => outputs,
            None => {
                // The container's ends block, as programs expect of their standard output.
                let (out, stdout) = self.kernel.pipe().map_err(|error| error.to_string())?;
                let (err, stderr) = self.kernel.pipe().map_err(|error| error.to_string())?;
                // If no container is created, the logger finds the pipes at their end and drops them.
                let key = format!("log/{name}/{generation}");
                let keep = ToInit::Store { key, holder: Service::Logger };
                let sent = self.to_init.send(&self.init, keep, vec![out, err]);
                sent.map_err(|error| format!("log pipes: {error}"))?;
                [stdout, stderr]
            }
        };
        if self.to_init.is_empty() {
            return Ok(Some(outputs));
        }
        self.runs.of(name).outputs = Some((generation, outputs));
        Ok(None)
    }

    /// Mounts an image's layers that are not mounted yet; their mount points, highest first.
    fn mount_layers(&mut self, image: &Image) -> Result<Vec<PathBuf>, String> {
        let mut found = Vec::new();
        for layer in image.layers.iter().rev() {
            if !self.layers.contains(layer) {
                self.kernel.mount_layer(layer).map_err(|error| error.to_string())?;
                self.layers.insert(layer.clone());
            }
            found.push(self.kernel.layer_path(layer));
        }
        Ok(found)
    }

    /// Where named volumes are.
    pub(crate) fn volumes_dir(&self) -> PathBuf {
        match &self.data_disk.path {
            Some(path) => Path::new(path).join("volumes"),
            None => PathBuf::from(paths::RUN_VOLUMES),
        }
    }

    /// The unit's cgroup, created when it is first needed. It is kept over restarts: creating one costs
    /// more than emptying it.
    pub(crate) fn cgroup(&mut self, unit: &Unit) -> Result<Rc<K::Cgroup>, String> {
        if let Some(group) = &self.runs.of(&unit.name).cgroup {
            return Ok(Rc::clone(group));
        }
        let group = self.kernel.create_group(&unit.name, &plan::limits(unit));
        let group = Rc::new(group.map_err(|error| error.to_string())?);
        self.adopt_cgroup(&unit.name, Rc::clone(&group));
        Ok(group)
    }

    /// Adopts a unit's cgroup and watches it.
    pub(crate) fn adopt_cgroup(&mut self, unit: &str, group: Rc<K::Cgroup>) {
        match self.kernel.group_events(&group) {
            Ok(events) => {
                let flags = EpollFlags::EPOLLPRI | EpollFlags::EPOLLET;
                let source = Source::Group(unit.to_owned());
                if let Err(error) = self.kernel.watch(source, &events, flags) {
                    log::warn!("{unit}: cgroup.events: {error}");
                }
                self.runs.of(unit).group_events = Some(events);
            }
            Err(error) => log::warn!("{error}"),
        }
        self.runs.of(unit).cgroup = Some(group);
    }

    /// Adopts a unit's user namespace that PID 1 has kept.
    pub(crate) fn adopt_userns(&mut self, unit: &str, ns: K::Fd) {
        match self.config.ids(unit) {
            Some(ids) => {
                self.runs.of(unit).userns = Some((self.kernel.kept_userns(ns, ids), ids));
            }
            None => log::warn!("PID 1 keeps a user namespace for {unit}, which has none"),
        }
    }

    /// The unit's user and network namespaces, created when they are first needed and then kept.
    fn namespaces(&mut self, unit: &Unit) -> Result<(), String> {
        let container = &unit.container;
        let runtime = self.runs.of(&unit.name);
        let user = container.userns != UserNamespace::Host && runtime.userns.is_none();
        let network = container.network != NetworkMode::Host && runtime.net.is_none();
        let range = match user {
            true => Some(self.config.ids(&unit.name).ok_or("no user ids are left for it")?),
            false => None,
        };
        if network
            && container.network == NetworkMode::Bridge
            && self.config.net_request(unit).is_none()
        {
            return Err("the bridge's subnet has no address left for it".to_owned());
        }
        let (userns, net) = match (range, network) {
            (Some(range), true) => {
                let made = self.kernel.create_userns_and_netns(range);
                let (userns, net) = self.made(made)?;
                (Some((userns, range)), Some(net))
            }
            (Some(range), false) => {
                let userns = self.kernel.create_userns(range).map_err(|error| error.to_string())?;
                (Some((userns, range)), None)
            }
            (None, true) => {
                let userns = self.runs.of(&unit.name).userns.as_ref().map(|(ns, _)| ns);
                let made = self.kernel.create_netns(userns);
                (None, Some(self.made(made)?))
            }
            (None, false) => (None, None),
        };
        if let Some(userns) = userns {
            self.keep_userns(&unit.name, userns.0, userns.1)?;
        }
        if let Some(net) = net {
            self.keep_netns(&unit.name, net)?;
        }
        Ok(())
    }

    /// The result of creating a network namespace. If this process is lost in it, it ends.
    fn made<T>(&mut self, made: Result<T, NetNsError>) -> Result<T, String> {
        made.map_err(|error| {
            if matches!(error, NetNsError::Lost { .. }) {
                self.fail(ShellError::Lost(error.to_string()));
            }
            error.to_string()
        })
    }

    fn keep_userns(&mut self, unit: &str, userns: K::UserNs, ids: IdRange) -> Result<(), String> {
        let copy = self.kernel.duplicate_userns(&userns).map_err(|error| error.to_string())?;
        self.runs.of(unit).userns = Some((userns, ids));
        self.keep(format!("userns/{unit}"), Service::Supervisor, vec![copy]);
        Ok(())
    }

    fn keep_netns(&mut self, unit: &str, made: NetNs<K::Fd>) -> Result<(), String> {
        let copies = [&made.ns, &made.route_socket].map(|fd| self.kernel.duplicate(fd));
        let copies: Result<Fds<K>, _> = copies.into_iter().collect();
        let copies = copies.map_err(|error| error.to_string())?;
        let net =
            UnitNet { ns: made.ns, route_socket: made.route_socket, request: 0, attached: false };
        self.runs.of(unit).net = Some(net);
        self.keep(format!("netns/{unit}"), Service::Supervisor, copies);
        self.attach(unit);
        Ok(())
    }

    /// Limits the unit's I/O on the data disk, which may have been found since the last start.
    fn limit_io(&self, unit: &Unit, cgroup: &K::Cgroup) -> Result<(), String> {
        let (read, write) = (unit.limits.io_read, unit.limits.io_write);
        let Some(data) = self.data_disk.path.as_deref() else { return Ok(()) };
        if read.is_none() && write.is_none() {
            return Ok(());
        }
        self.kernel.limit_io(cgroup, data, read, write).map_err(|error| error.to_string())
    }

    fn notify_socket(&mut self, unit: &str) -> Result<(), String> {
        if let Some(socket) = &self.runs.of(unit).notify {
            // Messages of the last run do not apply to the next one. The last run has no process any
            // more, so this loop ends.
            while notify::peek(&self.kernel, socket).is_some() {
                self.kernel.drop_notice(socket);
            }
            return Ok(());
        }
        let socket = self.kernel.notify_socket(unit).map_err(|error| error.to_string())?;
        let copy = self.kernel.duplicate(&socket);
        let copy = copy.map_err(|error| format!("notify socket: {error}"))?;
        self.keep(format!("notify/{unit}"), Service::Supervisor, vec![copy]);
        self.adopt_notify(unit, socket).map_err(|error| format!("notify socket: {error}"))
    }

    /// Adopts a unit's notify socket and watches it.
    pub(crate) fn adopt_notify(&mut self, unit: &str, socket: K::Fd) -> Result<(), CallError> {
        self.kernel.watch(Source::Notify(unit.to_owned()), &socket, EpollFlags::EPOLLIN)?;
        self.runs.of(unit).notify = Some(socket);
        Ok(())
    }

    fn signal(&mut self, name: &str, generation: u64, signal: Option<i32>) {
        let signal = signal.unwrap_or_else(|| {
            let unit = self.config.host.units.get(name);
            plan::image_stop_signal(
                unit.and_then(|unit| self.config.images.images.get(&unit.container.image)),
            )
        });
        let Some(run) = self.runs.run(name, generation) else { return };
        if let Some(pidfd) = &run.pidfd {
            send_signal(&self.kernel, pidfd, signal);
        }
    }

    fn kill_group(&mut self, name: &str, generation: u64) {
        let runtime = self.runs.of(name);
        if let Some(group) = &runtime.cgroup
            && let Err(error) = self.kernel.kill_group(group)
        {
            log::error!("{error}");
        }
        if self.held.get(name) == Some(&generation) {
            self.held.remove(name);
            let reason = "the start was aborted".to_owned();
            return self.feed_run(name, generation, RunEvent::StartFailed { reason });
        }
        // A start that does not wait is complete before the next action begins: a run that is not known
        // here has no process.
        let known = runtime.run.as_ref().is_some_and(|run| run.generation == generation);
        if known {
            self.draining.insert(name.to_owned());
        }
    }

    fn clean_up(&mut self, name: &str, generation: u64) {
        self.end_probe(name);
        let runtime = self.runs.of(name);
        if runtime.run.as_ref().is_some_and(|run| run.generation == generation)
            && let Some(Some(status)) = runtime.run.take().map(|run| run.status)
        {
            self.kernel.unwatch(&Source::Setup(name.to_owned()), &status);
        }
        runtime.outputs = None;
        self.draining.remove(name);
    }
}

/// Sends a signal to the process of a pidfd. It is not an error if the process has ended: PID 1 reports
/// its exit.
pub(crate) fn send_signal<K: Kernel>(kernel: &K, pidfd: &K::Fd, signal: i32) {
    if let Err(errno) = kernel.signal(pidfd, signal)
        && errno != Errno::ESRCH
    {
        log::error!("pidfd_send_signal: {errno}");
    }
}
