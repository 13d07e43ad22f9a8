//! Descriptors that must outlive the processes that use them.
//!
//! When the only reader of a pipe dies, the pipe is broken; when the owner of a listening socket dies,
//! connections are refused. PID 1 keeps a copy of each and gives it to the successor.

use ipc::Service;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Most keys kept at once: for a thousand units with several keys each.
pub const MAX_KEYS: usize = 8192;

/// The store. Entries are shared with messages that wait to be delivered.
pub struct FdStore<F = OwnedFd> {
    entries: BTreeMap<String, (Service, Rc<[F]>)>,
}

impl<F> Default for FdStore<F> {
    fn default() -> FdStore<F> {
        FdStore { entries: BTreeMap::new() }
    }
}

impl<F> FdStore<F> {
    /// Keeps `fds` for `holder` under `key`; what was there before is closed.
    ///
    /// # Errors
    /// The store is full: the descriptors are closed, nothing else changes.
    pub fn store(
        &mut self,
        key: String,
        holder: Service,
        fds: Vec<F>,
    ) -> Result<Rc<[F]>, StoreFull> {
        if self.entries.len() >= MAX_KEYS && !self.entries.contains_key(&key) {
            return Err(StoreFull { key });
        }
        let fds: Rc<[F]> = Rc::from(fds);
        self.entries.insert(key, (holder, Rc::clone(&fds)));
        Ok(fds)
    }

    /// Closes what is kept under `key`, if it is kept for `by` or `by` is the supervisor, which stored
    /// it. An unknown key changes nothing.
    pub fn remove(&mut self, key: &str, by: Service) {
        let may = |(holder, _): &(Service, _)| by == Service::Supervisor || *holder == by;
        if self.entries.get(key).is_some_and(may) {
            self.entries.remove(key);
        }
    }

    /// Everything kept for one process, by key.
    pub fn of(&self, holder: Service) -> impl Iterator<Item = (&String, &Rc<[F]>)> {
        self.entries
            .iter()
            .filter(move |(_, (owner, _))| *owner == holder)
            .map(|(key, (_, fds))| (key, fds))
    }
}

/// The store holds [`MAX_KEYS`] keys already.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep {key}: the store holds {MAX_KEYS} keys already")]
pub struct StoreFull {
    key: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fd() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    proptest! {
        #[test]
        fn each_process_gets_exactly_what_was_stored_for_it(ops in prop::collection::vec((0u8..3, 0u8..6, 0u8..2), 0..60)) {
            let mut store = FdStore::default();
            let mut model = BTreeMap::new();
            for (op, key, holder) in ops {
                let key = format!("key{key}");
                let holder = if holder == 0 { Service::Logger } else { Service::Supervisor };
                if op == 0 {
                    // Here `holder` is who asks.
                    store.remove(&key, holder);
                    if holder == Service::Supervisor || model.get(&key) == Some(&holder) {
                        model.remove(&key);
                    }
                } else {
                    store.store(key.clone(), holder, vec![fd()]).unwrap();
                    model.insert(key, holder);
                }
                for service in Service::ALL {
                    let want: Vec<&String> = model.iter().filter(|(_, h)| **h == service).map(|(k, _)| k).collect();
                    prop_assert_eq!(store.of(service).map(|(k, _)| k).collect::<Vec<_>>(), want);
                }
            }
        }
    }
}
