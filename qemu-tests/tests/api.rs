//! The API and the commands that use it, over the network and with keys, as users have them.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use ipc::control::Request;
use qemu_tests::remote::{Said, own_folders};
use qemu_tests::{Folder, Guest, Options, disk, keel};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Generates a key in a folder of its own; returns the folder and the key's fingerprint.
fn key(scratch: &Path, name: &str) -> (PathBuf, String) {
    let home = scratch.join(name);
    let mut command = Command::new(keel());
    own_folders(&mut command, &home);
    let said = Said::from(command.arg("keygen").output().expect("keel keygen"));
    assert_eq!(said.code, 0, "{said:?}");
    let start = said.out.find("SHA256:").expect("a fingerprint");
    let rest = &said.out[start..];
    let end = rest.find(|c: char| c == '"' || c.is_whitespace()).unwrap_or(rest.len());
    (home, rest[..end].to_owned())
}

/// Runs `keel` with the key in `home`.
fn with_key_of(guest: &Guest, home: &Path, args: &[&str]) -> Said {
    let mut command = Command::new(keel());
    own_folders(&mut command, home);
    command.arg("--host").arg(guest.api_address()).args(args);
    command.output().expect("keel").into()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn state(guest: &Guest, unit: &str) -> String {
    let units = json(&guest.keel_ok(&["--json", "ps"]));
    let units = units.as_array().expect("a list");
    let found = units.iter().find(|found| found["name"] == unit).expect("the unit");
    found["state"].as_str().expect("a state").to_owned()
}

const PROBE: &str = "[container]\nimage = \"./images/probe\"\nnetwork = \"none\"\n";
const SHELL: &str = "[container]\nimage = \"./images/busybox\"\nnetwork = \"none\"\n";

#[test]
fn a_host_is_controlled_over_the_network() {
    let keys = Folder::empty();
    let (viewer, viewer_key) = key(keys.path(), "viewer");
    let (worker, worker_key) = key(keys.path(), "worker");
    let (unlisted, unlisted_key) = key(keys.path(), "unlisted");
    let host = format!(
        "hostname = \"steered\"\n[api.client.viewer]\nkey = \"{viewer_key}\"\n\
         [api.client.worker]\nkey = \"{worker_key}\"\nrole = \"operator\"\n"
    );
    let units = [
        ("web", format!("{SHELL}command = [\"-c\", \"echo up; while true; do sleep 1; done\"]\n")),
        (
            "broken",
            format!(
                "type = \"oneshot\"\nrestart = \"never\"\n{SHELL}command = [\"-c\", \"echo no >&2; exit 3\"]\n"
            ),
        ),
        (
            "slow",
            format!(
                "restart = {{ delay = \"1h\", max_delay = \"1h\" }}\n{SHELL}command = [\"-c\", \"exit 4\"]\n"
            ),
        ),
        (
            "blocked",
            format!(
                "requires = [\"broken\"]\nwait_timeout = \"never\"\n{PROBE}command = [\"wait\"]\n"
            ),
        ),
        (
            "hog",
            format!(
                "restart = \"never\"\n{PROBE}command = [\"memhog\"]\n[limits]\nmemory = \"16M\"\n"
            ),
        ),
        ("off", format!("enabled = false\n{PROBE}command = [\"wait\"]\n")),
        (
            "starts",
            format!("ready = \"notify\"\nstart_timeout = \"never\"\n{PROBE}command = [\"wait\"]\n"),
        ),
    ];
    let units: Vec<(&str, &str)> =
        units.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let folder = Folder::host(&host, &units);
    let image = folder.path().join("data.img");
    disk::make(&image, 64);
    let options = Options { api: true, data: Some(image.clone()), ..Options::default() };
    let mut guest = Guest::up(folder.path(), &options);
    guest.wait_console("host key SHA256:");
    for (unit, state) in [("broken", "failed"), ("slow", "backoff"), ("hog", "failed")] {
        guest.wait_state(unit, state);
    }

    units_are_listed(&guest);
    restart_works_from_every_state(&mut guest);
    each_blocked_state_is_explained(&guest);
    logs_and_events_are_shown(&guest);
    programs_run_and_files_are_copied(&guest);
    roles_are_enforced(&guest, &viewer, &worker, &unlisted, &unlisted_key);
    metrics_are_available_to_other_clients(&guest);
    a_crash_of_the_api_affects_no_unit(&mut guest);

    guest.keel_ok(&["poweroff", "--yes"]);
    assert!(guest.wait_end().success());
    disk::assert_clean(&image);
}

fn units_are_listed(guest: &Guest) {
    let table = guest.keel_ok(&["ps"]);
    assert!(table.starts_with("NAME"), "{table}");
    for unit in ["web", "broken", "slow", "blocked", "hog", "off", "starts"] {
        assert!(table.contains(&format!("\n{unit} ")), "{unit} in {table}");
    }
    let unit = json(&guest.keel_ok(&["--json", "inspect", "broken"]));
    assert_eq!(unit["last_exit"]["detail"], 3, "{unit}");
    assert_eq!(guest.keel(&["inspect", "none-such"]).code, 1);
    let host = json(&guest.keel_ok(&["--json", "info"]));
    assert_eq!(host["hostname"], "steered", "{host}");
    assert!(host["memory"]["total"].as_u64().is_some_and(|bytes| bytes > 400 << 20), "{host}");
    assert!(host["boot"]["phases"].as_array().is_some_and(|phases| phases.len() > 8), "{host}");
    assert!(guest.keel_ok(&["dmesg"]).contains("keel-supervisor"));
    let processes = guest.keel_ok(&["processes"]);
    assert!(processes.contains("keel-api") && processes.contains(" web "), "{processes}");
    let config = guest.keel_ok(&["config"]);
    assert!(config.contains("units/hog.toml:") && config.contains("default"), "{config}");
}

fn restart_works_from_every_state(guest: &mut Guest) {
    let generation = |guest: &Guest, unit: &str| {
        json(&guest.keel_ok(&["--json", "inspect", unit]))["generation"].as_u64().unwrap()
    };
    // Running, stopped, and never started.
    for (before, unit) in [("running", "web"), ("stopped", "web"), ("stopped", "off")] {
        if before == "stopped" && unit == "web" {
            guest.keel_ok(&["stop", "--wait", "web"]);
        }
        assert_eq!(state(guest, unit), before);
        let last = generation(guest, unit);
        let said = guest.keel_ok(&["restart", "--wait", unit]);
        assert!(said.contains(unit), "{said}");
        assert_eq!(state(guest, unit), "running");
        assert_eq!(generation(guest, unit), last + 1);
    }
    // Failed and in back-off: the unit does not become ready, and the answer says why.
    for (before, unit, code) in [("failed", "broken", "3"), ("backoff", "slow", "4")] {
        assert_eq!(state(guest, unit), before);
        let last = generation(guest, unit);
        let said = guest.keel(&["restart", "--wait=60", unit]);
        guest.wait_state(unit, before);
        assert_eq!(generation(guest, unit), last + 1, "{said:?}");
        // A service is ready when its program runs: this one may have been ready for a moment.
        if said.code != 0 {
            assert_eq!(said.code, 1, "{said:?}");
            assert!(said.err.contains(&format!("exit code {code}")), "{said:?}");
        }
    }
    // Starting, and waiting.
    let last = generation(guest, "starts");
    guest.keel_ok(&["restart", "starts"]);
    guest.wait_for("the next run", |guest| (generation(guest, "starts") > last).then_some(()));
    guest.keel_ok(&["restart", "blocked"]);
    let said = guest.keel(&["restart", "--wait=1", "blocked"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("broken"), "the reason: {said:?}");
    guest.keel_ok(&["kill", "--signal", "KILL", "web"]);
    guest.wait_state("web", "running");
}

fn each_blocked_state_is_explained(guest: &Guest) {
    let of = |unit: &str| guest.keel_ok(&["explain", unit]);
    let holds = |unit: &str, words: &[&str]| {
        let text = of(unit);
        for word in words {
            assert!(text.contains(word), "{word:?} in {text}");
        }
    };
    holds(
        "blocked",
        &["requires broken", "exit code 3", "the last lines of broken:", "stderr | no"],
    );
    holds("broken", &["failed", "exit code 3"]);
    holds("slow", &["exit code 4", "in "]);
    holds("hog", &["out of memory", "hog may use 16M of memory (limits.memory)"]);
    holds("starts", &["starting", "READY"]);
    holds("web", &["running"]);
}

fn logs_and_events_are_shown(guest: &Guest) {
    let out = guest.keel_ok(&["logs", "--tail", "1", "web"]);
    assert_eq!(out.trim(), "up");
    let err = guest.keel_ok(&["--json", "logs", "--stream", "stderr", "broken"]);
    assert!(err.contains("\"stderr\"") && err.contains("no"), "{err}");
    let events = guest.keel_ok(&["events", "--after", "0"]);
    assert!(events.contains("requested by"), "{events}");
    // For programs: the end of a run is in fields.
    let events = guest.keel_ok(&["--json", "events", "--after", "0"]);
    assert!(events.contains("\"cause\":\"oom\""), "{events}");
    // A follower receives new lines.
    let mut follower = guest
        .command(&["logs", "-f", "--tail", "0", "web"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("keel logs -f");
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(follower.stdout.take().unwrap()));
    // It receives only lines after its connection, so more than one restart may be needed.
    let heard = std::thread::spawn(move || lines.next());
    while !heard.is_finished() {
        guest.keel_ok(&["restart", "--wait", "web"]);
    }
    assert_eq!(heard.join().unwrap().unwrap().unwrap(), "up");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

fn programs_run_and_files_are_copied(guest: &Guest) {
    assert_eq!(guest.keel_ok(&["exec", "web", "--", "sh", "-c", "echo $0 a"]), "sh a\n");
    assert_eq!(guest.keel(&["exec", "web", "--", "sh", "-c", "exit 9"]).code, 9);
    assert_eq!(guest.keel(&["exec", "web", "--", "sh", "-c", "kill -9 $$"]).code, 128 + 9);
    let missing = guest.keel(&["exec", "web", "--", "none-such"]);
    assert!(missing.code == 127 && missing.err.contains("none-such"), "{missing:?}");
    let no_program = guest.keel(&["exec", "web", "--", "/etc/passwd"]);
    assert!(no_program.code == 126 && no_program.err.contains("/etc/passwd"), "{no_program:?}");
    let stopped = guest.keel(&["exec", "broken", "--", "true"]);
    assert!(stopped.code == 1 && stopped.err.contains("is not running"), "{stopped:?}");
    let mut cat = guest
        .command(&["exec", "-i", "web", "--", "sh", "-c", "wc -c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("keel exec");
    cat.stdin.take().unwrap().write_all(&vec![b'x'; 300_000]).unwrap();
    let done = cat.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "300000");

    let here = guest.scratch().join("sent");
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    fs::write(&here, &bytes).unwrap();
    let path = here.to_str().unwrap();
    guest.keel_ok(&["cp", path, "web:/tmp/received"]);
    let back = guest.scratch().join("back");
    guest.keel_ok(&["cp", "web:/tmp/received", back.to_str().unwrap()]);
    assert!(fs::read(&back).unwrap() == bytes, "the copy differs from the original");
    let absent = guest.keel(&["cp", "web:/tmp/none", "-"]);
    assert_eq!(absent.code, 1, "{absent:?}");
    // Symbolic links in the container are resolved inside the container.
    guest.keel_ok(&[
        "exec",
        "web",
        "--",
        "busybox",
        "ln",
        "-s",
        "/proc/1/root/etc/passwd",
        "/tmp/out",
    ]);
    assert_eq!(guest.keel(&["cp", "web:/tmp/out", "-"]).code, 1);
}

fn roles_are_enforced(guest: &Guest, viewer: &Path, worker: &Path, unlisted: &Path, key: &str) {
    for home in [viewer, worker, unlisted] {
        // The host's key is unknown before `keel trust`: exit code 5.
        assert_eq!(with_key_of(guest, home, &["ps"]).code, 5);
        let pinned = with_key_of(guest, home, &["trust", "--yes", &guest.api_address()]);
        assert_eq!(pinned.code, 0, "{pinned:?}");
    }
    let may = |home: &Path, args: &[&str]| with_key_of(guest, home, args);
    assert_eq!(may(viewer, &["ps"]).code, 0);
    for args in [&["restart", "web"][..], &["exec", "web", "--", "true"], &["poweroff", "--yes"]] {
        let refused = may(viewer, args);
        assert_eq!(refused.code, 4, "{args:?}: {refused:?}");
        assert!(refused.err.contains("viewer has role reader"), "{refused:?}");
    }
    assert_eq!(may(worker, &["restart", "--wait", "web"]).code, 0);
    assert_eq!(may(worker, &["cp", "web:/etc/passwd", "-"]).code, 4);
    let unknown = may(unlisted, &["ps"]);
    assert_eq!(unknown.code, 4, "{unknown:?}");
    assert!(unknown.err.contains(key), "it says which key to let in: {unknown:?}");
}

/// With a client that is not ours.
fn metrics_are_available_to_other_clients(guest: &Guest) {
    let url = format!("https://{}/metrics", guest.api_address());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--insecure", "--fail", "--cert"]);
    let said = Said::from(curl.arg(guest.identity()).arg(url).output().expect("curl"));
    assert_eq!(said.code, 0, "{said:?}");
    for sample in [
        "keel_unit_state{unit=\"web\",keel_unit_state=\"running\"} 1",
        "keel_unit_exits_total{unit=\"hog\",reason=\"oom\"} 1",
        "keel_unit_pressure_waiting_seconds_total{unit=\"web\",resource=\"cpu\",tasks=\"some\"}",
        "keel_unit_memory_peak_bytes{unit=\"web\"}",
        "keel_unit_log_lost_lines_total{unit=\"web\"} 0",
        "keel_host_clock_synchronized 0",
        "keel_host_disk_free_bytes{path=\"/data\"}",
        "keel_host_link_received_bytes_total{link=\"eth0\"}",
        "keel_boot_phase_seconds{phase=",
    ] {
        assert!(said.out.lines().any(|line| line.starts_with(sample)), "{sample} in {}", said.out);
    }
    assert!(said.out.ends_with("# EOF\n"));
}

fn a_crash_of_the_api_affects_no_unit(guest: &mut Guest) {
    let before = guest.field("web", "generation");
    let pid = guest.service_pid(ipc::Service::Api).expect("an api");
    guest.signal_service(ipc::Service::Api, 9);
    guest.wait_for("another api", |guest| {
        guest.service_pid(ipc::Service::Api).filter(|other| *other != pid)
    });
    guest.wait_for("it to answer", |guest| (guest.keel(&["ps"]).code == 0).then_some(()));
    assert_eq!(guest.field("web", "generation"), before);
    // A new supervisor takes over the connection to the running api.
    let old = guest.service_pid(ipc::Service::Supervisor).expect("a supervisor");
    let asleep = |guest: &Guest| {
        guest.keel(&["--json", "processes"]).out.contains("sleep 4242").then_some(())
    };
    let mut exec = guest.command(&["exec", "web", "--", "sleep", "4242"]).spawn().expect("keel");
    guest.wait_for("the program", asleep);
    guest.signal_service(ipc::Service::Supervisor, 9);
    guest.wait_for("another supervisor", |guest| {
        guest.service_pid(ipc::Service::Supervisor).filter(|other| *other != old)
    });
    guest.wait_for("it to answer", |guest| (guest.keel(&["ps"]).code == 0).then_some(()));
    assert_eq!(guest.field("web", "generation"), before);
    // Programs started through the old api process are killed: nothing else would end them.
    guest.wait_for("the end of the program", |guest| {
        let said = guest.keel(&["--json", "processes"]);
        (said.code == 0 && !said.out.contains("sleep 4242")).then_some(())
    });
    assert_ne!(exec.wait().expect("keel exec").code(), Some(0));
    // Its memory is bounded under load, and no other process waits for it.
    let group = format!("{}/keel-api", layout::paths::CGROUP_SYSTEM);
    for (file, value) in [("memory.max", "100663296"), ("pids.max", "64"), ("cpu.weight", "20")] {
        assert_eq!(guest.read(&format!("{group}/{file}")).trim(), value, "{file}");
    }
    // It has no capabilities, cannot gain any, and runs under a seccomp filter.
    let pid = guest.service_pid(ipc::Service::Api).expect("an api");
    let status: String = guest.ask(&Request::Read { path: format!("/proc/{pid}/status") });
    for line in [
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "Uid:\t103",
    ] {
        assert!(status.contains(line), "{line:?} in {status}");
    }
}

#[test]
fn key_and_logs_on_a_data_disk_survive_a_reboot() {
    let unit = format!("type = \"oneshot\"\n{SHELL}command = [\"-c\", \"echo again\"]\n");
    let folder = Folder::host("hostname = \"keeps\"\n", &[("says", &unit)]);
    let image = folder.path().join("data.img");
    disk::make(&image, 64);
    let keys: Vec<String> = (0..2)
        .map(|boot| {
            let options = Options { api: true, data: Some(image.clone()), ..Options::default() };
            let mut guest = Guest::boot(folder.path(), &options);
            guest.wait_console("host key SHA256:");
            // The complete line.
            guest.wait_console("data             /dev/");
            guest.wait_for("it to answer", |guest| (guest.keel(&["ps"]).code == 0).then_some(()));
            let console = guest.console();
            guest.wait_state("says", "done");
            // Files are written a little later than memory; of the current boot, both have the line.
            guest.wait_for("the lines of all boots", |guest| {
                let said = guest.keel(&["--json", "logs", "--tail", "all", "says"]);
                let lines = (said.code == 0).then(|| said.out.lines().map(json))?;
                let boots: Vec<u64> = lines.map(|l| l["boot"].as_u64().unwrap_or(0)).collect();
                (boots == (0..=boot).rev().collect::<Vec<u64>>()).then_some(())
            });
            if boot == 1 {
                // The api is not restarted again after this.
                let said = guest.keel_ok(&["logs", "says"]);
                assert_eq!(said, "again\n-- reboot --\nagain\n");
            }
            // An api that was started before the disk was found is restarted with the key on the disk.
            guest.wait_for("the host to accept the request", |guest| {
                (guest.keel(&["poweroff", "--yes"]).code == 0).then_some(())
            });
            assert!(guest.wait_end().success());
            let line = console.lines().find_map(|line| line.split_once("host key "));
            line.expect("the key").1.trim().to_owned()
        })
        .collect();
    assert_eq!(keys[0], keys[1]);
}
