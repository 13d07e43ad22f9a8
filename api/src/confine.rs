//! Dropping privileges once all files and sockets are open. The process already has no capabilities
//! and its own user; from here on it cannot open a file, connect to anything or start a program,
//! and can make only the system calls that serving needs.

mod landlock;
mod seccomp;

use std::io;

/// Drops privileges permanently. A kernel without landlock does not stop the API: the seccomp
/// filter forbids opening files, too.
///
/// # Errors
/// no_new_privs cannot be set, or the filter cannot be installed.
pub fn confine() -> io::Result<()> {
    // SAFETY: both take plain numbers and change this process's flags alone.
    let done = unsafe {
        // Not even another process of the same user can read the key in memory.
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
