//! Attacks on processes: those of the engine while they enter a container, its program, its sockets, and
//! terminals.

use crate::{
    Judge, Unit, has, has_not, judges, on_demand, on_host, said, start, stays, stop, text, unit,
};
use ipc::Reply;
use ipc::Service;
use qemu_tests::{Guest, keel};
use std::process::{Command, Stdio};

const WATCH: &str = "entrypoint = [\"/probe\", \"watch\"]";

/// Watchers: with a user namespace, without one, and with CAP_SYS_PTRACE, which permits access to all processes
/// of the user namespace.
const OWN_PTRACE: &str = "watcher-own-ptrace";

const WATCHERS: [&str; 3] = ["watcher", "watcher-host", "watcher-ptrace"];

/// What is visible of the engine's processes before exec: their name.
const ENGINE: &str = "init: ";

pub fn units() -> Vec<Unit> {
    let connect = |name: &str, network: &str, tries: u32| {
        let text = format!(
            "type = \"oneshot\"\nrequires = [\"abstract\"]\n[container]\nimage = \"./images/attacker\"\nnetwork = \"{network}\"\n\
             command = [\"-c\", \"/probe abstract-connect victim {tries}; cat /proc/net/unix; echo end\"]\n"
        );
        (name.to_owned(), text)
    };
    let listen = "[container]\nimage = \"./images/attacker\"\nnetwork = \"host\"\n\
                  entrypoint = [\"/probe\", \"abstract-listen\", \"victim\"]\n";
    let console = "ln -sf /proc/sysrq-trigger /dev/console; rm /dev/ptmx; ln -s /victim /dev/ptmx; \
                   echo kept >/victim; chmod 640 /victim; echo set; while :; do sleep 1; done";
    vec![
        on_demand(stays(WATCHERS[0], "", WATCH)),
        on_demand(stays(WATCHERS[1], "userns = \"host\"", WATCH)),
        on_demand(stays(OWN_PTRACE, "cap_add = [\"SYS_PTRACE\"]", WATCH)),
        on_demand(stays(WATCHERS[2], "userns = \"host\"\ncap_add = [\"SYS_PTRACE\"]", WATCH)),
        stays("console", "", &format!("command = [\"-c\", \"{console}\"]")),
        stays("console-host", "userns = \"host\"", &format!("command = [\"-c\", \"{console}\"]")),
        ("abstract".to_owned(), listen.to_owned()),
        connect("abstract-control", "host", 30),
        connect("cve-2020-15257", "bridge", 1),
        unit(
            "families",
            "attacker",
            "entrypoint = [\"/probe\", \"families\", \"38\", \"40\"]\nuserns = \"host\"",
        ),
    ]
}

pub const JUDGES: &[Judge] = judges![
    cve_2020_15257_there_is_no_abstract_socket_of_the_host,
    cve_2025_52565_a_terminal_is_not_looked_up_by_path,
    cve_2016_9962_entering_processes_cannot_be_inspected,
    cve_2019_5736_the_program_of_the_host_cannot_be_changed,
];

/// A socket in the host's abstract namespace, as some runtimes have: it is invisible in other network
/// namespaces. Keelhost's own processes have none.
fn cve_2020_15257_there_is_no_abstract_socket_of_the_host(guest: &mut Guest) {
    let control = said(guest, "abstract-control");
    has(&control, "connected to @victim: secret");
    let own: Vec<&str> =
        control.lines().filter(|line| line.contains(": 0000") && line.contains(" @")).collect();
    assert!(own.iter().all(|line| line.ends_with(" @victim")), "of the host: {own:?}");
    let text = said(guest, "cve-2020-15257");
    has(&text, "not connected to @victim: Connection refused (os error 111)");
    has_not(&text, "secret");
    assert!(!text.lines().any(|line| line.contains(": 0000") && line.contains(" @")), "{text}");
    // Address families that are not isolated by namespaces.
    guest.wait_log("families", "family 40");
    let families = crate::text(guest, "families");
    for family in [38, 40] {
        has(&families, &format!("socket of family {family}: EAFNOSUPPORT"));
    }
}

