//! PID 1's way through the stages of a shutdown ([`crate::shutdown`]).

use crate::clock::monotonic_ms;
use crate::pid1::Pid1;
use crate::shutdown::{self, Stage};
use ipc::{FromInit, Service, ShutdownKind};
use std::rc::Rc;

/// A shutdown under way.
pub(crate) struct GoingDown {
    pub(crate) kind: ShutdownKind,
    pub(crate) stage: Stage,
}

impl Pid1 {
    /// Begins to go down; a second request changes only how it ends (a power-off asked for while
    /// rebooting is honoured).
    pub(crate) fn shut_down(&mut self, kind: ShutdownKind, reason: &str) {
        if let Some(down) = &mut self.down {
            down.kind = kind;
            return;
        }
        log::info!("going down ({kind:?}): {reason}");
        self.console.line("");
        self.console.line(&format!("  going down: {reason}"));
        let stage = Stage::Units { until: monotonic_ms() + shutdown::UNITS_MS };
        self.down = Some(GoingDown { kind, stage });
        self.send(Service::Supervisor, FromInit::StopUnits { kind }, Rc::default());
    }

    /// Moves a shutdown on by as many stages as are over.
    pub(crate) fn go_down(&mut self) {
        while self.next_stage() {}
    }

    /// Moves a shutdown on if its stage is over.
    fn next_stage(&mut self) -> bool {
        let Some(down) = &self.down else { return false };
        let now = monotonic_ms();
        let over = now >= down.stage.until()
            || match down.stage {
                Stage::Services { .. } => self.slots.iter().all(|slot| slot.pid.is_none()),
                // Also what the supervisor left running: a container's mounts hold the disk.
                Stage::Kill { .. } => shutdown::nothing_is_left(),
                Stage::Units { .. } | Stage::Unmount { .. } => false,
            };
        if !over {
            return false;
        }
        let kind = down.kind;
        let next = match down.stage {
            Stage::Units { .. } => {
                // From here on nothing starts again: it would hold the disk.
                for slot in &mut self.slots {
                    slot.restart_at = None;
                }
                for pid in self.slots.iter().filter_map(|slot| slot.pid) {
                    // SAFETY: the process is our child and not reaped yet, so the number is its.
                    unsafe { libc::kill(pid, libc::SIGTERM) };
                }
                Stage::Services { until: now + shutdown::SERVICES_MS }
            }
            Stage::Services { .. } => {
                shutdown::kill_everything();
                Stage::Kill { until: now + shutdown::KILL_MS }
            }
            Stage::Kill { .. } => match shutdown::start_unmounting() {
                Ok(pid) => Stage::Unmount { pid, until: now + shutdown::UNMOUNT_MS },
                Err(errno) => {
                    log::error!("cannot start unmounting: fork: {errno}");
                    Stage::Unmount { pid: 0, until: now }
                }
            },
            Stage::Unmount { .. } => {
                log::info!("down");
                self.console.line(&format!("  down ({kind:?})").to_lowercase());
                shutdown::finish(kind);
                // Refused: try again every second rather than hang.
                Stage::Unmount { pid: 0, until: now + 1000 }
            }
        };
        log::info!("shutdown: {}", next.describe());
        let last = matches!(next, Stage::Unmount { .. });
        self.down = Some(GoingDown { kind, stage: next });
        !last
    }
}
