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
    /// At most `most` at a time.
    pub fn new(most: usize) -> Connections {
        Connections { most, last: Cell::new(0), all: RefCell::default() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.borrow().len()
    }

    /// Makes room for one more. Whoever is known stays; of those who have not said yet who they are,
    /// the one that has had the most time for it goes.
    pub fn make_room(&self) -> bool {
        if self.count() < self.most {
            return true;
        }
        let mut all = self.all.borrow_mut();
        let stranger = all.iter().find(|(_, one)| one.key.is_none()).map(|(id, _)| *id);
        let gone = stranger.and_then(|id| all.remove(&id));
        if let Some(gone) = &gone {
            gone.task.abort();
        }
        gone.is_some()
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

    /// This one belongs to somebody on the list.
    pub fn identify(&self, id: u64, key: &str) {
        if let Some(one) = self.all.borrow_mut().get_mut(&id) {
            one.key = Some(key.to_owned());
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
