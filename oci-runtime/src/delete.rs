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

/// Says that a command needs the container to be in another state.
pub(crate) fn wrong(id: &str, status: Status, wanted: &'static str) -> Error {
    Error::Status { id: id.to_owned(), status: status.name(), wanted }
}

/// Sends a signal to a container's first process, or to all of its processes.
pub(crate) fn kill(store: &Store, id: &str, signal: &str, all: bool) -> Result<(), Error> {
    let signal = units::process::parse_signal(signal)
        .map_err(|mistake| Error::Usage(format!("{signal:?}: {}", mistake.message)))?;
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
        _ => Err(wrong(id, status, "and gets no signals")),
    }
}

/// One that is made while the list is read may be missed, as with every signal to a group.
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

/// Removes what is left of a container that has ended, or with `force` of any; then none is fine, too.
pub(crate) fn delete(store: &Store, id: &str, force: bool, report: &Report) -> Result<(), Error> {
    let entry = match store.open(id) {
        Err(Error::NoContainer(_)) if force => return Ok(()),
        done => done?,
    };
    let _lock = entry.lock()?;
    let Some(state) = entry.load()? else {
        // A `create` that was killed at its very beginning.
        return entry.remove();
    };
    let (status, _) = status::of(&entry, &state)?;
    if status != Status::Stopped && !force {
        return Err(wrong(id, status, "and only one that is stopped is deleted without --force"));
    }
    let hooks = match config(&entry, &state) {
        Ok(config) => config.hooks.poststop,
        // It has been created with it; whatever happened to the copy, the container must go.
        Err(error) => {
            report.warn(&error.to_string());
            Vec::new()
        }
    };
    destroy(&entry, &state, &hooks, report)
}

/// Ends what runs, removes all there is, and runs the last hooks, whose failure is told and nothing
/// else.
pub(crate) fn destroy(
    entry: &Entry,
    state: &State,
    poststop: &[Hook],
    report: &Report,
) -> Result<(), Error> {
    let removed = cgroups::remove(state);
    // A process that somebody has moved to another cgroup.
    if let Some(pidfd) = state.process.map(status::hold).transpose()?.flatten() {
        container::send_signal(&pidfd, libc::SIGKILL).map_err(sys("pidfd_send_signal"))?;
    }
    removed?;
    entry.remove()?;
    hooks::run_all(poststop, state, Status::Stopped, report);
    Ok(())
}
