//! Every process but PID 1 can be killed at any time without loss: no container stops, no exit, restart count
//! or log line is lost, and the host still shuts down in order. Also the order itself: readiness, health,
//! and dependencies at start and stop.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use api_types::{HealthState, State, Unit};
use ipc::Reply;
use ipc::Service;
use ipc::control::Request;
use qemu_tests::questions::number;
use qemu_tests::{Folder, Guest, Options};
use std::collections::BTreeMap;

const HOST: &str = "hostname = \"kills\"\n";

/// How often the supervisor is killed in each way.
const ROUNDS: u64 = 20;

fn probe(top: &str, command: &str, rest: &str) -> String {
    format!("{top}\n[container]\nimage = \"./images/probe\"\ncommand = {command}\n{rest}\n")
}

/// A script in a container that has access to the host's cgroups and so works without the supervisor. In each
/// round it freezes the supervisor, kills a container, waits until the container's cgroup is empty, and kills
/// the supervisor. Only the next supervisor can start that container again, which begins the next round, often
/// in the middle of the container's setup. In the last round, another container also runs out of memory.
const KILLER: &str = r#"
supervisor=/cg/system/keel-supervisor
populated() { grep -q "populated 1" /cg/units/$1/cgroup.events; }
for round in $(seq ROUNDS); do
    until populated mortal; do sleep 0.05; done
    echo 1 >$supervisor/cgroup.freeze
    until grep -q "frozen 1" $supervisor/cgroup.events; do sleep 0.02; done
    echo 1 >/cg/units/mortal/cgroup.kill
    while populated mortal; do sleep 0.02; done
    if [ $round = ROUNDS ]; then
        touch /signal/go
        while populated hog; do sleep 0.05; done
    fi
    echo 1 >$supervisor/cgroup.kill
    echo 0 >$supervisor/cgroup.freeze
    echo "round $round"
done
echo end
"#;

fn last_cause(report: &Unit) -> String {
    report.last_exit.as_ref().map(|end| end.cause.reason()).unwrap_or_default().to_owned()
}

fn start(guest: &Guest, name: &str) {
    guest.ask::<Reply>(&Request::Start { name: name.to_owned() });
}

/// Kills one of Keelhost's processes and waits for its successor.
fn kill(guest: &mut Guest, service: Service) {
    let before = guest.wait_for("the service", |guest| guest.service_pid(service));
    guest.signal_service(service, libc::SIGKILL);
    guest
        .wait_for("a new service", |guest| guest.service_pid(service).filter(|pid| *pid != before));
}

fn boot(units: &[(String, String)], options: &Options) -> (Folder, Guest) {
    let pairs: Vec<(&str, &str)> =
        units.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let folder = Folder::host(HOST, &pairs);
    let guest = Guest::up(folder.path(), options);
    (folder, guest)
}

