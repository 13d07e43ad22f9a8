//! `bench_floor`: the system calls of one start of our engine, with nothing around them.
//!
//! No unit, no plan, no log, no state, no error but "it failed": a straight line of system calls in
//! the engine's order, so that what the engine takes beyond this is the engine's own. It is kept in
//! step by comparing `strace -f -c` of both (`make bench-engine-calls`); where the engine gains a
//! step, it is added at its place in [`parent`] or [`child`].

mod child;
mod parent;
mod sys;

use engine_bench::turn;
use std::process::ExitCode;

fn main() -> ExitCode {
    let limits = parent::limit_files();
    match turn::serve(|ends| parent::start(&limits, ends)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_floor: {error}");
            ExitCode::FAILURE
        }
    }
}
