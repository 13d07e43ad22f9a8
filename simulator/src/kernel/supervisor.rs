//! The machine as the supervisor sees it. Each method is one call: others may act before it, it may
//! fail with any error that its documentation names, and the supervisor may be killed before and
//! after it.

use super::handles::{Caller, SimFd, SimGroup, SimLink, SimUserNs};
use crate::machine::Machine;
use crate::machine::objects::{Id, Object};
use crate::machine::processes::{Life, Role};
use api_types::Clock;
use container::{
    CgroupError, DeviceFilterError, DeviceRule, ExecError, IdRange, InsideError, Limits,
    NetNsError, Setup, SpawnError, UserNsError,
};
use ipc::{ChannelError, Service};
use layout::Cmdline;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use supervisor::kernel::{
    CallError, ConnectError, EpollFlags, Errno, ExecRequest, Executed, Handles, Kernel, NetNs,
    Observe, ProcessStatus, Source, StartRequest, Started, StateFile,
};

/// Errors of calls that make a descriptor.
pub(super) const OPEN: &[Errno] = &[Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];

/// The supervisor's kernel.
pub struct SupervisorKernel {
    pub(super) caller: Caller,
}

impl SupervisorKernel {
    /// The kernel of the supervisor that runs now.
    pub(crate) fn new(caller: Caller) -> SupervisorKernel {
        SupervisorKernel { caller }
    }

    fn make(
        &self,
        name: &'static str,
        errors: &[Errno],
        object: impl FnOnce(&mut Machine) -> Result<Id, Errno>,
    ) -> Result<SimFd, Errno> {
        let opened = self.caller.fallible(name, errors, |machine| {
            let id = object(machine)?;
            Ok(self.caller.open(machine, id))
        })?;
        Ok(self.caller.own(opened))
    }

    fn made(
        &self,
        name: &'static str,
        errors: &[Errno],
        object: impl FnOnce(&mut Machine) -> Result<Id, Errno>,
    ) -> Result<SimFd, CallError> {
        self.make(name, errors, object).map_err(|errno| CallError::new(name, errno))
    }

    fn on_group<T>(
        &self,
        group: &SimGroup,
        action: &'static str,
        work: impl FnOnce(&mut Machine, &str) -> Result<T, Errno>,
    ) -> Result<T, CgroupError> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/units/{}", group.unit));
        self.caller
            .fallible(action, OPEN, |machine| work(machine, &group.unit))
            .map_err(|errno| CgroupError { action, path, errno })
    }

    fn nothing(&self, name: &'static str, errors: &[Errno]) -> Result<(), CallError> {
        self.caller.fallible(name, errors, |_| Ok(())).map_err(|errno| CallError::new(name, errno))
    }
}

impl Handles for SupervisorKernel {
    type Fd = SimFd;
    type Link = SimLink;
    type Cgroup = SimGroup;
    type UserNs = SimUserNs;
}

impl Observe for SupervisorKernel {
    fn clock(&self) -> Clock {
        Clock { time_us: 0, synchronized: true }
    }
}

impl Kernel for SupervisorKernel {
    fn now_us(&self) -> u64 {
        self.caller.machine.borrow().now_us
    }

    fn wait(&mut self, timeout_ms: Option<u64>) -> Vec<(Source, EpollFlags)> {
        self.wait_for_any(timeout_ms)
    }

    fn wait_for_link(&self, link: &SimLink, timeout_ms: u16) -> Result<bool, CallError> {
        self.nothing("poll", &[Errno::ENOMEM])?;
        let Some(world) = self.caller.world.upgrade() else { return Ok(false) };
        let deadline = self.now_us() + u64::from(timeout_ms) * 1000;
        let id = link.as_ref().id;
        let readable = world.wait_until(Some(deadline), |machine| {
            let end = machine.end_of(id)?;
            machine.link_readable(end).then_some(())
        });
        Ok(readable.is_some())
    }

    fn watch(&mut self, source: Source, fd: &SimFd, flags: EpollFlags) -> Result<(), CallError> {
        self.caller
            .fallible("epoll_ctl", &[Errno::ENOMEM, Errno::ENOSPC], |machine| {
                machine.watches.add(source, fd.number, fd.id, flags)
            })
            .map_err(|errno| CallError::new("epoll_ctl", errno))
    }

    fn rewatch(&mut self, source: &Source, fd: &SimFd, flags: EpollFlags) -> Result<(), CallError> {
        self.caller
            .fallible("epoll_ctl", &[Errno::ENOMEM], |machine| {
                machine.watches.modify(source, fd.number, flags)
            })
            .map_err(|errno| CallError::new("epoll_ctl", errno))
    }

    fn unwatch(&mut self, source: &Source, fd: &SimFd) {
        self.caller.call("epoll_ctl", |machine| machine.watches.remove(source, fd.number));
    }

