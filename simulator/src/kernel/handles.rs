//! Descriptors and links as PID 1 and the supervisor hold them.

use crate::machine::Machine;
use crate::machine::objects::{Id, Owner};
use crate::world::World;
use container::IdRange;
use ipc::{ChannelError, Link, Received};
use nix::errno::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// Whose calls these are, and where they go.
#[derive(Clone)]
pub struct Caller {
    pub(crate) machine: Rc<RefCell<Machine>>,
    pub(crate) world: Weak<World>,
    pub(crate) owner: Owner,
}

impl Caller {
    /// Makes a call. If the supervisor makes it, others may act before it, and the supervisor may be
    /// killed before and after it.
    pub fn call<T>(&self, name: &'static str, work: impl FnOnce(&mut Machine) -> T) -> T {
        let world = match self.owner {
            Owner::Supervisor => self.world.upgrade(),
            Owner::Init => None,
        };
        if let Some(world) = &world {
            world.before_call(name);
        }
        let result = work(&mut self.machine.borrow_mut());
        if let Some(world) = &world {
            world.after_call(name);
        }
        result
    }

    /// Makes a call that may fail with one of these errors.
    pub fn fallible<T>(
        &self,
        name: &'static str,
        errors: &[Errno],
        work: impl FnOnce(&mut Machine) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.call(name, |machine| match machine.fault(name, errors) {
            Some(errno) => Err(errno),
            None => work(machine),
        })
    }

    /// A descriptor for a reference that the caller of this function has.
    pub fn open(&self, machine: &mut Machine, id: Id) -> Opened {
        Opened { number: machine.open(self.owner, id), id }
    }

    /// The descriptor as a value.
    pub fn own(&self, opened: Opened) -> SimFd {
        SimFd { caller: self.clone(), number: opened.number, id: opened.id }
    }
}

/// A descriptor that is open and does not close itself yet.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    number: u64,
    id: Id,
}

/// A descriptor. Dropping it closes it.
pub struct SimFd {
    caller: Caller,
    pub(crate) number: u64,
    pub(crate) id: Id,
}

impl Drop for SimFd {
    fn drop(&mut self) {
        self.caller.machine.borrow_mut().close(self.number);
    }
}

/// One end of a link.
pub struct SimLink(SimFd);

impl From<SimFd> for SimLink {
    fn from(fd: SimFd) -> SimLink {
        SimLink(fd)
    }
}

impl From<SimLink> for SimFd {
    fn from(link: SimLink) -> SimFd {
        link.0
    }
}

impl AsRef<SimFd> for SimLink {
    fn as_ref(&self) -> &SimFd {
        &self.0
    }
}

impl Link for SimLink {
    type Fd = SimFd;

    fn send<M: Serialize>(&self, message: &M, fds: &[&SimFd]) -> Result<(), ChannelError> {
        let ids: Vec<Id> = fds.iter().map(|fd| fd.id).collect();
        let caller = &self.0.caller;
        let errors: &[Errno] = if ids.is_empty() {
            &[Errno::ENOBUFS, Errno::ENOMEM]
        } else {
            &[Errno::ENOBUFS, Errno::ENOMEM, Errno::ETOOMANYREFS]
        };
        caller.call("send", |machine| {
            let end = machine.end_of(self.0.id);
            let end = end.ok_or(ChannelError::Sys { call: "sendmsg", errno: Errno::EBADF })?;
            if let Some(errno) = machine.fault("sendmsg", errors) {
                return Err(ChannelError::Sys { call: "sendmsg", errno });
            }
            let done = machine.send(end, message, &ids);
            if machine.trace.wanted() {
                let text = serde_json::to_string(message).unwrap_or_default();
                let outcome = done.as_ref().err().map(|error| format!(": {error}"));
                let who = format!("{:?}", caller.owner).to_lowercase();
                machine.note(&who, || format!("send {text}{}", outcome.unwrap_or_default()));
            }
            done
        })
    }

    fn recv<M: DeserializeOwned>(&self) -> Result<Option<Received<M, SimFd>>, ChannelError> {
        let caller = &self.0.caller;
        let received = caller.call("recv", |machine| {
            let end = machine.end_of(self.0.id);
            let end = end.ok_or(ChannelError::Sys { call: "recvmsg", errno: Errno::EBADF })?;
            let received = machine.recv::<M>(end)?;
            Ok(received.map(|(message, ids)| {
                let opened: Vec<Opened> =
                    ids.into_iter().map(|id| caller.open(machine, id)).collect();
                (message, opened)
            }))
        })?;
        Ok(received.map(|(message, opened)| Received {
            message,
            fds: opened.into_iter().map(|opened| caller.own(opened)).collect(),
        }))
    }
}

/// A unit's cgroup, open.
pub struct SimGroup {
    pub(crate) unit: String,
    /// Held open, and nothing more.
    _fd: SimFd,
}

impl SimGroup {
    pub(crate) fn new(fd: SimFd, unit: &str) -> SimGroup {
        SimGroup { unit: unit.to_owned(), _fd: fd }
    }
}

/// A unit's user namespace, open.
pub struct SimUserNs {
    pub(crate) fd: SimFd,
    pub(crate) ids: IdRange,
}

impl SimUserNs {
    /// Its ids.
    pub fn ids(&self) -> IdRange {
        self.ids
    }

    /// Its descriptor.
    pub fn fd(&self) -> &SimFd {
        &self.fd
    }
}
