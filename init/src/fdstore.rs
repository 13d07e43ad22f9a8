//! Descriptors that must outlive the processes that use them.
//!
//! A pipe whose only reader was a dead process is a broken pipe, a listening socket a refused
//! connection. PID 1 keeps a copy of each, and gives it to the successor.

use ipc::Service;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Most keys kept at once: two a unit and some more, for a thousand units.
pub const MAX_KEYS: usize = 8192;

/// The store. Entries are shared with messages that wait to be delivered.
#[derive(Default)]
pub struct FdStore {
    entries: BTreeMap<String, (Service, Rc<[OwnedFd]>)>,
}

impl FdStore {
    /// Keeps `fds` for `holder` under `key`; what was there before is closed.
    ///
    /// # Errors
    /// The store is full: the descriptors are closed, nothing else changes.
    pub fn store(
        &mut self,
        key: String,
        holder: Service,
        fds: Vec<OwnedFd>,
    ) -> Result<Rc<[OwnedFd]>, StoreFull> {
        if self.entries.len() >= MAX_KEYS && !self.entries.contains_key(&key) {
            return Err(StoreFull { key });
        }
        let fds: Rc<[OwnedFd]> = Rc::from(fds);
        self.entries.insert(key, (holder, Rc::clone(&fds)));
        Ok(fds)
    }

    /// Closes what is kept under `key`, if it is kept for `by` or `by` is the supervisor, which stored
    /// it; an unknown key is nothing to do.
    pub fn remove(&mut self, key: &str, by: Service) {
        let may = |(holder, _): &(Service, _)| by == Service::Supervisor || *holder == by;
        if self.entries.get(key).is_some_and(may) {
            self.entries.remove(key);
        }
    }

    /// Everything kept for one process, by key.
    pub fn of(&self, holder: Service) -> impl Iterator<Item = (&String, &Rc<[OwnedFd]>)> {
        self.entries
            .iter()
            .filter(move |(_, (owner, _))| *owner == holder)
            .map(|(key, (_, fds))| (key, fds))
    }
}

/// The store holds [`MAX_KEYS`] keys already.
#[derive(Debug, thiserror::Error)]
#[error("no room to keep {key}: {MAX_KEYS} keys are kept already")]
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
