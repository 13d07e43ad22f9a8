//! Programs run in containers on request.

use crate::kernel::{CallError, EpollFlags, Errno, ExecRequest, Kernel, Source};
use crate::requests::api::refusal;
use crate::running::actions::send_signal;
use crate::running::plan;
use crate::running::runs::Process;
use crate::shell::Shell;
use container::{Setup, Step};
use ipc::ExitStatus;
use ipc::api::{Answer, Code, Exec, Refusal, ToApi};
use serde_json::Value;
use std::collections::BTreeMap;

/// Maximum number of programs at a time.
const MAX: usize = 64;

/// One program.
#[derive(Debug)]
struct Session<F> {
    pidfd: F,
    /// The status pipe of its setup; `None` when the setup has ended.
    status: Option<F>,
    /// What the client gets when the program runs.
    theirs: Vec<F>,
    /// Our copy of its terminal.
    terminal: Option<F>,
}

/// All of them, by the number of the request.
#[derive(Debug)]
pub struct Execs<F> {
    sessions: BTreeMap<u64, Session<F>>,
}

impl<F> Default for Execs<F> {
    fn default() -> Execs<F> {
        Execs { sessions: BTreeMap::new() }
    }
}

impl<F> Execs<F> {
    /// Kills a program that no client is connected to any more; its exit is handled as usual.
    pub fn kill(&mut self, kernel: &impl Kernel<Fd = F>, id: u64) {
        if let Some(session) = self.sessions.get(&id) {
            send_signal(kernel, &session.pidfd, libc::SIGKILL);
        }
    }

    /// Kills all of them.
    pub fn kill_all(&mut self, kernel: &impl Kernel<Fd = F>) {
        for session in self.sessions.values() {
            send_signal(kernel, &session.pidfd, libc::SIGKILL);
        }
    }

    /// Changes the size of a program's terminal.
    pub fn resize(
        &self,
        kernel: &impl Kernel<Fd = F>,
        id: u64,
        rows: u16,
        columns: u16,
    ) -> Result<(), Refusal> {
        let terminal = self.sessions.get(&id).and_then(|session| session.terminal.as_ref());
        let terminal = terminal.ok_or_else(|| refusal(Code::Conflict, "terminal not found"))?;
        kernel
            .resize_terminal(terminal, rows, columns)
            .map_err(|errno| refusal(Code::Failed, errno.to_string()))
    }
}

/// Both ends of a program's input and outputs.
struct Ends<F> {
    ours: Vec<F>,
    terminal: Option<F>,
    stdin: F,
    stdout: F,
    stderr: F,
}