    fn inherited(&self, number: i32) -> Result<SimLink, ChannelError> {
        let opened = self.caller.call("inherited", |machine| {
            let life = machine.supervisor?;
            let id = if number == ipc::fds::INIT { life.init } else { life.net };
            Some(self.caller.open(machine, id))
        });
        let opened =
            opened.ok_or(ChannelError::Sys { call: "fcntl(F_SETFD)", errno: Errno::EBADF })?;
        Ok(SimLink::from(self.caller.own(opened)))
    }

    fn shut_down(&self, link: &SimLink) {
        self.caller.call("shutdown", |machine| {
            if let Some(end) = machine.end_of(link.as_ref().id) {
                machine.shut_link(end);
            }
        });
    }

    fn duplicate(&self, fd: &SimFd) -> Result<SimFd, CallError> {
        self.made("dup", &[Errno::EMFILE], |machine| Ok(machine.refer(fd.id)))
    }

    fn pipe(&self) -> Result<(SimFd, SimFd), CallError> {
        let made = self.caller.fallible("pipe2", &[Errno::EMFILE, Errno::ENFILE], |machine| {
            let (reader, writer) = machine.make_pipe();
            Ok((self.caller.open(machine, reader), self.caller.open(machine, writer)))
        });
        let (reader, writer) = made.map_err(|errno| CallError::new("pipe2", errno))?;
        Ok((self.caller.own(reader), self.caller.own(writer)))
    }

    fn set_nonblocking(&self, _: &SimFd) -> Result<(), CallError> {
        self.nothing("fcntl", &[])
    }

    fn read(&self, fd: &SimFd, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.caller.call("read", |machine| machine.read(fd.id, buffer))
    }

    fn write(&self, fd: &SimFd, bytes: &[u8]) -> Result<usize, Errno> {
        self.caller.call("write", |machine| machine.write(fd.id, bytes))
    }

    fn memory_file(&self, _: &[u8]) -> Result<SimFd, CallError> {
        self.made("memfd_create", OPEN, |machine| Ok(machine.make(Object::Other)))
    }

    fn cmdline(&self) -> Cmdline {
        Cmdline::default()
    }

    fn clock_was_raised(&self) -> Result<bool, CallError> {
        self.nothing("boot report", OPEN).map(|()| false)
    }

    fn print(&mut self, line: &str) {
        self.caller.machine.borrow_mut().note("console", || line.to_owned());
    }

    fn state_files(&self) -> Result<Vec<StateFile>, CallError> {
        self.caller.call("state_files", Machine::read_state_files)
    }

    fn save_state(&self, unit: &str, text: &str) -> Result<(), CallError> {
        self.write_state(unit, text)
    }

    fn groups(&self) -> Result<BTreeSet<String>, CallError> {
        let read = self.caller.fallible("groups", OPEN, |machine| Ok(machine.group_names()));
        read.map_err(|errno| CallError::new("groups", errno))
    }

    fn create_group(&self, unit: &str, _: &Limits) -> Result<SimGroup, CgroupError> {
        let errors = [Errno::ENOSPC, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE];
        let made = self.make("create_group", &errors, |machine| {
            machine.group(unit);
            Ok(machine.make(Object::Group(unit.to_owned())))
        });
        let path = PathBuf::from(unit);
        let fd = made.map_err(|errno| CgroupError { action: "create", path, errno })?;
        Ok(SimGroup::new(fd, unit))
    }

    fn open_group(&self, unit: &str) -> Result<SimGroup, CgroupError> {
        let opened = self.make("open_group", OPEN, |machine| {
            if !machine.has_group(unit) {
                return Err(Errno::ENOENT);
            }
            Ok(machine.make(Object::Group(unit.to_owned())))
        });
        let path = PathBuf::from(unit);
        let fd = opened.map_err(|errno| CgroupError { action: "open", path, errno })?;
        Ok(SimGroup::new(fd, unit))
    }

    fn group_events(&self, group: &SimGroup) -> Result<SimFd, CgroupError> {
        let opened = self.make("group_events", OPEN, |machine| {
            Ok(machine.make(Object::GroupEvents(group.unit.clone())))
        });
        let path = PathBuf::from(&group.unit);
        opened.map_err(|errno| CgroupError { action: "open", path, errno })
    }

    fn populated(&self, group: &SimGroup) -> Result<bool, CgroupError> {
        self.on_group(group, "populated", |machine, unit| Ok(machine.is_populated(unit)))
    }

    fn kill_group(&self, group: &SimGroup) -> Result<(), CgroupError> {
        self.on_group(group, "kill_group", |machine, unit| {
            machine.note("supervisor", || format!("kills the cgroup of {unit}"));
            machine.check_kill(unit);
            machine.kill_group(unit);
            Ok(())
        })
    }

