//! `keel top`.

use super::fleet::{Fleet, each_of};
use super::output::print;
use super::report::exit_status;
use super::show;
use super::table::{Cell, Row, Tint, render};
use super::terminal::{Raw, signals, size};
use super::units;
use api_types::{Host, Unit};
use client::Error;
use client::client::{Client, from_json};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

/// The state of one host at one moment.
struct Sample {
    json: Value,
    host: Host,
    units: Vec<Unit>,
}

fn sample(client: &mut Client) -> Result<Sample, Error> {
    let units = client.get("/v1/units")?;
    let host = client.get("/v1/host")?;
    let json = json!({"units": units.clone(), "host": host.clone()});
    Ok(Sample { json, host: from_json(host)?, units: from_json(units)? })
}

/// The CPU time of a unit (microseconds) at an uptime (milliseconds), by host and unit.
type CpuTimes = HashMap<(String, String), (u64, u64)>;

/// Shows the units continuously, on a terminal until `q` is pressed.
pub fn top(fleet: &Fleet, interval: u64, count: Option<u64>) -> Result<u8, Error> {
    let live = io::stdout().is_terminal() && io::stdin().is_terminal() && !fleet.json;
    let count = count.or_else(|| (!io::stdout().is_terminal() && !fleet.json).then_some(1));
    let mut screen = if live { Some(Screen::open()?) } else { None };
    let mut before = CpuTimes::new();
    let mut clients = fleet.clients();
    // CPU usage is known from the second sample on.
    if !live && !fleet.json {
        collect(fleet, &mut clients, &mut before);
        std::thread::sleep(Duration::from_secs(1));
    }
    let mut updates = 0;
    loop {
        let (text, code) = collect(fleet, &mut clients, &mut before);
        match &mut screen {
            Some(screen) => screen.draw(&text)?,
            None => print(text.as_bytes())?,
        }
        updates += 1;
        if count.is_some_and(|count| updates >= count) {
            return Ok(code);
        }
        match &mut screen {
            Some(screen) => {
                if screen.wait(interval)? {
                    return Ok(0);
                }
            }
            None => std::thread::sleep(Duration::from_secs(interval)),
        }
    }
}

/// Samples every host; returns the text, and the exit code if this is the last update. Connections are kept,
/// and lost ones are made again.
fn collect(fleet: &Fleet, clients: &mut [Client], before: &mut CpuTimes) -> (String, u8) {
    let answers = each_of(clients, sample);
    let code = answers
        .iter()
        .map(|(_, sample)| sample.as_ref().err().map_or(0, |error| exit_status(error.code())))
        .max();
    let code = code.unwrap_or(0);
    if fleet.json {
        let line = |(label, sample): &(String, Result<Sample, Error>)| {
            let mut value =
                sample.as_ref().map_or_else(Error::to_json, |sample| sample.json.clone());
            if let Value::Object(fields) = &mut value {
                fields.insert("name".to_owned(), Value::String(label.clone()));
            }
            format!("{value}\n")
        };
        return (answers.iter().map(line).collect(), code);
    }
    let mut text = String::new();
    let mut rows = Vec::new();
    for (label, answer) in &answers {
        let several = fleet.several().then(|| Cell::from(label));
        match answer {
            Ok(sample) => {
                text.push_str(&summary(&sample.host, &sample.units));
                rows.extend(sample.units.iter().map(|unit| {
                    let share = share(label, unit, sample.host.uptime_ms, before);
                    Row::Cells(
                        several
                            .clone()
                            .into_iter()
                            .chain(cells(unit, &sample.host, share))
                            .collect(),
                    )
                }));
            }
            Err(error) => {
                let cell = Cell::tinted(format!("error: {error}"), Tint::Bad);
                rows.push(Row::Across(Cell::from(label), cell));
            }
        }
    }
    let mut head = if fleet.several() { vec!["HOST"] } else { Vec::new() };
    head.extend(["NAME", "STATE", "CPU%", "MEMORY", "PEAK", "TASKS", "RESTARTS", "UPTIME"]);
    text.push('\n');
    text.push_str(&render(&head, &rows, fleet.color));
    (text, code)
}

