//! Attacks on the identity of a program: user, groups, capabilities.

use crate::kernel::failed;
use crate::{Judge, Unit, has, has_ended, has_not, judges, refused, stays, text, unit};
use qemu_tests::Guest;

/// A program of the image, as this user.
fn runs(name: &str, program: &[&str], user: &str, more: &str) -> Unit {
    let program = format!("{program:?}");
    unit(name, "attacker", &format!("entrypoint = {program}\nuser = \"{user}\"\n{more}"))
}

/// Otherwise the kernel would ignore set-group-ID bits and file capabilities, and the attack would prove
/// nothing.
const GAINS: &str = "no_new_privileges = false";

/// Prints the identity with the set-group-ID program, then what it can read.
const NEGATIVE: &str =
    "/sgid ids | grep -e '^gid' -e '^groups'; cat /negative; /sgid read /negative; echo end";

fn negative(name: &str, user: &str) -> Unit {
    let container = format!("command = [\"-c\", \"{NEGATIVE}\"]\nuser = \"{user}\"\n{GAINS}");
    unit(name, "attacker", &container)
}

pub fn units() -> Vec<Unit> {
    let ids = ["/probe", "ids"];
    let on_host = format!("{GAINS}\nuserns = \"host\"");
    vec![
        runs("cve-2024-40635", &ids, "beyond", ""),
        runs("cve-2024-40635-group", &ids, "beyond-group", ""),
        runs("cve-2024-40635-minus", &ids, "minus", "userns = \"host\""),
        runs("cve-2024-40635-unit", &ids, "4294967296", ""),
        runs("cve-2026-46680", &ids, "01000", "userns = \"host\""),
        runs("cve-2026-46680-large", &ids, "4294967296:4294967296", ""),
        runs("cve-2016-3697", &ids, "1000", ""),
        runs("cve-2016-3697-group", &ids, "1000:2000", "userns = \"host\""),
        unit("cve-2026-47262", "endless-group", "command = [\"-c\", \"id\"]"),
        unit(
            "cve-2026-47262-host",
            "endless-group",
            "command = [\"-c\", \"id\"]\nuserns = \"host\"",
        ),
        unit("cve-2026-47262-huge", "huge-group", "command = [\"-c\", \"id\"]"),
        runs("cve-2022-24769", &["/inheritable", "caps"], "tester", GAINS),
        runs("cve-2022-27649", &["/inheritable", "caps"], "1000:1000", &on_host),
        runs("permitted", &["/permitted", "caps"], "tester", &on_host),
        negative("cve-2022-36109", "1000"),
        negative("cve-2023-25173", "tester"),
        stays(
            "tester",
            &format!("user = \"tester\"\n{GAINS}"),
            "entrypoint = [\"/probe\", \"wait\"]",
        ),
    ]
}

pub const JUDGES: &[Judge] = judges![
    cve_2024_40635_a_user_beyond_32_bits_is_not_root,
    cve_2026_46680_a_number_with_zeros_is_a_number,
    cve_2016_3697_a_number_is_never_a_name,
    cve_2026_47262_an_endless_group_file_is_not_read,
    cve_2022_24769_no_capability_is_inherited,
    cve_2022_27649_no_capability_is_inherited_from_the_host,
    cve_2022_29162_no_capability_is_inherited_by_exec,
    cve_2022_36109_the_group_of_a_user_is_kept,
    cve_2023_25173_the_group_of_a_named_user_is_kept,
    cve_2022_2989_the_group_is_kept_in_exec,
];

/// Waits for a line with this beginning; returns the whole output.
fn written(guest: &mut Guest, name: &str, last: &str) -> String {
    guest.wait_for(&format!("{name} to end"), |guest| has_ended(guest, name).then_some(()));
    assert_eq!(guest.field(name, "state"), "done", "{}", guest.field(name, "reason"));
    guest.wait_log(name, last);
    text(guest, name)
}

