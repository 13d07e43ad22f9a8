//! Further measurements: steps of a start, memory of a start, containers at rest, filters.

mod calls;
mod memory;
mod rest;
mod steps;

use crate::competitors::Competitor;
use crate::processes;
use crate::report::Report;
use engine_bench::Failure;

/// Measures all of it.
///
/// # Errors
/// The first start that fails.
pub fn measure(competitors: &mut [Competitor], report: &mut Report) -> Result<(), Failure> {
    steps::measure(report)?;
    memory::measure(competitors, report)?;
    // Only in the VM do no unrelated processes start and end.
    if processes::named(&["bench_guest"]).iter().any(|process| process.pid == 1) {
        rest::measure(competitors, report)?;
    }
    calls::measure(competitors, report)
}
