//! `ps`, `inspect`, `explain`, `start`, `stop`, `restart`, `kill`.

use super::args::Lifecycle;
use super::fleet::{Answer, Body, Fleet};
use super::progress::Progress;
use super::show;
use super::table::{Cell, Row, Tint};
use api_types::{ExitCause, Explanation, HealthState, Host, LastExit, Outcome, State, Unit};
use client::Error;
use client::client::{Client, from_json};
use client::http::url;
use serde_json::{Value, json};
use std::time::Duration;

const HEAD: [&str; 9] =
    ["NAME", "STATE", "RESTARTS", "UPTIME", "CPU", "MEMORY", "ADDRESS", "PORTS", "RELAXED"];

/// `keel ps`; `wide` adds the column of relaxed isolation settings.
pub fn ps(fleet: &Fleet, wide: bool) -> Result<u8, Error> {
    let columns = if wide { HEAD.len() } else { HEAD.len() - 1 };
    let answers = fleet.each(|client| {
        let json = client.get("/v1/units")?;
        let units: Vec<Unit> = from_json(json.clone())?;
        let host: Host = client.get_as("/v1/host")?;
        let row = |unit: &Unit| {
            let mut cells = vec![
                Cell::from(&unit.name),
                state(unit, host.uptime_ms),
                Cell::from(unit.restarts.to_string()),
                Cell::from(uptime(unit, host.uptime_ms)),
                Cell::from(unit.cpu_usec.map(show::cpu_time).unwrap_or_default()),
                Cell::from(unit.memory.map(show::bytes).unwrap_or_default()),
                Cell::from(unit.address.as_deref().unwrap_or_default()),
                Cell::from(unit.ports.join(", ")),
                match unit.weakenings.as_slice() {
                    [] => Cell::tinted("no", Tint::Good),
                    all => Cell::tinted(all.join("; "), Tint::Warn),
                },
            ];
            cells.truncate(columns);
            Row::Cells(cells)
        };
        let rows = units.iter().map(row).collect();
        Ok(Answer::new(json, Body::Rows(rows)))
    });
    fleet.show(HEAD.get(..columns).unwrap_or(&HEAD), answers)
}

/// How long the unit's current run has lasted.
pub fn uptime(unit: &Unit, now_ms: u64) -> String {
    let runs = matches!(unit.state, State::Running | State::Starting);
    if runs { show::duration_ms(now_ms.saturating_sub(unit.since_ms)) } else { String::new() }
}

/// The state, with its most important detail.
pub fn state(unit: &Unit, now_ms: u64) -> Cell {
    let word = unit.state.name();
    let health = unit.health.as_ref().map(|health| health.state);
    let (note, tint) = match unit.state {
        State::Running => match health {
            Some(HealthState::Unhealthy) => ("unhealthy".to_owned(), Tint::Bad),
            Some(HealthState::Healthy) => ("healthy".to_owned(), Tint::Good),
            _ => (String::new(), Tint::Good),
        },
        State::Failed => {
            let note = match (&unit.last_exit, &unit.reason) {
                (Some(exit), _) => exit_text(exit),
                (None, Some(_)) => "see inspect".to_owned(),
                (None, None) => String::new(),
            };
            (note, Tint::Bad)
        }
        State::Backoff => {
            let left = unit.next_retry_ms.map(|at| at.saturating_sub(now_ms));
            let when = left.map(|ms| format!("retry in {}", show::duration_ms(ms)));
            (when.unwrap_or_default(), Tint::Warn)
        }
        State::Starting | State::Waiting => (String::new(), Tint::Busy),
        State::Stopping if unit.stuck => ("still running after SIGKILL".to_owned(), Tint::Bad),
        State::Stopping => (String::new(), Tint::Busy),
        State::Stopped | State::Done => (String::new(), Tint::Dim),
    };
    let text = if note.is_empty() { word.to_owned() } else { format!("{word} ({note})") };
    Cell::tinted(text, tint)
}

