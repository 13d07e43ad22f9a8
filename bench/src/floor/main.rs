//! `bench_floor`: the system calls of one start of our engine, with nothing around them.
//!
//! It has no unit, plan, log or state, and any failure ends it: it only makes system calls in the
//! engine's order. Any time that the engine takes beyond this is the engine's own overhead.
//! `bench/compare-calls` compares the calls of both; when the engine gains a step, add it in the same
//! place in [`parent`] or [`child`]. `bench_floor steps` also records when each step ends.

mod child;
mod parent;
mod sys;

use engine_bench::marks::Marks;
use engine_bench::{Failure, turn};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let limits = parent::limit_files()?;
    if std::env::args().nth(1).as_deref() != Some("steps") {
        return turn::serve(|ends| parent::start(&limits, ends));
    }
    let mut marks = Marks::share()?;
    turn::serve(|ends| {
        marks.begin();
        let reply = parent::start(&limits, ends);
        marks.collect();
        reply
    })?;
    marks.write("floor")
}
