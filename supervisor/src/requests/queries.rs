//! Requests of the control socket, and of the API where it makes the same ones, and their replies.

use crate::config::port_text;
use crate::kernel::{EpollFlags, Kernel};
use crate::requests::metrics;
use crate::running::actions::send_signal;
use crate::shell::Shell;
use api_types::{ErrorCode, Explanation, Host, LogCounters, Problem, Unit};
use ipc::control::{Numbered, Request};
use ipc::{Answer, Reply, Service};
use layout::paths;
use policy::{Command, Event};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

/// Maximum number of bytes of a file in one reply.
const MAX_READ: u64 = 1024 * 1024;

/// Maximum number of log lines in one reply.
const MAX_LINES: usize = 5_000;

/// Directories whose files may be read.
const READABLE: &[&str] = &["/proc", "/sys", paths::RUN, paths::DATA];

impl<K: Kernel> Shell<K> {
    /// Handles received requests of a control connection.
    pub(crate) fn serve(&mut self, id: u64, flags: EpollFlags) {
        self.control.write(&mut self.kernel, id);
        for line in self.control.read(&mut self.kernel, id, flags) {
            let (number, result) = match serde_json::from_str::<Numbered<Request>>(&line) {
                Ok(request) => (request.id, self.carry_out(request.body)),
                Err(error) => {
                    let message = format!("not a request: {error}");
                    (0, Err(Problem::new(ErrorCode::Invalid, message)))
                }
            };
            let answer = Numbered { id: number, body: Answer::from(result) };
            let text = serde_json::to_string(&answer).unwrap_or_default();
            self.control.answer(&mut self.kernel, id, &text);
        }
    }

    /// Carries out a request. Whether its sender may make it has been checked.
    pub(crate) fn carry_out(&mut self, request: Request) -> Result<Reply, Problem> {
        match request {
            Request::Units => {
                let units = self.core.statuses(self.now());
                Ok(Reply::Units(units.into_iter().map(|unit| self.complete(unit)).collect()))
            }
            Request::Unit { name } => self.unit(&name),
            Request::Explain { name } => self.explain(&name),
            Request::Start { name } => self.command(Command::Start { unit: name }),
            Request::Stop { name } => self.command(Command::Stop { unit: name }),
            Request::Restart { name } => self.command(Command::Restart { unit: name }),
            Request::SignalUnit { name, signal } => self.signal_unit(&name, signal),
            Request::Logs { name, tail } => self.logs(&name, tail),
            Request::Host => Ok(Reply::Host(Box::new(self.host_report()))),
            Request::Read { path } => self.read(&path).map(Reply::Text),
            Request::List { path } => self.list(&path).map(Reply::Names),
            Request::Dmesg => {
                let text = self.kernel.kernel_log();
                text.map(Reply::Text).map_err(|error| Problem::failed(error.to_string()))
            }
            Request::SignalService { service, signal } => {
                self.signal_service(service, signal).map(Reply::Pid)
            }
            Request::Shutdown { kind } => {
                self.request_shutdown(kind, "requested on the control socket".to_owned());
                Ok(Reply::Done)
            }
        }
    }

    fn command(&mut self, command: Command) -> Result<Reply, Problem> {
        self.core.check(&command)?;
        let unit = command.unit().to_owned();
        self.feed(Event::Command(command));
        self.drain();
        self.unit(&unit)
    }

    fn signal_unit(&self, name: &str, signal: i32) -> Result<Reply, Problem> {
        check_signal(signal)?;
        let state = self.known(name)?;
        let run = self.runs.get(name).and_then(|runtime| runtime.run.as_ref());
        let pidfd =
            run.and_then(|run| run.pidfd.as_ref()).ok_or_else(|| not_running(name, state))?;
        send_signal(&self.kernel, pidfd, signal);
        Ok(Reply::Done)
    }

    fn unit(&self, name: &str) -> Result<Reply, Problem> {
        let unit = self.core.status(name, self.now()).ok_or_else(|| unknown(name))?;
        Ok(Reply::Unit(Box::new(self.complete(unit))))
    }

    fn explain(&self, name: &str) -> Result<Reply, Problem> {
        let mut lines = self.core.explain(name, self.now()).ok_or_else(|| unknown(name))?;
        lines.extend(self.condition_reasons(name));
        lines.extend(self.failure_details(&lines));
        Ok(Reply::Explanation(Explanation { lines }))
    }

    /// Adds the fields of a unit's status that the policy does not know.
    fn complete(&self, status: Unit) -> Unit {
        let unit = self.config.host.units.get(&status.name);
        let request = unit.and_then(|unit| self.config.net_request(unit));
        let runtime = self.runs.get(&status.name);
        let group = runtime.and_then(|runtime| runtime.cgroup.as_ref());
        let stats = group.and_then(|group| self.kernel.stats(group).ok()).unwrap_or_default();
        Unit {
            address: request.as_ref().map(|request| request.address.to_string()),
            ports: request.iter().flat_map(|request| &request.ports).map(port_text).collect(),
            memory: stats.memory_current,
            memory_peak: stats.memory_peak,
            cpu_usec: stats.cpu_usec,
            pids: stats.pids_current,
            health_latency_us: runtime.and_then(|runtime| runtime.latency_us),
            log: self.log_counters(&status.name),
            weakenings: unit.map(units::relaxed_settings).unwrap_or_default(),
            timeline: runtime.map(|runtime| runtime.timeline).unwrap_or_default(),
            ..status
        }
    }

