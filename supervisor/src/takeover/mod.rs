//! Taking over: what an earlier supervisor of this boot has left.

pub mod processes;
pub mod state_files;

use crate::running::actions::send_signal;
use crate::running::runs::{Process, Run, UnitNet};
use crate::shell::{Shell, ShellError};
use container::Cgroup;
use ipc::{API_LINK, BootReport, Channel, ChannelError, FromInit, Received};
use layout::paths;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use policy::{RunEvent, SavedState};
use processes::{procs, status_field};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

/// How long PID 1 may take to hand over what it keeps. It sends all of it right after the start.
const HAND_OVER_MS: u16 = 10_000;

/// Messages that came before their time.
type Early = Vec<Received<FromInit>>;

/// Takes in what PID 1 has kept for us, by key, and what else it said meanwhile.
///
/// # Errors
/// PID 1 is gone.
pub fn stored_descriptors(
    init: &Channel,
) -> Result<(BTreeMap<String, Vec<OwnedFd>>, Early), ShellError> {
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
                let mut fds = [PollFd::new(init.as_fd(), PollFlags::POLLIN)];
                if poll(&mut fds, PollTimeout::from(HAND_OVER_MS)) == Ok(0) {
                    log::error!("PID 1 hands nothing over: going on without");
                    return Ok((stored, early));
                }
            }
            Err(ChannelError::Decode { size: 0, .. } | ChannelError::Sys { .. }) => {
                return Err(ShellError::Orphaned);
            }
            Err(error) => log::warn!("PID 1: {error}"),
        }
    }
}

/// The layers that are mounted already.
pub fn mounted_layers() -> BTreeSet<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let prefix = format!("{}/", paths::RUN_LAYERS);
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1)?.strip_prefix(&prefix))
        .map(str::to_owned)
        .collect()
}

/// Whether PID 1 had to set the clock, because it stood before the image was made.
pub fn clock_was_raised() -> bool {
    let report: BootReport = fs::read(paths::RUN_BOOT)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    report.phases.iter().any(|phase| phase.name == "clock" && !phase.note.is_empty())
}

/// Whether a process runs its own program (and not ours any more); `None` when it is gone.
pub fn is_executed(pid: i32) -> Option<bool> {
    // By its inode: a container's own program may have the name of ours.
    let identity = |path: String| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    let theirs = identity(format!("/proc/{pid}/exe")).ok()?;
    Some(identity("/proc/self/exe".to_owned()).ok() != Some(theirs))
}

/// Puts everything back in its place: descriptors, cgroups, processes.
pub fn take_over(
    shell: &mut Shell,
    stored: BTreeMap<String, Vec<OwnedFd>>,
    saved: &BTreeMap<String, SavedState>,
) {
    for (key, fds) in stored {
        take_descriptors(shell, &key, fds);
    }
    let mut left: BTreeSet<String> = cgroups();
    for (name, state) in saved {
        let Some(generation) = state.generation() else { continue };
        left.remove(name);
        take_run(shell, name, generation, state);
    }
    for name in left {
        clear_away(shell, &name);
    }
}

fn take_descriptors(shell: &mut Shell, key: &str, fds: Vec<OwnedFd>) {
    let mut fds = fds.into_iter();
    match (key.split_once('/'), fds.next(), fds.next()) {
        (Some(("netns", unit)), Some(ns), Some(route_socket)) => {
            shell.runs.of(unit).net = Some(UnitNet { ns, route_socket, attached: false });
            // It is attached already, and netsetup says so at once.
            shell.attach(unit);
        }
        (Some(("userns", unit)), Some(ns), None) => shell.adopt_userns(unit, ns),
        (_, Some(link), None) if key == API_LINK => {
            shell.api.connect(&mut shell.poller, link.into(), true)
        }
        (Some(("notify", unit)), Some(socket), None) => shell.adopt_notify(unit, socket),
        _ => log::warn!("PID 1 keeps something unknown: {key}"),
    }
}

/// The units that have a cgroup.
fn cgroups() -> BTreeSet<String> {
    let entries = fs::read_dir(paths::CGROUP_UNITS).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn take_run(shell: &mut Shell, name: &str, generation: u64, state: &SavedState) {
    let path = Path::new(paths::CGROUP_UNITS).join(name);
    let group = match Cgroup::open(&path) {
        Ok(group) => Rc::new(group),
        Err(error) => {
            // Without a cgroup there never was a process.
            log::warn!("{error}");
            shell.feed_run(name, generation, RunEvent::GroupEmpty);
            return;
        }
    };
    shell.adopt_cgroup(name, Rc::clone(&group));
    // An earlier supervisor has done it, but perhaps one that knew other devices.
    if let Some(unit) = shell.config.host.units.get(name).cloned()
        && let Err(error) = shell.confine_devices(&unit, &group)
    {
        log::warn!("{name}: {error}");
    }
    let pid = state.pid().or_else(|| if state.launching() { main_process(&path) } else { None });
    // An exit that PID 1 still has comes right after this. One that it has forgotten (our file could
    // not be written when it came) never does: the empty group must tell.
    let alive = pid.filter(|pid| is_in(&path, *pid));
    if alive.is_some() {
        end_strangers(&path, alive);
    }
    let gone = pid.is_none() || (alive.is_none() && !group.populated().unwrap_or(true));
    let run = Run {
        generation,
        pid: pid.unwrap_or(0),
        pidfd: alive.and_then(open_pidfd),
        // As the run began, not as it is now: the memory killer may have come while nobody watched.
        oom_before: group.note().unwrap_or(0),
        exec: !state.launching() && !state.in_setup(),
        ended: gone,
        ..Run::default()
    };
    shell.runs.of(name).run = Some(run);
    if gone {
        // Nothing runs, or only what the main process left behind: the group tells.
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
fn main_process(cgroup: &Path) -> Option<i32> {
    procs(cgroup).ok()?.into_iter().find(|pid| {
        let status = status(*pid);
        let ids = status_field(&status, "NSpid").unwrap_or_default();
        let ids: Vec<&str> = ids.split_ascii_whitespace().collect();
        ids.len() == 2 && ids.last() == Some(&"1")
    })
}

/// Kills the programs of people and the health probes that an earlier supervisor ran in a container:
/// whoever looked on has been told nothing, and nobody would ever end them. They are PID 1's children
/// as the main process is; everything else in a container descends from that.
fn end_strangers(cgroup: &Path, main: Option<i32>) {
    for pid in procs(cgroup).unwrap_or_default() {
        // First the descriptor, so that what is looked at is what is killed.
        let Some(pidfd) = open_pidfd(pid).filter(|_| Some(pid) != main) else { continue };
        if status_field(&status(pid), "PPid") == Some("1") && is_in(cgroup, pid) {
            send_signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }
}

fn is_in(cgroup: &Path, pid: i32) -> bool {
    procs(cgroup).is_ok_and(|pids| pids.contains(&pid))
}

/// What the kernel says of a process; nothing when it is gone.
fn status(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

fn open_pidfd(pid: i32) -> Option<OwnedFd> {
    // SAFETY: takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Some(fd)
}

/// Whatever lives in a cgroup that belongs to no run we know of is left over.
fn clear_away(shell: &mut Shell, name: &str) {
    let Ok(group) = Cgroup::open(&Path::new(paths::CGROUP_UNITS).join(name)) else { return };
    if group.populated().unwrap_or(false) {
        log::warn!("{name}: processes of a forgotten run are killed");
        if let Err(error) = group.kill() {
            log::error!("{error}");
        }
    }
    if shell.config.host.units.contains_key(name) {
        shell.adopt_cgroup(name, Rc::new(group));
    }
}
