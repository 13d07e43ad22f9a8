//! Attacks through directories and symbolic links: working directories, volumes, copied files, and the host's
//! own state.

use crate::{Judge, Unit, both, has, has_not, judges, on_host, said, script, stays, text, unit};
use qemu_tests::Guest;
use std::fs;

/// File descriptors under which an engine may have directories of the host open.
const LEAKED: std::ops::Range<u32> = 3..11;

/// Shows files of the host if the working directory is outside the container.
const OUTSIDE: &str = "pwd; ls -d ../../../run/keel ../../../../../run/keel ./units; ls -l /proc/self/fd | grep -c -e ' /run' -e ' /sys'";

/// Reads and enters Keelhost's folders at /host. Names that cannot be listed can be guessed.
const STATE: &str = "
ls /host
for d in layers staging units volumes log net api; do
    ls /host/$d && echo \"done: $d\"
    cd /host/$d && echo \"entered: $d\"
done
cat /host/units/*.json /host/units/cve-2021-41103.json
ls /host/layers/* /host/staging/lower";

const MODES: &str = "for d in /host/*; do [ ! -d $d ] || stat -c '%a %n' $d; done; find /host -xdev -type f ! -name resolv.conf -perm -o=r | sed 's/^/readable: /' | grep -v -e boot -e host";

pub fn units() -> Vec<Unit> {
    let mut units = vec![
        script("cve-2024-21626-image", "workdir-fd", "", OUTSIDE),
        script(
            "cve-2026-55686",
            "linked-workdir",
            "",
            "pwd; touch file; ls -d /run/keel/by-workdir/file",
        ),
        script(
            "cve-2026-55686-host",
            "linked-workdir",
            "userns = \"host\"\nworking_dir = \"/made/by-workdir/of/the/unit\"",
            "pwd; touch file",
        ),
        script(
            "cve-2021-41103",
            "attacker",
            "user = \"1000:1000\"\nuserns = \"host\"\nvolumes = [\"/run/keel:/host:ro\"]",
            STATE,
        ),
        script(
            "cve-2024-25621",
            "attacker",
            "userns = \"host\"\nvolumes = [\"/run/keel:/host:ro\"]",
            MODES,
        ),
        script("cve-2026-53488", "labelled", "", "ls /elsewhere"),
        stays(
            "trap",
            "working_dir = \"/srv\"",
            "command = [\"-c\", \"rmdir /srv; ln -s /proc/self/fd/9 /srv; echo secret >/file; echo set; while :; do sleep 1; done\"]",
        ),
    ];
    for number in LEAKED {
        let container = format!("working_dir = \"/proc/self/fd/{number}\"\nuserns = \"host\"");
        units.push(script(&format!("cve-2024-21626-{number}"), "attacker", &container, OUTSIDE));
    }
    units.extend(both(
        "cve-2022-23648",
        "linked-volumes",
        "",
        "ls -A /copied/ | sed 's/^/copied: /'; ls -d /run/keel/by-volume; touch /copied/by-volume",
    ));
    units.push(unit(
        "cve-2022-23648-unit",
        "attacker",
        "command = [\"-c\", \"id\"]\nvolumes = [\"v23648:/../../etc\"]",
    ));
    units
}

pub const JUDGES: &[Judge] = judges![
    cve_2024_21626_the_working_directory_is_inside,
    cve_2026_55686_a_working_directory_behind_a_link_is_created_inside,
    cve_2022_23648_volumes_behind_links_are_inside,
    cve_2021_41103_state_is_inaccessible_to_other_users,
    cve_2024_25621_state_is_accessible_only_to_its_owner,
    cve_2026_53488_labels_are_single_words,
    cve_2026_42306_no_program_of_the_container_is_used_for_copies,
];

/// Directories of the host that an engine may have open, as the working directory: of the unit, of the image,
/// and of a program started with exec in a container that has replaced the directory.
fn cve_2024_21626_the_working_directory_is_inside(guest: &mut Guest) {
    for number in LEAKED {
        let name = format!("cve-2024-21626-{number}");
        guest.wait_for(&format!("{name} to be refused"), |guest| {
            (guest.field(&name, "state") == "failed").then_some(())
        });
        let reason = guest.field(&name, "reason");
        let start =
            format!("could not be started: enter the working directory: /proc/self/fd/{number}");
        assert!(reason.starts_with(&start), "{reason}");
        assert!(reason.ends_with(" (the unit's working_dir)"), "{reason}");
        assert_eq!(text(guest, &name), "");
    }
    let image = "cve-2024-21626-image";
    guest.wait_for("the unit of the image to be refused", |guest| {
        (guest.field(image, "state") == "failed").then_some(())
    });
    let reason = guest.field(image, "reason");
    assert!(reason.contains(": enter the working directory: "), "{reason}");
    assert!(reason.ends_with(" (the image's WorkingDir)"), "{reason}");

    guest.wait_log("trap", "set");
    let said = guest.keel(&["exec", "trap", "--", "sh", "-c", OUTSIDE]);
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!(said.out, "");
    assert!(said.err.contains("enter the working directory: "), "{said:?}");
}

fn cve_2026_55686_a_working_directory_behind_a_link_is_created_inside(guest: &mut Guest) {
    let text = said(guest, "cve-2026-55686");
    has(&text, "/run/keel/by-workdir");
    has(&text, "/run/keel/by-workdir/file");
    has(&said(guest, "cve-2026-55686-host"), "/run/keel/by-workdir/of/the/unit");
    let names = on_host(guest, "/run/keel");
    assert!(!names.iter().any(|name| name.starts_with("by-")), "{names:?}");
}

/// A volume of the image is at a link to a directory of the host, whose files would be copied into the volume;
/// another one is below such a link, where a directory would be created.
fn cve_2022_23648_volumes_behind_links_are_inside(guest: &mut Guest) {
    let units = on_host(guest, "/run/keel/units");
    assert!(!units.is_empty(), "there is something to be copied");
    for name in ["cve-2022-23648", "cve-2022-23648-host"] {
        let text = said(guest, name);
        has_not(&text, "copied: ");
        has(&text, "/run/keel/by-volume");
    }
    assert!(!units.iter().any(|name| name.starts_with("by-")), "{units:?}");
    let names = on_host(guest, "/run/keel");
    assert!(!names.iter().any(|name| name.starts_with("by-")), "{names:?}");
    let reason = guest.field("cve-2022-23648-unit", "reason");
    assert!(reason.contains("path `/../../etc` contains `..`"), "{reason}");
}

/// An unprivileged user of the host, and root of a container with a user namespace.
fn cve_2021_41103_state_is_inaccessible_to_other_users(guest: &mut Guest) {
    let text = said(guest, "cve-2021-41103");
    has_not(&text, "done: ");
    has_not(&text, "entered: ");
    assert!(text.matches("ermission denied").count() >= 16, "{text}");
}

fn cve_2024_25621_state_is_accessible_only_to_its_owner(guest: &mut Guest) {
    let text = said(guest, "cve-2024-25621");
    let modes: Vec<&str> = text.lines().filter(|line| line.contains(" /host/")).collect();
    assert!(modes.len() >= 6, "{text}");
    for line in modes {
        assert!(line.starts_with("700 "), "{line}");
    }
    has_not(&text, "readable: ");
}

fn cve_2026_53488_labels_are_single_words(guest: &mut Guest) {
    assert_eq!(said(guest, "cve-2026-53488"), "begin\nend\n");
    for place in ["/run/keel", "/proc/1/root"] {
        let names = on_host(guest, place);
        assert!(!names.iter().any(|name| name.starts_with("by-")), "{names:?}");
    }
}

/// The container has its own tar and cp, which report if they are run. Copying files in and out must not use
/// them.
fn cve_2026_42306_no_program_of_the_container_is_used_for_copies(guest: &mut Guest) {
    guest.wait_log("trap", "set");
    let here = guest.scratch().join("copied");
    let here = here.to_str().expect("a path");
    guest.keel_ok(&["cp", "trap:/file", here]);
    assert_eq!(fs::read_to_string(here).expect("the copy"), "secret\n");
    guest.keel_ok(&["cp", here, "trap:/in"]);
    assert_eq!(guest.keel_ok(&["cp", "trap:/in", "-"]), "secret\n");
    let trap = guest.keel(&["cp", "trap:/trapped", "-"]);
    assert_ne!(trap.code, 0, "a program of the container has run: {trap:?}");
}
