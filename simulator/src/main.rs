//! Runs schedules: `simulate 1..2000`, `simulate 500` (the seeds from 1), `simulate 17..17 --trace`.

use simulator::{Outcome, Scenario, World};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let traced = args.iter().any(|arg| arg == "--trace");
    args.retain(|arg| arg != "--trace");
    let Some((first, last)) = args.first().and_then(|text| seeds(text)) else {
        eprintln!("usage: simulate FIRST..LAST | COUNT [--trace]");
        return ExitCode::from(2);
    };
    // A panic of what is simulated is a violation like any other, and shown as one.
    std::panic::set_hook(Box::new(|_| {}));
    let outcomes = run(first, last, traced);
    for (seed, outcome) in &outcomes {
        if traced {
            show(&Scenario::of_seed(*seed), &outcome.trace);
        }
        for violation in &outcome.violations {
            println!("seed {seed}: {violation}");
        }
        if !outcome.violations.is_empty() && !traced {
            println!("  replay: make simulate SEED={seed} TRACE=1");
        }
    }
    let failed = outcomes.iter().filter(|(_, outcome)| !outcome.violations.is_empty()).count();
    let total = |of: fn(&Outcome) -> u64| outcomes.iter().map(|(_, it)| of(it)).sum::<u64>();
    println!(
        "{} schedules, {failed} failed: {} calls, {} deaths of the supervisor, {} faults, {} containers",
        outcomes.len(),
        total(|outcome| outcome.calls),
        total(|outcome| outcome.deaths),
        total(|outcome| outcome.faults),
        total(|outcome| outcome.runs as u64),
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the schedules of these seeds, as many at once as there are processors. Each of them runs in
/// one thread, and they have nothing in common.
fn run(first: u64, last: u64, traced: bool) -> Vec<(u64, Outcome)> {
    let next = AtomicU64::new(first);
    let (sender, receiver) = mpsc::channel();
    let threads = if traced { 1 } else { thread::available_parallelism().map_or(1, usize::from) };
    let mut outcomes: Vec<(u64, Outcome)> = thread::scope(|scope| {
        for _ in 0..threads {
            let (next, sender) = (&next, sender.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        return;
                    }
                    let outcome = World::run(&Scenario::of_seed(seed), traced);
                    if sender.send((seed, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        receiver.iter().collect()
    });
    outcomes.sort_by_key(|(seed, _)| *seed);
    outcomes
}

/// The first and the last seed.
fn seeds(text: &str) -> Option<(u64, u64)> {
    if let Some((first, last)) = text.split_once("..") {
        return Some((first.parse().ok()?, last.parse().ok()?));
    }
    Some((1, text.parse().ok()?))
}

fn show(scenario: &Scenario, trace: &[String]) {
    for (name, text) in &scenario.files {
        println!("--- units/{name}.toml\n{text}");
    }
    println!("--- {:?}", scenario.options);
    for line in trace {
        println!("{line}");
    }
}
