//! Figures for Prometheus and its kin, in the OpenMetrics text format.

use crate::body::Body;
use crate::error::Error;
use crate::router::{Answer, Call, with_type};
use ipc::control::Request;
use rest::{ErrorBody, Host, LastExit, LastExitDetail, State, Unit};
use serde::Deserialize;
use std::fmt::Write;

const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Figures in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "host", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text"),
    (status = "default", body = ErrorBody)))]
pub async fn metrics(call: Call) -> Answer {
    call.query.only(&[])?;
    let units = call.app.plain(&call.key, Request::Units).await?;
    let host = call.app.plain(&call.key, Request::Host).await?;
    let shape = |error| Error::failed(format!("an answer of another shape: {error}"));
    let units = Vec::<Unit>::deserialize(&units).map_err(shape)?;
    let host = Host::deserialize(&host).map_err(shape)?;
    Ok(with_type(KIND, Body::bytes(text(&units, &host))))
}

/// The whole text.
fn text(units: &[Unit], host: &Host) -> String {
    let mut out = String::new();
    of_units(&mut out, units);
    of_host(&mut out, host);
    out.push_str("# EOF\n");
    out
}

fn family(out: &mut String, name: &str, kind: &str, unit: Option<&str>, help: &str) {
    let _ = writeln!(out, "# TYPE {name} {kind}");
    if let Some(unit) = unit {
        let _ = writeln!(out, "# UNIT {name} {unit}");
    }
    let _ = writeln!(out, "# HELP {name} {help}");
}

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
    out.push_str(name);
    for (number, (label, text)) in labels.iter().enumerate() {
        let before = if number == 0 { '{' } else { ',' };
        let _ = write!(out, "{before}{label}=\"");
        for c in text.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

/// Milliseconds or microseconds as seconds, exactly: a float would round long times.
fn seconds(count: u64, per_second: u64) -> String {
    let width = if per_second == 1000 { 3 } else { 6 };
    format!("{}.{:0width$}", count / per_second, count % per_second)
}

/// A family with a sample for each unit that has one.
struct Each<'a> {
    out: &'a mut String,
    units: &'a [Unit],
}

impl Each<'_> {
    fn gauge<T: std::fmt::Display>(
        &mut self,
        name: &str,
        unit: Option<&str>,
        help: &str,
        value: impl Fn(&Unit) -> Option<T>,
    ) {
        family(self.out, name, "gauge", unit, help);
        self.samples(name, value);
    }

    fn counter<T: std::fmt::Display>(
        &mut self,
        name: &str,
        unit: Option<&str>,
        help: &str,
        value: impl Fn(&Unit) -> Option<T>,
    ) {
        family(self.out, name, "counter", unit, help);
        self.samples(&format!("{name}_total"), value);
    }

    fn samples<T: std::fmt::Display>(&mut self, name: &str, value: impl Fn(&Unit) -> Option<T>) {
        for one in self.units {
            if let Some(value) = value(one) {
                sample(self.out, name, &[("unit", &one.name)], value);
            }
        }
    }
}

fn of_units(out: &mut String, units: &[Unit]) {
    family(out, "keel_unit_state", "stateset", None, "What the unit does now.");
    for unit in units {
        for state in State::ALL {
            let labels = [("unit", unit.name.as_str()), ("keel_unit_state", state.name())];
            sample(out, "keel_unit_state", &labels, u8::from(unit.state == state));
        }
    }
    family(out, "keel_unit_last_exit", "info", None, "How the unit's last run ended.");
    for unit in units {
        if let Some(exit) = &unit.last_exit {
            let detail = detail(exit);
            let labels =
                [("unit", unit.name.as_str()), ("cause", &exit.cause), ("detail", &detail)];
            sample(out, "keel_unit_last_exit_info", &labels, 1);
        }
    }
    let each = &mut Each { out, units };
    each.gauge("keel_unit_ready", None, "Whether those that require it may start.", |unit| {
        Some(u8::from(unit.ready))
    });
    each.gauge("keel_unit_healthy", None, "Whether its health checks succeed.", |unit| {
        unit.health.as_ref().map(|health| u8::from(health.state == "healthy"))
    });
    each.gauge(
        "keel_unit_in_state_since_seconds",
        Some("seconds"),
        "Uptime of the host when the unit came into its state.",
        |unit| Some(seconds(unit.since_ms, 1000)),
    );
    each.counter("keel_unit_starts", None, "Runs of the unit in this boot.", |unit| {
        Some(unit.generation)
    });
    each.counter("keel_unit_restarts", None, "Starts that the restart policy made.", |unit| {
        Some(unit.restarts)
    });
    each.counter("keel_unit_failures", None, "Failed attempts.", |unit| Some(unit.failures));
    each.counter("keel_unit_cpu_seconds", Some("seconds"), "Processor time used.", |unit| {
        unit.cpu_usec.map(|time| seconds(time, 1_000_000))
    });
    each.gauge("keel_unit_memory_bytes", Some("bytes"), "Memory now.", |unit| unit.memory);
    each.gauge("keel_unit_memory_peak_bytes", Some("bytes"), "Memory at its peak.", |unit| {
        unit.memory_peak
    });
    each.gauge("keel_unit_tasks", None, "Processes and threads.", |unit| unit.pids);
    each.counter("keel_unit_log_lines", None, "Lines written.", |unit| Some(unit.log.lines));
    each.counter("keel_unit_log_bytes", Some("bytes"), "Bytes written.", |unit| {
        Some(unit.log.bytes)
    });
    each.counter(
        "keel_unit_log_evicted_lines",
        None,
        "Lines that are no longer in memory.",
        |unit| Some(unit.log.evicted),
    );
    each.counter(
        "keel_unit_log_lost_lines",
        None,
        "Lines that could not be written to the data disk.",
        |unit| Some(unit.log.lost),
    );
}

