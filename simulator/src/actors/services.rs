//! netsetup, logger and devices: simple peers that talk to PID 1 and to the supervisor as the real
//! ones do, only more slowly, less reliably and without a network.

use crate::machine::Machine;
use crate::machine::agenda::Event;
use crate::machine::links::End;
use crate::machine::objects::{Id, Object};
use crate::machine::processes::Role;
use ipc::{DataDisk, ExitStatus, FromInit, FromNet, Network, Service, ToInit, ToNet};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, VecDeque};

/// What a scripted process knows.
#[derive(Debug, Default)]
pub struct Actor {
    /// Its end of the link to PID 1.
    pub init: Option<End>,
    /// netsetup's end of the link to the supervisor.
    pub net: Option<End>,
    /// It has begun its work.
    begun: bool,
    /// It does nothing until it is killed.
    hangs: bool,
    /// netsetup: namespaces to be attached, and when.
    attaching: Vec<(u64, String, u64, [Id; 2])>,
    /// netsetup: what the supervisor has not taken yet.
    outbox: VecDeque<FromNet>,
    /// logger: the pipes that it reads, by key.
    pipes: BTreeMap<String, Vec<Id>>,
    /// What PID 1 has not taken yet.
    to_init: VecDeque<ToInit>,
}

impl Machine {
    /// PID 1 has started one of its processes, which has references to its links.
    pub fn service_started(&mut self, service: Service, link: Id, partner: Option<Id>) -> i32 {
        let key = self.new_process(Role::Service(service), 1, None);
        let pid = self.processes.get(&key).map_or(0, |process| process.pid);
        self.note("init", || format!("starts {service:?} as {pid}"));
        if service == Service::Supervisor {
            self.supervisor_to_be_killed = false;
            let boot_at = self.now_us + self.rng.latency(4_000, 300_000);
            let net = partner.unwrap_or_default();
            self.supervisor =
                Some(super::super::machine::SupervisorLife { key, init: link, net, boot_at });
            return pid;
        }
        if let Some(process) = self.processes.get_mut(&key) {
            process.holds = [Some(link), partner].into_iter().flatten().collect();
        }
        let mut actor = Actor { init: self.end_of(link), ..Actor::default() };
        actor.net = partner.and_then(|id| self.end_of(id));
        self.actors.insert(key, actor);
        for id in [Some(link), partner].into_iter().flatten() {
            self.actor_objects.insert(id, (service, key));
        }
        let delay = self.rng.latency(4_000, 500_000);
        self.wake_actor(service, key, delay);
        pid
    }

    /// SIGTERM for one of PID 1's processes.
    pub fn terminate_service(&mut self, key: u64, signal: Signal) {
        let Some(process) = self.processes.get(&key) else { return };
        if process.role == Role::Service(Service::Supervisor) {
            // It has no handler.
            self.supervisor_to_be_killed = true;
            return;
        }
        let status = ExitStatus::Signal(signal as i32);
        let delay = self.rng.latency(1_000, 3_000_000);
        let step = crate::actors::container::Step::End(status);
        self.after(delay, Event::Process(key, step));
    }

    /// A scripted process acts.
    pub fn actor_step(&mut self, service: Service, key: u64) {
        self.actor_awake(key);
        if !self.is_alive(key) {
            return;
        }
        let Some(mut actor) = self.actors.remove(&key) else { return };
        if !actor.hangs {
            self.read_init(service, key, &mut actor);
            match service {
                Service::Netsetup => self.netsetup(key, &mut actor),
                Service::Logger => self.logger(&mut actor),
                Service::Devices => self.devices(&mut actor),
                Service::Supervisor | Service::Api => {}
            }
            self.flush_actor(service, key, &mut actor);
        }
        self.actors.insert(key, actor);
    }

    fn read_init(&mut self, service: Service, key: u64, actor: &mut Actor) {
        if !actor.begun {
            actor.to_init.push_back(ToInit::Ready);
        }
        let Some(init) = actor.init else { return };
        while let Ok(Some((message, ids))) = self.recv::<FromInit>(init) {
            match message {
                FromInit::Stored { key: name } if service == Service::Logger => {
                    for id in &ids {
                        self.actor_objects.insert(*id, (service, key));
                    }
                    // The process has them now, and its death closes them.
                    if let Some(process) = self.processes.get_mut(&key) {
                        process.holds.extend(&ids);
                    }
                    actor.pipes.insert(name, ids);
                }
                _ => ids.into_iter().for_each(|id| self.release(id)),
            }
        }
    }