/// How a run ended, briefly.
fn exit_text(exit: &LastExit) -> String {
    match &exit.cause {
        ExitCause::Code(code) => format!("exit code {code}"),
        ExitCause::Signal(number) => show::signal(i64::from(*number)),
        ExitCause::Oom => "out of memory".to_owned(),
        cause => cause.reason().replace('_', " "),
    }
}

/// `keel inspect`.
pub fn inspect(fleet: &Fleet, name: &str) -> Result<u8, Error> {
    let answers = fleet.each(|client| {
        let json = client.get(&url(&["v1", "units", name], &[]))?;
        let unit: Unit = from_json(json.clone())?;
        let host: Host = client.get_as("/v1/host")?;
        let lines = details(&unit, host.uptime_ms);
        Ok(Answer::new(json, Body::Lines(lines)))
    });
    fleet.show(&[], answers)
}

fn details(unit: &Unit, now_ms: u64) -> Vec<String> {
    let ago = |ms: u64| format!("{} ago", show::duration_ms(now_ms.saturating_sub(ms)));
    let mut facts: Vec<(&str, String)> = vec![("name", unit.name.clone())];
    let mut add = |key, value: Option<String>| {
        facts.extend(value.filter(|value| !value.is_empty()).map(|value| (key, value)));
    };
    add("description", Some(unit.description.clone()));
    let ready = if unit.ready { ", ready" } else { "" };
    add("state", Some(format!("{}{ready}", unit.state)));
    add("since", (unit.since_ms > 0).then(|| ago(unit.since_ms)));
    add("reason", unit.reason.clone());
    let by = unit.by.as_ref().map(|by| format!(" ({by})"));
    add("desired", Some(format!("{}{}", unit.desired, by.unwrap_or_default())));
    add("status text", unit.status_text.clone());
    add(
        "health",
        unit.health.as_ref().map(|health| {
            let error = health.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            format!("{}{error}", health.state)
        }),
    );
    add("pid", unit.pid.map(|pid| pid.to_string()));
    add(
        "last exit",
        unit.last_exit.as_ref().map(|exit| {
            let asked = if exit.asked { ", as requested" } else { "" };
            let detail = match &exit.cause {
                ExitCause::Health(text)
                | ExitCause::WaitTimeout(text)
                | ExitCause::SetupFailed(text) => format!(": {text}"),
                _ => String::new(),
            };
            let (when, ran) = (ago(exit.at), show::duration_ms(exit.ran_ms));
            format!("{}{detail}{asked}, {when}, after {ran}", exit_text(exit))
        }),
    );
    add("restarts", Some(format!("{} (failed attempts: {})", unit.restarts, unit.failures)));
    let retry = unit.next_retry_ms.map(|at| show::duration_ms(at.saturating_sub(now_ms)));
    add("retry in", retry);
    add("address", unit.address.clone());
    add("ports", Some(unit.ports.join(", ")));
    add(
        "memory",
        unit.memory.map(|memory| {
            let peak = unit.memory_peak.map(|peak| format!(" (peak {})", show::bytes(peak)));
            format!("{}{}", show::bytes(memory), peak.unwrap_or_default())
        }),
    );
    add("cpu", unit.cpu_usec.map(show::cpu_time));
    add("tasks", unit.pids.map(|pids| pids.to_string()));
    let log = &unit.log;
    let lost =
        if log.lost > 0 { format!(", {} not written to disk", log.lost) } else { String::new() };
    add("log", Some(format!("{} lines, {}{lost}", log.lines, show::bytes(log.bytes))));
    add("relaxed", Some(unit.weakenings.join(", ")));
    aligned(&facts)
}

/// `key   value`, one per line, aligned.
pub fn aligned(facts: &[(&str, String)]) -> Vec<String> {
    let width = facts.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + 3;
    facts.iter().map(|(key, value)| format!("{key:width$}{}", show::clean(value))).collect()
}