    fn logs(&self, name: &str, tail: usize) -> Result<Reply, Problem> {
        self.known(name)?;
        let lines = self.kernel.log_tail(name, tail.min(MAX_LINES));
        let lines = lines.map_err(|error| Problem::failed(format!("log of {name}: {error}")))?;
        Ok(Reply::Lines(lines.iter().map(|line| line.to_log_line(0)).collect()))
    }

    fn host_report(&self) -> Host {
        Host {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: self.config.host.host.hostname.clone(),
            uptime_ms: self.now().as_millis(),
            net: self.net_state.clone(),
            problems: self.config.problems.clone(),
            data_disk: self.data_disk.clone(),
            supervisor_cpu_usec: self.kernel.own_cpu_usec(),
            persists: self.persists,
            kernel: Some(self.kernel.text("/proc/sys/kernel/osrelease").trim().to_owned()),
            boot: Some(self.kernel.boot_report()),
            memory: Some(metrics::memory(&self.kernel.text("/proc/meminfo"))),
            clock: Some(self.kernel.clock()),
            disks: self.kernel.disks(self.data_disk.path.as_deref()),
            links: metrics::links(&self.kernel.text("/proc/net/dev")),
        }
    }

    fn log_counters(&self, name: &str) -> LogCounters {
        self.kernel
            .log_counters(name)
            .map(|counters| LogCounters {
                lines: counters.lines,
                bytes: counters.bytes,
                evicted: counters.evicted,
                lost: counters.lost,
            })
            .unwrap_or_default()
    }

    fn read(&self, path: &str) -> Result<String, Problem> {
        let path = allowed(path)?;
        let bytes = self.kernel.read_file(path, MAX_READ).map_err(|e| io_problem(path, &e))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Problem> {
        let path = allowed(path)?;
        let mut names = self.kernel.list_dir(path).map_err(|error| io_problem(path, &error))?;
        names.sort();
        Ok(names)
    }

    fn signal_service(&self, service: Service, signal: i32) -> Result<i32, Problem> {
        check_signal(signal)?;
        let sent = self.kernel.signal_service(service, signal);
        sent.map_err(|error| Problem::failed(format!("{}: {error}", service.applet())))
    }
}

pub(crate) fn unknown(name: &str) -> Problem {
    policy::Refusal::UnknownUnit(name.to_owned()).into()
}

/// The error of a request that requires a running unit.
pub(crate) fn not_running(name: &str, state: api_types::State) -> Problem {
    Problem::new(ErrorCode::Conflict, format!("{name} is not running: it is {state}"))
}

/// A path that may be read: absolute, without `..`, below one of `READABLE`.
///
/// # Errors
/// It may not be read.
pub fn allowed(path: &str) -> Result<&Path, Problem> {
    let path = Path::new(path);
    let plain =
        path.is_absolute() && path.components().all(|part| !matches!(part, Component::ParentDir));
    // Reading these waits for more, or changes something.
    let blocking = ["/proc/kmsg", "/proc/sysrq-trigger"].iter().any(|file| path == Path::new(file))
        || path.starts_with("/sys/kernel/debug")
        || path.starts_with("/sys/kernel/tracing");
    if plain && !blocking && READABLE.iter().any(|root| path.starts_with(root)) {
        Ok(path)
    } else {
        let (path, roots) = (path.display(), READABLE.join(", "));
        let message = format!("{path}: cannot be read; readable are files below {roots}");
        Err(Problem::new(ErrorCode::Forbidden, message))
    }
}

fn io_problem(path: &Path, error: &io::Error) -> Problem {
    let code = match error.kind() {
        ErrorKind::NotFound => ErrorCode::NotFound,
        ErrorKind::InvalidInput => ErrorCode::Invalid,
        _ => ErrorCode::Failed,
    };
    Problem::new(code, format!("{}: {error}", path.display()))
}

fn check_signal(signal: i32) -> Result<(), Problem> {
    if (1..=64).contains(&signal) {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::Invalid, format!("invalid signal {signal}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_some_places_may_be_read() {
        assert!(allowed("/proc/self/mounts").is_ok());
        for path in
            ["/etc/passwd", "/proc/../etc/passwd", "proc/x", "", "/procs", "/proc/kmsg", "/"]
        {
            assert!(allowed(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_a_request_or_an_error(text in "\\PC{0,200}") {
            let _ = serde_json::from_str::<Numbered<Request>>(&text);
        }
    }
}