fn detail(exit: &LastExit) -> String {
    match &exit.detail {
        // Errors are for people; as labels they would make a new series each.
        Some(LastExitDetail::Number(number)) => number.to_string(),
        Some(LastExitDetail::Text(_)) | None => String::new(),
    }
}

fn of_host(out: &mut String, host: &Host) {
    family(out, "keel_host", "info", None, "The host.");
    let kernel = host.kernel.as_deref().unwrap_or_default();
    let labels =
        [("hostname", host.hostname.as_str()), ("version", &host.version), ("kernel", kernel)];
    sample(out, "keel_host_info", &labels, 1);
    family(out, "keel_host_uptime_seconds", "gauge", Some("seconds"), "Time since the boot.");
    sample(out, "keel_host_uptime_seconds", &[], seconds(host.uptime_ms, 1000));
    family(out, "keel_host_problems", "gauge", None, "Mistakes in the host folder.");
    sample(out, "keel_host_problems", &[], host.problems.len());
    family(out, "keel_host_data_disk", "gauge", None, "Whether the data disk is mounted.");
    sample(out, "keel_host_data_disk", &[], u8::from(host.data_disk.path.is_some()));
    family(out, "keel_host_addresses", "gauge", None, "Addresses of the uplinks.");
    sample(out, "keel_host_addresses", &[], host.net.addresses.len());
    family(out, "keel_host_address", "info", None, "An address of an uplink.");
    for (link, address) in &host.net.addresses {
        sample(out, "keel_host_address_info", &[("link", link), ("address", address)], 1);
    }
    if let Some(memory) = &host.memory {
        family(out, "keel_host_memory_bytes", "gauge", Some("bytes"), "The machine's memory.");
        sample(out, "keel_host_memory_bytes", &[], memory.total);
        let help = "Memory that programs could still get.";
        family(out, "keel_host_memory_available_bytes", "gauge", Some("bytes"), help);
        sample(out, "keel_host_memory_available_bytes", &[], memory.available);
    }
    let help = "Processor time the supervisor itself has used.";
    family(out, "keel_supervisor_cpu_seconds", "counter", Some("seconds"), help);
    let used = seconds(host.supervisor_cpu_usec, 1_000_000);
    sample(out, "keel_supervisor_cpu_seconds_total", &[], used);
    if let Some(boot) = &host.boot {
        let help = "Duration of each phase of the boot.";
        family(out, "keel_boot_phase_seconds", "gauge", Some("seconds"), help);
        let mut seen: Vec<&str> = Vec::new();
        for phase in &boot.phases {
            // Twice the same series would make the whole text invalid.
            if !seen.contains(&phase.name.as_str()) {
                seen.push(&phase.name);
                let took = phase.end_us.saturating_sub(phase.start_us);
                let labels = [("phase", phase.name.as_str())];
                sample(out, "keel_boot_phase_seconds", &labels, seconds(took, 1_000_000));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(json: &str) -> Unit {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn each_family_is_together_and_the_text_has_an_end() {
        let units = [
            unit(
                r#"{"name":"a","state":"running","cpu_usec":1500000,"memory":7,
                "last_exit":{"cause":"code","detail":3},"health":{"state":"healthy"}}"#,
            ),
            unit(r#"{"name":"b","state":"backoff"}"#),
        ];
        let host: Host = serde_json::from_str(
            r#"{"hostname":"a\"b\\c","uptime_ms":1234,"net":{"addresses":[["eth0","10.0.0.1/24"]]},
                "boot":{"phases":[{"name":"x","start_us":5,"end_us":1000006},{"name":"x"}]}}"#,
        )
        .unwrap();
        let text = text(&units, &host);
        for line in [
            "keel_unit_state{unit=\"a\",keel_unit_state=\"running\"} 1",
            "keel_unit_state{unit=\"b\",keel_unit_state=\"running\"} 0",
            "keel_unit_cpu_seconds_total{unit=\"a\"} 1.500000",
            "keel_unit_last_exit_info{unit=\"a\",cause=\"code\",detail=\"3\"} 1",
            "keel_unit_healthy{unit=\"a\"} 1",
            "keel_host_info{hostname=\"a\\\"b\\\\c\",version=\"\",kernel=\"\"} 1",
            "keel_host_uptime_seconds 1.234",
            "keel_boot_phase_seconds{phase=\"x\"} 1.000001",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
        let mut families: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let all = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), all);
    }
}