fn summary(host: &Host, units: &[Unit]) -> String {
    let memory = host.memory.map(|memory| {
        let used = memory.total.saturating_sub(memory.available);
        format!(", memory {} of {}", show::bytes(used), show::bytes(memory.total))
    });
    let running = units.iter().filter(|unit| unit.state == api_types::State::Running).count();
    format!(
        "{}: up {}, {running} of {} units running{}\n",
        show::clean(&host.hostname),
        show::duration_ms(host.uptime_ms),
        units.len(),
        memory.unwrap_or_default()
    )
}

fn cells(unit: &Unit, host: &Host, share: Option<f64>) -> Vec<Cell> {
    vec![
        Cell::from(&unit.name),
        units::state(unit, host.uptime_ms),
        Cell::from(share.map(|share| format!("{share:.1}")).unwrap_or_default()),
        Cell::from(unit.memory.map(show::bytes).unwrap_or_default()),
        Cell::from(unit.memory_peak.map(show::bytes).unwrap_or_default()),
        Cell::from(unit.pids.map(|pids| pids.to_string()).unwrap_or_default()),
        Cell::from(unit.restarts.to_string()),
        Cell::from(units::uptime(unit, host.uptime_ms)),
    ]
}

/// CPU usage since the previous sample, in percent of one CPU.
fn share(label: &str, unit: &Unit, now_ms: u64, before: &mut CpuTimes) -> Option<f64> {
    let cpu = unit.cpu_usec?;
    let key = (label.to_owned(), unit.name.clone());
    let (cpu_before, then) = before.insert(key, (cpu, now_ms))?;
    let passed = now_ms.checked_sub(then).filter(|passed| *passed > 0)?;
    // The counter of a new run may start at 0.
    Some(cpu.saturating_sub(cpu_before) as f64 / (passed as f64 * 1000.0) * 100.0)
}

/// The terminal's alternate screen.
struct Screen {
    _raw: Raw,
    changed: std::os::unix::net::UnixStream,
    ending: std::os::unix::net::UnixStream,
}

impl Screen {
    fn open() -> Result<Screen, Error> {
        let local = |error: io::Error| Error::local(format!("terminal: {error}"));
        let changed = signals(&[libc::SIGWINCH]).map_err(local)?;
        let ending = [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT];
        let ending = signals(&ending).map_err(local)?;
        let raw = Raw::enter(b"\x1b[?7h\x1b[?25h\x1b[?1049l").map_err(local)?;
        print(b"\x1b[?1049h\x1b[?25l")?;
        Ok(Screen { _raw: raw, changed, ending })
    }

    fn draw(&mut self, text: &str) -> Result<(), Error> {
        let rows = size().map_or(24, |size| usize::from(size.rows));
        let mut frame = "\x1b[H\x1b[?7l".to_owned();
        for line in text.lines().take(rows.saturating_sub(1)) {
            frame.push_str(line);
            frame.push_str("\x1b[K\r\n");
        }
        frame.push_str("\x1b[J\x1b[?7h");
        print(frame.as_bytes())
    }

    /// Waits until the next update is due; true if the user wants to quit.
    fn wait(&mut self, seconds: u64) -> Result<bool, Error> {
        use std::io::Read;
        let timeout =
            PollTimeout::try_from(Duration::from_secs(seconds)).unwrap_or(PollTimeout::MAX);
        let stdin = io::stdin();
        let mut fds = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.changed.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.ending.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Error::local(format!("terminal: {error}"))),
        }
        let [keys, changed, ending] =
            fds.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        if changed {
            // The number of signals does not matter.
            let _ = self.changed.read(&mut [0; 64]);
        }
        if keys {
            let mut typed = [0; 64];
            let got = nix::unistd::read(io::stdin(), &mut typed).unwrap_or(0);
            let typed = typed.get(..got).unwrap_or_default();
            // In raw mode Ctrl-C is a byte (3). No bytes: the terminal is gone.
            return Ok(got == 0 || typed.iter().any(|byte| matches!(byte, b'q' | b'Q' | 3)));
        }
        Ok(ending)
    }
}