#[test]
fn nothing_is_lost_when_processes_of_keelhost_are_killed() {
    let tight = "restart = { delay = \"10ms\", max_delay = \"10ms\" }";
    let by_hand = "enabled = false";
    let shell = |top: &str, script: &str, rest: &str| {
        format!(
            "{top}\n[container]\nimage = \"./images/busybox\"\ncommand = [\"-c\", '''{script}''']\n{rest}\n"
        )
    };
    let mut units: Vec<(String, String)> = (0..10)
        .map(|n| (format!("w{n}"), probe("", "[\"lines\", \"1000000\", \"1000\"]", "")))
        .collect();
    let killer = KILLER.replace("ROUNDS", &ROUNDS.to_string());
    let more = [
        ("mortal", probe(tight, "[\"wait\"]", "network = \"none\"")),
        (
            "hog",
            shell(
                "restart = \"never\"",
                "until [ -e /signal/go ]; do sleep 0.2; done; tail /dev/zero",
                "volumes = [\"signal:/signal\"]\nnetwork = \"none\"\n[limits]\nmemory = \"32M\"",
            ),
        ),
        (
            "killer",
            shell(
                "enabled = false\ntype = \"oneshot\"",
                &killer,
                // Only the host's root can write to the host's cgroups.
                "volumes = [\"/sys/fs/cgroup:/cg\", \"signal:/signal\"]\nnetwork = \"none\"\n\
                 userns = \"host\"",
            ),
        ),
        (
            "loops",
            format!(
                "{by_hand}\n{tight}\n[container]\nimage = \"./images/first\"\n\
                 command = [\"exit\", \"20\"]\nnetwork = \"none\"\n"
            ),
        ),
        ("web", probe("", "[\"http\", \"80\"]", "ports = [\"8080:80\"]")),
        (
            "late",
            probe("enabled = false\ntype = \"oneshot\"", "[\"connect\", \"web\", \"80\"]", ""),
        ),
        (
            "writer",
            probe("enabled = false\ntype = \"oneshot\"", "[\"lines\", \"3000\", \"5\"]", ""),
        ),
        ("stubborn", probe("stop_timeout = \"3s\"", "[\"ignore-term\"]", "")),
        ("online", probe("wait_for = [\"net.addr\"]", "[\"wait\"]", "network = \"none\"")),
    ];
    units.extend(more.map(|(name, text)| (name.to_owned(), text)));
    let options = Options { publish: vec![8080], ..Options::default() };
    let (_folder, mut guest) = boot(&units, &options);
    let calm: Vec<String> =
        (0..10).map(|n| format!("w{n}")).chain(["web".into(), "stubborn".into()]).collect();
    for name in calm.iter().map(String::as_str).chain(["mortal", "hog", "online"]) {
        guest.wait_state(name, "running");
    }
    let identity = |guest: &Guest| -> Vec<(String, u64, u64, u64, u64)> {
        let of = |name: &String| {
            let unit = guest.unit(name);
            let field = |field: &str| number(&unit, field);
            (name.clone(), field("pid"), field("generation"), field("since_ms"), field("restarts"))
        };
        calm.iter().map(of).collect()
    };
    let before = identity(&guest);

    exits_while_the_supervisor_is_dead_are_counted(&mut guest);
    assert_eq!(identity(&guest), before, "a container was affected by the supervisor's death");
    a_crash_loop_continues_over_kills(&mut guest);
    the_state_of_the_network_is_known_to_the_next_supervisor(&mut guest);
    the_network_is_kept(&mut guest);
    no_line_is_lost(&mut guest);
    let disk = guest.host().data_disk;
    kill(&mut guest, Service::Devices);
    assert_eq!(guest.host().data_disk, disk);
    assert_eq!(identity(&guest), before, "a container was affected by the death of a process");
    for (name, pid, ..) in &before {
        let inside = guest.read(&format!("/sys/fs/cgroup/units/{name}/cgroup.procs"));
        assert_eq!(inside.trim(), pid.to_string(), "{name} has exactly its one process");
    }

    // Shutdown, during which the supervisor is killed whenever it is restarted. `stubborn` makes the
    // shutdown long enough.
    let _ = guest.try_ask::<Reply>(&Request::Shutdown { kind: ipc::ShutdownKind::Poweroff });
    guest.wait_console("shutting down");
    for _ in 0..5 {
        guest.signal_service(Service::Supervisor, libc::SIGKILL);
    }
    assert!(guest.wait_end().success());
    let console = guest.console();
    assert!(console.contains("shutdown complete (poweroff)"), "{console}");
    assert!(console.contains("did not stop within"), "{console}");
}

fn exits_while_the_supervisor_is_dead_are_counted(guest: &mut Guest) {
    start(guest, "killer");
    guest.wait_log("killer", "end");
    guest.wait_for("mortal to be running again", |guest| {
        let report: Unit = guest.try_ask(&Request::Unit { name: "mortal".to_owned() }).ok()?;
        let running = report.state == State::Running;
        (running && number(&report, "generation") > ROUNDS).then_some(())
    });
    let mortal = guest.unit("mortal");
    let counts = ["generation", "restarts"].map(|field| number(&mortal, field));
    assert_eq!(counts, [ROUNDS + 1, ROUNDS], "{mortal:?}");
    // Each exit is counted once. The script may freeze the supervisor between clone3(2) and recording the
    // process. Its successor then counts an interrupted start, which is not a failure of the unit.
    let exits = |cause: &str| mortal.exits.get(cause).copied().unwrap_or(0);
    let (killed, interrupted) = (exits("signal"), exits("interrupted"));
    assert_eq!(killed + interrupted, ROUNDS, "{mortal:?}");
    assert!(interrupted <= 2, "{mortal:?}");
    assert_eq!(number(&mortal, "failures"), killed, "{mortal:?}");
    guest.wait_state("hog", "failed");
    let hog = guest.unit("hog");
    assert_eq!(last_cause(&hog), "oom", "an OOM kill that nobody watched: {hog:?}");
    assert_eq!(number(&hog, "generation"), 1);
    guest.wait_state("killer", "done");
}

