//! Runs schedules: `simulate 1..2000`, `simulate 500` (the seeds from 1), `simulate 17 --trace`.

use simulator::{Scenario, World};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let traced = args.iter().any(|arg| arg == "--trace");
    args.retain(|arg| arg != "--trace");
    let Some(seeds) = args.first().and_then(|text| seeds(text, traced)) else {
        eprintln!("usage: simulate FIRST..LAST | simulate COUNT | simulate SEED --trace");
        return ExitCode::from(2);
    };
    std::panic::set_hook(Box::new(|_| {}));
    let mut failed = 0;
    let mut total = [0u64; 4];
    for seed in seeds.0..=seeds.1 {
        let scenario = Scenario::of_seed(seed);
        let outcome = World::run(&scenario, traced);
        if traced {
            show(&scenario, &outcome.trace);
        }
        total[0] += outcome.calls;
        total[1] += outcome.deaths;
        total[2] += outcome.faults;
        total[3] += outcome.runs as u64;
        for violation in &outcome.violations {
            println!("seed {seed}: {violation}");
        }
        if !outcome.violations.is_empty() {
            failed += 1;
            println!("  replay: make simulate SEED={seed} TRACE=1");
        }
    }
    let [calls, deaths, faults, runs] = total;
    println!(
        "{} schedules, {failed} failed: {calls} calls, {deaths} deaths of the supervisor, \
         {faults} faults, {runs} containers",
        seeds.1 - seeds.0 + 1
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The first and the last seed.
fn seeds(text: &str, traced: bool) -> Option<(u64, u64)> {
    if let Some((first, last)) = text.split_once("..") {
        return Some((first.parse().ok()?, last.trim_start_matches('=').parse().ok()?));
    }
    let number = text.parse().ok()?;
    Some(if traced { (number, number) } else { (1, number) })
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
