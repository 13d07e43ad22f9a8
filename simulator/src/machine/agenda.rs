//! The events to come, by time.

use super::Machine;
use crate::actors::container::Step;
use ipc::Service;

/// Something that happens at its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The next step of a container's process, by its key.
    Process(u64, Step),
    /// The next step of a process's death.
    Dying(u64),
    /// The notice of a cgroup's change.
    GroupNotice(String),
    /// One of Keelhost's processes, by its key, has something to do.
    Actor(Service, u64),
    /// A person acts.
    Person,
    /// A TCP connection is made or refused.
    Tcp(u64),
    /// One of Keelhost's processes is killed.
    Kill(Service),
    /// A signal for PID 1.
    Signal(i32),
    /// From here on nothing goes wrong any more.
    Calm,
}

impl Machine {
    /// Puts something on the agenda, `delay` microseconds from now.
    pub fn after(&mut self, delay: u64, event: Event) {
        self.last_event += 1;
        self.agenda.insert((self.now_us + delay, self.last_event), event);
    }

    /// When the next event is due.
    pub fn next_event(&self) -> Option<u64> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets the next event happen, if it is due.
    pub fn happen(&mut self) -> bool {
        let Some(entry) = self.agenda.first_entry() else { return false };
        if entry.key().0 > self.now_us {
            return false;
        }
        let event = entry.remove();
        match event {
            Event::Process(key, step) => self.container_step(key, step),
            Event::Dying(key) => self.dying(key),
            Event::GroupNotice(unit) => self.group_notice(&unit),
            Event::Actor(service, key) => self.actor_step(service, key),
            Event::Person => self.person_step(),
            Event::Tcp(number) => self.tcp_settles(number),
            Event::Kill(service) => self.kill_service(service),
            Event::Signal(signal) => self.pending_signals.push(signal),
            Event::Calm => self.calm_down(),
        }
        true
    }
}
