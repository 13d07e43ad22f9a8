//! Hooks: programs that run on the host for a container (runtime-spec `config.md`, "POSIX-platform
//! Hooks").

use crate::config::Hook;
use crate::error::Error;
use crate::report::Report;
use crate::status::{self, Status};
use crate::store::{Identity, State};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs hooks in order and stops at the first failure.
pub(crate) fn run(hooks: &[Hook], state: &State, status: Status) -> Result<(), Error> {
    hooks.iter().try_for_each(|hook| one(hook, state, status))
}

/// Runs hooks in order. A failed one is reported, and the others still run (`runtime.md` of version
/// 1.0.2, "Lifecycle", poststart and poststop; later drafts stop the container if poststart fails).
pub(crate) fn run_all(hooks: &[Hook], state: &State, status: Status, report: &Report) {
    for error in hooks.iter().filter_map(|hook| one(hook, state, status).err()) {
        report.warn(&error.to_string());
    }
}

fn one(hook: &Hook, state: &State, status: Status) -> Result<(), Error> {
    let fail = |reason: String| Error::Hook { path: hook.path.clone(), reason };
    let text = status::report(state, status).to_string();
    let mut command = Command::new(&hook.path);
    command.env_clear().stdin(Stdio::piped()).current_dir(&state.bundle);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    command.envs(hook.env.iter().filter_map(|variable| variable.split_once('=')));
    let mut child = command.spawn().map_err(|error| fail(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read the state: an error is ignored. A state that is larger than the
        // pipe's buffer waits for the reader; the timeout does not cover this.
        let _ = stdin.write_all(text.as_bytes());
    }
    let ended = wait(&mut child, hook.timeout).map_err(|error| fail(error.to_string()))?;
    match ended {
        None => {
            Err(fail(format!("timed out after {} s and was killed", hook.timeout.unwrap_or(0))))
        }
        Some(exit) if exit.success() => Ok(()),
        Some(exit) => Err(fail(exit.to_string())),
    }
}

/// Waits for a child; `None`: the timeout expired and the child was killed.
fn wait(
    child: &mut Child,
    timeout: Option<u32>,
) -> std::io::Result<Option<std::process::ExitStatus>> {
    let Some(seconds) = timeout else { return child.wait().map(Some) };
    let pid = i32::try_from(child.id()).map_err(|_| Errno::ESRCH)?;
    let start_time = status::start_time(pid).unwrap_or(0);
    // `None`: it has already ended.
    let held = status::hold(Identity { pid, start_time }).map_err(std::io::Error::other)?;
    let Some(pidfd) = held else { return child.wait().map(Some) };
    let until = Instant::now() + Duration::from_secs(u64::from(seconds));
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        let left = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return child.wait().map(Some),
            Err(errno) => return Err(errno.into()),
        }
    }
}
