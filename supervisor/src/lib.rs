//! The supervisor: keeps the units as their files say.
//!
//! What happens when is decided by [`core`], a pure state machine. Everything else here is its
//! shell: it turns what the kernel, PID 1, netsetup and people say into events, and the core's actions into
//! system calls. It can be killed at any instant: what it must remember is in small files
//! ([`files`]), what must stay open is with PID 1, and what runs is in the cgroup tree.
//!
//! Reading order: [`core`], [`shell`] (the loop), [`actions`], [`runs`], [`restore`].

pub mod actions;
pub mod address;
pub mod api;
pub mod config;
pub mod control;
pub mod devices;
pub mod events;
mod evidence;
pub mod execs;
mod figures;
pub mod files;
pub mod health;
pub mod layers;
pub mod network;
pub mod notify;
mod origin;
pub mod plan;
pub mod poller;
pub mod probe;
pub mod processes;
pub mod queries;
pub mod report;
pub mod restore;
pub mod runs;
pub mod seccomp;
pub mod shell;
pub mod values;

use std::path::Path;

/// The applet. Returns only when it cannot go on; PID 1 starts it again.
pub fn main() -> u8 {
    match shell::Shell::start(Path::new(layout::paths::CONFIG)).and_then(shell::Shell::run) {
        Ok(()) => 0,
        Err(error) => {
            log::error!("{error}");
            1
        }
    }
}

/// `CLOCK_MONOTONIC` in microseconds.
pub(crate) fn now_us() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |now| {
        u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000
            + u64::try_from(now.tv_nsec()).unwrap_or(0) / 1000
    })
}
