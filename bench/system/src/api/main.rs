//! `make bench`, second part: what remote control costs, alone and under load. Prints a table and
//! writes the same values to `target/bench/api.json`.
//!
//! All numbers come from one boot. TLS is slow under TCG emulation, so compare the shares and the
//! ratios, not the absolute times.

mod load;

use api_types::LogLine;
use ipc::control::Request;
use ipc::{Reply, Service};
use load::Connections;
use qemu_tests::{Folder, Guest, Options, root};
use serde::Serialize;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// Units of the host: `one`, `chatty`, and others that are not started.
const UNITS: usize = 100;
/// Idle connections.
const CONNECTIONS: usize = 1000;
/// Followers of a container that writes continuously.
const FOLLOWERS: usize = 100;
/// Measurements of each kind.
const SAMPLES: usize = 3;

const BUDGET_IDLE_KIB: u64 = 5 * 1024;

#[derive(Debug, Serialize)]
struct Report {
    /// PSS of the idle process, KiB.
    idle_kib: u64,
    /// `keel ps` of all units: the command's total time, ms.
    ps_ms: f64,
    /// From the start of `keel restart` to the new first instruction's line at a follower, ms.
    restart_ms: f64,
    /// Of that: from the order to the program's process, and from there to its first instruction.
    restart_prepare_ms: f64,
    restart_kernel_ms: f64,
    /// Crash to first instruction, ms: alone, beside a container that writes continuously, and the
    /// same with all connections and followers.
    crash_alone_ms: f64,
    crash_beside_ms: f64,
    crash_loaded_ms: f64,
    connections: usize,
    followers: usize,
    /// Memory of the process's cgroup under that load, KiB: now and at its peak.
    loaded_kib: u64,
    peak_kib: u64,
    /// What the container wrote meanwhile, and what all followers together have received, MB/s.
    written_mb_s: f64,
    sent_mb_s: f64,
}

