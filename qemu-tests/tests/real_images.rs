//! Common programs from Debian packages with default settings: a JVM, Node and Python servers, programs that
//! drop privileges or have file capabilities, and an init. (nginx, redis and PostgreSQL are in stack.rs.) One
//! boot of the host folder hosts/real.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use ipc::Reply;
use ipc::control::Request;
use qemu_tests::{Guest, Options, root};
use serde_json::Value;
use std::collections::BTreeSet;

/// The output of a unit so far.
fn text(guest: &Guest, unit: &str) -> String {
    guest.logs(unit, 5000).into_iter().map(|line| line.text + "\n").collect()
}

/// Fails with the unit's output unless `holds`.
fn must(guest: &Guest, unit: &str, holds: bool, what: &str) {
    if !holds {
        let explained = guest.explain(unit).join("\n");
        guest.fail(&format!("{unit}: {what}\n{}\n{explained}", text(guest, unit)));
    }
}

fn must_say(guest: &Guest, unit: &str, words: &str) {
    must(guest, unit, text(guest, unit).contains(words), &format!("did not write {words:?}"));
}

/// Waits until a service's health check has passed, in its first run.
fn healthy(guest: &mut Guest, unit: &str) {
    guest.wait_for(&format!("{unit} to be healthy"), |guest| {
        let report: api_types::Unit =
            guest.try_ask(&Request::Unit { name: unit.to_owned() }).ok()?;
        must(guest, unit, report.restarts == 0, "was restarted");
        report.ready.then_some(())
    });
}

/// Waits until a one-shot has ended, and fails unless it succeeded.
fn done(guest: &mut Guest, unit: &str) {
    let state = guest.wait_for(&format!("{unit} to end"), |guest| {
        let state = guest.field(unit, "state");
        ["done", "failed"].contains(&state.as_str()).then_some(state)
    });
    must(guest, unit, state == "done", "failed");
}

/// A server's report about itself.
fn json(guest: &mut Guest, unit: &str, port: u16) -> Value {
    let body =
        guest.wait_for(&format!("{unit} to answer"), |guest| guest.get(port, "/report").ok());
    match serde_json::from_str(&body) {
        Ok(value) => value,
        Err(error) => guest.fail(&format!("{unit}: {error}: {body}")),
    }
}

fn jvm(guest: &mut Guest) {
    healthy(guest, "jvm");
    let page = guest.wait_for("the database's console", |guest| guest.get(8082, "/").ok());
    must(guest, "jvm", page.contains("H2 Console"), &page);
    // The container's limits, not the machine's.
    must_say(guest, "jvm", "Provider: cgroupv2");
    must_say(guest, "jvm", "Memory Limit: 200.00M");
}

fn node(guest: &mut Guest, unit: &str, port: u16, capabilities: &str) {
    healthy(guest, unit);
    let report = json(guest, unit, port);
    let field = |name: &str| report[name].as_str().unwrap_or_default().to_owned();
    must(guest, unit, field("version").starts_with("v18."), &report.to_string());
    must(guest, unit, report["uid"] == 1000, &report.to_string());
    must(guest, unit, field("key").len() == 64, &report.to_string());
    must(guest, unit, field("capabilities") == capabilities, &report.to_string());
}

fn python(guest: &mut Guest) {
    healthy(guest, "python");
    let mut workers = BTreeSet::new();
    let mut asked = 0;
    guest.wait_for("both workers of python to answer", |guest| {
        let report: Value = serde_json::from_str(&guest.get(8000, "/report").ok()?).ok()?;
        asked += 1;
        must(guest, "python", report["parent"] == 1 && report["uid"] == 1000, &report.to_string());
        must(guest, "python", report["pid"] == report["worker"], &report.to_string());
        must(guest, "python", report["rows"] == 1, &report.to_string());
        // The workers share a counter.
        must(guest, "python", report["visits"].as_i64() >= Some(asked), &report.to_string());
        workers.insert(report["worker"].as_i64());
        (workers.len() == 2).then_some(())
    });
}

/// The lines of `/proc/PID/status` in which a program must have no capabilities.
const NOTHING: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

