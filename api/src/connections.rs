//! All connections, to limit their number and to close those of a key that is removed from the list.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use tokio::task::AbortHandle;

/// All connections.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    /// Of those that have not authenticated.
    most_unauthenticated: usize,
    last: Cell<u64>,
    /// By age.
    all: RefCell<BTreeMap<u64, Connection>>,
}

#[derive(Debug)]
struct Connection {
    /// The client's key, once it is proved and if it is listed.
    key: Option<String>,
    task: AbortHandle,
}

impl Connections {
    /// At most `most` connections of listed clients, plus `unauthenticated` others.
    pub fn new(most: usize, unauthenticated: usize) -> Connections {
        let (most_unauthenticated, last) = (unauthenticated, Cell::new(0));
        Connections { most, most_unauthenticated, last, all: RefCell::default() }
    }

    /// Before a new connection: if too many have not authenticated, closes the oldest of these.
    pub fn evict_unauthenticated(&self) {
        let mut all = self.all.borrow_mut();
        let waiting = || all.iter().filter(|(_, one)| one.key.is_none());
        if waiting().count() >= self.most_unauthenticated
            && let Some(oldest) = waiting().map(|(id, _)| *id).next()
            && let Some(gone) = all.remove(&oldest)
        {
            gone.task.abort();
        }
    }

    /// Runs a connection until it ends or is closed. It receives its number for [`Self::identify`].
    pub fn spawn<F>(self: &Rc<Self>, run: impl FnOnce(u64) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        let id = self.last.get().wrapping_add(1);
        self.last.set(id);
        let (leave, run) = (Leave { connections: self.clone(), id }, run(id));
        let task = tokio::task::spawn_local(async move {
            let _leave = leave;
            run.await;
        });
        self.all.borrow_mut().insert(id, Connection { key: None, task: task.abort_handle() });
    }

    /// The connection has authenticated as a listed client. If there are too many, the oldest of the
    /// client with the most is closed, so that one client cannot lock the others out.
    pub fn identify(&self, id: u64, key: &str) {
        let mut all = self.all.borrow_mut();
        if let Some(one) = all.get_mut(&id) {
            one.key = Some(key.to_owned());
        }
        let known = || all.values().filter_map(|one| one.key.as_deref());
        if known().count() <= self.most {
            return;
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for key in known() {
            *counts.entry(key).or_default() += 1;
        }
        let greedy = counts.into_iter().max_by_key(|(_, count)| *count).map(|(key, _)| key);
        let oldest = all.iter().find(|(_, one)| one.key.as_deref() == greedy).map(|(id, _)| *id);
        if let Some(gone) = oldest.and_then(|id| all.remove(&id)) {
            gone.task.abort();
        }
    }

    /// Closes the authenticated connections for whose key `gone` is true.
    pub fn close(&self, gone: impl Fn(&str) -> bool) {
        for one in self.all.borrow().values() {
            if one.key.as_deref().is_some_and(&gone) {
                one.task.abort();
            }
        }
    }
}

/// Removes a connection from the list when it ends, in whatever way.
struct Leave {
    connections: Rc<Connections>,
    id: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.connections.all.borrow_mut().remove(&self.id);
    }
}
