//! Descriptors and the objects they refer to.
//!
//! An object (an end of a pipe, a pidfd, a namespace …) exists as long as something refers to it: a
//! descriptor of PID 1 or the supervisor, a message in a queue, or a scripted process. The number of a
//! descriptor is never reused, and each belongs to a process, so that those of a killed process can be
//! closed at once, and counted at any time.

use super::Machine;
use super::links::End;
use std::collections::BTreeMap;

/// Names an object. Never used twice.
pub type Id = u64;

/// Whose descriptor it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// PID 1.
    Init,
    /// The supervisor that runs now.
    Supervisor,
}

/// What descriptors refer to.
#[derive(Debug, Clone)]
pub enum Object {
    /// One end of a link.
    Link(End),
    /// The end of a pipe to read from.
    PipeReader(u64),
    /// The end of a pipe to write to.
    PipeWriter(u64),
    /// A process, by its key.
    Pidfd(u64),
    /// A unit's cgroup.
    Group(String),
    /// The `cgroup.events` of a unit's cgroup.
    GroupEvents(String),
    /// A network namespace.
    NetNs(u64),
    /// A route socket inside a network namespace.
    RouteSocket(u64),
    /// A user namespace.
    UserNs(u64),
    /// A unit's notify socket.
    Notify(String),
    /// The listening control socket.
    Listener,
    /// A connection of the control socket.
    Connection(u64),
    /// A TCP connection that is being made, by its number.
    Tcp(u64),
    /// Something that is only held: a file in memory, a terminal.
    Other,
}

struct Entry {
    object: Object,
    references: u32,
}

/// All objects and all descriptors.
#[derive(Default)]
pub struct Objects {
    entries: BTreeMap<Id, Entry>,
    descriptors: BTreeMap<u64, (Owner, Id)>,
    last: u64,
}

impl Machine {
    /// A new object with one reference, which belongs to the caller.
    pub fn make(&mut self, object: Object) -> Id {
        self.objects.last += 1;
        let id = self.objects.last;
        self.objects.entries.insert(id, Entry { object, references: 1 });
        id
    }

    /// What an object is.
    pub fn object(&self, id: Id) -> Option<&Object> {
        self.objects.entries.get(&id).map(|entry| &entry.object)
    }

    /// One more reference to an object.
    pub fn refer(&mut self, id: Id) -> Id {
        if let Some(entry) = self.objects.entries.get_mut(&id) {
            entry.references += 1;
        }
        id
    }

    /// Drops a reference; the last one closes the object.
    pub fn release(&mut self, id: Id) {
        let Some(entry) = self.objects.entries.get_mut(&id) else { return };
        entry.references -= 1;
        if entry.references > 0 {
            return;
        }
        let Some(entry) = self.objects.entries.remove(&id) else { return };
        self.watches.forget_object(id);
        match entry.object {
            Object::Link(end) => self.close_end(end),
            Object::PipeReader(pipe) => self.close_reader(pipe),
            Object::PipeWriter(pipe) => self.close_writer(pipe),
            Object::Listener => self.close_listener(),
            Object::Connection(connection) => self.close_connection(connection),
            _ => {}
        }
    }

    /// A descriptor for a reference that the caller has; the reference is the descriptor's now.
    pub fn open(&mut self, owner: Owner, id: Id) -> u64 {
        self.objects.last += 1;
        let number = self.objects.last;
        self.objects.descriptors.insert(number, (owner, id));
        number
    }

    /// Closes a descriptor. One that its process's death has closed is closed already.
    pub fn close(&mut self, number: u64) {
        if let Some((_, id)) = self.objects.descriptors.remove(&number) {
            self.release(id);
        }
    }

    /// Closes all descriptors of a process that has died.
    pub fn close_all(&mut self, owner: Owner) {
        let numbers: Vec<u64> = self
            .objects
            .descriptors
            .iter()
            .filter(|(_, (of, _))| *of == owner)
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.close(number);
        }
    }

    /// How many descriptors a process has.
    pub fn open_count(&self, owner: Owner) -> usize {
        self.objects.descriptors.values().filter(|(of, _)| *of == owner).count()
    }

    /// What the descriptors of a process refer to, for the report of a leak.
    pub fn open_objects(&self, owner: Owner) -> Vec<String> {
        let ids = self.objects.descriptors.values().filter(|(of, _)| *of == owner);
        ids.map(|(_, id)| match self.object(*id) {
            Some(object) => format!("{object:?}"),
            None => "closed".to_owned(),
        })
        .collect()
    }
}

impl Machine {
    /// The objects of a kind.
    pub(super) fn objects_where(&self, is: impl Fn(&Object) -> bool) -> Vec<Id> {
        let found = self.objects.entries.iter().filter(|(_, entry)| is(&entry.object));
        found.map(|(id, _)| *id).collect()
    }
}

impl Machine {
    /// The sockets of a kind that exist.
    pub fn sockets_where(&self, is: impl Fn(&Object) -> bool) -> Vec<Id> {
        self.objects_where(is)
    }
}
