//! The supervisor: keeps the units in the state that their files describe.
//!
//! What happens when is decided by [`policy`], a pure state machine. Everything here is its shell: it
//! turns messages from the kernel, PID 1, netsetup and people into events, and the policy's actions
//! into system calls. It can be killed at any instant: what it must remember is in small files
//! ([`kernel::Kernel::save_state`]), what must stay open is kept by PID 1, and what runs is in the
//! cgroup tree.
//!
//! - [`shell`]: the loop; [`kernel`]: everything it asks of the kernel
//! - [`config`]: the host folder as it is in the image
//! - [`running`]: the policy's actions, carried out
//! - [`health`]: health checks
//! - [`takeover`]: what an earlier supervisor of this boot has left
//! - [`requests`]: answers to the API and the control socket, programs run in containers
//! - [`reporting`]: console lines and events

pub mod config;
pub mod health;
pub mod kernel;
pub mod reporting;
pub mod requests;
pub mod running;
pub mod shell;
pub mod takeover;

use config::Config;
use kernel::linux::Linux;
use shell::{Shell, ShellError};
use std::path::Path;

/// The applet. Returns only when it cannot continue; PID 1 starts it again.
pub fn main() -> u8 {
    let load = || Config::load(Path::new(layout::paths::CONFIG));
    let kernel = Linux::new().map_err(ShellError::Watch);
    match kernel.and_then(|kernel| Shell::start(kernel, load)).and_then(Shell::run) {
        Ok(()) => 0,
        Err(error) => {
            log::error!("{error}");
            1
        }
    }
}