    fn netsetup(&mut self, key: u64, actor: &mut Actor) {
        let Some(net) = actor.net else { return };
        if !std::mem::replace(&mut actor.begun, true) {
            if !self.calm && self.rng.percent(self.options.hang_percent) {
                actor.hangs = true;
                let delay = self.rng.between(500_000, 15_000_000);
                self.after(delay, Event::Kill(Service::Netsetup));
                return;
            }
            actor.outbox.push_back(FromNet::Hello);
            actor.outbox.push_back(FromNet::State(network_state()));
        }
        while let Ok(Some((message, ids))) = self.recv::<ToNet>(net) {
            match (message, ids.as_slice()) {
                (ToNet::Attach { unit, request }, [ns, socket]) => {
                    let delay = match self.options.attach_us {
                        _ if self.is_attached(*ns) => 0,
                        Some(delay) => delay,
                        None => self.rng.latency(5_000, 6_000_000),
                    };
                    let due = self.now_us + delay;
                    if let Some(process) = self.processes.get_mut(&key) {
                        process.holds.extend(&ids);
                    }
                    actor.attaching.push((due, unit.unit, request, [*ns, *socket]));
                    // Not through `wake_actor`: an earlier wake-up may be due before this is.
                    self.after(delay, Event::Actor(Service::Netsetup, key));
                }
                (ToNet::Ports { .. }, _) => {
                    actor.outbox.push_back(FromNet::State(network_state()));
                }
                _ => ids.into_iter().for_each(|id| self.release(id)),
            }
        }
        let now = self.now_us;
        for (_, unit, request, [ns, socket]) in
            actor.attaching.extract_if(.., |(due, ..)| *due <= now)
        {
            let Some(Object::NetNs(number)) = self.object(ns).cloned() else { continue };
            if !self.calm && self.rng.percent(self.options.attach_fails_percent) {
                let reason = "simulated".to_owned();
                actor.outbox.push_back(FromNet::AttachFailed { unit, request, reason });
            } else {
                self.attached.insert(number);
                actor.outbox.push_back(FromNet::Attached { unit, request });
            }
            self.forget(key, &[ns, socket]);
        }
    }

    fn is_attached(&self, ns: Id) -> bool {
        matches!(self.object(ns), Some(Object::NetNs(number)) if self.attached.contains(number))
    }

    /// A scripted process closes descriptors.
    fn forget(&mut self, key: u64, ids: &[Id]) {
        if let Some(process) = self.processes.get_mut(&key) {
            for id in ids {
                if let Some(at) = process.holds.iter().position(|held| held == id) {
                    process.holds.swap_remove(at);
                }
            }
        }
        for id in ids {
            self.actor_objects.remove(id);
            self.release(*id);
        }
    }

    /// Holds the pipes of the containers' output until they are at their end.
    fn logger(&mut self, actor: &mut Actor) {
        actor.begun = true;
        let names: Vec<String> = actor.pipes.keys().cloned().collect();
        for name in names {
            let ids = actor.pipes.get(&name).cloned().unwrap_or_default();
            let ended = |machine: &mut Machine, id: Id| {
                machine.pipe_of(id).is_none_or(|pipe| !pipe.writable)
            };
            if ids.iter().all(|id| ended(self, *id)) {
                let key =
                    ids.first().and_then(|id| self.actor_objects.get(id)).map(|(_, key)| *key);
                self.forget(key.unwrap_or_default(), &ids);
                actor.pipes.remove(&name);
                actor.to_init.push_back(ToInit::Drop { key: name });
            }
        }
    }

    fn devices(&mut self, actor: &mut Actor) {
        if !std::mem::replace(&mut actor.begun, true) {
            let reason = "simulated: volumes live in memory".to_owned();
            let disk = DataDisk { path: None, reason, pending: false };
            actor.to_init.push_back(ToInit::DataDisk(disk));
        }
    }

    fn flush_actor(&mut self, service: Service, key: u64, actor: &mut Actor) {
        let mut waits = false;
        if let Some(init) = actor.init {
            while let Some(message) = actor.to_init.front() {
                if self.send(init, message, &[]).is_err() {
                    waits = true;
                    break;
                }
                let who = format!("{service:?}").to_lowercase();
                self.note(&who, || format!("send {message:?}"));
                actor.to_init.pop_front();
            }
        }
        if let Some(net) = actor.net {
            while let Some(message) = actor.outbox.front() {
                if self.send(net, message, &[]).is_err() {
                    waits = true;
                    break;
                }
                self.note("netsetup", || format!("send {message:?}"));
                actor.outbox.pop_front();
            }
        }
        if waits {
            self.wake_actor(service, key, 20_000);
        }
    }
}

fn network_state() -> Network {
    Network {
        addresses: vec![("eth0".to_owned(), "10.0.2.15/24".to_owned())],
        gateway: Some(std::net::Ipv4Addr::new(10, 0, 2, 2).into()),
        dns: vec![std::net::Ipv4Addr::new(10, 0, 2, 3).into()],
        waiting: Vec::new(),
    }
}
