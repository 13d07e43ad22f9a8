//! Taking over: what an earlier supervisor of this boot has left.

use crate::kernel::{Handles, Kernel};
use crate::running::actions::send_signal;
use crate::running::runs::{Process, Run, UnitNet};
use crate::shell::{Fds, Shell, ShellError};
use ipc::{API_LINK, FromInit, Link, Received};
use policy::{RunEvent, SavedState};
use std::collections::{BTreeMap, BTreeSet};
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

/// The state files. One that cannot be read is reported and left out: its unit then looks as if it had
/// never been started, which the cgroup tree corrects.
pub fn saved_states(kernel: &impl Kernel) -> BTreeMap<String, SavedState> {
    let mut states = BTreeMap::new();
    for (unit, text) in kernel.state_files().unwrap_or_default() {
        let state = text.map_err(|error| error.to_string()).and_then(|text| {
            SavedState::from_json(&text).map_err(|error| format!("{unit}.json: {error}"))
        });
        match state {
            Ok(state) => drop(states.insert(unit, state)),
            Err(error) => log::warn!("{error}: the unit starts without a history"),
        }
    }
    states
}

/// Restores everything: descriptors, cgroups, processes.
pub fn take_over<K: Kernel>(
    shell: &mut Shell<K>,
    stored: Stored<K>,
    saved: &BTreeMap<String, SavedState>,
) {
    for (key, fds) in stored {
        take_descriptors(shell, &key, fds);
    }
    let mut left: BTreeSet<String> = shell.kernel.groups();
    for (name, state) in saved {
        let Some(generation) = state.generation() else { continue };
        left.remove(name);
        take_run(shell, name, generation, state);
    }
    for name in left {
        clear_away(shell, &name);
    }
}

fn take_descriptors<K: Kernel>(shell: &mut Shell<K>, key: &str, fds: Fds<K>) {
    let mut fds = fds.into_iter();
    match (key.split_once('/'), fds.next(), fds.next()) {
        (Some(("netns", unit)), Some(ns), Some(route_socket)) => {
            shell.runs.of(unit).net = Some(UnitNet { ns, route_socket, attached: false });
            // It is attached already, and netsetup answers at once.
            shell.attach(unit);
        }
        (Some(("userns", unit)), Some(ns), None) => shell.adopt_userns(unit, ns),
        (_, Some(link), None) if key == API_LINK => {
            shell.api.connect(&mut shell.kernel, link.into(), true)
        }
        (Some(("notify", unit)), Some(socket), None) => shell.adopt_notify(unit, socket),
        _ => log::warn!("PID 1 keeps descriptors under an unknown key: {key}"),
    }
}

fn take_run<K: Kernel>(shell: &mut Shell<K>, name: &str, generation: u64, state: &SavedState) {
    let group = match shell.kernel.open_group(name) {
        Ok(group) => Rc::new(group),
        Err(error) => {
            // Without a cgroup there has never been a process.
            log::warn!("{error}");
            shell.feed_run(name, generation, RunEvent::GroupEmpty);
            return;
        }
    };
    shell.adopt_cgroup(name, Rc::clone(&group));
    // An earlier supervisor has set the filter, but the devices may have changed since.
    if let Some(unit) = shell.config.host.units.get(name).cloned()
        && let Err(error) = shell.confine_devices(&unit, &group)
    {
        log::warn!("{name}: {error}");
    }
    let kernel = &shell.kernel;
    let found = || if state.launching() { main_process(kernel, &group) } else { None };
    let pid = state.pid().or_else(found);
    // An exit that PID 1 still keeps arrives right after this. One that it no longer keeps (the state
    // file could not be written then) never does: the empty group must show it.
    let alive = pid.filter(|pid| is_in(kernel, &group, *pid));
    if alive.is_some() {
        end_left_programs(kernel, &group, alive);
    }
    let gone = pid.is_none() || (alive.is_none() && !kernel.populated(&group).unwrap_or(true));
    let run = Run {
        generation,
        pid: pid.unwrap_or(0),
        pidfd: alive.and_then(|pid| kernel.open_pidfd(pid).ok()),
        // The count at the beginning of the run, not the current one: there may have been an OOM kill
        // while no supervisor ran.
        oom_before: kernel.note(&group).unwrap_or(0),
        orphaned: state.launching() || state.in_setup(),
        exec: !state.launching() && !state.in_setup(),
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
}

/// The process of a cgroup that is PID 1 of its own namespace: the last number of `NSpid` is 1
/// (proc_pid_status(5)).
fn main_process<K: Kernel>(kernel: &K, group: &K::Cgroup) -> Option<i32> {
    kernel.group_processes(group).ok()?.into_iter().find(|pid| {
        let status = kernel.process_status(*pid);
        status.is_some_and(|status| status.ns_pids.len() == 2 && status.ns_pids.last() == Some(&1))
    })
}

/// Kills the programs that people and health checks of an earlier supervisor started in a container:
/// their output is lost, and nothing else would ever end them. They are PID 1's children as the main
/// process is; everything else in a container descends from that.
fn end_left_programs<K: Kernel>(kernel: &K, group: &K::Cgroup, main: Option<i32>) {
    for pid in kernel.group_processes(group).unwrap_or_default() {
        // First the descriptor, so that what is looked at is what is killed.
        let Some(pidfd) = kernel.open_pidfd(pid).ok().filter(|_| Some(pid) != main) else {
            continue;
        };
        let from_init = kernel.process_status(pid).is_some_and(|status| status.parent == 1);
        if from_init && is_in(kernel, group, pid) {
            send_signal(kernel, &pidfd, libc::SIGKILL);
        }
    }
}

fn is_in<K: Kernel>(kernel: &K, group: &K::Cgroup, pid: i32) -> bool {
    kernel.group_processes(group).is_ok_and(|pids| pids.contains(&pid))
}

/// Whatever lives in a cgroup that belongs to no known run is left over.
fn clear_away<K: Kernel>(shell: &mut Shell<K>, name: &str) {
    let Ok(group) = shell.kernel.open_group(name) else { return };
    if shell.kernel.populated(&group).unwrap_or(false) {
        log::warn!("{name}: killing processes of an unknown run");
        if let Err(error) = shell.kernel.kill_group(&group) {
            log::error!("{error}");
        }
    }
    if shell.config.host.units.contains_key(name) {
        shell.adopt_cgroup(name, Rc::new(group));
    }
}
