//! When PID 1 cannot continue: it reports why, syncs and reboots. It never hangs silently.

use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, fork};
use std::time::Duration;

/// How long a person has to read the reason before the machine reboots.
const READING_TIME: Duration = Duration::from_secs(3);

/// How long dirty data may take to reach the disk.
const SYNC_TIME: Duration = Duration::from_secs(10);

/// Turns every panic of this process into [`die`].
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| die(&format!("PID 1 panicked: {info}"))));
}

/// Logs the reason on the kernel's log and the console, syncs what can be synced, reboots.
pub fn die(reason: &str) -> ! {
    log::error!("{reason}");
    kmsg::console::Console::open()
        .line(&format!("\r\n  Keelhost cannot continue: {reason}\r\n  rebooting"));
    sync_with_deadline();
    std::thread::sleep(READING_TIME);
    // reboot(2) returns only on an error; when PID 1 exits, the kernel panics, which with panic=N on
    // the command line is a reboot too.
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    std::process::abort()
}

/// sync(2) can hang forever on a dead disk, so a child does it, and PID 1 waits at most `SYNC_TIME`
/// for it.
pub fn sync_with_deadline() {
    // SAFETY: PID 1 has one thread, so the child has a whole copy of the program.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            nix::unistd::sync();
            // SAFETY: _exit ends the child without running anything of the parent's.
            unsafe { libc::_exit(0) }
        }
        Ok(ForkResult::Parent { child }) => {
            let step = Duration::from_millis(20);
            for _ in 0..SYNC_TIME.as_millis() / step.as_millis() {
                match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
                    Ok(nix::sys::wait::WaitStatus::StillAlive) => std::thread::sleep(step),
                    _ => return,
                }
            }
        }
        Err(_) => {}
    }
}
