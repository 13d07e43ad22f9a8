//! The supervisor's epoll set. As in epoll(7), a watch belongs to an open file description: it outlives
//! the descriptor as long as a duplicate exists, and continues to report.

use super::Machine;
use super::objects::{Id, Object};
use std::collections::BTreeMap;
use supervisor::kernel::{EpollFlags, Errno, Source};

/// One watched descriptor.
struct Watch {
    source: Source,
    object: Id,
    flags: EpollFlags,
    /// With EPOLLET: something has changed since it was last reported.
    edge: bool,
    /// The supervisor still knows it by its source.
    known: bool,
}

/// All watched descriptors, by number.
#[derive(Default)]
pub struct Watches(BTreeMap<u64, Watch>);

impl Watches {
    /// Something about an object has changed: whoever watches it for edges is to be told.
    pub(super) fn changed(&mut self, object: Id) {
        for watch in self.0.values_mut().filter(|watch| watch.object == object) {
            watch.edge = true;
        }
    }

    pub(super) fn forget_object(&mut self, object: Id) {
        self.0.retain(|_, watch| watch.object != object);
    }

    /// The supervisor has died, and its epoll set with it.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Watches a descriptor.
    ///
    /// # Errors
    /// EEXIST: it is watched already.
    pub fn add(
        &mut self,
        source: Source,
        number: u64,
        object: Id,
        flags: EpollFlags,
    ) -> Result<(), Errno> {
        if self.0.contains_key(&number) {
            return Err(Errno::EEXIST);
        }
        for watch in self.0.values_mut().filter(|watch| watch.source == source) {
            watch.known = false;
        }
        self.0.insert(number, Watch { source, object, flags, edge: true, known: true });
        Ok(())
    }

    /// Watches for other flags.
    ///
    /// # Errors
    /// ENOENT: the source is not watched.
    pub fn modify(&mut self, source: &Source, number: u64, flags: EpollFlags) -> Result<(), Errno> {
        let watch = self.0.get_mut(&number).filter(|watch| watch.known && watch.source == *source);
        let watch = watch.ok_or(Errno::ENOENT)?;
        watch.flags = flags;
        watch.edge = true;
        Ok(())
    }

    /// Watches a descriptor no longer.
    pub fn remove(&mut self, source: &Source, number: u64) {
        let known = self.0.iter().any(|(_, watch)| watch.known && watch.source == *source);
        if known {
            for watch in self.0.values_mut().filter(|watch| watch.source == *source) {
                watch.known = false;
            }
            self.0.remove(&number);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Machine {
    /// What an object is ready for.
    fn readiness(&self, id: Id) -> EpollFlags {
        let mut flags = EpollFlags::empty();
        match self.object(id) {
            Some(Object::Link(end)) => {
                flags.set(EpollFlags::EPOLLIN, self.link_readable(*end));
                flags.set(EpollFlags::EPOLLOUT, self.link_writable(*end));
                flags.set(EpollFlags::EPOLLHUP, self.link_hung_up(*end));
            }
            Some(Object::PipeReader(pipe)) => {
                let Some(pipe) = self.pipes.get(pipe) else { return flags };
                let full = !pipe.bytes.is_empty() || pipe.failure.is_some();
                flags.set(EpollFlags::EPOLLIN, full);
                flags.set(EpollFlags::EPOLLHUP, !pipe.writable);
            }
            Some(Object::Pidfd(key)) => {
                flags.set(EpollFlags::EPOLLIN, self.is_dead(*key));
            }
            Some(Object::GroupEvents(_)) => flags.set(EpollFlags::EPOLLPRI, true),
            Some(Object::Notify(unit)) => {
                let waiting = self.notices.get(unit).is_some_and(|queue| !queue.is_empty());
                flags.set(EpollFlags::EPOLLIN, waiting);
            }
            Some(Object::Listener) => flags.set(EpollFlags::EPOLLIN, self.connection_waits()),
            Some(Object::Connection(connection)) => flags |= self.connection_readiness(*connection),
            Some(Object::Tcp(number)) => flags |= self.tcp_readiness(*number),
            _ => {}
        }
        flags
    }

    /// What is ready, and whether a watch that the supervisor no longer knows is (epoll_wait(2)
    /// returns for that one too).
    pub fn ready(&self) -> (Vec<(u64, Source, EpollFlags)>, bool) {
        let mut found = Vec::new();
        let mut stale = false;
        for (number, watch) in &self.watches.0 {
            let always = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
            let ready = self.readiness(watch.object) & (watch.flags | always);
            let edge = watch.flags.contains(EpollFlags::EPOLLET);
            if ready.is_empty() || (edge && !watch.edge) {
                continue;
            }
            if watch.known {
                found.push((*number, watch.source.clone(), ready));
            } else {
                stale = true;
            }
        }
        (found, stale)
    }

    /// These have been reported: an edge is, until the next change, not reported again.
    pub fn reported(&mut self, numbers: &[u64]) {
        for number in numbers {
            if let Some(watch) = self.watches.0.get_mut(number) {
                watch.edge = false;
            }
        }
    }
}