fn cve_2024_40635_a_user_beyond_32_bits_is_not_root(guest: &mut Guest) {
    for (name, user) in [
        ("cve-2024-40635", "beyond"),
        ("cve-2024-40635-group", "beyond-group"),
        ("cve-2024-40635-minus", "minus"),
    ] {
        let reason = format!(
            "look up the user: the image's /etc/passwd has an entry for \"{user}\" with an invalid id (the unit's user)"
        );
        refused(guest, name, &failed(&reason));
    }
    let reason = guest.field("cve-2024-40635-unit", "reason");
    assert!(reason.contains("id `4294967296` is too large"), "{reason}");
}

/// In the image, users with these names are root.
fn cve_2026_46680_a_number_with_zeros_is_a_number(guest: &mut Guest) {
    has(&written(guest, "cve-2026-46680", "cgroup "), "uid 1000 1000 1000 1000");
    let reason = guest.field("cve-2026-46680-large", "reason");
    assert!(reason.contains("id `4294967296` is too large"), "{reason}");
}

/// In the image, a user named 1000 is root, and groups named 1000 and 2000 have the ID of root's group.
fn cve_2016_3697_a_number_is_never_a_name(guest: &mut Guest) {
    let text = written(guest, "cve-2016-3697", "cgroup ");
    has(&text, "uid 1000 1000 1000 1000");
    has(&text, "gid 1000 1000 1000 1000");
    let text = written(guest, "cve-2016-3697-group", "cgroup ");
    has(&text, "gid 2000 2000 2000 2000");
    has(&text, "groups 2000");
}

fn cve_2026_47262_an_endless_group_file_is_not_read(guest: &mut Guest) {
    for name in ["cve-2026-47262", "cve-2026-47262-host"] {
        let reason =
            "look up the user: the image's /etc/group is not a regular file (the image's User)";
        refused(guest, name, &failed(reason));
    }
    let reason = "look up the user: the image's /etc/group is larger than 1 MiB (the image's User)";
    refused(guest, "cve-2026-47262-huge", &failed(reason));
}

fn nothing_is_inherited(text: &str) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        has(text, &format!("{set} 0000000000000000"));
    }
    has(text, "NoNewPrivs 0");
}

/// A program whose file capabilities have all capabilities of a container as inheritable: it gains those that
/// the process has in its inheritable set, too.
fn cve_2022_24769_no_capability_is_inherited(guest: &mut Guest) {
    nothing_is_inherited(&written(guest, "cve-2022-24769", "Seccomp "));
    // Permitted file capabilities are effective here.
    has(&written(guest, "permitted", "Seccomp "), "CapEff 0000000000000001");
}

fn cve_2022_27649_no_capability_is_inherited_from_the_host(guest: &mut Guest) {
    nothing_is_inherited(&written(guest, "cve-2022-27649", "Seccomp "));
}

fn cve_2022_29162_no_capability_is_inherited_by_exec(guest: &mut Guest) {
    guest.wait_state("tester", "running");
    nothing_is_inherited(&guest.keel_ok(&["exec", "tester", "--", "/inheritable", "caps"]));
}

/// All but group 1000 can read the file. A process that loses this group can read it: a set-group-ID program
/// replaces the group with another one, unless it is also a supplementary group.
fn the_group_is_kept(text: &str, groups: &str) {
    has(text, "gid 1000 3000 3000 3000");
    has(text, groups);
    has_not(text, "for others only");
    assert_eq!(text.matches("Permission denied").count(), 2, "{text}");
}

fn cve_2022_36109_the_group_of_a_user_is_kept(guest: &mut Guest) {
    the_group_is_kept(&written(guest, "cve-2022-36109", "end"), "groups 1000 2000");
}

fn cve_2023_25173_the_group_of_a_named_user_is_kept(guest: &mut Guest) {
    the_group_is_kept(&written(guest, "cve-2023-25173", "end"), "groups 1000 2000");
}

fn cve_2022_2989_the_group_is_kept_in_exec(guest: &mut Guest) {
    guest.wait_state("tester", "running");
    let said = guest.keel(&["exec", "tester", "--", "sh", "-c", NEGATIVE]);
    the_group_is_kept(&format!("{}{}", said.out, said.err), "groups 1000 2000");
}
