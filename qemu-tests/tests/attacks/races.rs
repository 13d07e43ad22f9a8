//! Attacks that change a path while the engine walks it: one container exchanges a directory of a
//! shared volume with a link out of it, again and again, while others are started that have
//! something mounted below it.

use crate::{Judge, Unit, at_a_word, has_ended, judges, on_host, start, stays, stop, text, unit};
use ipc::Reply;
use ipc::control::Request;
use qemu_tests::Guest;

/// Starts of each container. (The engine is in the middle of the path for a part of each.)
const STARTS: usize = 8;

pub fn units() -> Vec<Unit> {
    let exchanger = |name: &str, volume: &str, more: &str| {
        let command = format!(
            "command = [\"-c\", \"mkdir -p /v/a; ln -sfn /run/keel /v/l; exec /probe exchange /v/a /v/l {more}\"]"
        );
        at_a_word(stays(name, &format!("volumes = [\"{volume}:/v\"]"), &command))
    };
    let mounts = "command = [\"-c\", \"grep by- /proc/self/mountinfo; echo end\"]";
    vec![
        exchanger("exchanger", "race", ""),
        exchanger("exchanger-empties", "other-race", "empty"),
        at_a_word(unit(
            "cve-2021-30465",
            "attacker",
            &format!(
                "{mounts}\nvolumes = [\"race:/v\", \"other:/v/a/by-mount\"]\nuserns = \"host\""
            ),
        )),
        at_a_word(unit(
            "cve-2024-45310",
            "attacker",
            &format!(
                "{mounts}\nvolumes = [\"other-race:/v\"]\ntmpfs = [\"/v/a/by-mkdir/deep/er\"]\nuserns = \"host\""
            ),
        )),
    ]
}

pub const JUDGES: &[Judge] = judges![
    cve_2021_30465_a_mount_lands_inside_whatever_its_path_becomes,
    cve_2024_45310_directories_are_made_inside_whatever_their_path_becomes,
];

fn start_again_and_again(guest: &mut Guest, name: &str, exchanger: &str) -> (usize, String) {
    start(guest, exchanger);
    guest.wait_log(exchanger, "exchanging");
    let mut ran = 0;
    for number in 0..STARTS {
        guest.ask::<Reply>(&Request::Restart { name: name.to_owned() });
        guest.wait_for(&format!("{name} to end for the {number}th time"), |guest| {
            has_ended(guest, name).then_some(())
        });
        // A path that changes in the middle may well end in an error; it may not end elsewhere.
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

fn cve_2021_30465_a_mount_lands_inside_whatever_its_path_becomes(guest: &mut Guest) {
    let (ran, text) = start_again_and_again(guest, "cve-2021-30465", "exchanger");
    assert!(ran > 0, "no path was ever found");
    assert!(text.contains("/by-mount"), "its mount is nowhere:\n{text}");
}

/// What is made and mounted on is removed again, so that there is always something to be made.
fn cve_2024_45310_directories_are_made_inside_whatever_their_path_becomes(guest: &mut Guest) {
    let (ran, _) = start_again_and_again(guest, "cve-2024-45310", "exchanger-empties");
    assert!(ran > 0, "no path was ever found");
}
