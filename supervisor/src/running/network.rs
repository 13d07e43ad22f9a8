//! The supervisor's side of the network: which namespace is attached, which conditions hold.

use crate::kernel::Kernel;
use crate::shell::Shell;
use ipc::{DataDisk, FromNet, Network, ToNet};
use policy::{Event, RunEvent};
use units::model::{Condition, NetworkMode, VolumeSource};

impl<K: Kernel> Shell<K> {
    /// Asks netsetup to give a unit's namespace its place on the bridge.
    pub(crate) fn attach(&mut self, name: &str) {
        let Some(unit) = self.config.host.units.get(name) else { return };
        if unit.container.network != NetworkMode::Bridge {
            return;
        }
        // A start without an address has failed earlier.
        let Some(request) = self.config.net_request(unit) else { return };
        let number = self.requests.max(self.kernel.now_us()) + 1;
        let Some(net) = self.runs.of(name).net.as_mut() else { return };
        let fds = [&net.ns, &net.route_socket].map(|fd| self.kernel.duplicate(fd));
        match fds.into_iter().collect() {
            Ok(fds) => {
                net.request = number;
                self.requests = number;
                self.tell_net(ToNet::Attach { unit: request, request: number }, fds);
            }
            Err(error) => {
                log::error!("{name}: {error}");
                self.unattached.insert(name.to_owned());
            }
        }
    }

    /// Requests again the attachments that could not be requested.
    pub(crate) fn attach_again(&mut self) {
        for name in std::mem::take(&mut self.unattached) {
            self.attach(&name);
        }
    }

    /// Lets a container's program start if its network is attached.
    pub(crate) fn let_go_if_attached(&mut self, name: &str) {
        let runtime = self.runs.of(name);
        if !runtime.net.as_ref().is_some_and(|net| net.attached) {
            return;
        }
        let Some(go) = runtime.run.as_mut().and_then(|run| run.go.take()) else { return };
        runtime.timeline.attached_us = self.kernel.now_us();
        // One byte into an empty pipe does not block; a child that is gone has left an exit behind.
        let _ = self.kernel.write(&go, b"g");
    }

    /// Handles a message of netsetup's.
    pub(crate) fn net_says(&mut self, message: FromNet) {
        match message {
            FromNet::Hello => {
                let names: Vec<String> = self.runs.iter().map(|(name, _)| name.clone()).collect();
                for name in names {
                    self.attach(&name);
                }
                let ports = self.config.published();
                self.tell_net(ToNet::Ports { units: ports }, Vec::new());
            }
            FromNet::Attached { unit, request } => {
                if self.is_current(&unit, request)
                    && let Some(net) = self.runs.of(&unit).net.as_mut()
                {
                    net.attached = true;
                    self.let_go_if_attached(&unit);
                }
            }
            FromNet::AttachFailed { unit, request, reason } => {
                if self.is_current(&unit, request) {
                    self.attach_failed(&unit, &reason);
                }
            }
            FromNet::PortsFailed { reason } => {
                log::error!("published ports: {reason}");
                let text = format!("published ports are not available: {reason}");
                self.reporter.note(&mut self.kernel, &text);
            }
            FromNet::State(state) => self.net_state_is(state),
        }
    }

    /// Whether an answer is about the namespace that a unit has now.
    fn is_current(&self, unit: &str, request: u64) -> bool {
        let net = self.runs.get(unit).and_then(|runtime| runtime.net.as_ref());
        net.is_some_and(|net| net.request == request)
    }

    /// A run that waits for its network has failed; the next attempt asks again.
    fn attach_failed(&mut self, unit: &str, reason: &str) {
        log::error!("{unit}: network: {reason}");
        let runtime = self.runs.of(unit);
        // A new namespace next time, whether a run waits for this one or not: it may be half set up,
        // and its attachment would never be requested again.
        runtime.net = None;
        let waiting = runtime.run.as_mut().filter(|run| run.go.is_some()).map(|run| {
            // Closing it ends the child.
            run.go = None;
            run.generation
        });
        self.tell_init(ipc::ToInit::Drop { key: format!("netns/{unit}") }, Vec::new());
        let Some(generation) = waiting else { return };
        self.feed_run(
            unit,
            generation,
            RunEvent::StartFailed { reason: format!("network: {reason}") },
        );
    }

    fn net_state_is(&mut self, state: Network) {
        let conditions = [
            (Condition::NetAddr, !state.addresses.is_empty()),
            (Condition::NetRoute, state.gateway.is_some()),
            (Condition::Dns, !state.dns.is_empty()),
        ];
        self.reporter.network(&mut self.kernel, &self.net_state, &state);
        self.net_state = state;
        for (condition, holds) in conditions {
            self.feed(Event::ConditionChanged { condition, holds });
        }
    }

    /// The data disk was found, or will not be.
    pub(crate) fn data_disk_is(&mut self, disk: DataDisk) {
        if disk == self.data_disk {
            return;
        }
        self.reporter.data_disk(&mut self.kernel, &disk);
        let usable = !disk.pending;
        self.data_disk = disk;
        let volumes: std::collections::BTreeSet<String> = self
            .config
            .host
            .units
            .values()
            .flat_map(|unit| &unit.container.volumes)
            .filter_map(|volume| match &volume.source {
                VolumeSource::Named(name) => Some(name.clone()),
                VolumeSource::HostPath(_) => None,
            })
            .collect();
        for name in volumes {
            self.feed(Event::ConditionChanged {
                condition: Condition::Volume(name),
                holds: usable,
            });
        }
    }
}
