//! PID 1: mounts the system, starts Keelhost's own processes, reaps everything, shuts down.
//!
//! It does almost nothing and never stops: one thread, one poll loop, no parser of anything that
//! came over a network, and nothing that can block. Everything that could block or fail (module
//! loading, disks, units, the network) is in the processes it starts, and each of them can be killed
//! at any instant: PID 1 keeps their descriptors ([`fdstore`]) and the exits they have not recorded
//! yet ([`exits`]), and starts them again ([`services`]).
//!
//! Reading order: [`boot`] (the phases), [`pid1`] (the loop), [`shutdown`] (its stages), [`kernel`]
//! (the calls that the loop makes).

pub mod boot;
pub mod cgroups;
pub mod clock;
pub mod devices;
pub mod exits;
pub mod fatal;
pub mod fdstore;
pub mod kernel;
pub mod mounts;
pub mod pid1;
mod run;
pub mod services;
pub mod shutdown;
mod slot;

use std::ffi::OsString;

/// The version people see.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// PID 1's program. Never returns: it ends with a power-off or a reboot.
pub fn main() -> ! {
    run::run()
}

/// `/sbin/modprobe`: the kernel asks for a module by name or alias (kernel/module/kmod.c runs
/// `modprobe -q -- NAME`). Returns the exit code.
pub fn modprobe(args: impl Iterator<Item = OsString>) -> u8 {
    devices::modules::modprobe(args)
}