fn a_crash_loop_continues_over_kills(guest: &mut Guest) {
    start(guest, "loops");
    for round in 1..=ROUNDS / 2 {
        kill(guest, Service::Supervisor);
        guest.wait_for("the loop to continue", |guest| {
            let report: Unit = guest.try_ask(&Request::Unit { name: "loops".to_owned() }).ok()?;
            (number(&report, "generation") > round).then_some(())
        });
    }
    guest.ask::<Reply>(&Request::Stop { name: "loops".to_owned() });
    guest.wait_state("loops", "stopped");
    let report = guest.unit("loops");
    let generation = number(&report, "generation");
    let failures = number(&report, "failures");
    assert_eq!(number(&report, "restarts") + 1, generation, "{report:?}");
    assert!(failures == generation || failures + 1 == generation, "{report:?}");
    // No run was started twice: each writes one line with its own number.
    let mut lines: BTreeMap<u64, u32> = BTreeMap::new();
    for line in guest.logs("loops", 5000).iter().filter(|line| line.text.starts_with("first ")) {
        *lines.entry(line.generation).or_default() += 1;
    }
    assert!(lines.len() as u64 > ROUNDS / 4, "hardly any run has come to its program: {lines:?}");
    assert!(lines.values().all(|count| *count == 1), "a run has run twice: {lines:?}");
    assert!(lines.keys().all(|run| *run <= generation), "{lines:?}");
}

/// netsetup keeps running and its state does not change, but the new supervisor must receive it.
fn the_state_of_the_network_is_known_to_the_next_supervisor(guest: &mut Guest) {
    kill(guest, Service::Supervisor);
    guest.wait_for("the supervisor to answer", |guest| {
        guest.try_ask::<Reply>(&Request::Restart { name: "online".to_owned() }).ok()
    });
    guest.wait_for("online to run again", |guest| {
        let report: Unit = guest.try_ask(&Request::Unit { name: "online".to_owned() }).ok()?;
        let running = report.state == State::Running;
        (running && number(&report, "generation") > 1).then_some(())
    });
}

fn the_network_is_kept(guest: &mut Guest) {
    let answers = |guest: &mut Guest, when: &str| {
        guest.wait_for(&format!("the published port, {when}"), |guest| guest.get(8080, "/").ok())
    };
    answers(guest, "before");
    kill(guest, Service::Netsetup);
    answers(guest, "after");
    kill(guest, Service::Netsetup);
    start(guest, "late");
    guest.wait_state("late", "done");
    guest.wait_log("late", "answer HTTP/1.1 200");
    answers(guest, "at last");
}

fn no_line_is_lost(guest: &mut Guest) {
    start(guest, "writer");
    for round in 0..10 {
        let more = format!("line {}", round * 100 + 50);
        guest.wait_for(&more, |guest| {
            let lines = guest.logs("writer", 5000);
            lines.iter().any(|line| line.text == more).then_some(())
        });
        kill(guest, Service::Logger);
    }
    guest.wait_log("writer", "lines end 3000");
    let lines: Vec<String> = guest.logs("writer", 5000).into_iter().map(|line| line.text).collect();
    let expected: Vec<String> =
        (1..=3000).map(|n| format!("line {n}")).chain(["lines end 3000".to_owned()]).collect();
    let first = lines.iter().zip(&expected).position(|(found, wanted)| found != wanted);
    assert_eq!((lines.len(), first), (expected.len(), None), "lines are lost or out of order");
    assert_eq!(guest.unit("writer").log.lost, 0);
}

