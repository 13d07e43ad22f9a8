//! The exits of PID 1's children that the supervisor has not recorded yet.
//!
//! Containers are PID 1's children, also those that the supervisor started (CLONE_PARENT). PID 1 is
//! the only process that waits for children. It keeps an exit until the supervisor acknowledges it,
//! and sends all unacknowledged exits again after a restart of the supervisor. So no exit is lost,
//! whichever process dies, and whenever it does.

use ipc::ExitStatus;
use std::collections::VecDeque;

/// Most exits kept for a supervisor that does not come back. Only running containers can end, so this
/// is more than their number. Beyond it the oldest is dropped and counted.
pub const MAX_KEPT: usize = 16_384;

/// A child that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Rises by one for each exit.
    pub seq: u64,
    /// Process id.
    pub pid: i32,
    /// How it ended.
    pub status: ExitStatus,
    /// `CLOCK_MONOTONIC`, milliseconds.
    pub at_ms: u64,
}

/// The exits not yet acknowledged.
#[derive(Default)]
pub struct Exits {
    next: u64,
    kept: VecDeque<Exit>,
    /// How many were dropped because of [`MAX_KEPT`].
    pub dropped: u64,
}

impl Exits {
    /// Remembers an exit and gives it its number.
    pub fn add(&mut self, pid: i32, status: ExitStatus, at_ms: u64) -> Exit {
        if self.kept.len() >= MAX_KEPT {
            self.kept.pop_front();
            self.dropped += 1;
        }
        self.next += 1;
        let exit = Exit { seq: self.next, pid, status, at_ms };
        self.kept.push_back(exit);
        exit
    }

    /// Forgets all exits up to `seq`.
    pub fn acknowledge(&mut self, seq: u64) {
        while self.kept.front().is_some_and(|exit| exit.seq <= seq) {
            self.kept.pop_front();
        }
    }

    /// The unacknowledged exits, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = &Exit> {
        self.kept.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_exit_is_forgotten_before_it_is_acknowledged(ops in prop::collection::vec(prop::option::of(0u64..40), 0..100)) {
            let mut exits = Exits::default();
            let mut model: Vec<u64> = Vec::new();
            let mut count = 0;
            for op in ops {
                match op {
                    None => {
                        count += 1;
                        exits.add(100, ExitStatus::Code(0), 0);
                        model.push(count);
                    }
                    Some(seq) => {
                        exits.acknowledge(seq);
                        model.retain(|s| *s > seq);
                    }
                }
                prop_assert_eq!(exits.pending().map(|e| e.seq).collect::<Vec<_>>(), model.clone());
            }
        }
    }
}
