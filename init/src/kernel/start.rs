//! Starting one of Keelhost's own processes: its cgroup, its descriptors, its privileges.

use crate::cgroups;
use crate::kernel::StartError;
use crate::services::{Privileges, oom_score_adj, privileges};
use ipc::{Channel, Service};
use layout::paths;
use nix::errno::Errno;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

/// Starts one process with its link to PID 1 and its links to `partners`, which it finds at
/// [`ipc::fds::PARTNERS`] and the numbers after it. Returns its process ID.
///
/// # Errors
/// The cgroup or clone3(2) failed. What fails in the child ends it with code 127.
pub fn start(service: Service, link: &Channel, partners: &[&Channel]) -> Result<i32, StartError> {
    let failed = |step| move |errno| StartError { applet: service.applet(), step, errno };
    let cgroup = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(cgroups::service_dir(service))
        .map_err(|error| failed("cgroup")(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    let program = CString::new(paths::BINARY).map_err(|_| failed("name")(Errno::EINVAL))?;
    let applet = CString::new(service.applet()).map_err(|_| failed("name")(Errno::EINVAL))?;
    let pid = clone_into(cgroup.as_fd()).map_err(failed("clone3"))?;
    if pid == 0 {
        // The child: from here on nothing may return.
        let _ = become_service(service, link, partners, &program, &applet);
        // SAFETY: ends the child at once, without running anything that belongs to PID 1.
        unsafe { libc::_exit(127) }
    }
    Ok(pid)
}

/// include/uapi/linux/sched.h; libc's constant of this name overflows its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// fork(2) that puts the child into a cgroup. SIGCHLD as exit signal: what the child makes with
/// CLONE_PARENT inherits it, and PID 1 hears of those too.
fn clone_into(cgroup: BorrowedFd<'_>) -> Result<i32, Errno> {
    // SAFETY: clone_args is plain numbers, for which all zeros is a valid value: no flags.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup.as_raw_fd() as u64;
    // SAFETY: without CLONE_VM the child is a copy of this single-threaded process and may run
    // ordinary code; `args` lives through the call and its size is the one given.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    Errno::result(pid).map(|pid| pid as i32)
}

fn become_service(
    service: Service,
    link: &Channel,
    partners: &[&Channel],
    program: &CString,
    applet: &CString,
) -> Result<(), Errno> {
    let _ = std::fs::write("/proc/self/oom_score_adj", oom_score_adj(service));
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    let null_fd = null.as_raw_fd();
    let mut wanted = vec![(null_fd, 0), (null_fd, 1), (null_fd, 2)];
    wanted.push((link.as_fd().as_raw_fd(), ipc::fds::INIT));
    let numbers = ipc::fds::PARTNERS..;
    wanted.extend(partners.iter().map(|link| link.as_fd().as_raw_fd()).zip(numbers));
    place(&wanted)?;
    let first_unused = wanted.iter().map(|(_, to)| to + 1).max().unwrap_or(0);
    // SAFETY: closes what the next program must not inherit; nothing here uses it any more.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first_unused, u32::MAX, 0) })?;
    std::mem::forget(null);
    nix::sys::signal::sigprocmask(
        nix::sys::signal::SigmaskHow::SIG_SETMASK,
        Some(&nix::sys::signal::SigSet::empty()),
        None,
    )?;
    nix::unistd::setsid()?;
    if let Privileges::User(uid, caps) = privileges(service) {
        drop_to(uid, caps)?;
    }
    let environment: [&CString; 0] = [];
    nix::unistd::execve(program, &[applet], &environment).map(|_| ())
}

/// Gives each open descriptor its number. The copies are made first, at numbers that the kernel
/// finds free: PID 1 has many descriptors open, and a fixed number could be one that is still needed.
fn place(wanted: &[(RawFd, RawFd)]) -> Result<(), Errno> {
    let lowest = wanted.iter().map(|(_, to)| to + 1).max().unwrap_or(0);
    let mut copies = Vec::new();
    for (from, to) in wanted {
        // SAFETY: plain descriptor arithmetic; `from` is open.
        let copy = Errno::result(unsafe { libc::fcntl(*from, libc::F_DUPFD, lowest) })?;
        copies.push((copy, *to));
    }
    for (copy, to) in copies {
        // SAFETY: as above; `copy` has just been made, and no later one has a number this low. dup2
        // clears close-on-exec.
        Errno::result(unsafe { libc::dup2(copy, to) })?;
    }
    Ok(())
}

/// Becomes `uid` with exactly `caps`, which survive exec (ambient), and gains nothing by exec.
fn drop_to(uid: u32, caps: &[u32]) -> Result<(), Errno> {
    let prctl = |option: libc::c_int, a: libc::c_ulong, b: libc::c_ulong| {
        // SAFETY: the options used here take numbers only.
        Errno::result(unsafe { libc::prctl(option, a, b, 0, 0) })
    };
    for cap in 0..64 {
        // The kernel's list ends at the first number that it does not know.
        if !caps.contains(&cap)
            && prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(cap), 0).is_err()
        {
            break;
        }
    }
    prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(uid.into(), uid.into(), uid.into())?;
    nix::unistd::setresuid(uid.into(), uid.into(), uid.into())?;
    let mask = caps.iter().fold(0u32, |mask, cap| mask | (1 << cap));
    // struct __user_cap_header_struct { version 3, pid 0 (self) }, and two __user_cap_data_struct
    // { effective, permitted, inheritable }, the low 32 capabilities first (capget(2)).
    let header: [u32; 2] = [0x2008_0522, 0];
    let data: [u32; 6] = [mask, mask, mask, 0, 0, 0];
    // SAFETY: both arrays have the layout that version 3 asks for, and are only read.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })?;
    for cap in caps {
        prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong,
            libc::c_ulong::from(*cap),
        )?;
    }
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a child, because it gives this process's descriptors other numbers.
    #[test]
    fn a_link_keeps_its_content_when_its_number_collides_with_a_copy() {
        use std::os::unix::fs::MetadataExt;
        for number in [5, 10, 99, 100, 101, 102, 103, 104] {
            // SAFETY: the child only makes system calls and ends in _exit.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let placed = || -> Option<bool> {
                    let null = File::open("/dev/null").ok()?;
                    let link = File::open("/proc/self/exe").ok()?;
                    let inode = link.metadata().ok()?.ino();
                    // SAFETY: nothing else in this child uses the number.
                    let at = unsafe { libc::dup2(link.as_raw_fd(), number) };
                    place(&[(null.as_raw_fd(), 0), (null.as_raw_fd(), 1), (at, 3)]).ok()?;
                    Some(std::fs::metadata("/proc/self/fd/3").ok()?.ino() == inode)
                };
                // SAFETY: ends the child.
                unsafe { libc::_exit(i32::from(placed() != Some(true))) }
            }
            let mut status = 0;
            // SAFETY: waits for the child just made.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(status, 0, "a link at {number}");
        }
    }
}