#[test]
fn units_start_and_stop_in_order() {
    let healthy =
        |check: &str| format!("[healthcheck]\n{check}\ninterval = \"200ms\"\nretries = 2\n");
    let units = [
        ("db", probe("ready = \"notify\"", "[\"notify-ready\", \"700\"]", "")),
        (
            "app",
            probe(
                "requires = [\"db\"]\nready = \"healthy\"",
                "[\"http\", \"80\"]",
                &healthy("http = \":80/healthz\""),
            ),
        ),
        ("front", probe("after = [\"app\"]", "[\"wait\"]", "")),
        ("echo", probe("ready = \"healthy\"", "[\"tcp-echo\", \"7\"]", &healthy("tcp = \":7\""))),
        (
            "asked",
            probe(
                "ready = \"healthy\"",
                "[\"wait\"]",
                &healthy("command = [\"/probe\", \"ids\"]\ntimeout = \"10s\""),
            ),
        ),
        (
            "never-well",
            probe(
                "restart = \"never\"",
                "[\"wait\"]",
                &healthy("command = [\"/probe\", \"exit\", \"1\"]\ntimeout = \"10s\""),
            ),
        ),
        (
            "sickly",
            probe(
                "",
                "[\"http\", \"80\"]",
                &format!("ports = [\"8081:80\"]\n{}", healthy("http = \":80/healthz\"")),
            ),
        ),
        (
            "too-late",
            probe(
                "ready = \"notify\"\nstart_timeout = \"1s\"\nrestart = \"never\"",
                "[\"wait\"]",
                "",
            ),
        ),
        ("stubborn", probe("stop_timeout = \"1s\"", "[\"ignore-term\"]", "")),
    ];
    let units: Vec<(String, String)> =
        units.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    let options = Options { publish: vec![8081], ..Options::default() };
    let (_folder, mut guest) = boot(&units, &options);
    for name in ["db", "app", "front", "echo", "asked", "stubborn", "sickly"] {
        let what = format!("{name} to be ready");
        guest.wait_for(&what, |guest| guest.unit(name).ready.then_some(()));
    }
    guest.wait_state("too-late", "failed");
    assert_eq!(last_cause(&guest.unit("too-late")), "start_timeout");

    let log: String = guest.ask(&Request::Dmesg);
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{log}"));
    assert!(at(" db: ready") < at(" app: starting"), "app requires db");
    assert!(at(" app: ready") < at(" front: starting"), "front comes after app");
    let steps = guest.unit("app").timeline;
    assert!(steps.ordered_us >= guest.unit("db").timeline.exec_us + 700_000, "{steps:?}");

    guest.wait_for("never-well to be unhealthy", |guest| {
        let unit = guest.unit("never-well");
        (unit.health?.state == HealthState::Unhealthy).then_some(())
    });
    assert_eq!(guest.field("never-well", "state"), "running", "restart = never: it goes on");

    guest.wait_for("the published port", |guest| guest.get(8081, "/sick").ok());
    guest.wait_for("sickly to run again and be healthy", |guest| {
        let unit = guest.unit("sickly");
        let well = unit.health.as_ref()?.state == HealthState::Healthy;
        (well && number(&unit, "generation") == 2).then_some(())
    });
    let sickly = guest.unit("sickly");
    assert_eq!(last_cause(&sickly), "health", "{sickly:?}");
    assert_eq!((number(&sickly, "failures"), number(&sickly, "restarts")), (1, 1), "{sickly:?}");

    assert!(guest.power_off().success());
    let console = guest.console();
    let down = console.split("shutting down").nth(1).unwrap_or_default();
    let at = |unit: &str, text: &str| {
        let line = down
            .lines()
            .position(|line| line.split_whitespace().nth(1) == Some(unit) && line.contains(text));
        line.unwrap_or_else(|| panic!("no {unit} {text:?} in\n{down}"))
    };
    assert!(at("front", "stopped") < at("app", "ended as requested"), "{down}");
    assert!(at("app", "stopped") < at("db", "ended as requested"), "{down}");
    assert!(at("stubborn", "did not stop within") < at("stubborn", "stopped"), "{down}");
}
