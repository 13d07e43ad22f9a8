//! `make bench`: boots ten bridged containers of one tiny static program and measures where the time
//! and the memory are spent. Prints a table and writes the same values to `target/bench/boot.json`.
//!
//! All values of a table come from one run. Times under TCG emulation depend on the machine, so compare
//! the ratios (to the budget, to the same container's own start).

use api_types::{LogLine, Unit};
use ipc::Reply;
use ipc::Service;
use ipc::control::Request;
use qemu_tests::{Folder, Guest, Options, root};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;

/// Containers of the boot measurement.
const CONTAINERS: usize = 10;

/// The design's targets.
const BUDGET_ONE_CPU_MS: f64 = 2500.0;
const BUDGET_TWO_CPUS_MS: f64 = 1500.0;
const BUDGET_RESTART_RATIO: f64 = 2.0;
const BUDGET_INIT_KIB: u64 = 2 * 1024;
const BUDGET_ALL_KIB: u64 = 10 * 1024;
const BUDGET_USERLAND_BYTES: u64 = 6_000_000;

/// A boot, in milliseconds since the first line of PID 1.
#[derive(Debug, Serialize)]
struct Boot {
    cpus: u32,
    accelerator: &'static str,
    phases: Vec<(String, f64, f64)>,
    containers: BTreeMap<String, Container>,
    last_first_instruction_ms: f64,
    budget_ms: f64,
}

/// The steps of one container's start, in milliseconds since the first line of PID 1.
#[derive(Debug, Default, Serialize)]
struct Container {
    ordered: f64,
    prepared: f64,
    cloned: f64,
    attached: f64,
    exec_seen: f64,
    first_instruction: f64,
}

/// Processes of Keelhost and their proportional set size.
#[derive(Debug, Serialize)]
struct Memory {
    pss_kib: BTreeMap<&'static str, u64>,
    all_kib: u64,
}

/// The restart after a crash.
#[derive(Debug, Serialize)]
struct Restart {
    /// Median over the crashes, ms from PID 1's reaping to the first instruction.
    crash_to_first_instruction_ms: f64,
    /// The same container's start on request in the same boot, median of as many.
    start_ms: f64,
    ratio: f64,
    samples: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    boots: Vec<Boot>,
    memory: Memory,
    restart: Restart,
    userland_bytes: u64,
    initrd_bytes: u64,
    kernel_bytes: u64,
}

