//! epoll(7), with each descriptor identified by its role.

use crate::kernel::Source;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::os::fd::AsFd;

/// The role of a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Watched {
    /// One of the supervisor's.
    Source(Source),
    /// The console, until it accepts output again.
    Console,
}

/// The watched descriptors.
pub struct Poller {
    epoll: Epoll,
    sources: HashMap<u64, Watched>,
    tokens: HashMap<Watched, u64>,
    next: u64,
}

impl Poller {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// epoll_create1(2)'s.
    pub fn new() -> Result<Poller, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Poller { epoll, sources: HashMap::new(), tokens: HashMap::new(), next: 0 })
    }

    /// Watches a descriptor for `flags` from now on. A source is watched once: adding it again
    /// replaces the earlier watch (the old descriptor must be closed or removed).
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn add(&mut self, source: Watched, fd: impl AsFd, flags: EpollFlags) -> Result<(), Errno> {
        self.next += 1;
        self.epoll.add(fd, EpollEvent::new(flags, self.next))?;
        if let Some(old) = self.tokens.insert(source.clone(), self.next) {
            self.sources.remove(&old);
        }
        self.sources.insert(self.next, source);
        Ok(())
    }

    /// Watches for other flags.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn change(
        &mut self,
        source: &Watched,
        fd: impl AsFd,
        flags: EpollFlags,
    ) -> Result<(), Errno> {
        let Some(token) = self.tokens.get(source) else { return Err(Errno::ENOENT) };
        self.epoll.modify(fd, &mut EpollEvent::new(flags, *token))
    }

    /// Stops watching a descriptor. Call this before closing it, because another process (PID 1's
    /// store) may hold a duplicate that would keep it in the set.
    pub fn remove(&mut self, source: &Watched, fd: impl AsFd) {
        if let Some(token) = self.tokens.remove(source) {
            self.sources.remove(&token);
            // It may already have been removed.
            let _ = self.epoll.delete(fd);
        }
    }

    /// What is ready within `timeout_ms` (`None`: without limit), at most 64 at once.
    pub fn wait(&self, timeout_ms: Option<u64>) -> Vec<(Watched, EpollFlags)> {
        let timeout = match timeout_ms {
            None => EpollTimeout::NONE,
            Some(ms) => EpollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX))
                .unwrap_or(EpollTimeout::ZERO),
        };
        let mut events = [EpollEvent::empty(); 64];
        // An interrupted wait counts as a wait without events.
        let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
        events
            .iter()
            .take(count)
            .filter_map(|event| Some((self.sources.get(&event.data())?.clone(), event.events())))
            .collect()
    }
}
