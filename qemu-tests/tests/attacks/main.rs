//! Known attacks on container engines, named after their CVEs, and invalid images and units, all on one host.
//! Each attack is carried out with the image or unit that it requires and would succeed on a vulnerable
//! engine. A judge then checks the attacker's output and the state of the host. Attacks on the image builder
//! are tests in `image/`.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod bad_input;
mod files;
mod ids;
mod kernel;
mod list;
mod processes;
mod races;

use ipc::Reply;
use ipc::control::Request;
use qemu_tests::{Folder, Guest, Options};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A unit: its name and its text.
type Unit = (String, String);

/// Checks the result of an attack: name and function.
type Judge = (&'static str, fn(&mut Guest));

/// Pairs functions with their names, so that a failure can be attributed.
macro_rules! judges {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as fn(&mut qemu_tests::Guest))),*] };
}
pub(crate) use judges;

/// A one-shot without network of a test image, with additional lines of `[container]`.
fn unit(name: &str, image: &str, container: &str) -> Unit {
    let text = format!(
        "type = \"oneshot\"\n[container]\nimage = \"./images/{image}\"\n{container}\nnetwork = \"none\"\n"
    );
    (name.to_owned(), text)
}

/// The same with a shell script as its command, which prints a line at its begin and end.
fn script(name: &str, image: &str, container: &str, text: &str) -> Unit {
    let container = format!("command = [\"-c\", '''echo begin\n{text}\necho end''']\n{container}");
    unit(name, image, &container)
}

/// The script in two units: with a user namespace, and without one, where the user namespace cannot hide that
/// another defence is missing.
fn both(name: &str, image: &str, container: &str, text: &str) -> [Unit; 2] {
    let host = format!("{container}\nuserns = \"host\"");
    [script(name, image, container, text), script(&format!("{name}-host"), image, &host, text)]
}

/// A container that keeps running, for exec.
fn stays(name: &str, container: &str, words: &str) -> Unit {
    let text = format!(
        "[container]\nimage = \"./images/attacker\"\nnetwork = \"none\"\n{container}\n{words}\n"
    );
    (name.to_owned(), text)
}

/// The same unit, to be started by a judge: it would take the CPU from all others.
fn on_demand((name, text): Unit) -> Unit {
    (name, format!("enabled = false\n{text}"))
}

fn start(guest: &Guest, name: &str) {
    guest.ask::<Reply>(&Request::Start { name: name.to_owned() });
}

fn stop(guest: &mut Guest, name: &str) {
    guest.ask::<Reply>(&Request::Stop { name: name.to_owned() });
    guest.wait_state(name, "stopped");
}

/// The output of a unit.
fn text(guest: &Guest, name: &str) -> String {
    guest.logs(name, 5000).into_iter().map(|line| line.text + "\n").collect()
}

fn has_ended(guest: &Guest, name: &str) -> bool {
    ["done", "failed"].contains(&guest.field(name, "state").as_str())
}

/// Waits for the end of a script; returns its output.
fn said(guest: &mut Guest, name: &str) -> String {
    let what = format!("{name} to end");
    guest.wait_for(&what, |guest| has_ended(guest, name).then_some(()));
    if guest.field(name, "state") == "failed" {
        let reason = guest.field(name, "reason");
        panic!("{name} could not try: {reason}\n{}", text(guest, name));
    }
    // A unit is done when its process has ended, which may be before the logger has read its output.
    guest.wait_log(name, "end");
    text(guest, name)
}

/// Waits until a unit has failed with this reason. Its program must not have run.
fn refused(guest: &mut Guest, name: &str, reason: &str) {
    let what = format!("{name} to be refused");
    guest.wait_for(&what, |guest| has_ended(guest, name).then_some(()));
    assert_eq!(guest.field(name, "state"), "failed", "{name} ran:\n{}", text(guest, name));
    assert_eq!(guest.field(name, "reason"), reason, "{name}");
    assert_eq!(text(guest, name), "", "{name} ran");
    let explained = guest.explain(name);
    assert!(explained.iter().any(|line| line.contains(name)), "{explained:?}");
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
}

fn has_not(text: &str, part: &str) {
    assert!(!text.contains(part), "{part:?} is in\n{text}");
}

/// The names in a directory of the host.
fn on_host(guest: &Guest, path: &str) -> Vec<String> {
    guest.ask(&Request::List { path: path.to_owned() })
}

/// The state of the host that no attack may change.
fn the_host_is_unchanged(guest: &mut Guest) {
    let pattern = guest.read("/proc/sys/kernel/core_pattern");
    assert!(!pattern.contains("attack"), "{pattern}");
    for place in ["/run/keel", "/proc/1/root", "/proc/1/root/run"] {
        let names = on_host(guest, place);
        let found: Vec<_> = names
            .iter()
            .filter(|name| ["by-", "made", "attack", "elsewhere"].iter().any(|p| name.contains(p)))
            .collect();
        assert!(found.is_empty(), "{place}: {found:?}");
    }
    let mounts = guest.read("/proc/1/mounts");
    for line in mounts.lines() {
        assert!(!line.starts_with("overlay "), "a container's mount is on the host: {line}");
        assert!(!line.contains("/run/keel/staging"), "a container's mount is on the host: {line}");
        assert!(!line.contains("attack"), "an attacker's mount is on the host: {line}");
    }
    let groups = on_host(guest, "/sys/fs/cgroup");
    assert!(!groups.iter().any(|name| name.contains("attack")), "{groups:?}");
}

#[test]
fn every_attack_fails_and_every_mistake_is_reported() {
    let all: Vec<Unit> = [
        processes::units(),
        kernel::units(),
        files::units(),
        ids::units(),
        races::units(),
        bad_input::units(),
    ]
    .concat();
    let units: Vec<(&str, &str)> =
        all.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    for image in
        all.iter().filter_map(|(_, text)| text.split("./images/").nth(1)?.split('"').next())
    {
        let path = qemu_tests::root().join("target/images").join(image).join("index.json");
        assert!(path.exists(), "{}: run examples/make-images tests", path.display());
    }
    let folder = Folder::host("hostname = \"attacked\"\n", &units);
    let options = Options {
        api: true,
        allow_broken_units: true,
        memory: "768M".to_owned(),
        ..Options::default()
    };
    let mut guest = Guest::up(folder.path(), &options);
    // With this many starts at once, a slow machine does not answer in time.
    guest.wait_for("every unit to be started or refused", |guest| {
        let units: Vec<api_types::Unit> = guest.try_ask(&Request::Units).ok()?;
        let settled = ["running", "done", "failed", "stopped"];
        units.iter().all(|unit| settled.contains(&unit.state.name())).then_some(())
    });
    let judges = [
        kernel::JUDGES,
        files::JUDGES,
        ids::JUDGES,
        bad_input::JUDGES,
        races::JUDGES,
        processes::JUDGES,
        &[("the_host_is_unchanged", the_host_is_unchanged as fn(&mut Guest))],
    ];
    let mut failed = Vec::new();
    for (name, judge) in judges.into_iter().flatten() {
        if catch_unwind(AssertUnwindSafe(|| judge(&mut guest))).is_err() {
            eprintln!("--- {name} FAILED");
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "{}", failed.join(", "));
    assert!(guest.power_off().success());
}
