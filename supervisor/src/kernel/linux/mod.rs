//! The real kernel.

mod files;
mod layers;
mod machine;
mod observe;
mod poller;
pub(crate) mod processes;
mod sockets;

use crate::kernel::{
    CallError, ConnectError, Errno, ExecRequest, Executed, Handles, Kernel, NetNs, ProcessStatus,
    Source, StartRequest, Started, StateFile,
};
use crate::running::plan;
use container::{
    Cgroup, CgroupError, DeviceAccess, DeviceFilter, DeviceFilterError, DeviceRule, ExecError,
    Execution, IdRange, InsideError, Limits, NetNsError, Plan, Root, Setup, SpawnError, UserNs,
    UserNsError,
};
use ipc::{Channel, ChannelError, Service};
use kmsg::console::Console;
use layout::{Cmdline, paths};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::EpollFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{Shutdown, shutdown};
use poller::{Poller, Watched};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The kernel that this process runs on.
pub struct Linux {
    poller: Poller,
    console: Console,
    /// The device filter of all units without `devices`: they share one.
    usual_devices: Option<DeviceFilter>,
}

impl Linux {
    /// Nothing is watched yet.
    ///
    /// # Errors
    /// epoll_create1(2)'s.
    pub fn new() -> Result<Linux, CallError> {
        let poller = Poller::new().map_err(|errno| CallError::new("epoll_create1", errno))?;
        Ok(Linux { poller, console: Console::open(), usual_devices: None })
    }

    /// Watches the console while output is queued.
    fn watch_console(&mut self) {
        if let Some(console) = self.console.waiting() {
            let flags = EpollFlags::EPOLLOUT | EpollFlags::EPOLLONESHOT;
            // Already watched is fine.
            let _ = self.poller.add(Watched::Console, console, flags);
            let _ = self.poller.change(&Watched::Console, console, flags);
        }
    }
}

impl Handles for Linux {
    type Fd = OwnedFd;
    type Link = Channel;
    type Cgroup = Cgroup;
    type UserNs = UserNs;
}

impl Kernel for Linux {
    fn now_us(&self) -> u64 {
        ipc::clock::monotonic_us()
    }

    fn wait(&mut self, timeout_ms: Option<u64>) -> Vec<(Source, EpollFlags)> {
        self.watch_console();
        let mut ready = Vec::new();
        for (watched, flags) in self.poller.wait(timeout_ms) {
            match watched {
                Watched::Source(source) => ready.push((source, flags)),
                Watched::Console => self.console.flush(),
            }
        }
        ready
    }

    fn wait_for_link(&self, link: &Channel, timeout_ms: u16) -> Result<bool, CallError> {
        is_readable(link.as_fd(), PollTimeout::from(timeout_ms))
    }

    fn watch(&mut self, source: Source, fd: &OwnedFd, flags: EpollFlags) -> Result<(), CallError> {
        let done = self.poller.add(Watched::Source(source), fd, flags);
        done.map_err(|errno| CallError::new("epoll_ctl", errno))
    }

    fn rewatch(
        &mut self,
        source: &Source,
        fd: &OwnedFd,
        flags: EpollFlags,
    ) -> Result<(), CallError> {
        let done = self.poller.change(&Watched::Source(source.clone()), fd, flags);
        done.map_err(|errno| CallError::new("epoll_ctl", errno))
    }

    fn unwatch(&mut self, source: &Source, fd: &OwnedFd) {
        self.poller.remove(&Watched::Source(source.clone()), fd);
    }

    fn inherited(&self, number: i32) -> Result<Channel, ChannelError> {
        Channel::inherited(number)
    }

    fn shut_down(&self, link: &Channel) {
        let _ = shutdown(link.as_fd().as_raw_fd(), Shutdown::Both);
    }

    fn duplicate(&self, fd: &OwnedFd) -> Result<OwnedFd, CallError> {
        fd.try_clone().map_err(|error| CallError::new("dup", errno_of(&error)))
    }

