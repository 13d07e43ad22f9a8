//! The reaper: what PID 1 is to the supervisor.
//!
//! `reaper PROGRAM [ARGUMENT…]` starts the program with the read end of a pipe as descriptor 3, waits
//! for all its other children (the containers, by CLONE_PARENT) and writes an [`Ended`] for each to
//! the pipe. It ends when the program ends.

use engine_bench::turn::{ENDED_FD, Ended};
use engine_bench::{Failure, Naming};
use nix::fcntl::OFlag;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Runs a starter below this process.
pub fn main(words: &[String]) -> Result<(), Failure> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| Failure("reaper: no program given".to_owned()))?;
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).naming("pipe2")?;
    let mut command = Command::new(program);
    command.args(arguments);
    let from = read.as_raw_fd();
    // SAFETY: between fork and exec only async-signal-safe calls are made.
    unsafe {
        command.pre_exec(move || {
            // dup2 onto itself would leave close-on-exec in place.
            let done = if from == ENDED_FD {
                libc::fcntl(from, libc::F_SETFD, 0)
            } else {
                libc::dup2(from, ENDED_FD)
            };
            if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    let starter = command.spawn().naming(program)?;
    drop(read);
    let starter = i32::try_from(starter.id()).naming("process id")?;
    loop {
        let ended = wait()?;
        if ended.pid == starter {
            return match ended.status {
                0 => Ok(()),
                status => Err(Failure(format!("{program} ended with wait status {status:#x}"))),
            };
        }
        nix::unistd::write(&write, &ended.encode()).naming("the starter's pipe")?;
    }
}

/// Waits for the next child that ends, whatever its exit signal.
fn wait() -> Result<Ended, Failure> {
    let mut status = 0;
    // SAFETY: rusage is plain data for which all zeroes are a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both variables outlive the call.
        let pid = unsafe { libc::wait4(-1, &raw mut status, libc::__WALL, &raw mut usage) };
        if pid > 0 {
            let max_rss_kib = u64::try_from(usage.ru_maxrss).unwrap_or(0);
            return Ok(Ended { pid, status, max_rss_kib });
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error).naming("wait4");
        }
    }
}
