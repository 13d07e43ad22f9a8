//! The end of a shutdown: every process, the disks, the machine.

use ipc::ShutdownKind;
use layout::paths;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use std::fs;

/// Kills every process but PID 1, containers first.
pub fn kill_everything() {
    if let Ok(entries) = fs::read_dir(paths::CGROUP_UNITS) {
        for entry in entries.flatten() {
            // Files of the directory itself have no such child; that is fine.
            let _ = fs::write(entry.path().join("cgroup.kill"), "1");
        }
    }
    // SAFETY: kill(-1) from PID 1 reaches every process but PID 1 itself (kill(2)).
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Whether PID 1 has no children left, running or zombie: after [`kill_everything`] this means that
/// nothing runs, because every orphan is a child of PID 1.
pub fn nothing_left() -> bool {
    // SAFETY: siginfo_t is plain data, for which all zeros is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: writes one siginfo_t; WNOWAIT leaves every child as it is.
    let done = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) };
    Errno::result(done) == Err(Errno::ECHILD)
}

/// Starts the child that syncs and unmounts. Unmounting can block on a dead disk, so PID 1 does
/// not do it.
///
/// # Errors
/// fork(2) fails.
pub fn start_unmounting() -> Result<i32, Errno> {
    // SAFETY: PID 1 has one thread; the child is a whole copy and ends in _exit.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(child.as_raw()),
        nix::unistd::ForkResult::Child => {
            let clean = unmount_all();
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(i32::from(!clean)) }
        }
    }
}

/// File systems in memory: there is nothing on them to save.
const IN_MEMORY: &[&str] = &[
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "tmpfs",
    "ramfs",
    "rootfs",
    "cgroup2",
    "securityfs",
    "mqueue",
];

/// Syncs, then unmounts in reverse order everything that is on a disk (and the layers, which are files
/// in memory but cost nothing to unmount). A busy mount is made read-only instead, so that it is
/// clean.
fn unmount_all() -> bool {
    // First of all, before any error in unmounting: the sync is what saves the data.
    nix::unistd::sync();
    let mut clean = true;
    // Several rounds, because one mount may be below another.
    for _round in 0..4 {
        // Without the list nothing is known to be unmounted.
        let Some(mut left) = mounted() else { return false };
        left.reverse();
        if left.is_empty() {
            return true;
        }
        clean = true;
        for target in &left {
            if let Err(errno) = umount2(target.as_str(), MntFlags::UMOUNT_NOFOLLOW) {
                clean = false;
                log::debug!("umount {target}: {errno}");
            }
        }
    }
    let none: Option<&str> = None;
    for target in mounted().unwrap_or_default() {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        match mount(none, target.as_str(), none, flags, none) {
            Ok(()) => log::warn!("{target} is busy ({}): made read-only", holders(&target)),
            Err(errno) => log::error!(
                "{target} is busy ({}) and cannot be made read-only: {errno}",
                holders(&target)
            ),
        }
    }
    nix::unistd::sync();
    clean
}

/// The mount points to unmount now.
fn mounted() -> Option<Vec<String>> {
    match fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) => Some(targets(&text)),
        Err(error) => {
            log::error!("/proc/self/mountinfo: {error}");
            None
        }
    }
}

/// The mount points to unmount, in the order in which they were mounted (proc_pid_mountinfo(5)).
fn targets(mountinfo: &str) -> Vec<String> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let target = before.split(' ').nth(4)?;
            let fstype = after.split(' ').next()?;
            (!IN_MEMORY.contains(&fstype)).then(|| unescape(target))
        })
        .collect()
}

/// mountinfo writes space, tab, line end and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The processes that keep a mount busy: with their working directory, their root or an open file.
fn holders(target: &str) -> String {
    let mut names = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = process.path();
        let links = ["cwd", "root", "exe"].iter().map(|link| path.join(link));
        let fds =
            fs::read_dir(path.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
        if links.chain(fds).any(|link| fs::read_link(link).is_ok_and(|to| to.starts_with(target))) {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            names.push(format!("{} {}", process.file_name().to_string_lossy(), name.trim_end()));
        }
    }
    if names.is_empty() { "not by a visible process".to_owned() } else { names.join(", ") }
}

/// Powers off, reboots or halts. Returns only if the kernel refuses.
pub fn finish(kind: ShutdownKind) {
    let mode = match kind {
        ShutdownKind::Poweroff => RebootMode::RB_POWER_OFF,
        ShutdownKind::Reboot => RebootMode::RB_AUTOBOOT,
        ShutdownKind::Halt => RebootMode::RB_HALT_SYSTEM,
    };
    let Err(errno) = reboot(mode);
    log::error!("reboot: {errno}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_file_systems_on_a_disk_are_unmounted() {
        let text = "22 1 0:20 / /proc rw - proc proc rw\n30 1 254:0 / /data rw,noatime shared:1 - ext4 /dev/vda rw\n\
                    31 30 254:16 / /data/my\\040disk rw - ext4 /dev/vdb rw\n32 1 0:30 / /run rw - tmpfs tmpfs rw\n";
        assert_eq!(targets(text), ["/data", "/data/my disk"]);
    }

    proptest! {
        #[test]
        fn any_mountinfo_is_read(text in "([0-9]+ [0-9]+ 0:1 / /\\PC* rw - \\PC*\n|\\PC*\n)*") {
            targets(&text);
        }
    }
}