impl<K: Kernel> Shell<K> {
    /// Starts a program. The answer follows when it runs: its descriptors, or why it does not run.
    pub(crate) fn exec(&mut self, id: u64, asked: &Exec) -> Result<(), Refusal> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            refusal(Code::Failed, format!("{}: {what}: {error}", asked.name))
        };
        if asked.command.is_empty() {
            return Err(refusal(Code::Invalid, "no command"));
        }
        if self.api.execs.sessions.contains_key(&id) {
            return Err(refusal(Code::Invalid, format!("request {id} already has a program")));
        }
        if self.api.execs.sessions.len() >= MAX {
            return Err(refusal(Code::Conflict, format!("{MAX} programs are running already")));
        }
        let (pid, pidfd) = self.running(&asked.name)?;
        let unit = self.config.host.units.get(&asked.name);
        let unit = unit.ok_or_else(|| refusal(Code::NotFound, "the unit is gone"))?.clone();
        let image = self.config.images.images.get(&unit.container.image);
        let image = image.ok_or_else(|| refusal(Code::Failed, "the image is gone"))?;
        let mut process =
            plan::process(&unit, image).map_err(|error| failed("its process", &error))?;
        process.argv = asked.command.clone();
        let mut given = asked.env.clone();
        if asked.tty.is_some() {
            given.entry("TERM".to_owned()).or_insert_with(|| "xterm".to_owned());
        }
        // Not every program uses the later one of two.
        let name_of = |variable: &String| variable.split('=').next().map(str::to_owned);
        process.env.retain(|old| name_of(old).is_none_or(|name| !given.contains_key(&name)));
        process.env.extend(given.iter().map(|(name, value)| format!("{name}={value}")));
        let ends = match asked.tty {
            None => pipes(&self.kernel).map_err(|error| failed("pipe", &error))?,
            Some((rows, columns)) => terminal(&self.kernel, pid, &pidfd, rows, columns)
                .map_err(|error| failed("terminal", &error))?,
        };
        let ids = self.runs.of(&asked.name).ids();
        let cgroup = self.runs.of(&asked.name).cgroup.clone();
        let cgroup = cgroup.ok_or_else(|| refusal(Code::Conflict, "the container has ended"))?;
        let filter = self.config.filters.of(&asked.name);
        let filter = filter.map_err(|error| failed("its system calls", &error))?;
        let request = ExecRequest {
            pidfd: &pidfd,
            group: &*cgroup,
            ids,
            process,
            filter: filter.as_deref(),
            stdin: Some(&ends.stdin),
            stdout: &ends.stdout,
            stderr: &ends.stderr,
        };
        let executed = self.kernel.exec(&request);
        let executed = executed.map_err(|error| failed("cannot run a program", &error))?;
        self.runs.processes.insert(executed.pid, Process::Exec { id });
        let watched = self.kernel.watch(Source::Exec(id), &executed.status, EpollFlags::EPOLLIN);
        if let Err(errno) = watched {
            log::error!("exec: epoll: {errno}");
        }
        let session = Session {
            pidfd: executed.pidfd,
            status: Some(executed.status),
            theirs: ends.ours,
            terminal: ends.terminal,
        };
        self.api.execs.sessions.insert(id, session);
        Ok(())
    }

    /// Reads the setup status of a program: when the setup is over, the request is answered.
    pub(crate) fn exec_set_up(&mut self, id: u64) {
        let Some(session) = self.api.execs.sessions.get_mut(&id) else { return };
        let Some(status) = &session.status else { return };
        let answer = match self.kernel.read_status(status) {
            Ok(Setup::Pending | Setup::Prepared) => return,
            // Also for a program that was killed meanwhile: its exit is sent after this.
            Ok(Setup::Done) => Answer::Ok(Value::Null),
            Ok(Setup::Failed(error)) => {
                let code = match (error.step, error.errno) {
                    (Step::Exec, Errno::ENOENT | Errno::ENOTDIR) => Code::NoProgram,
                    (Step::Exec, _) => Code::NotExecutable,
                    _ => Code::Invalid,
                };
                Answer::Refused(refusal(code, error.to_string()))
            }
            Err(errno) => Answer::Refused(refusal(Code::Failed, errno.to_string())),
        };
        if let Some(status) = session.status.take() {
            self.kernel.unwatch(&Source::Exec(id), &status);
        }
        let theirs = std::mem::take(&mut session.theirs);
        let runs = matches!(answer, Answer::Ok(_));
        if !runs {
            self.api.execs.sessions.remove(&id);
        }
        self.api.answer(&self.kernel, id, answer, if runs { theirs } else { Vec::new() });
    }

    /// A program has ended.
    pub(crate) fn exec_ended(&mut self, id: u64, status: ExitStatus) {
        self.exec_set_up(id);
        if self.api.execs.sessions.remove(&id).is_some() {
            self.api.tell(ToApi::Exited { id, status }, Vec::new());
        }
    }
}

fn pipes<K: Kernel>(kernel: &K) -> Result<Ends<K::Fd>, CallError> {
    let (stdin, to) = kernel.pipe()?;
    let (from, stdout) = kernel.pipe()?;
    let (from_err, stderr) = kernel.pipe()?;
    Ok(Ends { ours: vec![to, from, from_err], terminal: None, stdin, stdout, stderr })
}

fn terminal<K: Kernel>(
    kernel: &K,
    pid: i32,
    pidfd: &K::Fd,
    rows: u16,
    columns: u16,
) -> Result<Ends<K::Fd>, String> {
    let (ours, theirs) = kernel.open_terminal(pid, pidfd).map_err(|error| error.to_string())?;
    kernel.resize_terminal(&ours, rows, columns).map_err(|errno| errno.to_string())?;
    let copy = |fd: &K::Fd| kernel.duplicate(fd).map_err(|error| error.to_string());
    Ok(Ends {
        terminal: Some(copy(&ours)?),
        ours: vec![ours],
        stdin: copy(&theirs)?,
        stdout: copy(&theirs)?,
        stderr: theirs,
    })
}
