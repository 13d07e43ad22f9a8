//! Metrics for Prometheus and compatible systems, in the OpenMetrics text format.
//!
//! Written by hand: the crate prometheus-client (0.26) has no state sets, and writes times as floats.

use crate::body::Body;
use crate::error::Error;
use crate::response::{Raw, with_type};
use crate::router::Call;
use api_types::{Disk, ExitCause, HealthState, Host, LastExit, Link, Pressure, Stall, State, Unit};
use ipc::api::ApiRequest;
use ipc::control::Request;
use std::collections::BTreeMap;
use std::fmt::Write;

const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Metrics in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "host", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text")))]
pub async fn metrics(call: Call) -> Result<Raw, Error> {
    call.query.only(&[])?;
    let units: Vec<Unit> = call.app.ask(&call.key, Request::Units).await?;
    let host: Host = call.app.ask(&call.key, Request::Host).await?;
    let pressure: Pressures = call.app.ask(&call.key, ApiRequest::Pressure).await?;
    Ok(Raw(with_type(KIND, Body::bytes(text(&units, &host, &pressure)))))
}

/// How long tasks of each unit have waited.
type Pressures = BTreeMap<String, Pressure>;

/// The whole text.
fn text(units: &[Unit], host: &Host, pressure: &Pressures) -> String {
    let mut out = String::new();
    of_units(&mut out, units);
    exits(&mut out, units);
    pressures(&mut out, pressure);
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
    family(out, "keel_unit_state", "stateset", None, "The state of the unit.");
    for unit in units {
        for state in State::ALL {
            let labels = [("unit", unit.name.as_str()), ("keel_unit_state", state.name())];
            sample(out, "keel_unit_state", &labels, u8::from(unit.state == state));
        }
    }
    family(out, "keel_unit_last_exit", "info", None, "How the unit's last run ended.");
    for unit in units {
        if let Some(exit) = &unit.last_exit {
            let (cause, detail) = cause_and_detail(exit);
            let labels = [("unit", unit.name.as_str()), ("cause", cause), ("detail", &detail)];
            sample(out, "keel_unit_last_exit_info", &labels, 1);
        }
    }
    let each = &mut Each { out, units };
    each.gauge("keel_unit_ready", None, "Whether the unit is ready.", |unit| {
        Some(u8::from(unit.ready))
    });
    each.gauge("keel_unit_healthy", None, "Whether its health checks pass.", |unit| {
        unit.health.as_ref().map(|health| u8::from(health.state == HealthState::Healthy))
    });
    each.gauge(
        "keel_unit_health_latency_seconds",
        Some("seconds"),
        "Duration of the last answered health check.",
        |unit| unit.health_latency_us.map(|time| seconds(time, 1_000_000)),
    );
    each.gauge(
        "keel_unit_in_state_since_seconds",
        Some("seconds"),
        "Uptime of the host when the unit entered its state.",
        |unit| Some(seconds(unit.since_ms, 1000)),
    );
    each.counter("keel_unit_starts", None, "Runs of the unit in this boot.", |unit| {
        Some(unit.generation)
    });
    each.counter("keel_unit_restarts", None, "Starts by the restart policy.", |unit| {
        Some(unit.restarts)
    });
    each.counter("keel_unit_failures", None, "Failed attempts.", |unit| Some(unit.failures));
    each.counter("keel_unit_cpu_seconds", Some("seconds"), "CPU time used.", |unit| {
        unit.cpu_usec.map(|time| seconds(time, 1_000_000))
    });
    each.gauge("keel_unit_memory_bytes", Some("bytes"), "Memory in use.", |unit| unit.memory);
    each.gauge("keel_unit_memory_peak_bytes", Some("bytes"), "Highest memory use.", |unit| {
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
        "Lines that newer ones have replaced in memory.",
        |unit| Some(unit.log.evicted),
    );
    each.counter(
        "keel_unit_log_lost_lines",
        None,
        "Lines that could not be written to the data disk.",
        |unit| Some(unit.log.lost),
    );
}

fn exits(out: &mut String, units: &[Unit]) {
    let help = "Ends of runs and of attempts to start, by reason.";
    family(out, "keel_unit_exits", "counter", None, help);
    for unit in units {
        for (reason, count) in &unit.exits {
            let labels = [("unit", unit.name.as_str()), ("reason", reason)];
            sample(out, "keel_unit_exits_total", &labels, count);
        }
    }
}

fn pressures(out: &mut String, pressure: &Pressures) {
    let name = "keel_unit_pressure_waiting_seconds";
    let help = "Time in which some of the unit's tasks, or all at once, waited for a resource.";
    family(out, name, "counter", Some("seconds"), help);
    for (unit, pressure) in pressure {
        let stalls = [("cpu", pressure.cpu), ("memory", pressure.memory), ("io", pressure.io)];
        for (resource, Stall { some_us, full_us }) in stalls {
            for (tasks, time) in [("some", some_us), ("all", full_us)] {
                let labels = [("unit", unit.as_str()), ("resource", resource), ("tasks", tasks)];
                sample(out, &format!("{name}_total"), &labels, seconds(time, 1_000_000));
            }
        }
    }
}

fn cause_and_detail(exit: &LastExit) -> (&'static str, String) {
    match &exit.cause {
        ExitCause::Code(code) => ("code", code.to_string()),
        ExitCause::Signal(signal) => ("signal", signal.to_string()),
        // Errors are for people; as labels each would make a new series.
        other => (other.reason(), String::new()),
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
    family(out, "keel_host_problems", "gauge", None, "Errors in the host folder.");
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
        let help = "Memory that programs can still allocate.";
        family(out, "keel_host_memory_available_bytes", "gauge", Some("bytes"), help);
        sample(out, "keel_host_memory_available_bytes", &[], memory.available);
    }
    of_machine(out, host);
    let help = "CPU time used by the supervisor.";
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

fn of_machine(out: &mut String, host: &Host) {
    if let Some(clock) = &host.clock {
        family(out, "keel_host_time_seconds", "gauge", Some("seconds"), "The clock, since 1970.");
        let time = u64::try_from(clock.time_us).unwrap_or(0);
        sample(out, "keel_host_time_seconds", &[], seconds(time, 1_000_000));
        let help = "Whether the clock is synchronized.";
        family(out, "keel_host_clock_synchronized", "gauge", None, help);
        sample(out, "keel_host_clock_synchronized", &[], u8::from(clock.synchronized));
    }
    let disks: [Family<Disk>; 2] = [
        ("keel_host_disk_size_bytes", "gauge", "Size of a file system.", |disk| disk.size),
        ("keel_host_disk_free_bytes", "gauge", "Free space of a file system.", |disk| disk.free),
    ];
    for family in disks {
        of_things(out, family, &host.disks, |disk| [("path", disk.path.as_str())]);
    }
    let links: [Family<Link>; 4] = [
        ("keel_host_link_received_bytes", "counter", "Bytes received.", |link| link.received_bytes),
        ("keel_host_link_sent_bytes", "counter", "Bytes sent.", |link| link.sent_bytes),
        (
            "keel_host_link_received_bad",
            "counter",
            "Received packets in error or dropped.",
            |link| link.received_bad,
        ),
        ("keel_host_link_sent_bad", "counter", "Packets not sent.", |link| link.sent_bad),
    ];
    for family in links {
        of_things(out, family, &host.links, |link| [("link", link.name.as_str())]);
    }
}

/// Name, type, help, and the value.
type Family<T> = (&'static str, &'static str, &'static str, fn(&T) -> u64);

fn of_things<'a, T>(
    out: &mut String,
    (name, kind, help, value): Family<T>,
    things: &'a [T],
    label: fn(&'a T) -> [(&'static str, &'a str); 1],
) {
    let unit = name.ends_with("_bytes").then_some("bytes");
    family(out, name, kind, unit, help);
    let suffix = if kind == "counter" { "_total" } else { "" };
    for thing in things {
        sample(out, &format!("{name}{suffix}"), &label(thing), value(thing));
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
                "last_exit":{"cause":"code","detail":3},"health":{"state":"healthy"},
                "exits":{"code":2,"oom":1},"health_latency_us":1200}"#,
            ),
            unit(r#"{"name":"b","state":"backoff"}"#),
        ];
        let host: Host = serde_json::from_str(
            r#"{"hostname":"a\"b\\c","uptime_ms":1234,"net":{"addresses":[["eth0","10.0.0.1/24"]]},
                "clock":{"time_us":1700000000000001,"synchronized":false},
                "disks":[{"path":"/data","size":10,"free":4}],
                "links":[{"name":"eth0","received_bytes":5,"sent_bad":2}],
                "boot":{"phases":[{"name":"x","start_us":5,"end_us":1000006},{"name":"x"}]}}"#,
        )
        .unwrap();
        let pressure = serde_json::from_str(r#"{"a":{"memory":{"some_us":5,"full_us":4}}}"#);
        let text = text(&units, &host, &pressure.unwrap());
        for line in [
            "keel_unit_state{unit=\"a\",keel_unit_state=\"running\"} 1",
            "keel_unit_state{unit=\"b\",keel_unit_state=\"running\"} 0",
            "keel_unit_cpu_seconds_total{unit=\"a\"} 1.500000",
            "keel_unit_last_exit_info{unit=\"a\",cause=\"code\",detail=\"3\"} 1",
            "keel_unit_healthy{unit=\"a\"} 1",
            "keel_host_info{hostname=\"a\\\"b\\\\c\",version=\"\",kernel=\"\"} 1",
            "keel_unit_exits_total{unit=\"a\",reason=\"oom\"} 1",
            "keel_unit_health_latency_seconds{unit=\"a\"} 0.001200",
            "keel_unit_pressure_waiting_seconds_total{unit=\"a\",resource=\"memory\",tasks=\"some\"} \
             0.000005",
            "keel_host_clock_synchronized 0",
            "keel_host_disk_free_bytes{path=\"/data\"} 4",
            "keel_host_link_received_bytes_total{link=\"eth0\"} 5",
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
