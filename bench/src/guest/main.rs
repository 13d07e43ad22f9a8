//! `bench_guest`: everything that runs beside the runtimes.
//!
//! - as PID 1 of the VM: mounts, modules, then `stage`;
//! - `native TREE`: the same environment on this machine, in its own mount namespace;
//! - `stage REPORT [ENGINE…]`: the measurement;
//! - `reaper PROGRAM…`, `engine [restart] [steps] [userns]`: see the modules.

mod boot;
mod bundle;
mod command;
mod competitors;
mod controllers;
mod engine;
mod engines;
mod extras;
mod mounts;
mod native;
mod processes;
mod reaper;
mod report;
mod rounds;
mod seccomp;
mod stage;

use engine_bench::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        boot::main();
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    match begin(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_guest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn begin(words: &[String]) -> Result<(), Failure> {
    let text: Vec<&str> = words.iter().map(String::as_str).collect();
    match text.as_slice() {
        ["native", tree] => native::main(tree),
        ["stage", report, engines @ ..] => stage::main(report, engines),
        ["reaper", ..] => reaper::main(words.get(1..).unwrap_or_default()),
        ["engine", words @ ..] => {
            let [restart, steps, own_ids] =
                ["restart", "steps", "userns"].map(|word| words.contains(&word));
            engine::main(engine::Variant { restart, steps, own_ids })
        }
        _ => Err(Failure("native TREE | stage REPORT [ENGINE…] | reaper … | engine …".to_owned())),
    }
}
