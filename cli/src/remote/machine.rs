//! `info`, `dmesg`, `processes`, `config`, `reboot`, `poweroff`, `bundle`.

use super::args::Confirm;
use super::fleet::{Answer, Body, Fleet};
use super::output::print;
use super::progress::Progress;
use super::show;
use super::table::{Cell, Row};
use super::units::aligned;
use api_types::{ConfigValue, Host, Outcome, Process};
use client::Error;
use client::client::{Client, from_json};
use client::http::{Payload, Request};
use client::paths;
use client::tls::TIMEOUT;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::time::Duration;

/// `keel info`: details of one host, a table of several.
pub fn info(fleet: &Fleet) -> Result<u8, Error> {
    let answers = fleet.each(|client| {
        let json = client.get("/v1/host")?;
        let host: Host = from_json(json.clone())?;
        if fleet.several() {
            return Ok(Answer::new(json, Body::Rows(vec![info_row(&host)])));
        }
        let me: api_types::Client = client.get_as("/v1/whoami")?;
        Ok(Answer::new(json, Body::Lines(info_lines(&host, &me))))
    });
    let head = ["NAME", "VERSION", "UPTIME", "MEMORY FREE", "KERNEL", "PROBLEMS"];
    fleet.show(if fleet.several() { &head } else { &[] }, answers)
}

fn info_row(host: &Host) -> Row {
    Row::Cells(vec![
        Cell::from(&host.hostname),
        Cell::from(&host.version),
        Cell::from(show::duration_ms(host.uptime_ms)),
        Cell::from(host.memory.map(|memory| show::bytes(memory.available)).unwrap_or_default()),
        Cell::from(host.kernel.as_deref().unwrap_or_default()),
        Cell::from(host.problems.len().to_string()),
    ])
}

fn info_lines(host: &Host, me: &api_types::Client) -> Vec<String> {
    let mut facts = vec![
        ("name", host.hostname.clone()),
        ("version", host.version.clone()),
        ("uptime", show::duration_ms(host.uptime_ms)),
    ];
    facts.extend(host.kernel.iter().map(|kernel| ("kernel", kernel.clone())));
    facts.extend(host.memory.map(|memory| {
        let (free, all) = (show::bytes(memory.available), show::bytes(memory.total));
        ("memory", format!("{free} available of {all}"))
    }));
    let net = &host.net;
    facts.extend(net.addresses.iter().map(|(link, at)| ("address", format!("{at} on {link}"))));
    facts.extend(net.gateway.iter().map(|gateway| ("gateway", gateway.to_string())));
    if !net.dns.is_empty() {
        let servers: Vec<String> = net.dns.iter().map(ToString::to_string).collect();
        facts.push(("name servers", servers.join(", ")));
    }
    facts.extend(net.waiting.iter().map(|why| ("network not ready", why.clone())));
    let disk = &host.data_disk;
    facts.push((
        "data disk",
        match &disk.path {
            Some(path) => format!("{} at {path}", disk.reason),
            None => format!("none: {}", disk.reason),
        },
    ));
    if let Some(boot) = &host.boot {
        let end = boot.phases.iter().map(|phase| phase.end_us).max().unwrap_or(boot.start_us);
        let took = end.saturating_sub(boot.start_us) / 1000;
        facts.push(("boot", format!("{} phases, {}", boot.phases.len(), show::duration_ms(took))));
    }
    facts.push(("you are", format!("{} ({})", me.name, me.role)));
    let mut lines = aligned(&facts);
    for problem in &host.problems {
        lines.push(String::new());
        lines.extend(problem.lines().map(show::clean));
    }
    lines
}

/// `keel dmesg`.
pub fn dmesg(fleet: &Fleet) -> Result<u8, Error> {
    let answers = fleet.each(|client| {
        let headers = [("Accept", "text/plain")];
        let request = Request { method: "GET", path: "/v1/host/dmesg", headers: &headers };
        client.send(&request, Payload::None, TIMEOUT)?;
        let text = String::from_utf8_lossy(&client.read_all()?).into_owned();
        let lines = text.lines().map(show::clean_line).collect();
        Ok(Answer::new(json!({"dmesg": text}), Body::Lines(lines)))
    });
    fleet.show(&[], answers)
}

