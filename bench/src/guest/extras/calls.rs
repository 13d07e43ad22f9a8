//! What a seccomp filter adds to the cost of a system call.

use crate::competitors::Competitor;
use crate::engine;
use crate::report::Report;
use engine_bench::line::Line;
use engine_bench::{Failure, Naming, places};
use std::process::Command;

/// Calls of each kind in one run.
const CALLS: u64 = 200_000;
/// Runs. The fastest counts, because any disturbance only adds time.
const RUNS: usize = 2;

/// Measures without a filter, and under the filter of each engine.
pub fn measure(competitors: &mut [Competitor], report: &mut Report) -> Result<(), Failure> {
    let count = CALLS.to_string();
    let words = ["calls", count.as_str()];
    let payload = format!("{}{}", places::LAYER, places::PAYLOAD);
    best("no filter", report, || text_of(Command::new(&payload).args(words)))?;
    best("engine", report, || engine::output(&words))?;
    for engine in competitors.iter().filter_map(Competitor::as_engine) {
        best(engine.program(), report, || text_of(&mut engine.command(&words)))?;
        engine.settle()?;
    }
    Ok(())
}

fn text_of(command: &mut Command) -> Result<String, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.output().naming(name.as_str())?;
    if !done.status.success() {
        return Err(Failure(format!("{name}: {}", String::from_utf8_lossy(&done.stderr))));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn best(
    who: &str,
    report: &mut Report,
    mut run: impl FnMut() -> Result<String, Failure>,
) -> Result<(), Failure> {
    let (mut allowed_ns, mut denied_ns) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..RUNS {
        let text = run()?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(allowed)), Some(Ok(denied))) = (numbers.next(), numbers.next()) else {
            return Err(Failure(format!("{who}: the payload said {text:?}")));
        };
        allowed_ns = allowed_ns.min(allowed as f64 / CALLS as f64);
        denied_ns = denied_ns.min(denied as f64 / CALLS as f64);
    }
    report.say(&Line::Calls { who: who.to_owned(), allowed_ns, denied_ns })
}
