//! Everything that is connected, so that there is never too much of it and so that a key that is
//! taken off the list is gone at once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use tokio::task::AbortHandle;

/// See the module.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    /// Of those that have not said who they are.
    most_strangers: usize,
    last: Cell<u64>,
    /// By age.
    all: RefCell<BTreeMap<u64, Connection>>,
}

#[derive(Debug)]
struct Connection {
    /// Whose it is, once that is proved and they are on the list.
    key: Option<String>,
    task: AbortHandle,
}

impl Connections {
    /// At most `most` known ones at a time, and beside them `strangers`.
    pub fn new(most: usize, strangers: usize) -> Connections {
        let (most_strangers, last) = (strangers, Cell::new(0));
        Connections { most, most_strangers, last, all: RefCell::default() }
    }

    /// Makes room for one more stranger: the one that has had the most time to say who it is goes.
    pub fn make_room(&self) {
        let mut all = self.all.borrow_mut();
        let strangers = || all.iter().filter(|(_, one)| one.key.is_none());
        if strangers().count() >= self.most_strangers
            && let Some(oldest) = strangers().map(|(id, _)| *id).next()
            && let Some(gone) = all.remove(&oldest)
        {
            gone.task.abort();
        }
    }

    /// Runs a connection until it ends or is closed. It gets a number to say who it is by.
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

    /// This one belongs to somebody on the list. If there are too many now, the oldest goes of whoever
    /// has the most: one key cannot lock the others out.
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

    /// Closes those of the known ones for whose key `gone` is true.
    pub fn close(&self, gone: impl Fn(&str) -> bool) {
        for one in self.all.borrow().values() {
            if one.key.as_deref().is_some_and(&gone) {
                one.task.abort();
            }
        }
    }
}

/// Takes a connection off the list at its end, however that comes.
struct Leave {
    connections: Rc<Connections>,
    id: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.connections.all.borrow_mut().remove(&self.id);
    }
}
