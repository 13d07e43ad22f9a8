//! One of Keelhost's own processes, as PID 1 sees it.

use crate::kernel::Kernel;
use crate::services::{STABLE_MS, restart_delay_ms};
use ipc::{FromInit, Outbox, Service};
use std::rc::Rc;

/// A process, its link, and when it is to be started or killed. Times are milliseconds of
/// `CLOCK_MONOTONIC`.
pub(crate) struct Slot<K: Kernel> {
    pub(crate) service: Service,
    pub(crate) pid: Option<i32>,
    pub(crate) link: Option<K::Link>,
    pub(crate) outbox: Outbox<FromInit, Rc<[K::Fd]>>,
    pub(crate) started_ms: u64,
    /// Failed starts and short runs since the last stable run.
    attempt: u32,
    pub(crate) restart_at: Option<u64>,
    /// Messages that the kernel did not take are sent again then.
    pub(crate) flush_at: Option<u64>,
    /// It has closed its link: if it is still running then, it is killed.
    pub(crate) kill_at: Option<u64>,
}

impl<K: Kernel> Slot<K> {
    pub(crate) fn new(service: Service) -> Slot<K> {
        Slot {
            service,
            pid: None,
            link: None,
            outbox: Outbox::default(),
            started_ms: 0,
            attempt: 0,
            restart_at: None,
            flush_at: None,
            kill_at: None,
        }
    }

    /// Forgets the process, which has ended.
    pub(crate) fn ended(&mut self) {
        self.pid = None;
        self.link = None;
        self.kill_at = None;
        self.flush_at = None;
        self.outbox.clear();
    }

    /// Plans the restart of a process that ended after `ran_ms`; returns the delay.
    pub(crate) fn restart_after(&mut self, now_ms: u64, ran_ms: u64) -> u64 {
        self.attempt = if ran_ms >= STABLE_MS { 0 } else { self.attempt.saturating_add(1) };
        let delay = restart_delay_ms(ran_ms, self.attempt.saturating_sub(1));
        self.restart_at = Some(now_ms + delay);
        delay
    }

    /// Plans another attempt at a start that failed; returns the delay.
    pub(crate) fn retry_start(&mut self) -> u64 {
        self.attempt = self.attempt.saturating_add(1);
        let delay = restart_delay_ms(0, self.attempt);
        self.restart_at = Some(self.started_ms + delay);
        delay
    }
}
