//! Logs of units: a flood of output, log files with a size limit, and the time, stream and run of a line.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use api_types::LogLine;
use ipc::Reply;
use ipc::Service;
use ipc::control::Request;
use qemu_tests::{Folder, Guest, Options};

const FLOOD_BYTES: u64 = 100 << 20;
/// Length of one line of the flood (`qemu-tests/guest/src/probe/abuse.rs`).
const FLOOD_LINE: u64 = 80;
/// Memory limit of the logger: the limit of every Keelhost process, and a ring of 256 KiB for each of three
/// units.
const LOGGER_KIB: u64 = 3 * 1024;

fn names(guest: &Guest, path: &str) -> Vec<String> {
    guest.ask(&Request::List { path: path.to_owned() })
}

#[test]
fn a_flood_of_output_stays_bounded_and_counted() {
    let alone = "network = \"none\"\n";
    let probe = |words: &str| {
        format!("[container]\nimage = \"./images/probe\"\n{alone}command = [{words}]\n")
    };
    let speaker = "type = \"oneshot\"\n[container]\nimage = \"./images/busybox\"\nnetwork = \"none\"\n\
                   command = [\"-c\", \"echo to stdout; sleep 1; echo to stderr >&2; printf half\"]\n";
    let flood = format!(
        "type = \"oneshot\"\n{}[log]\nmax_size = \"64K\"\nmax_files = 2\n",
        probe(&format!("\"flood\", \"{FLOOD_BYTES}\""))
    );
    let folder = Folder::host(
        "hostname = \"deluge\"\n",
        &[
            ("flood", &flood),
            ("quiet", &format!("type = \"oneshot\"\n{}", probe("\"lines\", \"50\", \"20\""))),
            ("speaker", speaker),
        ],
    );
    let data = Some(folder.path().join("data.img"));
    let mut guest = Guest::up(folder.path(), &Options { data, ..Options::default() });

    // The unit is never blocked permanently, and the logger's memory does not grow with the output.
    let mut most = 0;
    guest.wait_for("the flood to end", |guest| {
        let pid = guest.service_pid(Service::Logger)?;
        most = most.max(guest.pss_kib(pid));
        (guest.field("flood", "state") == "done").then_some(())
    });
    assert!(most > 0 && most <= LOGGER_KIB, "the logger took {most} KiB");

    // All lines are counted: those in memory, and those that were replaced by newer ones.
    let expected = FLOOD_BYTES / FLOOD_LINE + 1;
    guest.wait_for("the last line to be counted", |guest| {
        (guest.unit("flood").log.lines >= expected).then_some(())
    });
    let counters = guest.unit("flood").log;
    assert_eq!(counters.lines, expected);
    let kept = guest.logs("flood", 5000);
    assert_eq!(counters.lines, counters.evicted + kept.len() as u64, "{counters:?}");
    assert!(kept.windows(2).all(|pair| matches!(pair, [a, b] if b.seq == a.seq + 1)));
    let last = kept.last().map(|line| line.text.as_str());
    assert_eq!(last, Some(format!("flood end {}", expected - 1).as_str()));

    // No other unit lost lines.
    let quiet: Vec<String> = guest.logs("quiet", 100).into_iter().map(|line| line.text).collect();
    let mut lines: Vec<String> = (1..=50).map(|number| format!("line {number}")).collect();
    lines.push("lines end 50".to_owned());
    assert_eq!(quiet, lines);

    // On the disk: at most two files of the unit's size, with the last line.
    let directory = "/data/logs/flood";
    let last_line = |guest: &Guest| -> Option<String> {
        let request = Request::Read { path: format!("{directory}/current.log") };
        let text: String = guest.try_ask(&request).ok()?;
        assert!(text.len() <= 64 * 1024, "current.log has {} bytes", text.len());
        text.lines().last().map(str::to_owned)
    };
    let line = guest.wait_for("the log file's last line", |guest| {
        last_line(guest).filter(|line| line.contains("flood end"))
    });
    // TIME STREAM TAG GENERATION SEQ TEXT
    let words: Vec<&str> = line.splitn(6, ' ').collect();
    let seq = kept.last().map(|line| line.seq.to_string()).unwrap_or_default();
    assert!(
        matches!(words.as_slice(), [time, "stdout", "F", "1", number, _]
        if time.ends_with('Z') && time.contains('T') && *number == seq),
        "{line}"
    );
    assert_eq!(names(&guest, directory), ["1.log", "current.log"]);
    assert!(guest.read(&format!("{directory}/1.log")).len() <= 64 * 1024);

    // A line has its stream, run and time. The end of a run ends an incomplete line.
    let said = |guest: &Guest| -> Vec<LogLine> { guest.logs("speaker", 100) };
    let lines = said(&guest);
    let told: Vec<(&str, &str, u64)> = lines
        .iter()
        .map(|line| (line.stream.name(), line.text.as_str(), line.generation))
        .collect();
    assert_eq!(
        told,
        [("stdout", "to stdout", 1), ("stderr", "to stderr", 1), ("stdout", "half", 1)]
    );
    assert!(lines.windows(2).all(|pair| matches!(pair, [a, b] if a.time_us <= b.time_us)));
    let _: Reply = guest.ask(&Request::Start { name: "speaker".to_owned() });
    guest.wait_for("the second run", |guest| (said(guest).len() == 6).then_some(()));
    assert!(said(&guest).iter().skip(3).all(|line| line.generation == 2));
    assert!(guest.power_off().success());
}