/// Runs a program on a terminal, like an interactive user.
fn on_a_terminal(guest: &Guest, args: &[&str]) -> String {
    let keel_command = guest.command(args);
    let mut words = vec![keel().display().to_string()];
    words.extend(keel_command.get_args().map(|word| word.to_string_lossy().into_owned()));
    let line: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let mut script = Command::new("script");
    for (name, value) in keel_command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    // Its standard input stays open to the end: at its end script(1) types the terminal's EOF character,
    // which is a NUL once `keel` has made the terminal raw.
    script.args(["-qec", &line.join(" "), "/dev/null"]);
    let piped = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("script(1)");
    let stdin = child.stdin.take();
    let done = child.wait_with_output().expect("script(1)");
    drop(stdin);
    String::from_utf8_lossy(&done.stdout).replace('\r', "")
}

/// The container has symbolic links at the paths where an engine would look for the terminal or bind-mount it.
fn cve_2025_52565_a_terminal_is_not_looked_up_by_path(guest: &mut Guest) {
    for name in ["console", "console-host"] {
        guest.wait_log(name, "set");
        let mounts = guest.keel_ok(&["exec", name, "--", "cat", "/proc/1/mountinfo"]);
        let look = "readlink /proc/self/fd/0; stat -L -c \"%F %t\" /proc/self/fd/0; cat /victim; \
                    stat -c \"%a %F\" /victim; echo end";
        let said = on_a_terminal(guest, &["exec", "-it", name, "--", "sh", "-c", look]);
        for line in ["/dev/pts/0", "character special file 88", "kept", "640 regular file", "end"] {
            assert!(said.lines().any(|found| found.ends_with(line)), "{line}: {said}");
        }
        let after = guest.keel_ok(&["exec", name, "--", "cat", "/proc/1/mountinfo"]);
        assert_eq!(mounts, after, "something was mounted for the terminal");
    }
}

/// Lines of a watcher's output about the engine's processes.
fn of_the_engine(guest: &Guest, watcher: &str) -> Vec<String> {
    let text = text(guest, watcher);
    text.lines().filter(|line| line.starts_with(ENGINE)).map(str::to_owned).collect()
}

/// Runs programs in the container until the watcher has seen one of the engine's processes before exec.
fn cve_2016_9962_entering_processes_cannot_be_inspected(guest: &mut Guest) {
    for watcher in ["watcher", "watcher-host", OWN_PTRACE] {
        start(guest, watcher);
        guest.wait_log(watcher, "watching");
        guest.wait_for(&format!("{watcher} to meet who enters"), |guest| {
            guest.keel_ok(&["exec", watcher, "--", "true"]);
            let seen = of_the_engine(guest, watcher);
            seen.iter().any(|line| line.contains("ptrace ")).then_some(())
        });
        let seen = of_the_engine(guest, watcher);
        for line in &seen {
            let refused =
                ["fd EACCES", "mem EACCES", "ptrace EPERM"].map(|what| format!("{ENGINE}{what}"));
            assert!(refused.contains(line), "{watcher}: {seen:?}");
        }
        stop(guest, watcher);
    }
}

/// The host's program is visible in the container during exec; the watchers try to change it.
fn cve_2019_5736_the_program_of_the_host_cannot_be_changed(guest: &mut Guest) {
    for watcher in WATCHERS {
        start(guest, watcher);
        guest.wait_log(watcher, "watching");
        let mut seen = Vec::new();
        guest.wait_for(&format!("{watcher} to meet the host's program"), |guest| {
            guest.keel(&["exec", watcher, "--", "/proc/self/exe"]);
            let text = text(guest, watcher);
            seen = text
                .lines()
                .filter_map(|line| line.split_once("program "))
                .filter(|(_, rest)| !rest.starts_with("/probe ") && !rest.contains("busybox "))
                .map(|(_, rest)| rest.to_owned())
                .collect();
            (!seen.is_empty()).then_some(())
        });
        for line in seen {
            // The mode of a running program can be changed; only the read-only mount prevents it.
            assert!(line.ends_with(", chmod EROFS"), "{watcher}: {line}");
            assert!(!line.contains("write done"), "{watcher}: {line}");
        }
        stop(guest, watcher);
    }
    // The program still works: the supervisor is restarted.
    let before = guest.service_pid(Service::Supervisor).expect("a supervisor");
    guest.signal_service(Service::Supervisor, libc::SIGKILL);
    guest.wait_for("a new supervisor", |guest| {
        guest.try_ask::<Reply>(&ipc::control::Request::Host).ok()?;
        guest.service_pid(Service::Supervisor).filter(|pid| *pid != before)
    });
    assert!(!on_host(guest, "/run/keel").is_empty());
}