/// `keel explain`.
pub fn explain(fleet: &Fleet, name: &str) -> Result<u8, Error> {
    let answers = fleet.each(|client| {
        let json = client.get(&url(&["v1", "units", name, "explain"], &[]))?;
        let explanation: Explanation = from_json(json.clone())?;
        let lines = explanation.lines.iter().map(|line| show::clean(line)).collect();
        Ok(Answer::new(json, Body::Lines(lines)))
    });
    fleet.show(&[], answers)
}

/// `keel start`, `stop` and `restart`; `verb` is the last segment of the API's path.
pub fn lifecycle(fleet: &Fleet, verb: &str, args: &Lifecycle) -> Result<u8, Error> {
    let query: Vec<(&str, String)> =
        args.wait.iter().map(|seconds| ("wait", seconds.to_string())).collect();
    let longer = Duration::from_secs(args.wait.unwrap_or(0));
    let progress = args.wait.map(|_| {
        let state = if verb == "stop" { "has stopped" } else { "is ready" };
        Progress::start(format!("waiting until {} {state}", args.units.join(", ")))
    });
    let answers = fleet.each(|client| {
        let ask = |client: &mut Client, unit: &str| {
            client.post(&url(&["v1", "units", unit, verb], &query), None, longer)
        };
        for_units(client, &args.units, ask)
    });
    drop(progress);
    fleet.show(&[], answers)
}

/// `keel kill`.
pub fn kill(fleet: &Fleet, signal: &str, unit: &str) -> Result<u8, Error> {
    let answers = fleet.each(|client| {
        let ask = |client: &mut Client, unit: &str| {
            let path = url(&["v1", "units", unit, "signal"], &[]);
            client.post(&path, Some(&json!({"signal": signal})), Duration::ZERO)
        };
        for_units(client, &[unit.to_owned()], ask)
    });
    fleet.show(&[], answers)
}

/// Applies a request to one unit after the other. After an error the remaining units are still processed,
/// unless the host is unreachable or refuses.
fn for_units(
    client: &mut Client,
    units: &[String],
    ask: impl Fn(&mut Client, &str) -> Result<Value, Error>,
) -> Result<Answer, Error> {
    let mut answer = Answer::new(Value::Null, Body::Lines(Vec::new()));
    let (mut lines, mut json) = (Vec::new(), Vec::new());
    for unit in units {
        match ask(client, unit) {
            Ok(value) => {
                let outcome: Outcome = from_json(value.clone())?;
                lines.push(show::clean(&outcome.message));
                json.push(value);
            }
            Err(error) if error.is_answer() && !error.is_refusal() => {
                json.push(error.to_json());
                answer.errors.push(error);
            }
            Err(error) => return Err(error),
        }
    }
    answer.body = Body::Lines(lines);
    answer.json = match (json.len(), json.pop()) {
        (1, Some(only)) => only,
        (_, last) => Value::Array(json.into_iter().chain(last).collect()),
    };
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(json: Value) -> Unit {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_state_has_its_most_important_detail() {
        let text = |json: Value| {
            let row = Row::Cells(vec![state(&unit(json), 10_000)]);
            super::super::table::render(&["S"], &[row], false).lines().nth(1).unwrap().to_owned()
        };
        assert_eq!(text(json!({"name": "a", "state": "running"})), "running");
        let sick = json!({"name": "a", "state": "running", "health": {"state": "unhealthy"}});
        assert_eq!(text(sick), "running (unhealthy)");
        let later = json!({"name": "a", "state": "backoff", "next_retry_ms": 13_000});
        assert_eq!(text(later), "backoff (retry in 3s)");
        let exit = json!({"cause": "signal", "detail": 11});
        let dead = json!({"name": "a", "state": "failed", "last_exit": exit});
        assert_eq!(text(dead), "failed (SIGSEGV (11))");
    }

    #[test]
    fn inspect_omits_missing_values() {
        let lines = details(&unit(json!({"name": "a", "state": "stopped", "desired": "down"})), 5);
        let text = lines.join("\n");
        assert!(text.contains("name       a\nstate      stopped\ndesired    down"), "{text}");
        assert!(!text.contains("health"), "{text}");
    }
}
