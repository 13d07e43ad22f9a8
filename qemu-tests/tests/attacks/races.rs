//! Attacks that change a path while the engine resolves it: one container repeatedly exchanges a directory of
//! a shared volume with a link to the outside, while other containers are started that have a mount below it.

use crate::{Judge, Unit, has_ended, judges, on_demand, on_host, start, stays, stop, text, unit};
use ipc::Reply;
use ipc::control::Request;
use qemu_tests::Guest;

/// Starts of each container. (During a part of each start, the engine is resolving the path.)
const STARTS: usize = 8;

pub fn units() -> Vec<Unit> {
    let exchanger = |name: &str, volume: &str, more: &str| {
        let command = format!(
            "command = [\"-c\", \"mkdir -p /v/a; ln -sfn /run/keel /v/l; exec /probe exchange /v/a /v/l {more}\"]"
        );
        on_demand(stays(name, &format!("volumes = [\"{volume}:/v\"]"), &command))
    };
    let mounts = "command = [\"-c\", \"grep by- /proc/self/mountinfo; echo end\"]";
    vec![
        exchanger("exchanger", "race", ""),
        exchanger("exchanger-empties", "other-race", "empty"),
        on_demand(unit(
            "cve-2021-30465",
            "attacker",
            &format!(
                "{mounts}\nvolumes = [\"race:/v\", \"other:/v/a/by-mount\"]\nuserns = \"host\""
            ),
        )),
        on_demand(unit(
            "cve-2024-45310",
            "attacker",
            &format!(
                "{mounts}\nvolumes = [\"other-race:/v\"]\ntmpfs = [\"/v/a/by-mkdir/deep/er\"]\nuserns = \"host\""
            ),
        )),
    ]
}

pub const JUDGES: &[Judge] = judges![
    cve_2021_30465_a_mount_is_inside_even_if_its_path_changes,
    cve_2024_45310_directories_are_created_inside_even_if_their_path_changes,
];

fn start_repeatedly(guest: &mut Guest, name: &str, exchanger: &str) -> (usize, String) {
    start(guest, exchanger);
    guest.wait_log(exchanger, "exchanging");
    let mut ran = 0;
    for number in 0..STARTS {
        guest.ask::<Reply>(&Request::Restart { name: name.to_owned() });
        guest.wait_for(&format!("{name} to end for the {number}th time"), |guest| {
            has_ended(guest, name).then_some(())
        });
        // If the path changes, an error is acceptable; a path outside is not.
        match guest.field(name, "state").as_str() {
            "done" => ran += 1,
            _ => {
                let reason = guest.field(name, "reason");
                assert!(reason.contains("mount a volume: "), "{reason}");
            }
        }
    }
    let names = on_host(guest, "/run/keel");
    assert!(!names.iter().any(|name| name.starts_with("by-")), "{names:?}");
    let mounts = guest.read("/proc/1/mounts");
    assert!(!mounts.contains("/by-"), "{mounts}");
    assert_eq!(guest.field(exchanger, "state"), "running");
    assert_eq!(guest.field(exchanger, "failures"), "0");
    stop(guest, exchanger);
    (ran, text(guest, name))
}

fn cve_2021_30465_a_mount_is_inside_even_if_its_path_changes(guest: &mut Guest) {
    let (ran, text) = start_repeatedly(guest, "cve-2021-30465", "exchanger");
    assert!(ran > 0, "no start has found its path");
    assert!(text.contains("/by-mount"), "its mount is nowhere:\n{text}");
}

/// The created directories are removed again, so that there is always one to create.
fn cve_2024_45310_directories_are_created_inside_even_if_their_path_changes(guest: &mut Guest) {
    let (ran, _) = start_repeatedly(guest, "cve-2024-45310", "exchanger-empties");
    assert!(ran > 0, "no start has found its path");
}
