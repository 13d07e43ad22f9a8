//! The parent's side: what is created before the clone and removed after the end.

use crate::child;
use crate::sys::{at, call, failed, to};
use container::seccomp::Filter;
use container::{CapSet, DeviceFilter, DeviceRule};
use engine_bench::marks::{CLONE, GROUP, NETNS, RAN, REAPED, REMOVED, mark};
use engine_bench::turn::{Ends, Reply};
use engine_bench::{Failure, Naming, limits, places};
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;
use std::time::Instant;

const CLOEXEC: i32 = libc::O_CLOEXEC;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// The control group, below [`places::CGROUP`].
pub struct Limits {
    dir: CString,
    parent: CString,
    /// File and content, for the controllers that are available.
    files: Vec<(&'static CStr, String)>,
    /// The devices that the group's processes may open; loaded once.
    devices: DeviceFilter,
    /// The system calls that they may make; compiled once.
    calls: Filter,
}

/// Determines what is to be written, before anything is measured.
pub fn limit_files() -> Result<Limits, Failure> {
    let enabled = std::fs::read_to_string(format!("{}/cgroup.subtree_control", places::CGROUP));
    let enabled = enabled.unwrap_or_default();
    let has = |name| enabled.split_ascii_whitespace().any(|there| there == name);
    let mut files = Vec::new();
    if has("memory") {
        files.push((c"memory.max", limits::MEMORY.to_string()));
        files.push((c"memory.oom.group", "1".to_owned()));
        files.push((c"memory.swap.max", "0".to_owned()));
    }
    if has("cpu") {
        files.push((c"cpu.max", format!("{} 100000", limits::CPU_MILLIS * 100)));
    }
    if has("pids") {
        files.push((c"pids.max", limits::PIDS.to_string()));
    }
    let path = |text: String| CString::new(text).unwrap_or_default();
    Ok(Limits {
        dir: path(format!("{}/floor", places::CGROUP)),
        parent: path(places::CGROUP.to_owned()),
        files,
        devices: DeviceFilter::load(&DeviceRule::USUAL).naming("the device filter")?,
        calls: Filter::default_for(CapSet::DEFAULT).naming("the seccomp filter")?,
    })
}

/// One start. (`Limits::files` is the only thing that is not a constant.)
pub fn start(limits: &Limits, ends: &mut Ends) -> Result<Reply, Failure> {
    let began = Instant::now();
    let (net, route) = network();
    mark(NETNS);
    let group = control_group(limits);
    mark(GROUP);
    let (out, out_write) = pipe(CLOEXEC);
    let (err, err_write) = pipe(CLOEXEC);
    let (status, status_write) = pipe(CLOEXEC | libc::O_NONBLOCK);

    let mut pidfd = -1;
    // SAFETY: clone_args is plain data for which all zeroes are a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_PARENT
        | libc::CLONE_PIDFD) as u64
        | CLONE_CLEAR_SIGHAND
        | CLONE_INTO_CGROUP;
    args.pidfd = to(&mut pidfd) as u64;
    args.cgroup = group as u64;
    let pid = call!(SYS_clone3, at(&args), size_of_val(&args));
    if pid == 0 {
        let calls = &limits.calls;
        child::run(&child::Given {
            net,
            status: status_write,
            out: out_write,
            err: err_write,
            calls,
        });
    }
    mark(CLONE);
    call!(SYS_close, status_write);
    call!(SYS_close, out_write);
    call!(SYS_close, err_write);

    let mut watched = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
    call!(SYS_poll, to(&mut watched), 1, -1);
    let mut message = [0u8; 517];
    // End of file: the program was executed.
    if call!(SYS_read, status, to(&mut message), message.len()) != 0 {
        return Err(Failure("a message on the status pipe".to_owned()));
    }
    mark(RAN);
    let ended = ends.expect(pid)?;
    mark(REAPED);
    remove(limits, group);
    for fd in [pidfd, status, err, out, group, route, net] {
        call!(SYS_close, fd);
    }
    mark(REMOVED);
    let ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(Reply { ns, max_rss_kib: ended.max_rss_kib })
}

fn pipe(flags: i32) -> (i32, i32) {
    let mut ends = [0i32; 2];
    call!(SYS_pipe2, to(&mut ends), flags);
    let [read, write] = ends;
    (read, write)
}

/// A network namespace with its loopback link up, and a route socket in it.
fn network() -> (i32, i32) {
    let own = c"/proc/self/ns/net";
    let home = call!(SYS_openat, libc::AT_FDCWD, own, libc::O_RDONLY | CLOEXEC, 0);
    call!(SYS_unshare, libc::CLONE_NEWNET);
    let net = call!(SYS_openat, libc::AT_FDCWD, own, libc::O_RDONLY | CLOEXEC, 0);
    let route = call!(SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
    let any = call!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
    // SAFETY: ifreq is plain data for which all zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    call!(SYS_ioctl, any, libc::SIOCSIFFLAGS, at(&request));
    call!(SYS_close, any);
    for (path, value) in [
        (c"/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
        (c"/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ] {
        let file = call!(SYS_openat, libc::AT_FDCWD, path, libc::O_WRONLY | CLOEXEC, 0);
        call!(SYS_write, file, value.as_ptr() as usize, value.len());
        call!(SYS_close, file);
    }
    call!(SYS_setns, home, libc::CLONE_NEWNET);
    call!(SYS_close, home);
    (net, route)
}

fn control_group(limits: &Limits) -> i32 {
    let dir = limits.dir.as_c_str();
    call!(SYS_mkdir, dir, 0o755);
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | CLOEXEC;
    let group = call!(SYS_openat, libc::AT_FDCWD, dir, flags, 0);
    for (name, text) in &limits.files {
        let file = call!(SYS_openat, group, *name, libc::O_WRONLY | CLOEXEC, 0);
        call!(SYS_write, file, text.as_ptr() as usize, text.len());
        call!(SYS_close, file);
    }
    // SAFETY: the group's descriptor is open.
    let open = unsafe { BorrowedFd::borrow_raw(group) };
    if limits.devices.attach(open).is_err() {
        failed("BPF_PROG_ATTACH", -libc::EINVAL);
    }
    group
}

/// Looks for child groups, as the engine does (there are none), and removes the group.
fn remove(limits: &Limits, group: i32) {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | CLOEXEC;
    let dir = call!(SYS_openat, group, c".", flags, 0);
    let mut entries = [0u64; 4096];
    while call!(SYS_getdents64, dir, to(&mut entries), size_of_val(&entries)) > 0 {}
    call!(SYS_close, dir);
    let flags = libc::O_PATH | libc::O_DIRECTORY | CLOEXEC;
    let parent = call!(SYS_openat, libc::AT_FDCWD, limits.parent.as_c_str(), flags, 0);
    call!(SYS_unlinkat, parent, c"floor", libc::AT_REMOVEDIR);
    call!(SYS_close, parent);
}
