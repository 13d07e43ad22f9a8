//! Requests to a running host, over its virtio port.

use crate::guest::Guest;
use api_types::{BootReport, ErrorCode, Explanation, Host, LogLine, Problem, Unit};
use ipc::control::{Numbered, Request};
use ipc::{Answer, Reply, Service};
use layout::paths;
use serde_json::Value;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A host that has not answered in this time will not: it was not listening yet.
const ANSWER_TIME: Duration = Duration::from_secs(5);

impl Guest {
    /// Makes a request, and fails the test if it is not answered, or with an error.
    pub fn ask<T: TryFrom<Reply>>(&self, request: &Request) -> T {
        match self.try_ask(request) {
            Ok(value) => value,
            Err(why) => self.fail(&format!("{request:?}: {why}")),
        }
    }

    /// Makes a request.
    pub fn try_ask<T: TryFrom<Reply>>(&self, request: &Request) -> Result<T, Problem> {
        let unanswered = |why: String| Problem::new(ErrorCode::Unavailable, why);
        let id = self.asked.get() + 1;
        self.asked.set(id);
        let numbered = Numbered { id, body: request.clone() };
        let line =
            serde_json::to_string(&numbered).map_err(|error| unanswered(error.to_string()))?;
        let mut text = self.exchange(&line).map_err(unanswered)?;
        loop {
            let answer: Numbered<Answer> = serde_json::from_str(&text)
                .map_err(|error| unanswered(format!("{text:?}: {error}")))?;
            match answer.body {
                // Of an exchange that was aborted: ours is behind it.
                _ if answer.id != id => text = self.next_line().map_err(unanswered)?,
                Answer::Ok(reply) => {
                    return T::try_from(reply)
                        .map_err(|_| unanswered(format!("{request:?}: unexpected {text}")));
                }
                Answer::Refused(problem) => return Err(problem),
            }
        }
    }

    /// Sends one raw line and returns the next line that comes back.
    pub fn exchange(&self, line: &str) -> Result<String, String> {
        {
            let mut link = self.link.borrow_mut();
            if link.is_none() {
                let socket = self.scratch.path().join("control");
                let stream = UnixStream::connect(socket).map_err(|error| error.to_string())?;
                let timeout = stream.set_read_timeout(Some(ANSWER_TIME));
                timeout.map_err(|error| error.to_string())?;
                *link = Some(BufReader::new(stream));
            }
            if let Some(stream) = link.as_mut() {
                // Two line ends: the first ends whatever an earlier, broken exchange left behind.
                let sent = write!(stream.get_mut(), "\n{line}\n");
                if let Err(error) = sent {
                    *link = None;
                    return Err(error.to_string());
                }
            }
        }
        self.next_line()
    }

    /// The next line that comes from the host. What is sent before the supervisor has opened its end is
    /// lost, so no answer is waited for without end.
    fn next_line(&self) -> Result<String, String> {
        let mut link = self.link.borrow_mut();
        let Some(stream) = link.as_mut() else { return Err("no link".to_owned()) };
        let mut answer = String::new();
        let mut result = Err(ErrorKind::WouldBlock.into());
        for _ in 0..8 {
            result = stream.read_line(&mut answer);
            // A part of a line that is on its way is worth waiting for.
            if result.is_ok() || answer.is_empty() {
                break;
            }
        }
        match result {
            Ok(read) if read > 0 => Ok(answer),
            other => {
                *link = None;
                Err(other
                    .map_or_else(|error| error.to_string(), |_| "the link is closed".to_owned()))
            }
        }
    }

    /// All units.
    pub fn units(&self) -> Vec<Unit> {
        self.ask(&Request::Units)
    }

    /// One unit.
    pub fn unit(&self, name: &str) -> Unit {
        self.ask(&Request::Unit { name: name.to_owned() })
    }

    /// A field of a unit's JSON, as text (`state`, `restarts`, …).
    pub fn field(&self, name: &str, field: &str) -> String {
        text_of(json(&self.unit(name)).get(field))
    }

    /// Waits until a unit is in this state.
    pub fn wait_state(&mut self, name: &str, state: &str) {
        let what = format!("{name} to be {state}");
        self.wait_for(&what, |guest| {
            let report: Unit = guest.try_ask(&Request::Unit { name: name.to_owned() }).ok()?;
            (report.state.name() == state).then_some(())
        });
    }

    /// Why a unit is in its state, line by line.
    pub fn explain(&self, name: &str) -> Vec<String> {
        self.ask::<Explanation>(&Request::Explain { name: name.to_owned() }).lines
    }

    /// The host itself.
    pub fn host(&self) -> Host {
        self.ask(&Request::Host)
    }

    /// Boot phases.
    pub fn boot_report(&self) -> BootReport {
        let text = self.read(paths::RUN_BOOT);
        match serde_json::from_str(&text) {
            Ok(report) => report,
            Err(error) => self.fail(&format!("{}: {error}", paths::RUN_BOOT)),
        }
    }

    /// The last lines that a unit wrote.
    pub fn logs(&self, name: &str, tail: usize) -> Vec<LogLine> {
        self.ask(&Request::Logs { name: name.to_owned(), tail })
    }

    /// Waits until a unit has written a line that contains `text`; the line.
    pub fn wait_log(&mut self, name: &str, text: &str) -> String {
        let what = format!("{name} to write {text:?}");
        self.wait_for(&what, |guest| {
            let request = Request::Logs { name: name.to_owned(), tail: 5000 };
            let lines: Vec<LogLine> = guest.try_ask(&request).ok()?;
            lines.into_iter().find(|line| line.text.contains(text)).map(|line| line.text)
        })
    }

    /// A file of the host below /proc, /sys, /run/keel or /data.
    pub fn read(&self, path: &str) -> String {
        self.ask(&Request::Read { path: path.to_owned() })
    }

    /// Process id of one of Keelhost's own processes; `None` while it does not run.
    pub fn service_pid(&self, service: Service) -> Option<i32> {
        let path = format!("{}/{}/cgroup.procs", paths::CGROUP_SYSTEM, service.applet());
        let text: String = self.try_ask(&Request::Read { path }).ok()?;
        text.lines().next()?.parse().ok()
    }

    /// Sends a signal to one of Keelhost's own processes. (The supervisor may die before it answers.)
    pub fn signal_service(&self, service: Service, signal: i32) {
        let _ = self.try_ask::<Reply>(&Request::SignalService { service, signal });
    }

    /// Proportional set size of a process of the host, KiB (proc_pid_smaps(5)).
    pub fn pss_kib(&self, pid: i32) -> u64 {
        let text = self.read(&format!("/proc/{pid}/smaps_rollup"));
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }
}

/// A number in a unit's JSON; fails the test if it has none of this name.
pub fn number(unit: &Unit, field: &str) -> u64 {
    let value = json(unit).get(field).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{field}: {unit:?}"))
}

fn json(unit: &Unit) -> Value {
    serde_json::to_value(unit).unwrap_or_default()
}

fn text_of(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}
