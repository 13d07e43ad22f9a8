//! Reading and writing, state files, and processes that the supervisor makes.

use crate::actors::container::{Run, Step};
use crate::machine::Machine;
use crate::machine::agenda::Event;
use crate::machine::objects::{Id, Object};
use crate::machine::processes::Role;
use container::{ExecError, SetupError, Step as SetupStep};
use ipc::ExitStatus;
use supervisor::kernel::{CallError, Errno, StateFile};
use units::model::{Kind, Unit};

/// References to what a process has been made with.
pub struct Made {
    pub(crate) pid: i32,
    pub(crate) pidfd: Id,
    pub(crate) status: Id,
    pub(crate) go: Option<Id>,
}

impl Machine {
    /// Reads from a non-blocking descriptor.
    pub(crate) fn read(&mut self, id: Id, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self.object(id) {
            Some(Object::Connection(number)) => {
                let number = *number;
                let Some(connection) = self.connections.get_mut(&number) else { return Ok(0) };
                let size = connection.to_server.len().min(buffer.len());
                if size == 0 {
                    return if connection.client_closed { Ok(0) } else { Err(Errno::EAGAIN) };
                }
                let bytes: Vec<u8> = connection.to_server.drain(..size).collect();
                if let Some(to) = buffer.get_mut(..size) {
                    to.copy_from_slice(&bytes);
                }
                Ok(size)
            }
            Some(Object::PipeReader(_)) => {
                let Some(pipe) = self.pipe_of(id) else { return Ok(0) };
                let size = pipe.bytes.len().min(buffer.len());
                if size == 0 {
                    return if pipe.writable { Err(Errno::EAGAIN) } else { Ok(0) };
                }
                for (to, byte) in buffer.iter_mut().zip(pipe.bytes.drain(..size)) {
                    *to = byte;
                }
                Ok(size)
            }
            _ => Err(Errno::EAGAIN),
        }
    }

    /// Writes to a non-blocking descriptor or an empty pipe.
    pub(crate) fn write(&mut self, id: Id, bytes: &[u8]) -> Result<usize, Errno> {
        match self.object(id) {
            Some(Object::Connection(number)) => {
                let number = *number;
                let Some(connection) = self.connections.get_mut(&number) else {
                    return Err(Errno::EPIPE);
                };
                if connection.client_closed {
                    return Err(Errno::EPIPE);
                }
                connection.to_client.extend_from_slice(bytes);
                let delay = self.rng.latency(500, 50_000);
                self.after(delay, Event::Person);
                Ok(bytes.len())
            }
            Some(Object::PipeWriter(_)) => {
                if self.write_pipe(id, bytes) {
                    Ok(bytes.len())
                } else {
                    Err(Errno::EPIPE)
                }
            }
            _ => Err(Errno::EAGAIN),
        }
    }

    /// Reads all state files.
    pub(crate) fn read_state_files(&mut self) -> Result<Vec<StateFile>, CallError> {
        let errors = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
        let units: Vec<String> = self.files.keys().cloned().collect();
        if let Some(errno) = self.fault("state_files", &errors) {
            return Err(CallError::new("state files", errno));
        }
        let mut files = Vec::new();
        for unit in units {
            let broken = self.fault("state_file_content", &[Errno::EIO, Errno::EILSEQ]);
            if broken.is_some() {
                self.checker.not_read(&unit);
            }
            let text = match broken.or_else(|| self.fault("state_file", &errors)) {
                Some(errno) => Err(CallError::new(format!("{unit}.json"), errno)),
                None => Ok(self.files.get(&unit).cloned().unwrap_or_default()),
            };
            files.push((unit, text));
        }
        Ok(files)
    }

