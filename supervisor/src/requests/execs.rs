//! Programs that people run in containers.

use crate::poller::Source;
use crate::requests::api::refusal;
use crate::running::actions::send_signal;
use crate::running::plan;
use crate::running::runs::Process;
use crate::shell::Shell;
use container::{Execution, Setup, Step};
use ipc::ExitStatus;
use ipc::api::{Answer, Code, Exec, Refusal, ToApi};
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

/// Programs at once.
const MAX: usize = 64;

/// One program.
#[derive(Debug)]
struct Session {
    pidfd: OwnedFd,
    /// Tells how its set-up ends; gone when that is known.
    status: Option<OwnedFd>,
    /// What the one who asked gets when the program runs.
    theirs: Vec<OwnedFd>,
    /// Our copy of its terminal.
    terminal: Option<OwnedFd>,
}

/// All of them, by the number of the ask.
#[derive(Debug, Default)]
pub struct Execs {
    sessions: BTreeMap<u64, Session>,
}

impl Execs {
    /// Kills a program that nobody looks at any more; its end is noticed as always.
    pub fn kill(&mut self, id: u64) {
        if let Some(session) = self.sessions.get(&id) {
            send_signal(session.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    /// Kills all of them.
    pub fn kill_all(&mut self) {
        for session in self.sessions.values() {
            send_signal(session.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    /// Changes the size of a program's terminal.
    pub fn resize(&self, id: u64, rows: u16, columns: u16) -> Result<(), Refusal> {
        let terminal = self.sessions.get(&id).and_then(|session| session.terminal.as_ref());
        let terminal =
            terminal.ok_or_else(|| refusal(Code::Conflict, "there is no such terminal"))?;
        container::resize_terminal(terminal, rows, columns)
            .map_err(|errno| refusal(Code::Failed, errno.to_string()))
    }
}

/// Our ends of a program's input and outputs, and its own.
struct Ends {
    ours: Vec<OwnedFd>,
    terminal: Option<OwnedFd>,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Shell {
    /// Begins a program. Its descriptors are answered when it runs, or why it does not.
    pub(crate) fn exec(&mut self, id: u64, asked: &Exec) -> Result<(), Refusal> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            refusal(Code::Failed, format!("{}: {what}: {error}", asked.name))
        };
        if asked.command.is_empty() {
            return Err(refusal(Code::Invalid, "no command"));
        }
        if self.api.execs.sessions.contains_key(&id) {
            return Err(refusal(Code::Invalid, "there is a program of this number"));
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
        // The later one of two would not be seen by every program.
        let name_of = |variable: &String| variable.split('=').next().map(str::to_owned);
        process.env.retain(|old| name_of(old).is_none_or(|name| !given.contains_key(&name)));
        process.env.extend(given.iter().map(|(name, value)| format!("{name}={value}")));
        let ends = match asked.tty {
            None => pipes().map_err(|errno| failed("pipe", &errno))?,
            Some((rows, columns)) => {
                terminal(pid, &pidfd, rows, columns).map_err(|error| failed("terminal", &error))?
            }
        };
        let ids = self.runs.of(&asked.name).ids();
        let cgroup = self.runs.of(&asked.name).cgroup.clone();
        let cgroup = cgroup.ok_or_else(|| refusal(Code::Conflict, "the container has ended"))?;
        let filter = self.config.filters.of(&asked.name);
        let filter = filter.map_err(|error| failed("its system calls", &error))?;
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
        .map_err(|error| failed("cannot run a program", &error))?;
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

    /// Looks at the set-up of a program: when that is over, the one who asked is answered.
    pub(crate) fn exec_set_up(&mut self, id: u64) {
        let Some(session) = self.api.execs.sessions.get_mut(&id) else { return };
        let Some(status) = &session.status else { return };
        let answer = match container::read_status(status) {
            Ok(Setup::Pending | Setup::Prepared) => return,
            // Also of one that was killed meanwhile: its end comes after this.
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
