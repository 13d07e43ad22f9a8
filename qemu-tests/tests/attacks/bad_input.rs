//! Images and units that are wrong: each says which unit, which key and why.

use crate::kernel::failed;
use crate::{Judge, Unit, has, has_ended, judges, refused, stays, text, unit};
use qemu_tests::Guest;

/// Name of the unit, its lines, and why it cannot be started. All are of the image `programs`.
const CASES: &[(&str, &str, &str)] = &[
    (
        "directory",
        "user = \"0\"\nworking_dir = \"/\"",
        "exec: /directory: is a directory (the image's Entrypoint)",
    ),
    (
        "fifo",
        "entrypoint = [\"/fifo\"]",
        "exec: /fifo: is not a regular file (the unit's entrypoint)",
    ),
    (
        "device",
        "entrypoint = [\"/dev/null\"]",
        "exec: /dev/null: is not a regular file (the unit's entrypoint)",
    ),
    (
        "interpreter",
        "entrypoint = [\"/script\"]",
        "exec: /script: its interpreter /bin/nowhere is not in the image (the unit's entrypoint)",
    ),
    (
        "dos",
        "entrypoint = []\ncommand = [\"/dos\"]",
        "exec: /dos: its interpreter /bin/sh is not in the image (the script has DOS line ends) (the unit's command)",
    ),
    (
        "plain",
        "entrypoint = [\"/plain\"]",
        "exec: /plain: is not executable (mode 0644) (the unit's entrypoint)",
    ),
    (
        "no-program",
        "entrypoint = [\"/no-program\"]",
        "exec: /no-program: is not a program (neither ELF nor #!) (the unit's entrypoint)",
    ),
    (
        "dangling",
        "entrypoint = [\"/dangling\"]",
        "exec: /dangling: is a symbolic link to a file that is not in the image (the unit's entrypoint)",
    ),
    (
        "loop",
        "entrypoint = [\"/loop\"]",
        "exec: /loop: Too many symbolic links encountered (the unit's entrypoint)",
    ),
    (
        "processor",
        "entrypoint = [\"/arm\"]",
        "exec: /arm: is a program for another processor (ELF machine 183) (the unit's entrypoint)",
    ),
    (
        "private",
        "entrypoint = [\"/private\"]\nuser = \"1000\"",
        "exec: /private: permission denied for user 1000 (mode 0700) (the unit's entrypoint)",
    ),
    (
        "absent",
        "entrypoint = [\"/absent\"]",
        "exec: /absent: no such file in the image (the unit's entrypoint)",
    ),
    (
        "not-in-path",
        "entrypoint = []\ncommand = [\"absent\"]",
        "exec: absent: not found in PATH (/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin) (the unit's command)",
    ),
    (
        "image-user",
        "working_dir = \"/\"\nkeep-user",
        "look up the user: user \"nobody-such\" is not in the image's /etc/passwd (the image's User)",
    ),
    (
        "image-workdir",
        "keep-dir",
        "enter the working directory: /file/below: Not a directory (the image's WorkingDir)",
    ),
    (
        "unit-user",
        "user = \"0:none-such\"",
        "look up the user: group \"none-such\" is not in the image's /etc/group (the unit's user)",
    ),
    ("unit-workdir", "working_dir = \"/settings/../proc\"", ""),
];

pub fn units() -> Vec<Unit> {
    let mut units: Vec<Unit> = CASES
        .iter()
        .map(|(name, lines, _)| {
            // What a case does not ask for is right, and not the image's.
            let mut container = String::new();
            for line in lines.lines().filter(|line| !line.starts_with("keep-")) {
                container.push_str(&format!("{line}\n"));
            }
            if !lines.contains("user") {
                container.push_str("user = \"0\"\n");
            }
            if !lines.contains("working_dir") && !lines.contains("keep-dir") {
                container.push_str("working_dir = \"/\"\n");
            }
            unit(&format!("bad-{name}"), "programs", &container)
        })
        .collect();
    // A working directory behind a link that leads out is one inside.
    units.push(unit(
        "bad-linked-workdir",
        "programs",
        "entrypoint = [\"/bin/sh\", \"-c\", \"pwd; echo end\"]\nuser = \"0\"\nworking_dir = \"/workdir/inside\"",
    ));
    // What would give its user more than may be gained runs without, and says so.
    for (name, program) in [("suid", "/suid"), ("sgid", "/sgid"), ("capable", "/permitted")] {
        units.push(unit(
            &format!("bad-{name}"),
            "attacker",
            &format!("entrypoint = [\"{program}\", \"report\"]\nuser = \"1000:1000\""),
        ));
    }
    units.push(stays("bad-exec", "", "entrypoint = [\"/probe\", \"wait\"]"));
    units
}

pub const JUDGES: &[Judge] = judges![
    programs_that_cannot_be_run_are_explained,
    a_working_directory_behind_a_link_is_inside,
    what_a_program_may_not_gain_is_said,
    programs_that_cannot_be_run_later_are_explained,
];

fn programs_that_cannot_be_run_are_explained(guest: &mut Guest) {
    let mut wrong = Vec::new();
    for (name, _, reason) in CASES {
        let name = format!("bad-{name}");
        if reason.is_empty() {
            let reason = guest.field(&name, "reason");
            assert!(reason.contains("invalid unit file: "), "{reason}");
            assert!(reason.contains("`..` in `/settings/../proc`"), "{reason}");
            continue;
        }
        guest.wait_for(&format!("{name} to be refused"), |guest| {
            has_ended(guest, &name).then_some(())
        });
        let found = guest.field(&name, "reason");
        if found != failed(reason) {
            wrong.push(format!("{name}: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    refused(guest, "bad-directory", &failed(CASES[0].2));
    let explained = guest.explain("bad-directory");
    assert!(
        explained[0].starts_with("bad-directory failed ")
            && explained[0].contains("exec: /directory: is a directory (the image's Entrypoint)"),
        "{explained:?}"
    );
}

fn a_working_directory_behind_a_link_is_inside(guest: &mut Guest) {
    guest.wait_log("bad-linked-workdir", "end");
    has(&text(guest, "bad-linked-workdir"), "/run/keel/inside");
}

fn what_a_program_may_not_gain_is_said(guest: &mut Guest) {
    for (name, what) in [
        ("bad-suid", "/suid is set-user-id (mode 4755)"),
        ("bad-sgid", "/sgid is set-group-id (mode 2755)"),
        ("bad-capable", "/permitted has the file capability CHOWN"),
    ] {
        guest.wait_log(name, "report end");
        let text = text(guest, name);
        has(
            &text,
            &format!(
                "keel: {what}, which has no effect: it runs as user 1000 and may gain nothing (no_new_privileges)"
            ),
        );
        has(&text, "uid 1000 1000 1000 1000");
        has(&text, "gid 1000 1000 1000 1000");
        has(&text, "CapEff 0000000000000000");
    }
}

fn programs_that_cannot_be_run_later_are_explained(guest: &mut Guest) {
    guest.wait_state("bad-exec", "running");
    for (program, code, why) in [
        ("/elsewhere", 126, "exec: /elsewhere: is a directory"),
        ("/negative", 126, "exec: /negative: is not executable (mode 0604)"),
        ("/absent", 127, "exec: /absent: no such file in the image"),
    ] {
        let said = guest.keel(&["exec", "bad-exec", "--", program]);
        assert_eq!(said.code, code, "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
    }
}
