//! `exec`: runs another program in a running container.

use crate::arguments;
use crate::cgroups;
use crate::config::{Config, Program};
use crate::console;
use crate::create::{Stdio, inherit, read};
use crate::delete::wrong_state;
use crate::error::{Error, sys};
use crate::run::{Outcome, with_child};
use crate::start::config;
use crate::status::{self, Status};
use crate::store::{Store, replace};
use crate::wait;
use container::{Execution, Setup, open_terminal, resize_terminal};
use std::os::fd::AsFd;

/// Runs a program in a container. Without `--detach` this waits for the program and
/// returns its exit code.
pub(crate) fn exec(store: &Store, wanted: &arguments::Exec) -> Result<u8, Error> {
    if wanted.detach {
        return start(store, wanted).map(|_| 0);
    }
    // Processes that the engine creates are children of the caller's parent. To wait for the
    // program, this process must be its parent.
    match with_child(|| start(store, wanted))? {
        Outcome::Runs { pid, pidfd, blocked } => wait::program(&blocked, pid, &pidfd),
        Outcome::Failed => Ok(1),
    }
}

/// Creates the process and waits until it runs; returns its process ID.
fn start(store: &Store, wanted: &arguments::Exec) -> Result<i32, Error> {
    let entry = store.open(&wanted.id)?;
    let state = entry.load()?.ok_or_else(|| Error::NoContainer(wanted.id.clone()))?;
    let (status, pidfd) = status::of(&entry, &state)?;
    let (Status::Running, Some(main), Some(identity)) = (status, pidfd, state.process) else {
        return Err(wrong_state(&wanted.id, status, "it must be running"));
    };
    let Some(cgroup) = cgroups::open(&state)? else { return Err(Error::Ended) };
    let config = config(&entry, &state)?;
    let program = program(&config, wanted)?;
    let (terminal, socket) = match (&program.terminal, &wanted.console_socket) {
        (None, _) => (None, None),
        (Some(size), Some(path)) => {
            let socket = console::connect(path)?;
            let (outer, inner) = open_terminal(identity.pid, main.as_fd())?;
            if let Some((rows, columns)) = size {
                resize_terminal(&outer, *rows, *columns).map_err(sys("TIOCSWINSZ"))?;
            }
            (Some((outer, inner)), Some(socket))
        }
        (Some(_), None) => {
            let text = "a terminal requires --console-socket";
            return Err(Error::Usage(text.to_owned()));
        }
    };
    let Stdio(stdin, stdout, stderr) = Stdio::own()?;
    let inner = terminal.as_ref().map(|(_, inner)| inner.as_fd());
    let executed = container::exec(&Execution {
        pidfd: main.as_fd(),
        cgroup: &cgroup,
        ids: state.ids,
        process: inherit(&program)?,
        seccomp: config.seccomp.as_ref(),
        stdin: Some(inner.unwrap_or(stdin.as_fd())),
        stdout: inner.unwrap_or(stdout.as_fd()),
        stderr: inner.unwrap_or(stderr.as_fd()),
    })?;
    if let Setup::Failed(error) = wait::set_up(&executed.status, &executed.pidfd)? {
        return Err(error.into());
    }
    if let (Some((outer, _)), Some(socket)) = (&terminal, &socket) {
        console::send(socket, outer)?;
    }
    if let Some(path) = &wanted.pid_file {
        replace(path, &executed.pid.to_string())?;
    }
    Ok(executed.pid)
}

/// The program to run: that of the `--process` file, or the container's own process with other
/// arguments.
fn program(config: &Config, wanted: &arguments::Exec) -> Result<Program, Error> {
    let mut program = match &wanted.process {
        Some(path) => Program::parse(&read(path)?)?,
        None => {
            let mut program = config.program.clone();
            program.process.argv.clone_from(&wanted.argv);
            program.terminal = wanted.tty.then_some(None);
            program
        }
    };
    let process = &mut program.process;
    for variable in &wanted.env {
        // Most programs use the first of two variables with the same name.
        process.env.retain(|old| old.split('=').next() != variable.split('=').next());
        process.env.push(variable.clone());
    }
    if let Some(cwd) = &wanted.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &wanted.user {
        if !user.chars().all(|c| c.is_ascii_digit() || c == ':') {
            return Err(Error::Usage(format!("--user {user}: must be numbers, UID or UID:GID")));
        }
        process.user.clone_from(user);
        process.groups = Some(Vec::new());
    }
    if let Some(groups) = &wanted.groups {
        process.groups = Some(groups.clone());
    }
    Ok(program)
}