fn main() -> ExitCode {
    let host = root().join("qemu-tests/hosts/bench10");
    let (one, memory) = boot(&host, 1, "auto", BUDGET_ONE_CPU_MS);
    show_boot(&one);
    show_memory(&memory);
    // Two processors need multi-threaded TCG. If it crashes the guest (7.2 can), the harness reports
    // it and the measurement is repeated.
    let Some((two, _)) = boot_again(&host, 2, "tcg-multi", BUDGET_TWO_CPUS_MS) else {
        eprintln!("no boot with two processors completed");
        return ExitCode::FAILURE;
    };
    show_boot(&two);
    let restart = restart();
    show_restart(&restart);
    let (userland, initrd, kernel) = sizes();
    println!();
    println!("on disk");
    line(
        "userland (program and host files)",
        userland as f64 / 1e6,
        "MB",
        BUDGET_USERLAND_BYTES as f64 / 1e6,
    );
    println!("  kernel {:.1} MB, initrd {:.1} MB", kernel as f64 / 1e6, initrd as f64 / 1e6);
    let report = Report {
        boots: vec![one, two],
        memory,
        restart,
        userland_bytes: userland,
        initrd_bytes: initrd,
        kernel_bytes: kernel,
    };
    match write(&report) {
        Ok(path) => println!("\nwritten to {path}"),
        Err(error) => {
            eprintln!("cannot write the report: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn write(report: &Report) -> std::io::Result<String> {
    let dir = root().join("target/bench");
    fs::create_dir_all(&dir)?;
    let path = dir.join("boot.json");
    fs::write(&path, serde_json::to_vec_pretty(report)?)?;
    Ok(path.display().to_string())
}

/// The nanoseconds that the `first` program printed last.
fn first_instruction_ns(guest: &Guest, unit: &str) -> Option<u64> {
    let request = Request::Logs { name: unit.to_owned(), tail: 5 };
    let lines: Vec<LogLine> = guest.try_ask(&request).ok()?;
    lines.iter().rev().find_map(|line| line.text.strip_prefix("first ")?.trim().parse().ok())
}

fn boot(
    host: &std::path::Path,
    cpus: u32,
    accelerator: &'static str,
    budget_ms: f64,
) -> (Boot, Memory) {
    let options = Options { cpus, accel: accelerator, ..Options::default() };
    let mut guest = Guest::boot(host, &options);
    // No requests before the host is up: each would take time that is being measured.
    guest
        .wait_for("the table of units", |guest| guest.console().contains("RESTARTS").then_some(()));
    let units: Vec<Unit> = guest.wait_for("all containers to run", |guest| {
        let units: Vec<Unit> = guest.try_ask(&Request::Units).ok()?;
        let running =
            units.iter().filter(|unit| first_instruction_ns(guest, &name(unit)).is_some()).count();
        (running == CONTAINERS).then_some(units)
    });
    let report = guest.boot_report();
    let since = |us: u64| us.saturating_sub(report.start_us) as f64 / 1000.0;
    let phases = report
        .phases
        .iter()
        .map(|phase| {
            (
                phase.name.clone(),
                (phase.end_us - phase.start_us) as f64 / 1000.0,
                since(phase.end_us),
            )
        })
        .collect();
    let mut containers = BTreeMap::new();
    for unit in &units {
        let name = name(unit);
        let first = first_instruction_ns(&guest, &name).unwrap_or(0);
        let t = unit.timeline;
        containers.insert(
            name,
            Container {
                ordered: since(t.ordered_us),
                prepared: since(t.prepared_us),
                cloned: since(t.cloned_us),
                attached: since(t.attached_us),
                exec_seen: since(t.exec_us),
                first_instruction: since(first / 1000),
            },
        );
    }
    let last = containers.values().map(|container| container.first_instruction).fold(0.0, f64::max);
    let memory = memory(&guest);
    guest.power_off();
    let boot =
        Boot { cpus, accelerator, phases, containers, last_first_instruction_ms: last, budget_ms };
    (boot, memory)
}

/// As [`boot`], up to three times if the guest crashes.
fn boot_again(
    host: &std::path::Path,
    cpus: u32,
    accelerator: &'static str,
    budget_ms: f64,
) -> Option<(Boot, Memory)> {
    (0..3).find_map(|_| {
        let result = std::panic::catch_unwind(|| boot(host, cpus, accelerator, budget_ms));
        if result.is_err() {
            eprintln!("the guest crashed (see above), trying again");
        }
        result.ok()
    })
}

fn name(unit: &Unit) -> String {
    unit.name.clone()
}

fn memory(guest: &Guest) -> Memory {
    let mut pss_kib = BTreeMap::from([("init", guest.pss_kib(1))]);
    for service in Service::ALL {
        if let Some(pid) = guest.service_pid(service) {
            pss_kib.insert(service.applet(), guest.pss_kib(pid));
        }
    }
    let all_kib = pss_kib.values().sum();
    Memory { pss_kib, all_kib }
}

/// Kills a stable unit several times, and measures from its end to the first instruction of the next
/// run, against the start of the same container.
fn restart() -> Restart {
    let unit = "[container]\nimage = \"./images/first\"\n";
    let folder = Folder::host("hostname = \"bench\"\n", &[("one", unit)]);
    let mut guest = Guest::up(folder.path(), &Options::default());
    guest.wait_for("the container to run", |guest| first_instruction_ns(guest, "one"));
    guest.wait_for("the host to settle", |guest| {
        guest.boot_report().phases.iter().any(|phase| phase.name == "data disk").then_some(())
    });
    let mut starts: Vec<f64> = (0..7).map(|_| start_by_hand(&mut guest)).collect();
    let start_ms = median(&mut starts);
    let mut samples = Vec::new();
    for _ in 0..7 {
        // Stable means up for ten seconds: only then is the restart immediate.
        let since = std::time::Instant::now();
        guest
            .wait_for("the unit to be stable", |_| (since.elapsed().as_secs() >= 11).then_some(()));
        let before = first_instruction_ns(&guest, "one").unwrap_or(0);
        let _: Reply = guest.ask(&Request::SignalUnit { name: "one".to_owned(), signal: 9 });
        let after = guest.wait_for("the restart", |guest| {
            first_instruction_ns(guest, "one").filter(|ns| *ns != before)
        });
        let t = guest.unit("one").timeline;
        samples.push((after / 1000).saturating_sub(t.exited_us) as f64 / 1000.0);
    }
    guest.power_off();
    let crash = median(&mut samples.clone());
    Restart { crash_to_first_instruction_ms: crash, start_ms, ratio: crash / start_ms, samples }
}

/// Stops the container and starts it again. Returns milliseconds from the order to the first
/// instruction.
fn start_by_hand(guest: &mut Guest) -> f64 {
    let before = first_instruction_ns(guest, "one").unwrap_or(0);
    let one = || "one".to_owned();
    let _: Reply = guest.ask(&Request::Stop { name: one() });
    guest.wait_state("one", "stopped");
    let _: Reply = guest.ask(&Request::Start { name: one() });
    let after = guest.wait_for("the start", |guest| {
        first_instruction_ns(guest, "one").filter(|ns| *ns != before)
    });
    let ordered = guest.unit("one").timeline.ordered_us;
    (after / 1000).saturating_sub(ordered) as f64 / 1000.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn sizes() -> (u64, u64, u64) {
    let info: serde_json::Value = fs::read(qemu_tests::kit().join("kit.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let field = |name: &str| info.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
    (field("program_bytes"), field("base_bytes"), field("kernel_bytes"))
}

fn line(what: &str, value: f64, unit: &str, budget: f64) {
    let verdict = if value <= budget { "ok" } else { "OVER" };
    println!(
        "  {what:<44} {value:>9.2} {unit:<4} budget {budget:>8.2}  ratio {:.2}  {verdict}",
        value / budget
    );
}

fn show_boot(boot: &Boot) {
    println!();
    println!("boot of {CONTAINERS} bridged containers, {} CPU, {}", boot.cpus, boot.accelerator);
    println!("  {:<14} {:>9} {:>10}", "phase", "took ms", "done at");
    for (name, took, at) in &boot.phases {
        println!("  {name:<14} {took:>9.1} {at:>10.1}");
    }
    println!(
        "  {:<6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>18}",
        "unit", "ordered", "prepared", "cloned", "attached", "exec seen", "first instruction"
    );
    for (name, c) in &boot.containers {
        println!(
            "  {name:<6} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>18.1}",
            c.ordered, c.prepared, c.cloned, c.attached, c.exec_seen, c.first_instruction
        );
    }
    line(
        "first line of PID 1 to the last container",
        boot.last_first_instruction_ms,
        "ms",
        boot.budget_ms,
    );
}

fn show_memory(memory: &Memory) {
    println!();
    println!("memory (PSS) with {CONTAINERS} containers");
    for (name, kib) in &memory.pss_kib {
        println!("  {name:<16} {kib:>6} KiB");
    }
    line(
        "PID 1",
        memory.pss_kib.get("init").copied().unwrap_or(0) as f64,
        "KiB",
        BUDGET_INIT_KIB as f64,
    );
    line("all processes", memory.all_kib as f64, "KiB", BUDGET_ALL_KIB as f64);
}

fn show_restart(restart: &Restart) {
    println!();
    println!("restart of a stable unit (median of {})", restart.samples.len());
    println!(
        "  start of the same container {:.1} ms, crash to first instruction {:.1} ms",
        restart.start_ms, restart.crash_to_first_instruction_ms
    );
    line("crash to first instruction / start", restart.ratio, "x", BUDGET_RESTART_RATIO);
}
