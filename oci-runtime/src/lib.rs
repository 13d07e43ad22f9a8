//! `keel-oci`: the command line of an OCI runtime (runtime-spec `runtime.md`) over [`container`].
//!
//! For tests, and for container managers that call an OCI runtime. It adds nothing to the engine:
//! `config.json` is converted to the same plan that a unit is ([`config::Config`]). No process
//! stays besides the container: `create` exits, and the container's first process waits for `start`
//! on a FIFO in the state directory ([`store`]).
//!
//! The state of a container is determined from the kernel each time ([`status`]) and not stored, so
//! it cannot become stale.

mod arguments;
mod cgroups;
mod commands;
pub mod config;
mod console;
mod create;
mod delete;
mod error;
mod exec;
mod hooks;
mod report;
mod run;
mod start;
pub mod status;
pub mod store;
mod wait;

pub use error::Error;

use std::process::ExitCode;

/// The program: parses the arguments and carries out the command.
///
/// The exit code is 0; or that of the container's program (`run` and `exec`; 128 plus the signal
/// number if a signal killed it); or 1 with the reason on standard error and in the `--log` file;
/// or 2 for invalid arguments.
pub fn main() -> ExitCode {
    commands::main(std::env::args_os().skip(1))
}

/// Checks, for tests, whether the engine accepts a parsed configuration. The plan's descriptors are
/// placeholders.
///
/// # Errors
/// The engine's reason for refusing it.
pub fn check(config: &config::Config) -> Result<(), Error> {
    create::check(config)
}
