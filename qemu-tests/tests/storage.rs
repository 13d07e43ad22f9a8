//! Named volumes in memory and on the data disk, over restarts, reboots and power cuts; a required disk that
//! is missing, and a full one.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use ipc::Reply;
use ipc::ShutdownKind;
use ipc::control::Request;
use qemu_tests::{Folder, Guest, Options, disk};

/// Counts its starts in a volume. (`sleep` as PID 1 ignores SIGTERM.)
const COUNTER: &str = "stop_signal = \"SIGKILL\"\n[container]\nimage = \"./images/busybox\"\n\
    network = \"none\"\nvolumes = [\"kept:/kept\"]\n\
    command = [\"-c\", '''n=$(cat /kept/starts 2>/dev/null || echo 0); n=$((n + 1)); \
    echo $n > /kept/starts; sync; echo \"start $n\"; exec sleep 1000000''']\n";

#[test]
fn volumes_in_memory_last_until_the_reboot() {
    let folder = Folder::host("hostname = \"forgetful\"\n", &[("counter", COUNTER)]);
    let options = Options { reboots: true, ..Options::default() };
    let mut guest = Guest::up(folder.path(), &options);
    guest.wait_log("counter", "start 1");
    guest.wait_console("volumes live in memory for this boot");
    let _: Reply = guest.ask(&Request::Restart { name: "counter".to_owned() });
    guest.wait_log("counter", "start 2");
    let _: Reply = guest.ask(&Request::Shutdown { kind: ShutdownKind::Reboot });
    guest.wait_for("the second boot", |guest| {
        (guest.console().matches("  Keelhost ").count() == 2).then_some(())
    });
    guest.wait_log("counter", "start 1");
    let lines = guest.logs("counter", 100);
    assert!(lines.iter().all(|line| !line.text.contains("start 2")), "{lines:?}");
    assert!(guest.power_off().success());
}

#[test]
fn volumes_on_the_disk_survive_reboots_and_power_cuts() {
    let tree = "type = \"oneshot\"\n[container]\nimage = \"./images/layers\"\nnetwork = \"none\"\n\
                volumes = [\"tree:/tree\"]\n";
    // Changes in a volume are not overwritten with the image's files.
    let edit = "type = \"oneshot\"\nenabled = false\n[container]\nimage = \"./images/busybox\"\n\
                network = \"none\"\nvolumes = [\"tree:/tree\"]\n\
                command = [\"-c\", \"rm /tree/owned && echo mine > /tree/new && sync && echo edited\"]\n";
    let folder = Folder::host(
        "hostname = \"keeper\"\n",
        &[("counter", COUNTER), ("tree", tree), ("edit", edit)],
    );
    folder.write(
        "units/bounded.toml",
        &format!("{COUNTER}[limits]\nio_read = \"1M\"\nio_write = \"2M\"\n")
            .replace("kept:", "bounded:"),
    );
    let image = folder.path().join("data.img");
    let options = Options { data: Some(image.clone()), ..Options::default() };
    let listing = |guest: &Guest| -> Vec<String> {
        guest.logs("tree", 1000).into_iter().map(|line| line.text).collect()
    };

    let mut guest = Guest::up(folder.path(), &options);
    guest.wait_log("counter", "start 1");
    guest.wait_state("tree", "done");
    let before = listing(&guest);
    // The image's files were copied, with owners and modes.
    assert!(before.contains(&"entry 100640 1000:1000 1 4 /tree/owned".to_owned()), "{before:#?}");
    guest.wait_log("bounded", "start 1");
    let bound = guest.read("/sys/fs/cgroup/units/bounded/io.max");
    assert!(bound.contains("rbps=1048576 wbps=2097152"), "{bound}");
    assert!(before.contains(&"entry 104755 0:0 1 114 /tree/setuid".to_owned()), "{before:#?}");
    let _: Reply = guest.ask(&Request::Start { name: "edit".to_owned() });
    guest.wait_log("edit", "edited");
    guest.cut_power();
    drop(guest);

    let mut guest = Guest::up(folder.path(), &options);
    guest.wait_log("counter", "start 2");
    guest.wait_state("tree", "done");
    let mut expected: Vec<String> =
        before.into_iter().filter(|line| !line.ends_with("/tree/owned")).collect();
    expected.push("entry 100644 0:0 1 5 /tree/new".to_owned());
    let path = |line: &String| line.split(' ').nth(5).map(str::to_owned);
    expected.sort_by_key(path);
    let mut after = listing(&guest);
    after.sort_by_key(path);
    assert_eq!(after, expected);
    assert!(guest.power_off().success());
    disk::assert_clean(&image);
}

