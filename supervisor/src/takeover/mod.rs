//! Taking over: what an earlier supervisor of this boot has left.

use crate::kernel::{CallError, Errno, Handles, Kernel, ProcessStatus};
use crate::running::actions::send_signal;
use crate::running::runs::{Process, Run, UnitNet};
use crate::shell::{Fds, Shell, ShellError};
use container::CgroupError;
use ipc::{API_LINK, FromInit, Link, Received};
use policy::{RunEvent, SavedState};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::rc::Rc;

/// How long PID 1 may take to send what it keeps. It sends all of it right after the start.
const HAND_OVER_MS: u16 = 10_000;

/// Other messages that arrived meanwhile.
type Early<K> = Vec<Received<FromInit, <K as Handles>::Fd>>;

/// Stored descriptors, by key.
type Stored<K> = BTreeMap<String, Fds<K>>;

/// Receives what PID 1 has kept for the supervisor, by key, and what else it has sent meanwhile.
///
/// # Errors
/// PID 1 is gone.
pub fn stored_descriptors<K: Kernel>(
    kernel: &K,
    init: &K::Link,
) -> Result<(Stored<K>, Early<K>), ShellError> {
    let mut stored = BTreeMap::new();
    let mut early = Vec::new();
    loop {
        match init.recv::<FromInit>() {
            Ok(Some(Received { message: FromInit::Stored { key }, fds })) => {
                drop(stored.insert(key, fds))
            }
            Ok(Some(Received { message: FromInit::StoredEnd, .. })) => return Ok((stored, early)),
            Ok(Some(other)) => early.push(other),
            Ok(None) => {
                if kernel.wait_for_link(init, HAND_OVER_MS) == Ok(false) {
                    log::error!(
                        "PID 1 has not sent its stored descriptors: continuing without them"
                    );
                    return Ok((stored, early));
                }
            }
            Err(error) if error.is_closed() => return Err(ShellError::Orphaned),
            Err(error) => log::warn!("PID 1: {error}"),
        }
    }
}

/// The state files. One that is not understood is reported and left out: its unit then looks as if it
/// had never been started, which the cgroup tree corrects. One that cannot be read now, because this
/// process or the kernel is short of something, is read by the next attempt. Also returns the units
/// whose file was left out.
///
/// # Errors
/// The files cannot be read now.
pub fn saved_states(
    kernel: &impl Kernel,
) -> Result<(BTreeMap<String, SavedState>, Vec<String>), ShellError> {
    let (mut states, mut unreadable) = (BTreeMap::new(), Vec::new());
    let files = match kernel.state_files() {
        Err(error) if error.errno == Errno::ENOENT => Vec::new(),
        files => files.map_err(failed)?,
    };
    for (unit, text) in files {
        let state = match text {
            Err(error) if is_shortage(error.errno) => return Err(failed(error)),
            Err(error) => Err(error.to_string()),
            Ok(text) => {
                SavedState::from_json(&text).map_err(|error| format!("{unit}.json: {error}"))
            }
        };
        match state {
            Ok(state) => drop(states.insert(unit, state)),
            Err(error) => {
                log::warn!("{error}: the unit starts without a history");
                unreadable.push(unit);
            }
        }
    }
    Ok((states, unreadable))
}

/// Whether an error says that something is missing for the moment.
fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)
}

/// The end of a supervisor that cannot learn what an earlier one left.
pub fn failed(error: impl ToString) -> ShellError {
    ShellError::TakeOver(error.to_string())
}

/// Restores everything: descriptors, cgroups, processes.
///
/// # Errors
/// What was left cannot be read. Continuing after such an error could start a container beside one
/// that is still running, or leave one running that no supervisor knows of.
pub fn take_over<K: Kernel>(
    shell: &mut Shell<K>,
    stored: Stored<K>,
    saved: &BTreeMap<String, SavedState>,
) -> Result<(), ShellError> {
    for (key, fds) in stored {
        take_descriptors(shell, &key, fds)?;
    }
    let mut left: BTreeSet<String> = shell.kernel.groups().map_err(failed)?;
    for (name, state) in saved {
        let Some(generation) = state.generation() else { continue };
        left.remove(name);
        take_run(shell, name, generation, state)?;
    }
    for name in left {
        clear_away(shell, &name).map_err(failed)?;
    }
    Ok(())
}

fn take_descriptors<K: Kernel>(
    shell: &mut Shell<K>,
    key: &str,
    fds: Fds<K>,
) -> Result<(), ShellError> {
    let mut fds = fds.into_iter();
    match (key.split_once('/'), fds.next(), fds.next()) {
        (Some(("netns", unit)), Some(ns), Some(route_socket)) => {
            shell.runs.of(unit).net =
                Some(UnitNet { ns, route_socket, request: 0, attached: false });
            // It is attached already, and netsetup answers at once.
            shell.attach(unit);
        }
        (Some(("userns", unit)), Some(ns), None) => shell.adopt_userns(unit, ns),
        (_, Some(link), None) if key == API_LINK => {
            shell.api.connect(&mut shell.kernel, link.into(), true)
        }
        (Some(("notify", unit)), Some(socket), None) => {
            shell.adopt_notify(unit, socket).map_err(failed)?;
        }
        _ => log::warn!("PID 1 keeps descriptors under an unknown key: {key}"),
    }
    Ok(())
}

