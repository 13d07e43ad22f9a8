//! `keel-oci`: the command line of an OCI runtime (runtime-spec `runtime.md`) over [`container`].
//!
//! For tests, and for managers that speak to runtimes in this way. It adds nothing to the engine:
//! `config.json` becomes the plan that a unit becomes, too ([`config::Config`]). There is no process
//! beside the container: `create` ends, and the container's first process waits on a FIFO in the state
//! directory ([`store`]) for `start`.
//!
//! What a container is doing is asked of the kernel each time ([`status`]); nothing in the state
//! directory can be wrong about it.

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

/// The program: reads its arguments, does what they say.
///
/// The exit code is 0, that of the container's program (`run`, `exec`; 128 and the signal's number if
/// one has ended it), or 1 with the reason on standard error and in the file of `--log`. 2 is for
/// arguments that are none.
pub fn main() -> ExitCode {
    commands::main(std::env::args_os().skip(1))
}

/// A plan for this configuration with nothing behind its descriptors, for tests: whether the engine
/// takes what was read.
///
/// # Errors
/// What the engine says.
pub fn check(config: &config::Config) -> Result<(), Error> {
    create::check(config)
}
