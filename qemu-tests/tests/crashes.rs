//! Containers that end in various ways, repeatedly, or never: what is counted and shown, when they are
//! restarted, and that a misbehaving unit does not affect others.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use api_types::{ErrorCode, State, Unit};
use ipc::Reply;
use ipc::control::Request;
use qemu_tests::questions::number;
use qemu_tests::{Folder, Guest, Options, keel};
use serde_json::Value;
use std::process::Command;

const HOST: &str = "hostname = \"crashes\"\n";

/// A unit of the image `probe` with this command; `top` holds keys above `[container]`.
fn probe(top: &str, command: &str) -> String {
    format!(
        "{top}\n[container]\nimage = \"./images/probe\"\ncommand = {command}\nnetwork = \"none\"\n"
    )
}

fn boot(units: &[(&str, String)], options: &Options) -> (Folder, Guest) {
    let pairs: Vec<(&str, &str)> =
        units.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let folder = Folder::host(HOST, &pairs);
    let guest = Guest::up(folder.path(), options);
    (folder, guest)
}

fn last(report: &Unit, field: &str) -> Value {
    let last = serde_json::to_value(&report.last_exit).unwrap_or_default();
    last.get(field).cloned().unwrap_or_default()
}

fn explain(guest: &Guest, name: &str) -> String {
    guest.explain(name).join("\n")
}

fn restart(guest: &Guest, name: &str) {
    guest.ask::<Reply>(&Request::Restart { name: name.to_owned() });
}

fn stop(guest: &Guest, name: &str) {
    guest.ask::<Reply>(&Request::Stop { name: name.to_owned() });
}

#[test]
fn all_kinds_of_exit_are_distinguished_and_affect_no_other_unit() {
    let never = "restart = \"never\"";
    let once = "type = \"oneshot\"";
    let slow = "restart = { delay = \"10m\", max_delay = \"10m\" }";
    let sh = |top: &str, script: &str, limits: &str| {
        format!(
            "{top}\n[container]\nimage = \"./images/busybox\"\ncommand = [\"-c\", '''{script}''']\n\
             network = \"none\"\n[limits]\n{limits}\n"
        )
    };
    let units = [
        ("bystander", probe("", "[\"lines\", \"1000000\", \"500\"]")),
        ("loops", probe("", "[\"exit\", \"3\"]")),
        ("aborts", probe(never, "[\"crash\"]")),
        ("segfaults", probe(never, "[\"segv\"]")),
        ("good-once", probe(once, "[\"exit\", \"0\"]")),
        ("bad-once", probe(once, "[\"exit\", \"5\"]")),
        (
            "three-tries",
            probe("restart = { delay = \"10ms\", max_attempts = 3 }", "[\"exit\", \"4\"]"),
        ),
        ("steady", probe("enabled = false", "[\"after\", \"10500\", \"exit\", \"9\"]")),
        ("patient", probe(slow, "[\"exit\", \"3\"]")),
        ("stays-stopped", probe(slow, "[\"exit\", \"3\"]")),
        ("never-ready", probe("ready = \"notify\"\nstart_timeout = \"never\"", "[\"wait\"]")),
        ("waits", probe("requires = [\"never-ready\"]\nwait_timeout = \"never\"", "[\"wait\"]")),
        ("stubborn", probe("stop_timeout = \"2s\"", "[\"ignore-term\"]")),
        ("memhog", probe(never, "[\"memhog\"]") + "[limits]\nmemory = \"32M\"\n"),
        (
            // Another process than the main one uses the memory; both must be killed.
            "hog-in-family",
            sh(never, "tail /dev/zero & wait; echo survived; sleep 1000", "memory = \"32M\""),
        ),
        ("forkbomb", probe("", "[\"forkbomb\"]") + "[limits]\npids = 32\n"),
        ("no-program", "[container]\nimage = \"./images/missing\"\n".to_owned()),
        ("no-image", "[container]\nimage = \"./images/nowhere\"\n".to_owned()),
        ("mistaken", "restrat = \"always\"\n[container]\nimage = \"./images/probe\"\n".to_owned()),
    ];
    let options = Options { allow_broken_units: true, ..Options::default() };
    let (folder, mut guest) = boot(&units, &options);

    mistakes_are_reported(&folder, &mut guest);
    exits_are_distinguished(&mut guest);
    memory_hogs(&mut guest);
    fork_bomb(&mut guest);
    back_off_is_visible(&mut guest);
    a_stable_run_is_restarted_immediately(&mut guest);
    restart_from_every_state(&mut guest);

    // The other unit is not affected, and stopped units have stayed stopped.
    let bystander = guest.unit("bystander");
    assert_eq!((number(&bystander, "generation"), number(&bystander, "restarts")), (1, 0));
    let stopped = guest.unit("stays-stopped");
    assert_eq!(guest.field("stays-stopped", "state"), "stopped");
    assert_eq!(number(&stopped, "generation"), 1, "{stopped:?}");
    assert!(guest.power_off().success());
}