fn take_run<K: Kernel>(
    shell: &mut Shell<K>,
    name: &str,
    generation: u64,
    state: &SavedState,
) -> Result<(), ShellError> {
    let group = match shell.kernel.open_group(name) {
        Ok(group) => Rc::new(group),
        Err(error) if error.errno == Errno::ENOENT => {
            // Without a cgroup there has never been a process.
            log::warn!("{error}");
            shell.feed_run(name, generation, RunEvent::GroupEmpty);
            return Ok(());
        }
        Err(error) => return Err(failed(error)),
    };
    shell.adopt_cgroup(name, Rc::clone(&group));
    // An earlier supervisor has set the filter, but the devices may have changed since.
    if let Some(unit) = shell.config.host.units.get(name).cloned()
        && let Err(error) = shell.confine_devices(&unit, &group)
    {
        log::warn!("{name}: {error}");
    }
    let kernel = &shell.kernel;
    let pid = match state.pid() {
        None if state.launching() => main_process(kernel, &group).map_err(failed)?,
        pid => pid,
    };
    // An exit that PID 1 still keeps arrives right after this. One that it no longer keeps (the state
    // file could not be written then) never does: the empty group must show it.
    let members = kernel.group_processes(&group).map_err(failed)?;
    let alive = pid.filter(|pid| members.contains(pid));
    if alive.is_some() {
        end_left_programs(kernel, &group, alive).map_err(failed)?;
    }
    let gone = pid.is_none() || (alive.is_none() && !kernel.populated(&group).map_err(failed)?);
    let pidfd = match alive.map(|pid| kernel.open_pidfd(pid)) {
        Some(Err(error)) if !error.is_gone() => return Err(failed(error)),
        pidfd => pidfd.and_then(Result::ok),
    };
    let run = Run {
        generation,
        pid: pid.unwrap_or(0),
        pidfd,
        // The count at the beginning of the run, not the current one: there may have been an OOM kill
        // while no supervisor ran.
        oom_before: kernel.note(&group).unwrap_or(0),
        orphaned: !state.executed(),
        exec: state.executed(),
        ended: gone,
        status: None,
        go: None,
    };
    shell.runs.of(name).run = Some(run);
    if gone {
        // Nothing runs, or only what the main process left behind: the group shows it.
        shell.draining.insert(name.to_owned());
    }
    if let Some(pid) = pid {
        let main = Process::Main { unit: name.to_owned(), generation };
        shell.runs.processes.insert(pid, main);
        if state.launching() {
            shell.feed_run(name, generation, RunEvent::Started { pid });
        }
        if state.launching() || state.in_setup() {
            shell.in_setup.push((name.to_owned(), generation, pid));
        }
    }
    Ok(())
}

/// The process of a cgroup that is PID 1 of its own namespace: the last number of `NSpid` is 1
/// (proc_pid_status(5)).
fn main_process<K: Kernel>(kernel: &K, group: &K::Cgroup) -> Result<Option<i32>, Box<dyn Error>> {
    for pid in kernel.group_processes(group)? {
        if let Some(status) = status_of(kernel, pid)?
            && status.ns_pids.len() == 2
            && status.ns_pids.last() == Some(&1)
        {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// The kernel's information about a process; `None` when it has ended.
fn status_of(kernel: &impl Kernel, pid: i32) -> Result<Option<ProcessStatus>, CallError> {
    match kernel.process_status(pid) {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Kills the programs that people and health checks of an earlier supervisor started in a container:
/// their output is lost, and nothing else would ever end them. They are PID 1's children as the main
/// process is; everything else in a container descends from that.
fn end_left_programs<K: Kernel>(
    kernel: &K,
    group: &K::Cgroup,
    main: Option<i32>,
) -> Result<(), Box<dyn Error>> {
    for pid in kernel.group_processes(group)? {
        if Some(pid) == main {
            continue;
        }
        // The descriptor comes first, so that the process that is checked is the one that is killed.
        let pidfd = match kernel.open_pidfd(pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.is_gone() => continue,
            Err(error) => return Err(error.into()),
        };
        let from_init = status_of(kernel, pid)?.is_some_and(|status| status.parent == 1);
        if from_init && kernel.group_processes(group)?.contains(&pid) {
            send_signal(kernel, &pidfd, libc::SIGKILL);
        }
    }
    Ok(())
}

/// Whatever lives in a cgroup that belongs to no known run is left over.
fn clear_away<K: Kernel>(shell: &mut Shell<K>, name: &str) -> Result<(), CgroupError> {
    let group = match shell.kernel.open_group(name) {
        Ok(group) => group,
        Err(error) if error.errno == Errno::ENOENT => return Ok(()),
        Err(error) => return Err(error),
    };
    if shell.kernel.populated(&group)? {
        log::warn!("{name}: killing processes of an unknown run");
        shell.kernel.kill_group(&group)?;
    }
    if shell.config.host.units.contains_key(name) {
        shell.adopt_cgroup(name, Rc::new(group));
    }
    Ok(())
}