/// `keel processes`.
pub fn processes(fleet: &Fleet) -> Result<u8, Error> {
    let answers = fleet.each(|client| {
        let json = client.get("/v1/host/processes")?;
        let processes: Vec<Process> = from_json(json.clone())?;
        let row = |process: &Process| {
            let command = if process.command.is_empty() {
                format!("[{}]", process.name)
            } else {
                // An argument may have several lines, a cell has one.
                process.command.split_whitespace().collect::<Vec<_>>().join(" ")
            };
            Row::Cells(vec![
                Cell::from(process.pid.to_string()),
                Cell::from(process.parent.to_string()),
                Cell::from(process.uid.to_string()),
                Cell::from(process.unit.as_deref().unwrap_or_default()),
                Cell::from(&process.state),
                Cell::from(show::cpu_time(process.cpu_ms.saturating_mul(1000))),
                Cell::from(show::bytes(process.rss)),
                Cell::from(command),
            ])
        };
        let rows = processes.iter().map(row).collect();
        Ok(Answer::new(json, Body::Rows(rows)))
    });
    let head = ["PID", "PARENT", "USER", "UNIT", "STATE", "CPU", "MEMORY", "COMMAND"];
    fleet.show(&head, answers)
}

/// `keel config`.
pub fn config(fleet: &Fleet, unit: Option<&str>) -> Result<u8, Error> {
    let answers = fleet.each(|client| {
        let Value::Array(mut all) = client.get("/v1/host/config")? else {
            return Err(Error::garbled("the settings are not a list"));
        };
        if let Some(unit) = unit {
            all.retain(|value| value.get("unit").and_then(Value::as_str) == Some(unit));
        }
        let json = Value::Array(all);
        let values: Vec<ConfigValue> = from_json(json.clone())?;
        let row = |value: &ConfigValue| {
            Row::Cells(vec![
                Cell::from(value.unit.as_deref().unwrap_or_default()),
                Cell::from(&value.key),
                Cell::from(&value.value),
                Cell::from(&value.origin),
            ])
        };
        let rows = values.iter().map(row).collect();
        Ok(Answer::new(json, Body::Rows(rows)))
    });
    fleet.show(&["UNIT", "KEY", "VALUE", "FROM"], answers)
}

/// `keel reboot` and `keel poweroff`.
pub fn shutdown(fleet: &Fleet, verb: &str, args: &Confirm) -> Result<u8, Error> {
    let labels: Vec<&str> = fleet.targets.iter().map(|target| target.label.as_str()).collect();
    if !args.yes && !confirm(&format!("{verb} {}?", labels.join(", ")))? {
        return Err(Error::local("aborted"));
    }
    let answers = fleet.each(|client| {
        let json = client.post(&format!("/v1/host/{verb}"), None, Duration::ZERO)?;
        let outcome: Outcome = from_json(json.clone())?;
        Ok(Answer::new(json, Body::Lines(vec![show::clean(&outcome.message)])))
    });
    fleet.show(&[], answers)
}

/// Asks for confirmation on the terminal.
///
/// # Errors
/// Standard input is not a terminal or cannot be read.
pub fn confirm(question: &str) -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::usage(format!(
            "cannot ask `{question}`: standard input is not a terminal; confirm with --yes"
        )));
    }
    eprint!("{question} [y/N] ");
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Error::local(format!("standard input: {error}")))?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// `keel bundle`.
pub fn bundle(fleet: &Fleet, output: Option<&Path>) -> Result<u8, Error> {
    if output.is_some() {
        fleet.only("bundle --output")?;
    }
    let progress = Progress::start("collecting");
    let answers = fleet.each(|client| {
        let label: String = client
            .target()
            .label
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '-' })
            .collect();
        let path = match output {
            Some(path) => path.to_owned(),
            None => format!("keel-{label}.tar.gz").into(),
        };
        let bytes = fetch_bundle(client, &progress)?;
        if path == Path::new("-") {
            print(&bytes)?;
            return Ok(Answer::new(Value::Null, Body::Lines(Vec::new())));
        }
        paths::write_private(&path, &bytes)?;
        let line = format!("{} ({})", path.display(), show::bytes(bytes.len() as u64));
        let json = json!({"file": path, "bytes": bytes.len()});
        Ok(Answer::new(json, Body::Lines(vec![line])))
    });
    drop(progress);
    if output == Some(Path::new("-")) && answers.iter().all(|(_, answer)| answer.is_ok()) {
        return Ok(0);
    }
    fleet.show(&[], answers)
}

fn fetch_bundle(client: &mut Client, progress: &Progress) -> Result<Vec<u8>, Error> {
    let headers = [("Accept", "application/gzip")];
    let request = Request { method: "GET", path: "/v1/host/bundle", headers: &headers };
    client.send(&request, Payload::None, TIMEOUT.saturating_mul(2))?;
    let mut all = Vec::new();
    loop {
        let chunk = client.read_chunk()?;
        if chunk.is_empty() {
            return Ok(all);
        }
        progress.add(chunk.len());
        all.extend_from_slice(&chunk);
    }
}