fn mistakes_are_reported(folder: &Folder, guest: &mut Guest) {
    for text in ["units/mistaken.toml", "unknown key", "restrat", "restart", "^^^^^^^"] {
        guest.wait_console(text);
    }
    let why = guest.field("mistaken", "reason");
    assert!(why.contains("invalid unit file") && why.contains("restrat"), "{why}");
    assert_eq!(guest.field("mistaken", "state"), "failed");
    assert!(explain(guest, "mistaken").contains("restrat"));
    let refused = guest.try_ask::<Reply>(&Request::Start { name: "mistaken".to_owned() });
    let refused = refused.expect_err("its file is invalid");
    assert!(refused.message.contains("restrat"), "{refused:?}");
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(guest.host().problems.iter().any(|problem| problem.contains("restrat")));

    let checked = match Command::new(keel()).arg("check").arg(folder.path()).output() {
        Ok(output) => output,
        Err(error) => panic!("keel check: {error}"),
    };
    let said = String::from_utf8_lossy(&checked.stderr) + String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    for text in [
        "units/mistaken.toml:1:1",
        "restrat",
        "`restart`",
        "units/no-image.toml",
        "./images/nowhere",
    ] {
        assert!(said.contains(text), "keel check does not say {text:?}:\n{said}");
    }

    guest.wait_for("no-image to be told", |guest| {
        explain(guest, "no-image").contains("./images/nowhere").then_some(())
    });
    guest.wait_for("no-program to be told", |guest| {
        let why = explain(guest, "no-program");
        why.contains("exec: /not/there: no such file in the image").then_some(())
    });
    assert_eq!(last(&guest.unit("no-program"), "cause"), "setup_failed");
}

fn exits_are_distinguished(guest: &mut Guest) {
    for (name, state, cause, detail) in [
        // abort(3) raises SIGABRT, which PID 1 of a namespace ignores, and then executes a privileged
        // instruction.
        ("aborts", "failed", "signal", libc::SIGSEGV),
        ("segfaults", "failed", "signal", libc::SIGSEGV),
        ("good-once", "done", "code", 0),
        ("bad-once", "failed", "code", 5),
        ("three-tries", "failed", "code", 4),
    ] {
        guest.wait_state(name, state);
        let report = guest.unit(name);
        assert_eq!(last(&report, "cause"), cause, "{report:?}");
        assert_eq!(last(&report, "detail"), detail, "{report:?}");
    }
    assert!(guest.field("segfaults", "reason").contains("SIGSEGV"));
    let limited = guest.unit("three-tries");
    assert_eq!(number(&limited, "generation"), 3);
    assert_eq!(number(&limited, "failures"), 3);
    let why = guest.field("three-tries", "reason");
    assert!(why.contains("start limit: 3 failed attempts") && why.contains("exit code 4"), "{why}");
}