fn main() -> ExitCode {
    let rests = "enabled = false\n[container]\nimage = \"./images/first\"\nnetwork = \"none\"\n";
    let names: Vec<String> = (2..UNITS).map(|number| format!("rests-{number}")).collect();
    let mut units: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), rests)).collect();
    units.push(("one", "[container]\nimage = \"./images/first\"\nnetwork = \"none\"\n"));
    units.push((
        "chatty",
        "enabled = false\n[container]\nimage = \"./images/probe\"\nnetwork = \"none\"\n\
         command = [\"flood\", \"1000000000000\", \"10000000\"]\n[log]\nmax_files = 1\n",
    ));
    let folder = Folder::host("hostname = \"bench\"\n[storage]\ndata = \"memory\"\n", &units);
    let options = Options { api: true, memory: "1G".to_owned(), ..Options::default() };
    let mut guest = Guest::up(folder.path(), &options);
    guest.wait_for("the API to answer", |guest| (guest.keel(&["ps"]).code == 0).then_some(()));
    let report = measure(&mut guest);
    guest.power_off();
    show(&report);
    match write(&report) {
        Ok(path) => {
            println!("\nwritten to {path}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot write the report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(guest: &mut Guest) -> Report {
    let api = guest.service_pid(Service::Api).unwrap_or(0);
    progress("the idle host");
    let idle_kib = guest.pss_kib(api);
    let ps_ms = median((0..SAMPLES).map(|_| ps(guest)).collect());
    progress("restarts");
    let (restart_ms, restart_prepare_ms, restart_kernel_ms) = restarts(guest);

    progress("crashes");
    let crash_alone_ms = median((0..SAMPLES).map(|_| crash(guest)).collect());
    progress("crashes beside a container that writes");
    let _: Reply = guest.ask(&Request::Start { name: "chatty".to_owned() });
    guest.wait_state("chatty", "running");
    let crash_beside_ms = median((0..SAMPLES).map(|_| crash(guest)).collect());
    // Connections are established faster while it is stopped.
    let _: Reply = guest.ask(&Request::Stop { name: "chatty".to_owned() });
    guest.wait_state("chatty", "stopped");
    progress(&format!("{CONNECTIONS} connections"));
    let mut connections = clients(guest);
    for number in 1..=CONNECTIONS {
        if let Err(error) = connections.open("/v1/events") {
            guest.fail(&format!("connection {number}: {error}"));
        }
        if number % 100 == 0 {
            progress(&format!("{number} connections open"));
        }
    }
    progress(&format!("{FOLLOWERS} followers"));
    let mut followers = clients(guest);
    for number in 1..=FOLLOWERS {
        if let Err(error) = followers.open("/v1/units/chatty/logs?follow=true&tail=0") {
            guest.fail(&format!("follower {number}: {error}"));
        }
    }
    let _: Reply = guest.ask(&Request::Start { name: "chatty".to_owned() });
    guest.wait_state("chatty", "running");
    let followers = match followers.follow() {
        Ok(followers) => followers,
        Err(error) => guest.fail(&format!("followers: {error}")),
    };
    guest.wait_for("every follower to receive data", |_| {
        followers.received().iter().all(|bytes| *bytes > 10_000).then_some(())
    });
    progress("crashes with all connections and followers");
    let (begin, lines) = (Instant::now(), guest.unit("chatty").log.lines);
    let heard: u64 = followers.received().iter().sum();
    let crash_loaded_ms = median((0..SAMPLES).map(|_| crash(guest)).collect());
    let rate = |count: u64| count as f64 / begin.elapsed().as_secs_f64() / 1e6;
    let written_mb_s = rate((guest.unit("chatty").log.lines.saturating_sub(lines)) * FLOOD_LINE);
    let sent_mb_s = rate(followers.received().iter().sum::<u64>().saturating_sub(heard));
    let group = format!("{}/{}", layout::paths::CGROUP_SYSTEM, Service::Api.applet());
    let bytes = |file: &str| guest.read(&format!("{group}/{file}")).trim().parse().unwrap_or(0u64);
    let (loaded_kib, peak_kib) = (bytes("memory.current") / 1024, bytes("memory.peak") / 1024);
    if guest.service_pid(Service::Api) != Some(api) {
        guest.fail("the api process did not survive the load");
    }
    Report {
        idle_kib,
        ps_ms,
        restart_ms,
        restart_prepare_ms,
        restart_kernel_ms,
        crash_alone_ms,
        crash_beside_ms,
        crash_loaded_ms,
        connections: connections.alive(),
        followers: FOLLOWERS,
        loaded_kib,
        peak_kib,
        written_mb_s,
        sent_mb_s,
    }
}

/// The flood's lines have this length, in bytes.
const FLOOD_LINE: u64 = 80;

fn clients(guest: &Guest) -> Connections {
    match Connections::new(&guest.api_address(), &guest.identity()) {
        Ok(connections) => connections,
        Err(error) => guest.fail(&format!("identity: {error}")),
    }
}

/// Prints what is measured next: the whole benchmark takes minutes.
fn progress(what: &str) {
    eprintln!("measuring: {what}");
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn ps(guest: &Guest) -> f64 {
    let begin = Instant::now();
    let text = guest.keel_ok(&["--json", "ps"]);
    let took = ms(begin);
    let units: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    if units.len() != UNITS {
        guest.fail(&format!("{} units instead of {UNITS}", units.len()));
    }
    took
}

/// Total, prepare and kernel times of restarts over the network.
fn restarts(guest: &mut Guest) -> (f64, f64, f64) {
    let (mut follower, lines) = follow(guest, "one");
    // The follower receives only lines written after it has connected: a first line proves that it has.
    while lines.try_recv().is_err() {
        guest.keel_ok(&["restart", "--wait", "one"]);
    }
    let (mut whole, mut prepare, mut kernel) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        let before = first_instruction_ns(guest).unwrap_or(0);
        let begin = Instant::now();
        guest.keel_ok(&["restart", "one"]);
        // A line of an earlier run may still arrive.
        let (at, first) = loop {
            match lines.recv() {
                Ok((at, text)) => match first_in(&text) {
                    Some(first) if first > before => break (at, first / 1000),
                    _ => {}
                },
                Err(error) => guest.fail(&format!("the follower: {error}")),
            }
        };
        whole.push(at.duration_since(begin).as_secs_f64() * 1000.0);
        let t = guest.unit("one").timeline;
        prepare.push(t.cloned_us.saturating_sub(t.ordered_us) as f64 / 1000.0);
        kernel.push(first.saturating_sub(t.cloned_us) as f64 / 1000.0);
    }
    let _ = follower.kill();
    let _ = follower.wait();
    (median(whole), median(prepare), median(kernel))
}

/// A follower of a unit's log: its lines, and the times at which they arrived.
fn follow(guest: &Guest, unit: &str) -> (Child, Receiver<(Instant, String)>) {
    let mut command = guest.command(&["logs", "-f", "--tail", "0", unit]);
    let mut child = match command.stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => guest.fail(&format!("keel logs -f: {error}")),
    };
    let (sender, receiver) = channel();
    if let Some(out) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
    }
    (child, receiver)
}

