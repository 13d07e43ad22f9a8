//! Programs that clients run in containers.

use crate::poller::Source;
use crate::running::actions::send_signal;
use crate::running::plan;
use crate::running::runs::Process;
use crate::shell::Shell;
use api_types::{ErrorCode, ExecRequest, ExitStatus, Problem};
use container::{Execution, Setup, Step};
use ipc::api::ToApi;
use ipc::{Answer, Reply};
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

/// Most programs at the same time.
const MAX: usize = 64;

/// One program.
#[derive(Debug)]
struct Session {
    pidfd: OwnedFd,
    /// Reports how its setup ends; none once that is known.
    status: Option<OwnedFd>,
    /// The client's ends, sent when the program runs.
    theirs: Vec<OwnedFd>,
    /// The supervisor's copy of its terminal.
    terminal: Option<OwnedFd>,
}

/// All programs, by the number of the request.
#[derive(Debug, Default)]
pub struct Execs {
    sessions: BTreeMap<u64, Session>,
}

impl Execs {
    /// Kills a program whose client has disconnected; its end is noticed as any other.
    pub fn kill(&mut self, id: u64) {
        if let Some(session) = self.sessions.get(&id) {
            send_signal(session.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    /// Kills all programs.
    pub fn kill_all(&mut self) {
        for session in self.sessions.values() {
            send_signal(session.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    /// Changes the size of a program's terminal.
    pub fn resize(&self, id: u64, rows: u16, columns: u16) -> Result<(), Problem> {
        let terminal = self.sessions.get(&id).and_then(|session| session.terminal.as_ref());
        let terminal = terminal.ok_or_else(|| {
            Problem::new(ErrorCode::Conflict, "the program has ended or has no terminal")
        })?;
        container::resize_terminal(terminal, rows, columns)
            .map_err(|errno| Problem::failed(errno.to_string()))
    }
}

/// The client's ends of a program's input and outputs, and the program's own.
struct Ends {
    ours: Vec<OwnedFd>,
    terminal: Option<OwnedFd>,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Shell {
    /// Starts a program. The answer comes later: its descriptors once it runs, or why it does not.
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
                "a program of this number is running already",
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
        // The later one of two would not be seen by every program.
        let name_of = |variable: &String| variable.split('=').next().map(str::to_owned);
        process.env.retain(|old| name_of(old).is_none_or(|name| !given.contains_key(&name)));
        process.env.extend(given.iter().map(|(name, value)| format!("{name}={value}")));
        let ends = match program.tty {
            None => pipes().map_err(|errno| failed("pipe", &errno))?,
            Some((rows, columns)) => {
                terminal(pid, &pidfd, rows, columns).map_err(|error| failed("terminal", &error))?
            }
        };
        let ids = self.runs.of(name).ids();
        let cgroup = self.runs.of(name).cgroup.clone();
        let cgroup =
            cgroup.ok_or_else(|| Problem::new(ErrorCode::Conflict, format!("{name} has ended")))?;
        let filter = self.config.filters.of(name);
        let filter = filter.map_err(|error| failed("seccomp filter", &error))?;
        let executed = container::exec(&Execution {
            pidfd: pidfd.as_fd(),
            cgroup: &cgroup,
            ids,
            process,
            seccomp: filter.as_deref(),
            stdin: Some(ends.stdin.as_fd()),
            stdout: ends.stdout.as_fd(),
            stderr: ends.stderr.as_fd(),
        })
        .map_err(|error| failed("exec", &error))?;
        self.runs.processes.insert(executed.pid, Process::Exec { id });
        let watched = self.poller.add(Source::Exec(id), &executed.status, EpollFlags::EPOLLIN);
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
        let answer = match container::read_status(status) {
            Ok(Setup::Pending | Setup::Prepared) => return,
            // Also if it was killed meanwhile: its end is reported after this.
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
            self.poller.remove(&Source::Exec(id), &status);
        }
        let theirs = std::mem::take(&mut session.theirs);
        let runs = matches!(answer, Answer::Ok(_));
        if !runs {
            self.api.execs.sessions.remove(&id);
        }
        self.api.answer(id, answer, if runs { theirs } else { Vec::new() });
    }

    /// A program has ended.
    pub(crate) fn exec_ended(&mut self, id: u64, status: ExitStatus) {
        self.exec_set_up(id);
        if self.api.execs.sessions.remove(&id).is_some() {
            self.api.tell(ToApi::Exited { id, status }, Vec::new());
        }
    }
}

fn pipes() -> std::io::Result<Ends> {
    let (stdin, to) = std::io::pipe()?;
    let (from, stdout) = std::io::pipe()?;
    let (from_err, stderr) = std::io::pipe()?;
    Ok(Ends {
        ours: vec![to.into(), from.into(), from_err.into()],
        terminal: None,
        stdin: stdin.into(),
        stdout: stdout.into(),
        stderr: stderr.into(),
    })
}

fn terminal(pid: i32, pidfd: &OwnedFd, rows: u16, columns: u16) -> Result<Ends, String> {
    let (ours, theirs) =
        container::open_terminal(pid, pidfd.as_fd()).map_err(|error| error.to_string())?;
    container::resize_terminal(&ours, rows, columns).map_err(|errno| errno.to_string())?;
    let copy = |fd: &OwnedFd| fd.try_clone().map_err(|error| error.to_string());
    Ok(Ends {
        terminal: Some(copy(&ours)?),
        ours: vec![ours],
        stdin: copy(&theirs)?,
        stdout: copy(&theirs)?,
        stderr: theirs,
    })
}
