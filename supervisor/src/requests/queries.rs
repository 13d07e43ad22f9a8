//! Control requests and their answers.

use crate::config::port_text;
use crate::kernel::{EpollFlags, Kernel};
use crate::requests::metrics;
use crate::running::actions::send_signal;
use crate::shell::Shell;
use ipc::Service;
use ipc::control::{HostReport, LogCounters, LogLine, Numbered, Request, Response, UnitReport};
use layout::paths;
use policy::{Command, Event};
use serde::Serialize;
use serde_json::Value;
use std::path::{Component, Path};

/// Bytes of a file that are given out at most.
const MAX_READ: u64 = 1024 * 1024;

/// Lines of a log that are given out at most at once.
const MAX_LINES: usize = 5_000;

/// Where files may be read.
const READABLE: &[&str] = &["/proc", "/sys", paths::RUN, paths::DATA];

impl<K: Kernel> Shell<K> {
    /// Handles what has come on a control connection.
    pub(crate) fn serve(&mut self, id: u64, flags: EpollFlags) {
        self.control.write(&mut self.kernel, id);
        for line in self.control.read(&mut self.kernel, id, flags) {
            let (number, body) = match serde_json::from_str::<Numbered<Request>>(&line) {
                Ok(request) => (request.id, self.carry_out(request.body)),
                Err(error) => (0, Err(format!("not a request: {error}"))),
            };
            let body = body.map_or_else(Response::Error, Response::Ok);
            let text = serde_json::to_string(&Numbered { id: number, body }).unwrap_or_default();
            self.control.answer(&mut self.kernel, id, &text);
        }
    }

    /// Carries a request out, whoever asks: that they may has been seen to.
    pub(crate) fn carry_out(&mut self, request: Request) -> Result<Value, String> {
        match request {
            Request::Units => {
                let names: Vec<String> = self.core.names().into_iter().map(str::to_owned).collect();
                let reports: Vec<UnitReport> =
                    names.iter().filter_map(|name| self.unit_report(name)).collect();
                json(&reports)
            }
            Request::Unit { name } => json(&self.unit_report(&name).ok_or_else(|| unknown(&name))?),
            Request::Explain { name } => {
                let mut lines =
                    self.core.explain(&name, self.now()).ok_or_else(|| unknown(&name))?;
                lines.extend(self.condition_reasons(&name));
                lines.extend(self.evidence(&lines));
                json(&lines)
            }
            Request::Start { name } => self.command(Command::Start { unit: name }),
            Request::Stop { name } => self.command(Command::Stop { unit: name }),
            Request::Restart { name } => self.command(Command::Restart { unit: name }),
            Request::SignalUnit { name, signal } => self.signal_unit(&name, signal),
            Request::Logs { name, tail } => self.logs(&name, tail),
            Request::Host => json(&self.host_report()),
            Request::Read { path } => self.read(&path),
            Request::List { path } => self.list(&path),
            Request::Dmesg => {
                let text = self.kernel.kernel_log().map_err(|error| error.to_string())?;
                Ok(Value::String(text))
            }
            Request::SignalService { service, signal } => self.signal_service(service, signal),
            Request::Shutdown { kind } => {
                self.request_shutdown(kind, "asked for".to_owned());
                Ok(Value::Null)
            }
        }
    }

    fn command(&mut self, command: Command) -> Result<Value, String> {
        self.core.check(&command).map_err(|refusal| refusal.to_string())?;
        let unit = command.unit().to_owned();
        self.feed(Event::Command(command));
        self.drain();
        json(&self.unit_report(&unit).ok_or_else(|| unknown(&unit))?)
    }

    fn signal_unit(&self, name: &str, signal: i32) -> Result<Value, String> {
        if !(1..=64).contains(&signal) {
            return Err(format!("{signal} is not a signal"));
        }
        self.core.status(name, self.now()).ok_or_else(|| unknown(name))?;
        let run = self.runs.get(name).and_then(|runtime| runtime.run.as_ref());
        let pidfd =
            run.and_then(|run| run.pidfd.as_ref()).ok_or_else(|| format!("{name} does not run"))?;
        send_signal(&self.kernel, pidfd, signal);
        Ok(Value::Null)
    }

    fn unit_report(&self, name: &str) -> Option<UnitReport> {
        let status = self.core.status(name, self.now())?;
        let unit = self.config.host.units.get(name);
        let request = unit.and_then(|unit| self.config.net_request(unit));
        let runtime = self.runs.get(name);
        let group = runtime.and_then(|runtime| runtime.cgroup.as_ref());
        let stats = group.and_then(|group| self.kernel.stats(group).ok()).unwrap_or_default();
        Some(UnitReport {
            status: serde_json::to_value(&status).unwrap_or_default(),
            address: request.as_ref().map(|request| request.address.to_string()),
            ports: request.iter().flat_map(|request| &request.ports).map(port_text).collect(),
            memory: stats.memory_current,
            memory_peak: stats.memory_peak,
            cpu_usec: stats.cpu_usec,
            pids: stats.pids_current,
            health_latency_us: runtime.and_then(|runtime| runtime.latency_us),
            log: self.log_counters(name),
            weakenings: unit.map(units::weakenings).unwrap_or_default(),
            timeline: runtime.map(|runtime| runtime.timeline).unwrap_or_default(),
        })
    }

    fn logs(&self, name: &str, tail: usize) -> Result<Value, String> {
        self.core.status(name, self.now()).ok_or_else(|| unknown(name))?;
        let lines = self.kernel.log_tail(name, tail.min(MAX_LINES))?;
        let lines: Vec<LogLine> = lines.iter().map(|line| line.to_log_line(0)).collect();
        json(&lines)
    }

    fn host_report(&self) -> HostReport {
        HostReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: self.config.host.host.hostname.clone(),
            uptime_ms: self.now().as_millis(),
            net: self.net_state.clone(),
            problems: self.config.problems.clone(),
            data_disk: self.data_disk.clone(),
            supervisor_cpu_usec: self.kernel.own_cpu_usec(),
            persists: self.persists,
            kernel: self.kernel.text("/proc/sys/kernel/osrelease").trim().to_owned(),
            boot: self.kernel.boot_report(),
            memory: metrics::memory(&self.kernel.text("/proc/meminfo")),
            clock: self.kernel.clock(),
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

    fn read(&self, path: &str) -> Result<Value, String> {
        let bytes = self.kernel.read_file(allowed(path)?, MAX_READ)?;
        Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn list(&self, path: &str) -> Result<Value, String> {
        let mut names = self.kernel.list_dir(allowed(path)?)?;
        names.sort();
        json(&names)
    }

    fn signal_service(&self, service: Service, signal: i32) -> Result<Value, String> {
        if !(1..=64).contains(&signal) {
            return Err(format!("{signal} is not a signal"));
        }
        let pid = self.kernel.signal_service(service, signal).map_err(|error| error.to_string())?;
        Ok(Value::from(pid))
    }
}

pub(crate) fn json(value: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(value).map_err(|error| error.to_string())
}

pub(crate) fn unknown(name: &str) -> String {
    format!("there is no unit {name}")
}

/// A path that may be read: absolute, without `..`, below one of `READABLE`.
pub fn allowed(path: &str) -> Result<&Path, String> {
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
        Err(format!("{} may not be read; only files below {}", path.display(), READABLE.join(", ")))
    }
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