fn memory_hogs(guest: &mut Guest) {
    for name in ["memhog", "hog-in-family"] {
        guest.wait_state(name, "failed");
        let report = guest.unit(name);
        assert_eq!(last(&report, "cause"), "oom", "{report:?}");
        assert_eq!(report.pids, Some(0), "something outlived the memory killer: {report:?}");
        assert!(report.memory_peak.is_some_and(|peak| peak <= 32 << 20), "{report:?}");
        assert!(explain(guest, name).contains("out of memory"));
        assert!(!guest.logs(name, 100).iter().any(|line| line.text == "survived"));
    }
}

fn fork_bomb(guest: &mut Guest) {
    let line = guest.wait_log("forkbomb", "children, then");
    assert!(
        line.starts_with("forkbomb 31 children, then: Resource temporarily unavailable"),
        "{line}"
    );
    assert_eq!(guest.unit("forkbomb").pids, Some(32));
    stop(guest, "forkbomb");
    guest.wait_state("forkbomb", "stopped");
    assert_eq!(guest.unit("forkbomb").pids, Some(0));
}

fn back_off_is_visible(guest: &mut Guest) {
    guest.wait_for("loops to be in back-off for the third time", |guest| {
        let report = guest.unit("loops");
        let state = report.state == State::Backoff;
        (state && number(&report, "attempts") >= 3).then(|| {
            assert!(number(&report, "next_retry_ms") > number(&report, "since_ms"), "{report:?}");
            // In back-off all runs have ended and been counted, and all but the first were restarts.
            assert_eq!(number(&report, "failures"), number(&report, "generation"), "{report:?}");
            assert_eq!(
                number(&report, "restarts") + 1,
                number(&report, "generation"),
                "{report:?}"
            );
        })
    });
    guest.wait_state("patient", "backoff");
    let why = explain(guest, "patient");
    assert!(why.contains("patient starts again in") && why.contains("exit code 3"), "{why}");
    assert!(why.contains("1 failure so far"), "{why}");
    guest.wait_console("next attempt in");
    guest.wait_state("stays-stopped", "backoff");
    stop(guest, "stays-stopped");
    assert_eq!(guest.field("stays-stopped", "state"), "stopped");
}

fn a_stable_run_is_restarted_immediately(guest: &mut Guest) {
    // Started by request: among the units that start at boot, its start would be noticed late.
    guest.ask::<Reply>(&Request::Start { name: "steady".to_owned() });
    guest.wait_for("steady to run again", |guest| {
        (number(&guest.unit("steady"), "generation") >= 2).then_some(())
    });
    let report = guest.unit("steady");
    assert_eq!(last(&report, "detail"), 9);
    assert!(last(&report, "ran_ms").as_u64().is_some_and(|ran| ran >= 10_000), "{report:?}");
    assert_eq!(number(&report, "restarts"), 1);
    let log: String = guest.ask(&Request::Dmesg);
    let waited = log.lines().find(|line| line.contains("steady: next attempt in"));
    assert_eq!(waited, None, "the first crash after a stable run waits for nothing");
}

fn restart_from_every_state(guest: &mut Guest) {
    for (name, before, after) in [
        ("good-once", "done", "done"),
        ("bad-once", "failed", "failed"),
        ("patient", "backoff", "backoff"),
        ("forkbomb", "stopped", "running"),
        ("forkbomb", "running", "running"),
        ("never-ready", "starting", "starting"),
    ] {
        assert_eq!(guest.field(name, "state"), before, "{name}");
        let old = number(&guest.unit(name), "generation");
        restart(guest, name);
        guest.wait_for(&format!("{name}, {before}, to run again"), |guest| {
            let report = guest.unit(name);
            let state = report.state.name() == after;
            (state && number(&report, "generation") == old + 1).then_some(())
        });
    }
    assert_eq!(guest.field("waits", "state"), "waiting");
    restart(guest, "waits");
    assert_eq!(guest.field("waits", "state"), "waiting");
    assert!(explain(guest, "waits").contains("requires never-ready"));

    guest.wait_state("stubborn", "running");
    stop(guest, "stubborn");
    assert_eq!(guest.field("stubborn", "state"), "stopping");
    restart(guest, "stubborn");
    guest.wait_for("stubborn to run again", |guest| {
        let report = guest.unit("stubborn");
        let state = report.state == State::Running;
        (state && number(&report, "generation") == 2).then_some(())
    });
    let report = guest.unit("stubborn");
    assert_eq!(last(&report, "detail"), libc::SIGKILL, "{report:?}");
    assert_eq!(
        number(&report, "failures"),
        0,
        "an end that was asked for is no failure: {report:?}"
    );
    stop(guest, "stubborn");
    guest.wait_state("stubborn", "stopped");
}