    fn pipe(&self) -> Result<(OwnedFd, OwnedFd), CallError> {
        nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| CallError::new("pipe2", errno))
    }

    fn set_nonblocking(&self, fd: &OwnedFd) -> Result<(), CallError> {
        let done = fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        done.map(drop).map_err(|errno| CallError::new("fcntl", errno))
    }

    fn read(&self, fd: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
        retry(|| nix::unistd::read(fd, buffer))
    }

    fn write(&self, fd: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
        retry(|| nix::unistd::write(fd, bytes))
    }

    fn memory_file(&self, content: &[u8]) -> Result<OwnedFd, CallError> {
        let made = memfd_create(c"answer", MFdFlags::MFD_CLOEXEC);
        let mut file = File::from(made.map_err(|errno| CallError::new("memfd_create", errno))?);
        let written = file.write_all(content).and_then(|()| file.rewind());
        written.map_err(|error| CallError::new("write", errno_of(&error)))?;
        Ok(file.into())
    }

    fn cmdline(&self) -> Cmdline {
        Cmdline::read()
    }

    fn clock_was_raised(&self) -> Result<bool, CallError> {
        let report = observe::boot_report()?;
        Ok(report.phases.iter().any(|phase| phase.name == "clock" && !phase.note.is_empty()))
    }

    fn print(&mut self, line: &str) {
        self.console.line(line);
    }

    fn state_files(&self) -> Result<Vec<StateFile>, CallError> {
        files::load(Path::new(paths::RUN_UNITS))
    }

    fn save_state(&self, unit: &str, text: &str) -> Result<(), CallError> {
        files::save(Path::new(paths::RUN_UNITS), unit, text)
    }

    fn groups(&self) -> Result<BTreeSet<String>, CallError> {
        let failed = |error| CallError::new(paths::CGROUP_UNITS, errno_of(&error));
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(paths::CGROUP_UNITS).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_dir() {
                found.extend(entry.file_name().into_string());
            }
        }
        Ok(found)
    }

    fn create_group(&self, unit: &str, limits: &Limits) -> Result<Cgroup, CgroupError> {
        Cgroup::create(Path::new(paths::CGROUP_UNITS), unit, limits)
    }

    fn open_group(&self, unit: &str) -> Result<Cgroup, CgroupError> {
        Cgroup::open(&Path::new(paths::CGROUP_UNITS).join(unit))
    }

    fn group_events(&self, group: &Cgroup) -> Result<OwnedFd, CgroupError> {
        group.events_fd()
    }

    fn populated(&self, group: &Cgroup) -> Result<bool, CgroupError> {
        group.populated()
    }

    fn kill_group(&self, group: &Cgroup) -> Result<(), CgroupError> {
        group.kill()
    }

    fn oom_kills(&self, group: &Cgroup) -> Result<Option<u64>, CgroupError> {
        Ok(group.stats()?.oom_kill)
    }

    fn set_note(&self, group: &Cgroup, number: u64) -> Result<(), CgroupError> {
        group.set_note(number)
    }

    fn note(&self, group: &Cgroup) -> Option<u64> {
        group.note()
    }

    fn group_processes(&self, group: &Cgroup) -> Result<Vec<i32>, CgroupError> {
        processes::of_cgroup(group.path()).map_err(|error| CgroupError {
            action: "read",
            path: group.path().join("cgroup.procs"),
            errno: errno_of(&error),
        })
    }

    fn device_rule(&self, path: &Path) -> Option<DeviceRule> {
        DeviceRule::of_node(path, DeviceAccess::READ_WRITE).ok()
    }

    fn set_device_filter(
        &mut self,
        group: &Cgroup,
        rules: &[DeviceRule],
    ) -> Result<(), DeviceFilterError> {
        if rules.len() != DeviceRule::USUAL.len() {
            return DeviceFilter::load(rules)?.attach(group);
        }
        let filter = match self.usual_devices.take() {
            Some(filter) => filter,
            None => DeviceFilter::load(rules)?,
        };
        self.usual_devices.insert(filter).attach(group)
    }

    fn limit_io(
        &self,
        group: &Cgroup,
        path: &str,
        read: Option<u64>,
        write: Option<u64>,
    ) -> Result<(), CgroupError> {
        let disk = machine::whole_disk(path).ok_or_else(|| CgroupError {
            action: "limit the disk of",
            path: PathBuf::from(path),
            errno: Errno::ENODEV,
        })?;
        group.limit_io(disk, read, write)
    }

    fn mounted_layers(&self) -> Result<BTreeSet<String>, CallError> {
        layers::mounted()
    }

    fn mount_layer(&self, layer: &str) -> Result<(), CallError> {
        layers::mount(layer, &self.layer_path(layer))
    }

    fn layer_path(&self, layer: &str) -> PathBuf {
        Path::new(paths::RUN_LAYERS).join(layer)
    }

    fn make_dir(&self, path: &Path, mode: u32) -> Result<(), CallError> {
        files::make_dir(path, mode)
    }

    fn create_userns(&self, ids: IdRange) -> Result<UserNs, UserNsError> {
        container::create_userns(ids)
    }

    fn create_netns(&self, userns: Option<&UserNs>) -> Result<NetNs<OwnedFd>, NetNsError> {
        container::create_netns(userns).map(netns)
    }

    fn create_userns_and_netns(
        &self,
        ids: IdRange,
    ) -> Result<(UserNs, NetNs<OwnedFd>), NetNsError> {
        container::create_userns_and_netns(ids).map(|(userns, net)| (userns, netns(net)))
    }

    fn kept_userns(&self, ns: OwnedFd, ids: IdRange) -> UserNs {
        UserNs::from_fd(ns, ids)
    }

    fn duplicate_userns(&self, userns: &UserNs) -> Result<OwnedFd, CallError> {
        let copy = userns.as_fd().try_clone_to_owned();
        copy.map_err(|error| CallError::new("dup", errno_of(&error)))
    }

    fn notify_socket(&self, unit: &str) -> Result<OwnedFd, CallError> {
        sockets::notify(unit).map_err(|errno| CallError::new("notify socket", errno))
    }

    fn peek_notice(&self, socket: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
        sockets::receive(socket, buffer, nix::sys::socket::MsgFlags::MSG_PEEK)
    }

    fn drop_notice(&self, socket: &OwnedFd) {
        // What does not fit in the buffer goes with the rest (recv(2)).
        let _ = sockets::receive(socket, &mut [], nix::sys::socket::MsgFlags::empty());
    }

    fn spawn(&self, request: &StartRequest<'_, Linux>) -> Result<Started<OwnedFd>, SpawnError> {
        let container = &request.unit.container;
        let spawned = container::spawn(&Plan {
            hostname: plan::hostname(request.unit),
            staging: PathBuf::from(paths::RUN_STAGING),
            root: Root::Layers { layers: request.layers.clone(), writable_size: None },
            read_only: container.read_only,
            mounts: request.mounts.clone(),
            masked: vec![],
            read_only_paths: vec![],
            unmasked: container.unmask.clone(),
            sysctls: container.sysctls.clone().into_iter().collect(),
            files: request.files.clone(),
            devices: plan::devices(request.unit),
            process: request.process.clone(),
            userns: request.userns,
            netns: request.netns.map(AsFd::as_fd),
            seccomp: request.filter,
            cgroup: request.group,
            stdin: None,
            stdout: request.stdout.as_fd(),
            stderr: request.stderr.as_fd(),
            terminal: None,
            wait_for_go: request.wait_for_go,
            handover: None,
        })?;
        Ok(Started {
            pid: spawned.pid,
            pidfd: spawned.pidfd,
            status: spawned.status,
            go: spawned.go,
        })
    }

    fn exec(&self, request: &ExecRequest<'_, Linux>) -> Result<Executed<OwnedFd>, ExecError> {
        let executed = container::exec(&Execution {
            pidfd: request.pidfd.as_fd(),
            cgroup: request.group,
            ids: request.ids,
            process: request.process.clone(),
            seccomp: request.filter,
            stdin: request.stdin.map(AsFd::as_fd),
            stdout: request.stdout.as_fd(),
            stderr: request.stderr.as_fd(),
        })?;
        Ok(Executed { pid: executed.pid, pidfd: executed.pidfd, status: executed.status })
    }

    fn read_status(&self, status: &OwnedFd) -> Result<Setup, Errno> {
        container::read_status(status)
    }

    fn signal(&self, pidfd: &OwnedFd, signal: i32) -> Result<(), Errno> {
        container::send_signal(pidfd, signal)
    }

    fn has_ended(&self, pidfd: &OwnedFd) -> Result<bool, CallError> {
        is_readable(pidfd.as_fd(), PollTimeout::ZERO)
    }

    fn open_pidfd(&self, pid: i32) -> Result<OwnedFd, CallError> {
        // SAFETY: takes two numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = Errno::result(fd).map_err(|errno| CallError::new("pidfd_open", errno))?;
        // SAFETY: the kernel has just created this descriptor; nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    fn is_executed(&self, pid: i32) -> Result<bool, CallError> {
        processes::is_executed(pid)
    }

    fn process_status(&self, pid: i32) -> Result<ProcessStatus, CallError> {
        processes::status(pid)
    }

    fn signal_service(&self, service: Service, signal: i32) -> Result<i32, CallError> {
        processes::signal_service(service, signal)
    }

    fn open_terminal(&self, pid: i32, pidfd: &OwnedFd) -> Result<(OwnedFd, OwnedFd), InsideError> {
        container::open_terminal(pid, pidfd.as_fd())
    }

    fn resize_terminal(&self, terminal: &OwnedFd, rows: u16, columns: u16) -> Result<(), Errno> {
        container::resize_terminal(terminal, rows, columns)
    }

    fn connect(&self, netns: Option<&OwnedFd>, port: u16) -> Result<OwnedFd, ConnectError> {
        sockets::connect_loopback(netns, port)
    }

    fn is_connected(&self, socket: &OwnedFd) -> Result<bool, Errno> {
        sockets::is_connected(socket)
    }

    fn listen_control(&self) -> Result<OwnedFd, CallError> {
        let listener = sockets::listen(Path::new(paths::RUN_CONTROL));
        listener.map_err(|error| CallError::new(paths::RUN_CONTROL, errno_of(&error)))
    }

    fn accept_control(&self, listener: &OwnedFd) -> Option<OwnedFd> {
        sockets::accept(listener)
    }

    fn open_port(&self, name: &str) -> Option<OwnedFd> {
        sockets::open_port(name)
    }
}

fn netns(made: container::NetNs) -> NetNs<OwnedFd> {
    NetNs { ns: made.ns, route_socket: made.route_socket }
}

fn is_readable(fd: BorrowedFd<'_>, timeout: PollTimeout) -> Result<bool, CallError> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let ready = retry(|| poll(&mut fds, timeout));
    ready.map(|ready| ready > 0).map_err(|errno| CallError::new("poll", errno))
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

/// The error's number. An error without one is `EILSEQ` for invalid data, else `EIO`.
fn errno_of(error: &io::Error) -> Errno {
    match (error.raw_os_error(), error.kind()) {
        (Some(number), _) => Errno::from_raw(number),
        (None, io::ErrorKind::InvalidData) => Errno::EILSEQ,
        (None, _) => Errno::EIO,
    }
}
