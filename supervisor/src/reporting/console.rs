//! Console lines: each unit's events as they happen, and one table when the boot has settled.

use crate::config::{Config, port_text};
use crate::kernel::Kernel;
use crate::shell::now;
use ipc::{DataDisk, NetState};
use policy::{Core, Instant, Report, State, UnitStatus};
use std::collections::BTreeSet;

/// The table is printed after this at the latest, whatever has settled by then.
const SETTLE_MS: u64 = 20_000;

/// The console and the log.
pub struct Reporter {
    /// When the table is printed at the latest; `None`: it has been.
    table_due: Option<u64>,
    changed: bool,
    /// What the network waits for now.
    waiting: Vec<String>,
    /// The reasons that have been shown, without their numbers.
    waiting_shown: BTreeSet<String>,
    /// The API's line has been shown.
    api_shown: bool,
}

impl Reporter {
    /// Nothing has been printed yet; after a restart of the supervisor the table has been.
    pub fn new(restarted: bool, now: Instant) -> Reporter {
        let table_due = (!restarted).then(|| now.as_millis() + SETTLE_MS);
        Reporter {
            table_due,
            changed: true,
            waiting: Vec::new(),
            waiting_shown: BTreeSet::new(),
            api_shown: restarted,
        }
    }

    /// News about a unit.
    pub fn report(&mut self, kernel: &mut impl Kernel, unit: &str, report: &Report) {
        self.changed = true;
        let text = report.to_string();
        match report {
            // A one-shot that exits with 0 has ended too, and that is expected.
            Report::Ended { asked: false, what, .. } if !what.success() => {
                log::warn!("{unit}: {text}");
            }
            Report::Failed { .. }
            | Report::Unhealthy { .. }
            | Report::StopTimeout
            | Report::Stuck => log::warn!("{unit}: {text}"),
            _ => log::info!("{unit}: {text}"),
        }
        // The result of a start is printed instead: ready, or not.
        if !matches!(report, Report::Starting { .. } | Report::StartRequested { .. }) {
            line(kernel, unit, &text);
        }
    }

    /// Something about the host.
    pub fn note(&mut self, kernel: &mut impl Kernel, text: &str) {
        line(kernel, "", text);
    }

    /// The API listens, or does not; printed once a boot with the host's key, which is compared at the
    /// first connection.
    pub fn api(&mut self, kernel: &mut impl Kernel, listens: &str, host_key: &str) {
        log::info!("api: {listens}, host key {host_key}");
        if !std::mem::replace(&mut self.api_shown, true) {
            line(kernel, "api", listens);
            line(kernel, "", &format!("host key {host_key}"));
        }
    }

    /// The errors in the host folder.
    pub fn problems(&mut self, kernel: &mut impl Kernel, problems: &[String]) {
        for problem in problems {
            for line in problem.lines() {
                kernel.print(&format!("  {line}"));
            }
        }
    }

    /// The network has changed.
    pub fn network(&mut self, kernel: &mut impl Kernel, before: &NetState, now: &NetState) {
        if before.addresses != now.addresses {
            let addresses: Vec<String> =
                now.addresses.iter().map(|(link, address)| format!("{link} {address}")).collect();
            self.waiting_shown.clear();
            let text =
                if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") };
            log::info!("network: {text}");
            line(kernel, "network", &text);
        }
        self.waiting = now.waiting.clone();
        self.show_waiting(kernel);
    }

    /// Prints what the network waits for, each reason once. Not before the boot has settled: until then
    /// links still appear and servers still answer.
    fn show_waiting(&mut self, kernel: &mut impl Kernel) {
        if self.table_due.is_some() {
            return;
        }
        for reason in self.waiting.clone() {
            // The seconds in it change.
            let gist: String = reason.chars().filter(|c| !c.is_ascii_digit()).collect();
            if self.waiting_shown.insert(gist) {
                log::info!("network: {reason}");
                line(kernel, "network", &reason);
            }
        }
    }

    /// What became of the data disk.
    pub fn data_disk(&mut self, kernel: &mut impl Kernel, disk: &DataDisk) {
        line(kernel, "data", &disk.reason);
    }

    /// When [`Reporter::settle`] must be called even if nothing happens.
    pub fn due_ms(&self) -> Option<u64> {
        self.table_due
    }

    /// Prints the table once: as soon as no unit is starting any more.
    pub fn settle(&mut self, kernel: &mut impl Kernel, core: &Core, config: &Config) {
        let Some(due) = self.table_due else { return };
        let now = now(kernel);
        let late = now.as_millis() >= due;
        if !self.changed && !late {
            return;
        }
        self.changed = false;
        let all = core.statuses(now);
        let starting = |unit: &UnitStatus| {
            matches!(unit.state, State::Waiting | State::Starting)
                || (unit.state == State::Running && !unit.ready && unit.health.is_some())
        };
        let begun = all.iter().any(|unit| unit.generation > 0) || all.is_empty();
        if !late && (!begun || all.iter().any(starting)) {
            return;
        }
        self.table_due = None;
        kernel.print("");
        kernel.print(&format!(
            "  {:<16} {:<9} {:<9} {:<16} {}",
            "UNIT", "STATE", "RESTARTS", "ADDRESS", "PORTS"
        ));
        for unit in &all {
            let address =
                config.addresses.get(&unit.name).map(ToString::to_string).unwrap_or_default();
            let ports: Vec<String> = config
                .host
                .units
                .get(&unit.name)
                .and_then(|found| config.net_request(found))
                .map(|request| request.ports.iter().map(port_text).collect())
                .unwrap_or_default();
            let state = unit.state.to_string();
            let row = format!(
                "  {:<16} {state:<9} {:<9} {address:<16} {}",
                unit.name,
                unit.restarts,
                if unit.state == State::Failed {
                    unit.reason.clone().unwrap_or_default()
                } else {
                    ports.join(" ")
                }
            );
            kernel.print(row.trim_end());
        }
        kernel.print("");
        self.show_waiting(kernel);
    }
}

fn line(kernel: &mut impl Kernel, subject: &str, text: &str) {
    let seconds = now(kernel).as_millis() as f64 / 1000.0;
    kernel.print(&format!("  {seconds:>8.2}  {subject:<16} {text}"));
}