    fn oom_kills(&self, group: &SimGroup) -> Result<Option<u64>, CgroupError> {
        self.on_group(group, "oom_kills", |machine, unit| Ok(Some(machine.group(unit).oom_kills)))
    }

    fn set_note(&self, group: &SimGroup, number: u64) -> Result<(), CgroupError> {
        self.on_group(group, "set_note", |machine, unit| {
            machine.group(unit).note = Some(number);
            Ok(())
        })
    }

    fn note(&self, group: &SimGroup) -> Option<u64> {
        self.caller.call("note", |machine| machine.group(&group.unit).note)
    }

    fn group_processes(&self, group: &SimGroup) -> Result<Vec<i32>, CgroupError> {
        self.on_group(group, "group_processes", |machine, unit| {
            let alive = machine.processes.values().filter(|process| {
                process.group.as_deref() == Some(unit)
                    && matches!(process.life, Life::Alive | Life::Exiting | Life::FilesClosed)
            });
            Ok(alive.map(|process| process.pid).collect())
        })
    }

    fn device_rule(&self, _: &Path) -> Option<DeviceRule> {
        None
    }

    fn set_device_filter(
        &mut self,
        _: &SimGroup,
        _: &[DeviceRule],
    ) -> Result<(), DeviceFilterError> {
        let errors = [Errno::ENOMEM, Errno::EMFILE, Errno::EPERM];
        self.caller.fallible("bpf", &errors, |_| Ok(())).map_err(DeviceFilterError::Load)
    }

    fn limit_io(
        &self,
        group: &SimGroup,
        _: &str,
        _: Option<u64>,
        _: Option<u64>,
    ) -> Result<(), CgroupError> {
        self.on_group(group, "limit_io", |_, _| Ok(()))
    }

    fn mounted_layers(&self) -> Result<BTreeSet<String>, CallError> {
        let read =
            self.caller.fallible("mounted_layers", OPEN, |machine| Ok(machine.layers.clone()));
        read.map_err(|errno| CallError::new("mounted_layers", errno))
    }

    fn mount_layer(&self, layer: &str) -> Result<(), CallError> {
        let errors = [Errno::ENOMEM, Errno::ENODEV, Errno::EINVAL, Errno::EIO, Errno::EMFILE];
        self.caller
            .fallible("mount", &errors, |machine| {
                machine.layers.insert(layer.to_owned());
                Ok(())
            })
            .map_err(|errno| CallError::new("mount", errno))
    }

    fn layer_path(&self, layer: &str) -> PathBuf {
        PathBuf::from("/run/keel/layers").join(layer)
    }

    fn make_dir(&self, _: &Path, _: u32) -> Result<(), CallError> {
        self.nothing("mkdir", &[Errno::ENOSPC, Errno::EROFS, Errno::EIO, Errno::ENOMEM])
    }

    fn create_userns(&self, ids: IdRange) -> Result<SimUserNs, UserNsError> {
        let errors = [Errno::ENOSPC, Errno::EUSERS, Errno::ENOMEM, Errno::EAGAIN, Errno::ECHILD];
        let made = self.make("create_userns", &errors, |machine| {
            let number = machine.new_namespace();
            Ok(machine.make(Object::UserNs(number)))
        });
        let fd = made.map_err(|errno| UserNsError { action: "clone", errno })?;
        Ok(SimUserNs { fd, ids })
    }

    fn create_netns(&self, _: Option<&SimUserNs>) -> Result<NetNs<SimFd>, NetNsError> {
        self.new_netns()
    }

    fn create_userns_and_netns(
        &self,
        ids: IdRange,
    ) -> Result<(SimUserNs, NetNs<SimFd>), NetNsError> {
        let userns = self.create_userns(ids)?;
        let netns = self.create_netns(Some(&userns))?;
        Ok((userns, netns))
    }

    fn kept_userns(&self, ns: SimFd, ids: IdRange) -> SimUserNs {
        SimUserNs { fd: ns, ids }
    }

    fn duplicate_userns(&self, userns: &SimUserNs) -> Result<SimFd, CallError> {
        self.duplicate(userns.fd())
    }