#[test]
fn a_missing_required_disk_delays_only_units_that_need_it() {
    let quiet =
        "[container]\nimage = \"./images/probe\"\ncommand = [\"wait\"]\nnetwork = \"none\"\n";
    let folder = Folder::host(
        "hostname = \"diskless\"\n[storage]\ndata = \"required\"\n",
        &[("free", quiet), ("needs", &format!("{quiet}volumes = [\"kept:/data\"]\n"))],
    );
    let mut guest = Guest::up(folder.path(), &Options::default());
    guest.wait_state("free", "running");
    guest.wait_console("no disk with the label KEEL-DATA");
    assert_eq!(guest.field("needs", "state"), "waiting");
    let why = guest.explain("needs").join("\n");
    assert!(why.contains("volume:kept") && why.contains("no disk with the label"), "{why}");
    assert!(guest.power_off().success());
}

#[test]
fn a_full_disk_loses_only_log_lines() {
    let alone = "network = \"none\"\n";
    let shell = |script: &str| {
        format!(
            "[container]\nimage = \"./images/busybox\"\n{alone}command = [\"-c\", '''{script}''']\n"
        )
    };
    let folder = Folder::host(
        "hostname = \"full\"\n",
        &[
            (
                "filler",
                &format!(
                    "[container]\nimage = \"./images/probe\"\n{alone}volumes = [\"big:/big\"]\n\
                     command = [\"fill\", \"/big/file\"]\n"
                ),
            ),
            (
                "cleaner",
                &format!(
                    "type = \"oneshot\"\nenabled = false\n{}volumes = [\"big:/big\"]\n",
                    shell("rm /big/file && sync && echo cleaned")
                ),
            ),
            // More than the ring in memory holds, while nothing can be written to disk. It starts when the
            // disk is full: older log files would be deleted to make room, and no line would be lost.
            (
                "talker",
                &format!(
                    "enabled = false\nstop_timeout = \"1s\"\n{}",
                    shell(
                        "n=0; while true; do n=$((n + 1)); yes \"round $n of a unit that talks\" | head -n 3000; sleep 1; done"
                    )
                ),
            ),
            (
                "other",
                &format!(
                    "[container]\nimage = \"./images/probe\"\n{alone}command = [\"lines\", \"1000000\", \"200\"]\n"
                ),
            ),
        ],
    );
    let image = folder.path().join("data.img");
    disk::make(&image, 16);
    let mut guest =
        Guest::up(folder.path(), &Options { data: Some(image.clone()), ..Options::default() });
    let full = guest.wait_log("filler", "then: ");
    assert!(full.contains("os error 28"), "{full}");
    let _: Reply = guest.ask(&Request::Start { name: "talker".to_owned() });
    let lost = guest.wait_for("log lines to be lost", |guest| {
        Some(guest.unit("talker").log.lost).filter(|lost| *lost > 0)
    });
    // All units keep running, and lines in memory can be read.
    for unit in ["filler", "talker", "other"] {
        assert_eq!(guest.field(unit, "state"), "running");
        assert_eq!(guest.field(unit, "restarts"), "0");
    }
    let seq = |guest: &Guest| guest.logs("other", 1).last().map(|line| line.seq);
    let before = seq(&guest);
    guest.wait_for("another line", |guest| (seq(guest) > before).then_some(()));
    assert!(guest.ask::<String>(&Request::Dmesg).contains("cannot write log file"));

    // When space is available again, new lines are written to the files.
    let _: Reply = guest.ask(&Request::Stop { name: "filler".to_owned() });
    guest.wait_state("filler", "stopped");
    let _: Reply = guest.ask(&Request::Start { name: "cleaner".to_owned() });
    guest.wait_log("cleaner", "cleaned");
    let newest = guest.unit("talker").log.lines;
    guest.wait_for("lines written after space became available", |guest| {
        let request = Request::Read { path: "/data/logs/talker/current.log".to_owned() };
        let text: String = guest.try_ask(&request).ok()?;
        // TIME STREAM TAG GENERATION SEQ TEXT
        let last: u64 = text.lines().last()?.split(' ').nth(4)?.parse().ok()?;
        (last > newest).then_some(())
    });
    assert!(guest.unit("talker").log.lost >= lost);
    assert!(guest.power_off().success());
    disk::assert_clean(&image);
}
