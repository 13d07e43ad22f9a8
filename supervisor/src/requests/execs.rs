//! Programs that clients run in containers.

use crate::kernel::{self, CallError, EpollFlags, Errno, Kernel, Source};
use crate::running::actions::send_signal;
use crate::running::plan;
use crate::running::runs::Process;
use crate::shell::Shell;
use api_types::{ErrorCode, ExecRequest, ExitStatus, Problem};
use container::{Setup, Step};
use ipc::api::ToApi;
use ipc::{Answer, Reply};
use std::collections::BTreeMap;

/// Maximum number of programs at the same time.
const MAX: usize = 64;

/// A running program.
#[derive(Debug)]
struct Session<F> {
    pidfd: F,
    /// The status pipe of its setup; `None` when the setup has ended.
    status: Option<F>,
    /// The descriptors that the client receives when the program runs.
    theirs: Vec<F>,
    /// The supervisor's duplicate of its terminal.
    terminal: Option<F>,
}

/// All running programs, by request number.
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

    /// Kills all programs.
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
    ) -> Result<(), Problem> {
        let terminal = self.sessions.get(&id).and_then(|session| session.terminal.as_ref());
        let terminal =
            terminal.ok_or_else(|| Problem::new(ErrorCode::Conflict, "terminal not found"))?;
        kernel
            .resize_terminal(terminal, rows, columns)
            .map_err(|errno| Problem::failed(errno.to_string()))
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
    /// Starts a program. The answer follows when its setup has ended: its descriptors, or the
    /// error.
    pub(crate) fn exec(
        &mut self,
        id: u64,
        name: &str,
        program: &ExecRequest,
    ) -> Result<(), Problem> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Problem::failed(format!("{name}: {what}: {error}"))
        };
        if program.command.is_empty() {
            return Err(Problem::new(ErrorCode::Invalid, "no command"));
        }
        if self.api.execs.sessions.contains_key(&id) {
            return Err(Problem::new(
                ErrorCode::Invalid,
                format!("request {id} already has a program"),
            ));
        }
        if self.api.execs.sessions.len() >= MAX {
            return Err(Problem::new(
                ErrorCode::Conflict,
                format!("{MAX} programs are running already"),
            ));
        }
        let (pid, pidfd) = self.running(name)?;
        let unit = self.config.host.units.get(name);
        let unit =
            unit.ok_or_else(|| Problem::new(ErrorCode::NotFound, "the unit is gone"))?.clone();
        let image = self.config.images.images.get(&unit.container.image);
        let image = image.ok_or_else(|| Problem::failed("the image is gone"))?;
        let mut process = plan::process(&unit, image).map_err(|error| failed("process", &error))?;
        process.argv = program.command.clone();
        let mut given = program.env.clone();
        if program.tty.is_some() {
            given.entry("TERM".to_owned()).or_insert_with(|| "xterm".to_owned());
        }
        // Not every program uses the later one of two variables with the same name.
        let name_of = |variable: &String| variable.split('=').next().map(str::to_owned);
        process.env.retain(|old| name_of(old).is_none_or(|name| !given.contains_key(&name)));
        process.env.extend(given.iter().map(|(name, value)| format!("{name}={value}")));
        let ends = match program.tty {
            None => pipes(&self.kernel).map_err(|error| failed("pipe", &error))?,
            Some((rows, columns)) => terminal(&self.kernel, pid, &pidfd, rows, columns)
                .map_err(|error| failed("terminal", &error))?,
        };
        let ids = self.runs.of(name).ids();
        let cgroup = self.runs.of(name).cgroup.clone();
        let cgroup =
            cgroup.ok_or_else(|| Problem::new(ErrorCode::Conflict, "the container has ended"))?;
        let filter = self.config.filters.of(name);
        let filter = filter.map_err(|error| failed("seccomp filter", &error))?;
        let request = kernel::ExecRequest {
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
        let executed = executed.map_err(|error| failed("exec", &error))?;
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

    /// Reads the progress of a program's setup; when it is over, the client is answered.
    pub(crate) fn exec_set_up(&mut self, id: u64) {
        let Some(session) = self.api.execs.sessions.get_mut(&id) else { return };
        let Some(status) = &session.status else { return };
        let answer = match self.kernel.read_status(status) {
            Ok(Setup::Pending | Setup::Prepared) => return,
            // Also for a program that was killed meanwhile: its exit is sent after this.
            Ok(Setup::Done) => Answer::Ok(Reply::Done),
            Ok(Setup::Failed(error)) => {
                let code = match (error.step, error.errno) {
                    (Step::Exec, Errno::ENOENT | Errno::ENOTDIR) => ErrorCode::NoProgram,
                    (Step::Exec, _) => ErrorCode::NotExecutable,
                    _ => ErrorCode::Invalid,
                };
                Answer::Refused(Problem::new(code, error.to_string()))
            }
            Err(errno) => Answer::Refused(Problem::failed(errno.to_string())),
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
