//! `bench_floor`: the system calls of one start of our engine, with nothing around them.
//!
//! No unit, no plan, no log, no state, no error but "it failed": a straight line of system calls in
//! the engine's order, so that what the engine takes beyond this is the engine's own. It is kept in
//! step by comparing `strace -f` of both; where the engine gains a step, it is added at its place in
//! [`parent`] or [`child`]. `bench_floor steps` also notes when each step ends.

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
