//! What the process gives up once everything is open that it will ever open. It has no capability
//! and a user of its own already; from here on it can open no file, connect to nothing, start no
//! program, and ask the kernel only for what serving needs.

mod landlock;
mod seccomp;

use std::io;

/// Gives it up, for good. A kernel without landlock does not stop the API: the filter lets nothing be
/// opened either.
///
/// # Errors
/// no_new_privs cannot be set, or the filter cannot be installed.
pub fn confine() -> io::Result<()> {
    // SAFETY: both take plain numbers and change this process's flags alone.
    let done = unsafe {
        // Not even another process of the same user may look at the key in memory.
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    if let Err(error) = landlock::forbid_everything() {
        log::warn!("landlock: {error}");
    }
    seccomp::install()
}
