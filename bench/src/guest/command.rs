//! Runs commands, and measures their time and memory.

use engine_bench::{Failure, Naming};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The measurement of a successful start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How long it took.
    pub ns: u64,
    /// The largest resident set of the command or a child that it waited for, KiB.
    pub max_rss_kib: u64,
}

/// Runs a command until it exits, in a control group if one is given. Its standard output is
/// discarded, and its standard error is that of this process.
///
/// # Errors
/// The command cannot be started, or fails.
pub fn run(command: &mut Command, group: Option<&Path>) -> Result<Run, Failure> {
    if let Some(group) = group {
        let file = group.join("cgroup.procs");
        let file = File::options().write(true).open(&file).naming(file.display())?;
        // SAFETY: between fork and exec only write(2) is called. "0" is the writer itself.
        unsafe { command.pre_exec(move || (&file).write_all(b"0")) };
    }
    let name = command.get_program().to_string_lossy().into_owned();
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().naming(name.as_str())?;
    let pid = i32::try_from(child.id()).naming("process id")?;
    let mut status = 0;
    // SAFETY: rusage is plain data for which all zeroes are a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both variables outlive the call.
    while unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } != pid {
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error).naming("wait4");
        }
    }
    let ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if status != 0 {
        return Err(Failure(format!("{name} failed (wait status {status:#x})")));
    }
    Ok(Run { ns, max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0) })
}

/// What a command prints, without leading or trailing white space.
///
/// # Errors
/// The command cannot be started, or fails; the error then contains its standard error.
pub fn output(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let done =
        Command::new(program).args(arguments).stdin(Stdio::null()).output().naming(program)?;
    if !done.status.success() {
        let errors = String::from_utf8_lossy(&done.stderr);
        return Err(Failure(format!("{program} {}: {}", arguments.join(" "), errors.trim())));
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}