    fn notify_socket(&self, unit: &str) -> Result<SimFd, CallError> {
        let errors = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOSPC];
        self.made("notify_socket", &errors, |machine| {
            machine.notices.remove(unit);
            Ok(machine.make(Object::Notify(unit.to_owned())))
        })
    }

    fn peek_notice(&self, socket: &SimFd, buffer: &mut [u8]) -> Option<usize> {
        self.caller.call("peek_notice", |machine| {
            let Object::Notify(unit) = machine.object(socket.id)?.clone() else { return None };
            let text = machine.notices.get(&unit)?.front()?;
            let size = text.len().min(buffer.len());
            buffer.get_mut(..size)?.copy_from_slice(text.get(..size)?);
            Some(size)
        })
    }

    fn drop_notice(&self, socket: &SimFd) {
        self.caller.call("drop_notice", |machine| {
            if let Some(Object::Notify(unit)) = machine.object(socket.id).cloned() {
                machine.notices.entry(unit).or_default().pop_front();
            }
        });
    }

    fn spawn(&self, request: &StartRequest<'_, Self>) -> Result<Started<SimFd>, SpawnError> {
        self.start_container(request)
    }

    fn exec(&self, request: &ExecRequest<'_, Self>) -> Result<Executed<SimFd>, ExecError> {
        self.start_program(request)
    }

    fn read_status(&self, status: &SimFd) -> Result<Setup, Errno> {
        self.caller.fallible("read_status", &[Errno::EIO, Errno::ENOMEM], |machine| {
            let Some(pipe) = machine.pipe_of(status.id) else { return Ok(Setup::Done) };
            Ok(match (pipe.failure.take(), pipe.writable) {
                (Some(failure), _) => Setup::Failed(failure),
                (None, true) => Setup::Pending,
                (None, false) => Setup::Done,
            })
        })
    }

    fn signal(&self, pidfd: &SimFd, signal: i32) -> Result<(), Errno> {
        self.send_signal(pidfd, signal)
    }

    fn has_ended(&self, pidfd: &SimFd) -> Result<bool, CallError> {
        self.caller
            .fallible("poll", &[Errno::ENOMEM], |machine| match machine.object(pidfd.id) {
                Some(Object::Pidfd(key)) => Ok(machine.is_dead(*key)),
                _ => Err(Errno::EBADF),
            })
            .map_err(|errno| CallError::new("poll", errno))
    }

    fn open_pidfd(&self, pid: i32) -> Result<SimFd, CallError> {
        self.made("pidfd_open", OPEN, |machine| {
            let key = machine.by_pid(pid).ok_or(Errno::ESRCH)?;
            Ok(machine.make(Object::Pidfd(key)))
        })
    }

    fn is_executed(&self, pid: i32) -> Result<bool, CallError> {
        self.caller
            .fallible("is_executed", &[Errno::ENOMEM], |machine| {
                let found = machine.by_pid(pid).and_then(|key| machine.processes.get(&key));
                let alive = found.filter(|process| process.life == Life::Alive);
                alive.map(|process| process.executed).ok_or(Errno::ENOENT)
            })
            .map_err(|errno| CallError::new("stat", errno))
    }

    fn process_status(&self, pid: i32) -> Result<ProcessStatus, CallError> {
        self.status_of(pid)
    }

    fn signal_service(&self, service: Service, signal: i32) -> Result<i32, CallError> {
        self.caller
            .fallible("signal_service", OPEN, |machine| {
                let found = machine.processes.values().find(|process| {
                    process.role == Role::Service(service) && process.life == Life::Alive
                });
                let pid = found.map(|process| process.pid).ok_or(Errno::ESRCH)?;
                let signal = Signal::try_from(signal)?;
                machine.signal_child(pid, signal);
                Ok(pid)
            })
            .map_err(|errno| CallError::new("pidfd_send_signal", errno))
    }

    fn open_terminal(&self, _: i32, _: &SimFd) -> Result<(SimFd, SimFd), InsideError> {
        Err(InsideError::NoTerminals)
    }

    fn resize_terminal(&self, _: &SimFd, _: u16, _: u16) -> Result<(), Errno> {
        Ok(())
    }

    fn connect(&self, _: Option<&SimFd>, _: u16) -> Result<SimFd, ConnectError> {
        let errors = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ECONNREFUSED];
        let made = self.make("connect", &errors, |machine| {
            let (delay, outcome) = machine.draw_probe();
            Ok(machine.begin_tcp(delay, outcome))
        });
        made.map_err(|errno| ConnectError::Failed(CallError::new("connect", errno)))
    }

    fn is_connected(&self, socket: &SimFd) -> Result<bool, Errno> {
        self.caller.call("is_connected", |machine| machine.tcp_state(socket.id))
    }

    fn listen_control(&self) -> Result<SimFd, CallError> {
        let errors = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOSPC];
        self.made("listen", &errors, |machine| Ok(machine.listen()))
    }

    fn accept_control(&self, _: &SimFd) -> Option<SimFd> {
        let opened = self.caller.call("accept", |machine| {
            if machine.fault("accept", OPEN).is_some() {
                return None;
            }
            let id = machine.accept()?;
            Some(self.caller.open(machine, id))
        })?;
        Some(self.caller.own(opened))
    }

    fn open_port(&self, _: &str) -> Option<SimFd> {
        None
    }
}
