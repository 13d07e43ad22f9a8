//! The stages of a shutdown: units, Keelhost's own processes, all other processes, disks, the
//! machine. Each stage has a deadline, so that nothing can keep the host from shutting down.

use crate::kernel::Kernel;
use crate::pid1::Pid1;
use ipc::{FromInit, Service, ShutdownKind};
use nix::sys::signal::Signal;
use std::rc::Rc;

/// The supervisor enforces the units' own timeouts; this one is for a supervisor that does not come
/// back.
pub const UNITS_MS: u64 = 15 * 60 * 1000;
/// Our own processes only have to flush what they have buffered.
pub const SERVICES_MS: u64 = 5_000;
/// A process that SIGKILL does not end in this time is stuck in the kernel.
pub const KILL_MS: u64 = 2_000;
/// There may be much dirty data and the disk may be slow; a dead disk must not hold up the shutdown
/// forever.
pub const UNMOUNT_MS: u64 = 60_000;

/// How far a shutdown has come. Times are milliseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The supervisor stops the units.
    Units {
        /// Go on without the supervisor then.
        until: u64,
    },
    /// Our own processes have been asked to end.
    Services {
        /// Kill them then.
        until: u64,
    },
    /// Everything has been killed; the last are being reaped.
    Kill {
        /// Go on without them then.
        until: u64,
    },
    /// A child syncs and unmounts.
    Unmount {
        /// The child.
        pid: i32,
        /// Go on without it then.
        until: u64,
    },
}

impl Stage {
    /// When the stage ends at the latest.
    pub fn until(&self) -> u64 {
        match self {
            Stage::Units { until }
            | Stage::Services { until }
            | Stage::Kill { until }
            | Stage::Unmount { until, .. } => *until,
        }
    }

    /// For people.
    pub fn describe(&self) -> &'static str {
        match self {
            Stage::Units { .. } => "stopping units",
            Stage::Services { .. } => "stopping Keelhost's processes",
            Stage::Kill { .. } => "killing what is left",
            Stage::Unmount { .. } => "unmounting",
        }
    }
}

/// A shutdown in progress.
pub(crate) struct ShutdownProgress {
    pub(crate) kind: ShutdownKind,
    pub(crate) stage: Stage,
}

impl<K: Kernel> Pid1<K> {
    /// Begins a shutdown. A second request changes only how it ends: a power-off that is requested
    /// during a reboot takes effect.
    pub(crate) fn begin_shutdown(&mut self, kind: ShutdownKind, reason: &str) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.kind = kind;
            return;
        }
        log::info!("shutting down ({kind:?}): {reason}");
        self.kernel.print("");
        self.kernel.print(&format!("  shutting down: {reason}"));
        let stage = Stage::Units { until: self.now_ms() + UNITS_MS };
        self.shutdown = Some(ShutdownProgress { kind, stage });
        self.send(Service::Supervisor, FromInit::StopUnits { kind }, Rc::default());
    }

    /// Moves a shutdown on past every stage that is over.
    pub(crate) fn advance_shutdown(&mut self) {
        while self.next_stage() {}
    }

    /// Moves a shutdown on if its stage is over. Whether the stage after that may be over too.
    fn next_stage(&mut self) -> bool {
        let now = self.now_ms();
        let Some(shutdown) = &self.shutdown else { return false };
        let over = now >= shutdown.stage.until()
            || match shutdown.stage {
                Stage::Services { .. } => self.slots.iter().all(|slot| slot.pid.is_none()),
                // Also what the supervisor left running: a container's mounts keep the disk busy.
                Stage::Kill { .. } => self.kernel.nothing_left(),
                Stage::Units { .. } | Stage::Unmount { .. } => false,
            };
        if !over {
            return false;
        }
        let kind = shutdown.kind;
        let next = match shutdown.stage {
            Stage::Units { .. } => {
                // From here on nothing is started again: it would keep the disk busy.
                for slot in &mut self.slots {
                    slot.restart_at = None;
                }
                for pid in self.slots.iter().filter_map(|slot| slot.pid) {
                    self.kernel.kill(pid, Signal::SIGTERM);
                }
                Stage::Services { until: now + SERVICES_MS }
            }
            Stage::Services { .. } => {
                self.kernel.kill_everything();
                Stage::Kill { until: now + KILL_MS }
            }
            Stage::Kill { .. } => match self.kernel.start_unmounting() {
                Ok(pid) => Stage::Unmount { pid, until: now + UNMOUNT_MS },
                Err(errno) => {
                    log::error!("cannot start unmounting: fork: {errno}");
                    Stage::Unmount { pid: 0, until: now }
                }
            },
            Stage::Unmount { .. } => {
                log::info!("shutdown complete");
                self.kernel.print(&format!("  shutdown complete ({kind:?})").to_lowercase());
                self.kernel.finish(kind);
                // Refused: try again every second rather than hang.
                Stage::Unmount { pid: 0, until: now + 1000 }
            }
        };
        log::info!("shutdown: {}", next.describe());
        let last = matches!(next, Stage::Unmount { .. });
        self.shutdown = Some(ShutdownProgress { kind, stage: next });
        !last
    }
}
