//! The host itself: boot phases, PID 1 and Keelhost's own processes as the kernel sees them, modules on
//! demand, reboot and power-off, and boots that fail. Also `keel check` and `keel build`.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use ipc::Service;
use ipc::control::Request;
use qemu_tests::{Folder, Guest, Options, disk, keel};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// 2040-01-01, later than the clock of any test machine.
const IN_2040: u64 = 2_208_988_800;

/// A field of /proc/PID/status (proc_pid_status(5)).
fn status_field(status: &str, name: &str) -> String {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn list(guest: &Guest, path: &str) -> Vec<String> {
    guest.ask(&Request::List { path: path.to_owned() })
}

/// Zombie processes.
fn zombies(guest: &Guest) -> Vec<String> {
    let pids = list(guest, "/proc").into_iter().filter(|name| name.parse::<u32>().is_ok());
    pids.filter_map(|pid| guest.try_ask(&Request::Read { path: format!("/proc/{pid}/stat") }).ok())
        // The state follows the name, which is in parentheses (proc_pid_stat(5)).
        .filter(|stat: &String| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
        .collect()
}

#[test]
fn a_host_boots_runs_reboots_and_powers_off() {
    let probe = |words: &str| {
        format!(
            "[container]\nimage = \"./images/probe\"\ncommand = [{words}]\nnetwork = \"none\"\n"
        )
    };
    let folder = Folder::host(
        "hostname = \"whole\"\n",
        &[
            ("orphans", &probe("\"orphans\", \"8\", \"50\"")),
            ("base", &format!("{}volumes = [\"kept:/data\"]\n", probe("\"wait\""))),
            (
                "middle",
                &format!(
                    "requires = [\"base\"]\nstop_timeout = \"1s\"\n{}",
                    probe("\"ignore-term\"")
                ),
            ),
            ("top", &format!("requires = [\"middle\"]\n{}", probe("\"wait\""))),
            (
                "mounts",
                "type = \"oneshot\"\n[container]\nimage = \"./images/busybox\"\nnetwork = \"none\"\n\
                 cap_add = [\"SYS_ADMIN\"]\n\
                 command = [\"-c\", \"mount -t squashfs none /tmp; exit 0\"]\n",
            ),
        ],
    );
    let disk_file = folder.path().join("data.img");
    let options = Options {
        data: Some(disk_file.clone()),
        append: "keel.debug keel.fault=sysctl".to_owned(),
        reboots: true,
        closed_stdin: true,
        made_at: Some(IN_2040),
        ..Options::default()
    };
    let mut guest = Guest::up(folder.path(), &options);
    for unit in ["orphans", "base", "middle", "top"] {
        guest.wait_state(unit, "running");
    }

    // Boot phases, in order, on the console and in the report.
    let report = guest.boot_report();
    let names: Vec<&str> = report.phases.iter().map(|phase| phase.name.as_str()).collect();
    let expected = [
        "mounts", "log", "clock", "sysctl", "program", "state", "config", "cgroups", "hostname",
        "loopback",
    ];
    assert_eq!(names.get(..expected.len()), Some(&expected[..]));
    assert!(names.contains(&"units"), "{names:?}");
    let console = guest.console();
    let mut rest = console.as_str();
    for phase in &report.phases {
        assert!(report.start_us <= phase.start_us && phase.start_us <= phase.end_us, "{phase:?}");
        let at = rest.find(&format!("  {} ", phase.name));
        let at = at.unwrap_or_else(|| panic!("the console lacks {}:\n{console}", phase.name));
        rest = rest.get(at..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        assert!(line.contains(" ms   at "), "{line}");
    }
    // A phase that fails and is not essential: the reason is shown, and the boot continues.
    assert!(console.contains("failed: failure requested by keel.fault"), "{console}");
    // The clock was set to a time before the build of the image.
    assert!(console.contains("set to the age of the image"), "{console}");
    let lines = guest.logs("base", 1);
    assert!(lines.iter().all(|line| line.time_us >= IN_2040 as i64 * 1_000_000), "{lines:?}");

    // The setup by PID 1.
    assert_eq!(guest.read("/proc/sys/kernel/hostname").trim(), "whole");
    assert_eq!(guest.read("/sys/class/net/lo/flags").trim(), "0x9", "IFF_UP and IFF_LOOPBACK");
    for dir in ["", "/system", "/units"] {
        let on = guest.read(&format!("/sys/fs/cgroup{dir}/cgroup.subtree_control"));
        for controller in ["cpu", "memory", "pids", "io"] {
            assert!(on.split_whitespace().any(|name| name == controller), "{dir}: {on}");
        }
    }
    let log: String = guest.ask(&Request::Dmesg);
    let level = |text: &str| {
        let line = log.lines().find(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("not in the log: {text}")).split('[').next()
    };
    // The priority is facility 3 (daemon) times 8 plus the level (syslog(2)).
    assert_eq!(level("keel-init: phase loopback"), Some("<30>"));
    assert_eq!(level("keel-init: boot phase sysctl"), Some("<28>"));

    // Keelhost's own processes: the right user, and only the necessary privileges.
    let network = 1 << 10 | 1 << 12 | 1 << 13 | 1 << 25;
    let all = u64::from_str_radix(&status_field(&guest.read("/proc/1/status"), "CapBnd"), 16);
    let all = all.expect("a number");
    for (service, uid, caps) in [
        (Service::Supervisor, 0, all),
        (Service::Devices, 0, all),
        (Service::Netsetup, 101, network),
        (Service::Logger, 102, 0),
    ] {
        let pid = guest.service_pid(service).expect("it runs");
        let status = guest.read(&format!("/proc/{pid}/status"));
        let field = |name| status_field(&status, name);
        assert_eq!(field("Uid"), format!("{uid} {uid} {uid} {uid}"), "{service:?}");
        assert_eq!(field("Gid"), format!("{uid} {uid} {uid} {uid}"), "{service:?}");
        assert_eq!(field("Groups"), "", "{service:?}");
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(field(set), format!("{caps:016x}"), "{service:?} {set}");
        }
        if uid != 0 {
            assert_eq!(field("CapInh"), format!("{caps:016x}"), "{service:?}");
            assert_eq!(field("NoNewPrivs"), "1", "{service:?}");
        }
        assert_eq!(field("PPid"), "1", "{service:?}");
    }

    // Orphans are reaped, by PID 1 of the container or of the host.
    guest.wait_log("orphans", "orphans reaped 16");
    guest.wait_for("no zombies", |guest| zombies(guest).is_empty().then_some(()));

    // Modules are loaded for present hardware, and when the kernel requests them (here for mount(2)).
    guest.wait_for("the requested module to be loaded", |guest| {
        let modules = guest.read("/proc/modules");
        let loaded = |name: &str| modules.lines().any(|line| line.starts_with(&format!("{name} ")));
        (loaded("virtio_net") && loaded("virtio_blk") && loaded("squashfs")).then_some(())
    });
    assert_eq!(guest.read("/proc/sys/kernel/modprobe").trim(), "/sbin/modprobe");

    // Ctrl-Alt-Del reboots cleanly.
    guest.press_keys(&["ctrl", "alt", "delete"]);
    guest.wait_console("shutting down: Ctrl-Alt-Del");
    guest.wait_console("shutdown complete (reboot)");
    let console = guest.console();
    let at = |text: &str| console.find(text).unwrap_or_else(|| guest.fail(&format!("no {text:?}")));
    let line = |unit: &str, text: &str| at(&format!("{unit:<16} {text}"));
    // Each unit stops after those that depend on it; `stubborn` after its own timeout.
    let killed = line("middle", "did not stop within its stop_timeout; killing it");
    assert!(line("top", "stopped") < killed && killed < line("middle", "stopped"));
    assert!(line("middle", "stopped") < line("base", "ended as requested"));
    assert!(line("base", "stopped") < at("shutdown complete (reboot)"));

    // The second boot, on the same disk; then the power button.
    guest.wait_for("the second boot", |guest| {
        (guest.console().matches("  Keelhost ").count() == 2).then_some(())
    });
    guest.wait_state("top", "running");
    guest.interrupt();
    guest.wait_console("shutting down: the power button was pressed");
    assert!(guest.wait_end().success());
    assert!(guest.console().contains("shutdown complete (poweroff)"), "{}", guest.console());
    disk::assert_clean(&disk_file);
}

#[test]
fn a_boot_that_cannot_continue_says_why_and_reboots() {
    let folder = Folder::host("hostname = \"doomed\"\n", &[]);
    for (fault, reason) in [
        ("panic", "PID 1 panicked"),
        ("mounts", "boot phase mounts: failure requested by keel.fault"),
        ("cgroups", "boot phase cgroups: failure requested by keel.fault"),
    ] {
        let append = format!("keel.fault={fault}");
        let mut guest = Guest::boot(folder.path(), &Options { append, ..Options::default() });
        // With --no-reboot, QEMU exits instead of rebooting.
        assert!(guest.wait_end().success());
        let console = guest.console();
        assert!(
            console.contains("Keelhost cannot continue: ") && console.contains(reason),
            "{console}"
        );
        assert!(console.contains("rebooting"), "{console}");
    }
}

fn run_keel(args: &[&str]) -> Output {
    match Command::new(keel()).args(args).output() {
        Ok(output) => output,
        Err(error) => panic!("{}: {error}", keel().display()),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const GOOD: &str = "[container]\nimage = \"./images/probe\"\ncommand = [\"wait\"]\n";

/// A host folder with errors of every kind.
fn with_errors() -> Folder {
    let container = "[container]\nimage = \"./images/probe\"\n";
    Folder::host(
        "hostname = \"full of them\"\n",
        &[
            ("good", GOOD),
            ("foreign", &format!("depends_on = [\"good\"]\nRestartSec = 5\n{container}")),
            ("typo", &format!("{container}imgae = \"x\"\n[limits]\nmemory = \"64 potatoes\"\n")),
            ("unknown", &format!("requires = [\"godo\"]\n{container}")),
            ("ring-a", &format!("requires = [\"ring-b\"]\n{container}")),
            ("ring-b", &format!("requires = [\"ring-a\"]\n{container}")),
            ("port-a", &format!("{container}ports = [\"80:80\"]\n")),
            ("port-b", &format!("{container}ports = [\"80:81\"]\n")),
            ("late", &format!("stop_timeout = \"soon\"\n{container}")),
            ("no-image", "[container]\nimage = \"./images/nothing-here\"\n"),
        ],
    )
}

#[test]
fn check_reports_all_mistakes_at_once() {
    let folder = with_errors();
    let dir = folder.path().display().to_string();
    let output = run_keel(&["check", &dir]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    for word in [
        "host.toml",
        "depends_on",
        "RestartSec",
        "restart.delay",
        "imgae",
        "image",
        "potatoes",
        "godo",
        "did you mean",
        "ring-a",
        "ring-b",
        "port-b",
        "soon",
        "nothing-here",
    ] {
        assert!(said.contains(word), "nothing about {word}:\n{said}");
    }
    for file in ["foreign", "typo", "unknown", "port-b", "late", "no-image"] {
        assert!(said.contains(&format!("units/{file}.toml:")), "no place in {file}:\n{said}");
    }
    assert!(said.contains('^'), "no caret:\n{said}");

    let good = Folder::host(
        "hostname = \"fine\"\n",
        &[
            ("one", GOOD),
            ("two", &format!("requires = [\"one\"]\n{GOOD}volumes = [\"kept:/data\"]\n")),
        ],
    );
    let output = run_keel(&["check", &good.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("no errors") && said.contains("start order"), "{said}");
    let (one, two) = (said.find("1  one"), said.find("2  two"));
    assert!(one.is_some() && one < two, "{said}");
    // Where the volumes are stored without a data disk.
    assert!(said.contains("in memory if there is no such disk"), "{said}");

    let output = run_keel(&["check", "/nowhere/at/all"]);
    assert_ne!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("/nowhere/at/all: no such folder"));
}

#[test]
fn builds_are_reproducible_and_independent_of_the_path() {
    let units = [("one", GOOD), ("two", GOOD)];
    let (here, there) = (Folder::host("hostname = \"same\"\n", &units), Folder::empty());
    let copy = there.path().join("another place");
    let status = Command::new("cp").arg("-r").arg(here.path()).arg(&copy).status().expect("cp");
    assert!(status.success());
    let out = Folder::empty();
    let build = |dir: &Path, to: &str| -> (Vec<u8>, Vec<u8>) {
        let to = out.path().join(to);
        let (dir, to_text) = (dir.display().to_string(), to.display().to_string());
        let output = run_keel(&["build", &dir, "-o", &to_text]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let read = |name: &str| fs::read(to.join(name)).expect(name);
        (read("vmlinuz"), read("initrd"))
    };
    let first = build(here.path(), "first");
    assert!(first == build(here.path(), "second"), "two builds differ");
    assert!(first == build(&copy, "third"), "builds in two folders differ");
}

#[test]
fn a_folder_with_errors_leaves_the_output_unchanged() {
    let (bad, out) = (with_errors(), Folder::empty());
    out.write("vmlinuz", "the old kernel");
    out.write("initrd", "the old host");
    let dir = out.path().display().to_string();
    let output = run_keel(&["build", &bad.path().display().to_string(), "-o", &dir]);
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("not built because of the errors above"), "{said}");
    let mut names: Vec<String> = fs::read_dir(out.path())
        .expect("the folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["initrd", "vmlinuz"]);
    assert_eq!(fs::read_to_string(out.path().join("initrd")).expect("initrd"), "the old host");
}
