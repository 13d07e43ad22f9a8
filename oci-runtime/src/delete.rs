//! `kill` and `delete`.

use crate::cgroups;
use crate::config::Hook;
use crate::error::{About, Error, sys};
use crate::hooks;
use crate::report::Report;
use crate::start::config;
use crate::status::{self, Status};
use crate::store::{Entry, Identity, State, Store};
use container::Cgroup;
use nix::errno::Errno;
use std::fs;

/// The error of a command that requires another state of the container.
pub(crate) fn wrong_state(id: &str, status: Status, required: &'static str) -> Error {
    Error::Status { id: id.to_owned(), status: status.name(), required }
}

/// Sends a signal to a container's first process, or to all of its processes.
pub(crate) fn kill(store: &Store, id: &str, signal: &str, all: bool) -> Result<(), Error> {
    let signal = units::process::parse_signal(signal)
        .map_err(|error| Error::Usage(format!("{signal:?}: {}", error.message)))?;
    let entry = store.open(id)?;
    let state = entry.load()?.ok_or_else(|| Error::NoContainer(id.to_owned()))?;
    if all {
        return match cgroups::open(&state)? {
            Some(group) if signal == libc::SIGKILL => Ok(group.kill()?),
            Some(group) => signal_all(&group, signal),
            None => Ok(()),
        };
    }
    let (status, pidfd) = status::of(&entry, &state)?;
    match pidfd {
        Some(pidfd) if status != Status::Creating => {
            container::send_signal(&pidfd, signal).map_err(sys("pidfd_send_signal"))
        }
        _ => Err(wrong_state(id, status, "only created and running containers can be signalled")),
    }
}

/// A process that is created while the list is read may be missed.
fn signal_all(group: &Cgroup, signal: i32) -> Result<(), Error> {
    let path = group.path().join("cgroup.procs");
    let list = fs::read_to_string(&path).about("read", &path)?;
    for pid in list.split_whitespace().filter_map(|word| word.parse().ok()) {
        let Some(start_time) = status::start_time(pid) else { continue };
        let Some(pidfd) = status::hold(Identity { pid, start_time })? else { continue };
        match container::send_signal(&pidfd, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(Error::Sys { call: "pidfd_send_signal", errno }),
        }
    }
    Ok(())
}

/// Removes a stopped container, or with `force` a container in any state. With `force`, a container
/// that does not exist is no error.
pub(crate) fn delete(store: &Store, id: &str, force: bool, report: &Report) -> Result<(), Error> {
    let entry = match store.open(id) {
        Err(Error::NoContainer(_)) if force => return Ok(()),
        done => done?,
    };
    let _lock = entry.lock()?;
    let Some(state) = entry.load()? else {
        // `create` was killed before it saved anything.
        return entry.remove();
    };
    let (status, _) = status::of(&entry, &state)?;
    if status != Status::Stopped && !force {
        return Err(wrong_state(id, status, "stop it first or use --force"));
    }
    let hooks = match config(&entry, &state) {
        Ok(config) => config.hooks.poststop,
        // The copy was valid at `create`. Even if it no longer is, the container must be removed.
        Err(error) => {
            report.warn(&error.to_string());
            Vec::new()
        }
    };
    destroy(&entry, &state, &hooks, report)
}

/// Kills the processes, removes the container, and runs the poststop hooks. A hook that fails is
/// only reported.
pub(crate) fn destroy(
    entry: &Entry,
    state: &State,
    poststop: &[Hook],
    report: &Report,
) -> Result<(), Error> {
    let removed = cgroups::remove(state);
    // The process may have been moved to another cgroup.
    if let Some(pidfd) = state.process.map(status::hold).transpose()?.flatten() {
        container::send_signal(&pidfd, libc::SIGKILL).map_err(sys("pidfd_send_signal"))?;
    }
    removed?;
    entry.remove()?;
    hooks::run_all(poststop, state, Status::Stopped, report);
    Ok(())
}