/// Counts everything that a start could leak on the host.
fn resources(guest: &Guest) -> Vec<(String, usize)> {
    let list = |path: String| {
        let names: Vec<String> = guest.ask(&Request::List { path: path.clone() });
        (path, names.len())
    };
    let pids = ipc::Service::ALL.into_iter().filter_map(|service| guest.service_pid(service));
    let descriptors = pids.chain([1]).map(|pid| list(format!("/proc/{pid}/fd")));
    let directories = ["", "/units", "/layers", "/volumes"];
    let mounts = ("mounts".to_owned(), guest.read("/proc/1/mounts").lines().count());
    descriptors
        .chain(directories.map(|name| list(format!("/run/keel{name}"))))
        .chain(["/sys/fs/cgroup/units", "/sys/class/net"].map(|path| list(path.to_owned())))
        .chain([mounts])
        .collect()
}

/// Anonymous memory of a process in KiB (`RssAnon` in proc_pid_status(5)). PSS would be too small while a
/// child that is being set up shares the memory.
fn anonymous_kib(guest: &Guest, pid: i32) -> u64 {
    let status = guest.read(&format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no RssAnon in {status}"))
}

#[test]
fn a_thousand_starts_are_counted_and_failed_ones_leak_nothing() {
    let loops = "restart = { delay = \"10ms\", max_delay = \"10ms\" }\n[container]\n\
                 image = \"./images/first\"\ncommand = [\"exit\", \"0\"]\nnetwork = \"none\"\n";
    let mut units = vec![("loops", loops.to_owned()), ("bystander", probe("", "[\"wait\"]"))];
    // Each fails at a different step of its setup.
    let top = "restart = { delay = \"1s\", max_delay = \"1s\" }";
    let failing = [
        ("no-program", "entrypoint = [\"/no/such\"]", "exec"),
        ("no-user", "user = \"stranger\"", "look up the user"),
        ("no-source", "volumes = [\"/no/such:/v\"]", "open a mount source"),
        ("no-setting", "sysctls = { \"net.no.such\" = \"1\" }", "set a sysctl"),
        ("no-place", "volumes = [\"/run:/etc/passwd/v\"]", "mount a volume"),
        ("no-directory", "working_dir = \"/etc/passwd\"", "enter the working directory"),
        ("no-network", "network = \"bridge\"\nuser = \"stranger\"", "look up the user"),
    ];
    for (name, key, _) in failing {
        let text = format!("{top}\n[container]\nimage = \"./images/probe\"\n{key}\n");
        let alone = if key.contains("network") { "" } else { "network = \"none\"\n" };
        units.push((name, text + alone));
    }
    let (_folder, mut guest) = boot(&units, &Options { cpus: 1, ..Options::default() });
    let supervisor = guest.service_pid(ipc::Service::Supervisor).expect("a supervisor");
    // All starts and the failed ones; `None` while the host is too busy to answer.
    let starts = |guest: &Guest| -> Option<(u64, u64)> {
        let reports: Vec<Unit> = guest.try_ask(&Request::Units).ok()?;
        let sum = |field, wanted: &dyn Fn(&str) -> bool| -> u64 {
            let known = |report: &&Unit| wanted(&report.name);
            reports.iter().filter(known).map(|report| number(report, field)).sum()
        };
        let failed = sum("failures", &|name| failing.iter().any(|(other, ..)| *other == name));
        Some((sum("generation", &|name| name == "loops") + failed, failed))
    };
    // After this, one-time allocations have been made, and the list of events is full.
    guest.wait_for("500 starts", |guest| starts(guest).filter(|(all, _)| *all >= 500));
    let memory = anonymous_kib(&guest, supervisor);
    let before = resources(&guest);
    let (all, _) = guest.wait_for("1,000 starts, a third of which failed", |guest| {
        starts(guest).filter(|(all, failed)| *all >= 1000 && *failed >= 333)
    });
    for (name, _, step) in failing {
        let reason = guest.field(name, "reason") + &explain(&guest, name);
        assert!(reason.contains(step), "{name}: {reason}");
        stop(&guest, name);
        guest.wait_state(name, "stopped");
    }
    stop(&guest, "loops");
    guest.wait_state("loops", "stopped");
    // A few starts were in progress at the first count; a leak of one per start would be hundreds.
    guest.wait_for("all resources to be freed", |guest| {
        let now = resources(guest);
        now.iter().zip(&before).all(|(now, before)| now.1 <= before.1).then_some(())
    });

    let report = guest.unit("loops");
    let generation = number(&report, "generation");
    assert_eq!(number(&report, "restarts") + 1, generation, "{report:?}");
    // The stop came either during a run, whose exit is then not a failure, or during the delay after one.
    let failures = number(&report, "failures");
    assert!(failures == generation || failures + 1 == generation, "{report:?}");
    // Each run wrote exactly one line before it ended.
    guest.wait_for("the logger to have read everything", |guest| {
        let lines = guest.unit("loops").log.lines;
        (lines == failures || lines == generation).then_some(())
    });
    assert_eq!(
        guest.service_pid(ipc::Service::Supervisor),
        Some(supervisor),
        "the supervisor has crashed"
    );
    let grown = anonymous_kib(&guest, supervisor).saturating_sub(memory);
    println!(
        "the supervisor has {memory} KiB of its own after 500 starts, and {grown} more after 1,000"
    );
    assert!(grown < 256, "the supervisor has grown by {grown} KiB in 500 starts");
    assert_eq!(number(&guest.unit("bystander"), "generation"), 1);

    // Most of a restart is work of the kernel in the container's own process (namespaces, mounts, exec). A
    // supervisor in a busy loop would be noticed here.
    let host = guest.host();
    let share = host.supervisor_cpu_usec as f64 / (host.uptime_ms as f64 * 1000.0);
    println!(
        "the supervisor used {:.0} % of one CPU, {} us a restart",
        share * 100.0,
        host.supervisor_cpu_usec / all
    );
    assert!(share < 0.6, "the supervisor used {share} of the CPU");
    assert!(guest.power_off().success());
}

#[test]
fn a_failed_unit_can_reboot_the_host() {
    for (word, console) in
        [("poweroff", "shutdown complete (poweroff)"), ("reboot", "shutdown complete (reboot)")]
    {
        let top = format!("type = \"oneshot\"\non_failure = \"{word}\"");
        let units =
            [("vital", probe(&top, "[\"exit\", \"6\"]")), ("other", probe("", "[\"wait\"]"))];
        let pairs: Vec<(&str, &str)> =
            units.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let folder = Folder::host(HOST, &pairs);
        let mut guest = Guest::boot(folder.path(), &Options { nic: "none", ..Options::default() });
        assert!(guest.wait_end().success(), "{}", guest.console());
        let shown = guest.console();
        for text in ["shutting down: vital has failed permanently: exit code 6", console] {
            assert!(shown.contains(text), "no {text:?} in\n{shown}");
        }
    }
}