fn programs_that_drop_privileges(guest: &mut Guest) {
    healthy(guest, "redis");
    let (answer, status) = (["redis-cli", "set", "key", "value"], ["cat", "/proc/1/status"]);
    let exec = |command: &[&str]| guest.keel_ok(&[&["exec", "redis", "--"], command].concat());
    must(guest, "redis", exec(&answer) == "OK\n", "cannot be written to");
    let status = exec(&status);
    must(guest, "redis", status.contains("Name:\tredis-server"), &status);
    must(guest, "redis", status.contains("Uid:\t999\t999\t999\t999"), &status);
    must(guest, "redis", status.contains("CapEff:\t0000000000000000"), &status);
    must(guest, "redis", exec(&["redis-cli", "save"]) == "OK\n", "cannot write its file");
    let owner = exec(&["stat", "-c", "%U %a", "/data/dump.rdb"]);
    must(guest, "redis", owner == "redis 600\n", &owner);

    done(guest, "setpriv");
    must_say(guest, "setpriv", "uid=999(redis) gid=999(redis) groups=999(redis)");
    for set in NOTHING {
        must_say(guest, "setpriv", &format!("{set}:\t0000000000000000"));
    }

    healthy(guest, "sshd");
    done(guest, "ssh-login");
    for words in [
        "plain: uid=1000(visitor) gid=1000(visitor) groups=1000(visitor),2000(helpers)",
        "terminal: /dev/pts/0",
        "copied: 100000",
        "refused: visitor@sshd: Permission denied (publickey).",
    ] {
        must_say(guest, "ssh-login", words);
    }
}

fn file_capabilities(guest: &mut Guest) {
    for (unit, socket) in [
        ("ping", "SOCK_DGRAM"),
        ("ping-user", "SOCK_DGRAM"),
        ("ping-raw", "SOCK_RAW"),
        ("ping-capable", "SOCK_RAW"),
    ] {
        done(guest, unit);
        must_say(guest, unit, &format!("(socktype: {socket})"));
        must_say(guest, unit, "1 packets transmitted, 1 received");
    }
    // There is no explanation for root, which has the capabilities anyway, but there is one for a user.
    must(guest, "ping", !text(guest, "ping").contains("keel:"), "was warned");
    let inert = "keel: /usr/bin/ping has the file capability NET_RAW, which has no effect";
    must_say(guest, "ping-user", inert);

    guest.wait_state("ping-refused", "failed");
    let explained = guest.explain("ping-refused").join("\n");
    let words = "exec: /usr/bin/ping: has the file capability NET_RAW, which the container does not \
                 have; set cap_add = [\"NET_RAW\"]";
    must(guest, "ping-refused", explained.contains(words), "is not explained");
}

fn init(guest: &mut Guest) {
    guest.wait_log("tini", "the orphan is gone");
    must_say(guest, "tini", "init is tini");
    must_say(guest, "tini", "parent of the orphan: 1\n");
    let _: Reply = guest.ask(&Request::Stop { name: "tini".to_owned() });
    guest.wait_state("tini", "stopped");
    must_say(guest, "tini", "asked to stop");
}

#[test]
fn real_images_run_unchanged() {
    let options = Options {
        memory: "1536M".to_owned(),
        publish: vec![8000, 8080, 8082, 8083],
        api: true,
        ..Options::default()
    };
    let mut guest = Guest::up(&root().join("qemu-tests/hosts/real"), &options);
    let guest = &mut guest;
    file_capabilities(guest);
    programs_that_drop_privileges(guest);
    node(guest, "node", 8080, "0000000000000000");
    node(guest, "node-capable", 8083, "0000000000000400");
    python(guest);
    jvm(guest);
    let services = ["jvm", "node", "node-capable", "python", "redis", "sshd", "tini"];
    for unit in services {
        must(guest, unit, guest.field(unit, "restarts") == "0", "was restarted");
    }
    // Only units that test relaxed settings have any.
    for report in guest.units() {
        let name = report.name.as_str();
        let weak = !report.weakenings.is_empty();
        let asked = ["node-capable", "ping-raw", "ping-capable", "ping-refused"];
        if weak != asked.contains(&name) {
            guest.fail(&format!("{name}: {:?}", report.weakenings));
        }
    }
    init(guest);
    assert!(guest.power_off().success());
    let console = guest.console();
    assert!(!console.contains("did not stop within its stop_timeout"), "{console}");
}