    /// Starts a container.
    pub(crate) fn spawn(
        &mut self,
        unit: &Unit,
        netns: Option<Id>,
        waits: bool,
        outputs: [Id; 2],
    ) -> Made {
        let (generation, uncertain) = self.check_spawn(&unit.name);
        let script = self.draw_script(unit.kind == Kind::Oneshot);
        let network = netns.and_then(|id| match self.object(id) {
            Some(Object::NetNs(number)) => Some(*number),
            _ => None,
        });
        let (status, status_writer) = self.make_pipe();
        let go = waits.then(|| self.make_pipe());
        let number = self.runs.len();
        let key = self.new_process(Role::Main(number), 1, Some(unit.name.clone()));
        if let Some((reader, _)) = go
            && let Some(pipe) = self.pipe_of(reader)
        {
            pipe.go_of = Some(key);
        }
        for output in outputs {
            if let Some(pipe) = self.pipe_of(output) {
                pipe.output_of = Some(unit.name.clone());
            }
        }
        let mut holds = vec![status_writer];
        holds.extend(go.map(|(reader, _)| reader));
        holds.extend(outputs.map(|id| self.refer(id)));
        let now = self.now_us;
        let mut pid = 0;
        if let Some(process) = self.processes.get_mut(&key) {
            process.holds = holds;
            process.stuck_until = now + script.stuck_us;
            pid = process.pid;
        }
        let name = unit.name.clone();
        self.note("supervisor", || {
            format!("starts {name} (run {generation}) as {pid}: {script:?}")
        });
        self.after(script.setup_us, Event::Process(key, Step::SetUp));
        self.runs.push(Run {
            unit: unit.name.clone(),
            generation,
            uncertain,
            said_ready: false,
            noted: false,
            key,
            pid,
            script,
            network,
            status: status_writer,
            go: go.map(|(reader, _)| reader),
            waits: false,
            executed: false,
            abandoned: false,
            ended: None,
            oom: false,
            began_us: now,
            signalled: false,
        });
        let pidfd = self.make(Object::Pidfd(key));
        Made { pid, pidfd, status, go: go.map(|(_, writer)| writer) }
    }

    /// Runs a program in a container.
    pub(crate) fn exec_program(
        &mut self,
        pidfd: Id,
        unit: &str,
        outputs: [Id; 2],
    ) -> Result<Made, ExecError> {
        let main = match self.object(pidfd) {
            Some(Object::Pidfd(key)) if self.is_alive(*key) => *key,
            _ => {
                let detail = String::new();
                let errno = Errno::ESRCH;
                return Err(SetupError { step: SetupStep::Join, errno, detail }.into());
            }
        };
        let helper = self.new_process(Role::Helper, 1, Some(unit.to_owned()));
        // It may sit in the kernel (a dead disk, a hung mount), where SIGKILL does not reach it.
        let stuck = !self.calm && !self.options.benign && self.rng.percent(10);
        let lingers = if stuck { self.rng.below(3_000_000) } else { self.rng.latency(500, 20_000) };
        let now = self.now_us;
        if let Some(process) = self.processes.get_mut(&helper).filter(|_| stuck) {
            process.stuck_until = now + lingers;
        }
        self.after(lingers, Event::Process(helper, Step::End(ExitStatus::Code(0))));
        if !self.calm && self.rng.percent(2) {
            return Err(ExecError::NoAnswer);
        }
        let key = self.new_process(Role::Program(main), 1, Some(unit.to_owned()));
        let (status, status_writer) = self.make_pipe();
        self.release(status_writer);
        let holds = outputs.map(|id| self.refer(id)).to_vec();
        let (after, code) = match self.draw_probe() {
            (Some(after), Ok(())) => (after, 0),
            (Some(after), Err(_)) => (after, 1),
            (None, _) => (3_600_000_000, 0),
        };
        let mut pid = 0;
        if let Some(process) = self.processes.get_mut(&key) {
            process.holds = holds;
            process.executed = true;
            pid = process.pid;
        }
        self.after(after, Event::Process(key, Step::End(ExitStatus::Code(code))));
        self.note("supervisor", || format!("runs a program in {unit} as {pid}"));
        let pidfd = self.make(Object::Pidfd(key));
        Ok(Made { pid, pidfd, status, go: None })
    }

    /// PID 1 forks the child that unmounts.
    pub(crate) fn start_unmounting(&mut self) -> i32 {
        let key = self.new_process(Role::Unmount, 1, None);
        let takes = self.rng.latency(20_000, 5_000_000);
        self.after(takes, Event::Process(key, Step::End(ExitStatus::Code(0))));
        self.processes.get(&key).map_or(0, |process| process.pid)
    }
}