fn first_instruction_ns(guest: &Guest) -> Option<u64> {
    let request = Request::Logs { name: "one".to_owned(), tail: 5 };
    let lines: Vec<LogLine> = guest.try_ask(&request).ok()?;
    lines.iter().rev().find_map(|line| first_in(&line.text))
}

/// The time of the first instruction, nanoseconds of `CLOCK_MONOTONIC`, as the program itself prints it.
fn first_in(line: &str) -> Option<u64> {
    line.strip_prefix("first ")?.trim().parse().ok()
}

/// Kills a stable unit. Returns ms from its end to the first instruction of its next run.
fn crash(guest: &mut Guest) -> f64 {
    let since = Instant::now();
    // Up for ten seconds: only then is the restart immediate.
    guest.wait_for("the unit to be stable", |_| (since.elapsed().as_secs() >= 11).then_some(()));
    let before = first_instruction_ns(guest).unwrap_or(0);
    let _: Reply = guest.ask(&Request::SignalUnit { name: "one".to_owned(), signal: 9 });
    let after = guest
        .wait_for("the restart", |guest| first_instruction_ns(guest).filter(|ns| *ns != before));
    (after / 1000).saturating_sub(guest.unit("one").timeline.exited_us) as f64 / 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn show(report: &Report) {
    println!("\nremote control");
    let verdict = if report.idle_kib <= BUDGET_IDLE_KIB { "ok" } else { "OVER" };
    println!(
        "  api process, idle (PSS)                     {:>9} KiB  budget {BUDGET_IDLE_KIB}  ratio {:.2}  {verdict}",
        report.idle_kib,
        report.idle_kib as f64 / BUDGET_IDLE_KIB as f64
    );
    println!("  keel ps, {UNITS} units, one round trip          {:>9.1} ms", report.ps_ms);
    println!("  keel restart to the first instruction seen   {:>9.1} ms", report.restart_ms);
    println!("    order to process {:>9.1} ms (ours)", report.restart_prepare_ms);
    println!(
        "    process to first instruction {:>9.1} ms (mostly the kernel's)",
        report.restart_kernel_ms
    );
    println!(
        "    the rest: client, TLS, stop, log {:>9.1} ms",
        report.restart_ms - report.restart_prepare_ms - report.restart_kernel_ms
    );
    println!(
        "  {} connections, {} followers of a flood: api {} KiB, peak {} KiB",
        report.connections, report.followers, report.loaded_kib, report.peak_kib
    );
    println!(
        "    the container writes {:.1} MB/s (limited to 10); {:.2} MB/s are sent",
        report.written_mb_s, report.sent_mb_s
    );
    println!(
        "  crash to first instruction: alone {:.1} ms; beside the container that writes {:.1} ms; \
         with all connections and followers {:.1} ms ({:.2}x)",
        report.crash_alone_ms,
        report.crash_beside_ms,
        report.crash_loaded_ms,
        report.crash_loaded_ms / report.crash_beside_ms
    );
}

fn write(report: &Report) -> std::io::Result<String> {
    let dir = root().join("target/bench");
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("api.json");
    std::fs::write(&path, serde_json::to_vec_pretty(report)?)?;
    Ok(path.display().to_string())
}
