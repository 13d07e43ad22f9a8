//! The measurements as tables.

use crate::measurements::{ENGINE, Measurements};
use engine_bench::line::{Line, Mode};

/// The rows, in this order: the name in the report and the name shown.
const ROWS: [(&str, &str); 8] = [
    ("floor", "floor program"),
    (ENGINE, "our engine"),
    ("engine-userns", "our engine, user namespace"),
    ("engine-restart", "our engine, restart"),
    ("crun", "crun run"),
    ("runc", "runc run"),
    ("podman", "podman run --rm"),
    ("docker", "docker run --rm"),
];

/// Prints all of it.
pub fn print(measurements: &Measurements, place: &str) {
    println!("\ncreate, start, exit and clean up one container whose program does nothing");
    println!("{place}; milliseconds");
    times(measurements);
    println!("\nratios (each is the worse of hot and with gaps)");
    for ratio in measurements.ratios() {
        let value = ratio.value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let bound = if ratio.at_least { "at least" } else { "at most" };
        println!(
            "  {:<8} {value:>8}   target: {bound} {:<5} {}",
            ratio.name,
            ratio.aim,
            ratio.verdict()
        );
    }
    steps(measurements);
    others(measurements);
    for note in &measurements.notes {
        println!("\nnote: {note}");
    }
}

fn times(measurements: &Measurements) {
    println!(
        "\n  {:<28} {:>9} {:>9} {:>6}   {:>9} {:>9} {:>6}",
        "", "hot", "p95", "runs", "gaps", "p95", "runs"
    );
    for (who, name) in ROWS {
        let cell = |mode| match measurements.spread(mode, who) {
            Some(spread) => {
                format!("{:>9.2} {:>9.2} {:>6}", spread.median, spread.p95, spread.count)
            }
            None => format!("{:>9} {:>9} {:>6}", "-", "-", "-"),
        };
        println!("  {name:<28} {}   {}", cell(Mode::Hot), cell(Mode::Gaps));
    }
}

/// Both side by side, in the order of our engine's steps; steps of the floor program alone come last.
fn steps(measurements: &Measurements) {
    let of = |wanted: &str| {
        measurements.others.iter().find_map(|line| match line {
            Line::Steps { who, steps } if who == wanted => Some(steps.as_slice()),
            _ => None,
        })
    };
    let (Some(floor), Some(ours)) = (of("floor"), of(ENGINE)) else { return };
    let find = |steps: &[(String, u64)], name: &str| {
        steps.iter().find(|(step, _)| step == name).map(|(_, ns)| *ns)
    };
    let cell = |ns: Option<u64>| ns.map_or("-".to_owned(), |ns| (ns / 1000).to_string());
    println!("\ntime of each step, microseconds (median)");
    println!("  {:<42} {:>9} {:>9}", "", "floor", "ours");
    let only_floor = floor.iter().filter(|(name, _)| find(ours, name).is_none());
    for (name, _) in ours.iter().chain(only_floor) {
        println!("  {name:<42} {:>9} {:>9}", cell(find(floor, name)), cell(find(ours, name)));
    }
}

fn name(who: &str) -> &str {
    ROWS.iter().find(|(row, _)| *row == who).map_or(who, |(_, name)| name)
}

fn others(measurements: &Measurements) {
    let mut last = "";
    let mut head = |kind: &'static str, text: &str| {
        if last != kind {
            println!("\n{text}");
            last = kind;
        }
    };
    for line in &measurements.others {
        match line {
            Line::Version { text, .. } => {
                head("version", "versions (from Debian's packages)");
                println!("  {text}");
            }
            Line::Memory { who, largest_kib, group_kib } => {
                head(
                    "memory",
                    "memory of one start, KiB: the largest process; the peak of all processes",
                );
                let group = group_kib.map_or("-".to_owned(), |kib| kib.to_string());
                println!("  {:<28} {largest_kib:>9} {group:>9}", name(who));
            }
            Line::Daemons { who, pss_kib } => {
                head("daemons", "daemons, with no container running: KiB (PSS)");
                println!("  {:<28} {pss_kib:>9}", name(who));
            }
            Line::Rest { who, processes, pss_kib } => {
                head(
                    "rest",
                    "one container at rest, besides its own program: KiB (PSS), processes",
                );
                let processes =
                    if processes.is_empty() { "none".to_owned() } else { processes.join(", ") };
                println!("  {:<28} {pss_kib:>9}   {processes}", name(who));
            }
            Line::Calls { who, allowed_ns, denied_ns } => {
                head(
                    "calls",
                    "a system call under the filter, ns: getppid (allowed), kexec_file_load (denied)",
                );
                println!("  {:<28} {allowed_ns:>9.0} {denied_ns:>9.0}", name(who));
            }
            Line::Progress(_)
            | Line::Steps { .. }
            | Line::Note(_)
            | Line::Times { .. }
            | Line::Failed(_)
            | Line::Done => {}
        }
    }
}
