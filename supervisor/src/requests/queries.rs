//! Control requests and their answers.

use crate::config::port_text;
use crate::now_us;
use crate::requests::metrics;
use crate::running::actions::send_signal;
use crate::shell::{Shell, now};
use crate::takeover::processes::procs;
use ipc::Service;
use ipc::control::{HostReport, LogCounters, LogLine, Numbered, Request, Response, UnitReport};
use layout::paths;
use nix::sys::epoll::EpollFlags;
use policy::{Command, Event};
use serde::Serialize;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Component, Path};

/// Bytes of a file that are given out at most.
const MAX_READ: u64 = 1024 * 1024;

/// Lines of a log that are given out at most at once.
const MAX_LINES: usize = 5_000;

/// Where files may be read.
const READABLE: &[&str] = &["/proc", "/sys", paths::RUN, paths::DATA];

impl Shell {
    /// Handles what has come on a control connection.
    pub(crate) fn serve(&mut self, id: u64, flags: EpollFlags) {
        self.control.write(&mut self.poller, id);
        for line in self.control.read(&mut self.poller, id, flags) {
            let (number, body) = match serde_json::from_str::<Numbered<Request>>(&line) {
                Ok(request) => (request.id, self.carry_out(request.body)),
                Err(error) => (0, Err(format!("not a request: {error}"))),
            };
            let body = body.map_or_else(Response::Error, Response::Ok);
            let text = serde_json::to_string(&Numbered { id: number, body }).unwrap_or_default();
            self.control.answer(&mut self.poller, id, &text);
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
                let mut lines = self.core.explain(&name, now()).ok_or_else(|| unknown(&name))?;
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
            Request::Read { path } => read(&path),
            Request::List { path } => list(&path),
            Request::Dmesg => Ok(Value::String(dmesg()?)),
            Request::SignalService { service, signal } => signal_service(service, signal),
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
        self.core.status(name, now()).ok_or_else(|| unknown(name))?;
        let run = self.runs.get(name).and_then(|runtime| runtime.run.as_ref());
        let pidfd =
            run.and_then(|run| run.pidfd.as_ref()).ok_or_else(|| format!("{name} does not run"))?;
        send_signal(pidfd.as_fd(), signal);
        Ok(Value::Null)
    }

    fn unit_report(&self, name: &str) -> Option<UnitReport> {
        let status = self.core.status(name, now())?;
        let unit = self.config.host.units.get(name);
        let request = unit.and_then(|unit| self.config.net_request(unit));
        let runtime = self.runs.get(name);
        let stats =
            runtime.and_then(|runtime| runtime.cgroup.as_ref()?.stats().ok()).unwrap_or_default();
        Some(UnitReport {
            status: serde_json::to_value(&status).unwrap_or_default(),
            address: request.as_ref().map(|request| request.address.to_string()),
            ports: request.iter().flat_map(|request| &request.ports).map(port_text).collect(),
            memory: stats.memory_current,
            memory_peak: stats.memory_peak,
            cpu_usec: stats.cpu_usec,
            pids: stats.pids_current,
            health_latency_us: runtime.and_then(|runtime| runtime.latency_us),
            log: log_counters(name),
            weakenings: unit.map(units::relaxed_settings).unwrap_or_default(),
            timeline: runtime.map(|runtime| runtime.timeline).unwrap_or_default(),
        })
    }

    fn logs(&self, name: &str, tail: usize) -> Result<Value, String> {
        self.core.status(name, now()).ok_or_else(|| unknown(name))?;
        let lines = match logger::tail(name, tail.min(MAX_LINES)) {
            Ok(lines) => lines,
            // Nothing has been written yet.
            Err(error) if error.is_absent() => Vec::new(),
            Err(error) => return Err(error.to_string()),
        };
        let lines: Vec<LogLine> = lines.iter().map(|line| line.to_log_line(0)).collect();
        json(&lines)
    }

    fn host_report(&self) -> HostReport {
        HostReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: self.config.host.host.hostname.clone(),
            uptime_ms: now_us() / 1000,
            net: self.net_state.clone(),
            problems: self.config.problems.clone(),
            data_disk: self.data_disk.clone(),
            supervisor_cpu_usec: metrics::own_cpu_usec(),
            persists: self.persists,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            boot: serde_json::from_str(&text(paths::RUN_BOOT)).unwrap_or_default(),
            memory: metrics::memory(&text("/proc/meminfo")),
            clock: metrics::clock(),
            disks: metrics::disks(self.data_disk.path.as_deref()),
            links: metrics::links(&text("/proc/net/dev")),
        }
    }
}

/// A small file, or nothing.
fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

pub(crate) fn json(value: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(value).map_err(|error| error.to_string())
}

pub(crate) fn unknown(name: &str) -> String {
    format!("there is no unit {name}")
}

fn log_counters(name: &str) -> LogCounters {
    logger::counters(name)
        .map(|counters| LogCounters {
            lines: counters.lines,
            bytes: counters.bytes,
            evicted: counters.evicted,
            lost: counters.lost,
        })
        .unwrap_or_default()
}

/// A path that may be read: absolute, without `..`, below one of [`READABLE`].
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

fn read(path: &str) -> Result<Value, String> {
    let path = allowed(path)?;
    let failed = |error| format!("{}: {error}", path.display());
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(format!("{}: not a regular file", path.display()));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_READ).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()))
}

fn list(path: &str) -> Result<Value, String> {
    let path = allowed(path)?;
    let entries = fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .take(10_000)
        .collect();
    names.sort();
    json(&names)
}

/// The kernel's ring buffer (syslog(2), SYSLOG_ACTION_READ_ALL).
fn dmesg() -> Result<String, String> {
    const READ_ALL: libc::c_int = 3;
    let mut buffer = vec![0u8; MAX_READ as usize];
    let size = libc::c_int::try_from(buffer.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the buffer is valid for writes of `size` bytes.
    let got = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), size) };
    let got = nix::errno::Errno::result(got).map_err(|errno| format!("syslog: {errno}"))?;
    buffer.truncate(usize::try_from(got).unwrap_or(0));
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

/// The signal goes to the process in the service's cgroup.
fn signal_service(service: Service, signal: i32) -> Result<Value, String> {
    if !(1..=64).contains(&signal) {
        return Err(format!("{signal} is not a signal"));
    }
    let cgroup = Path::new(paths::CGROUP_SYSTEM).join(service.applet());
    let pids = procs(&cgroup).map_err(|error| format!("{}: {error}", cgroup.display()))?;
    let pid = *pids.first().ok_or("it does not run now")?;
    // SAFETY: plain numbers; the process is one of ours, as its cgroup says.
    let done = unsafe { libc::kill(pid, signal) };
    nix::errno::Errno::result(done).map_err(|errno| format!("kill {pid}: {errno}"))?;
    Ok(Value::from(pid))
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
