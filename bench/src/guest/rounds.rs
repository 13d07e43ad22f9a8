//! The rounds: all competitors in turn, so that what disturbs the machine disturbs all alike.
//!
//! In each round a competitor makes a few starts in a row; one before them is not counted, because it
//! finds the caches as somebody else has left them. (podman and docker are spared that: it would take
//! minutes, and they run for so long that they find nothing of their last start in a cache.)

use crate::competitors::Competitor;
use crate::report::Report;
use engine_bench::Failure;
use engine_bench::line::{Line, Mode};
use std::time::Duration;

/// Rounds of each mode.
const ROUNDS: usize = 5;
/// Counted starts of one competitor in one round.
const STARTS: usize = 10;
/// The same for those whose start takes seconds under TCG emulation: 50 over both modes.
const SLOW_STARTS: usize = 5;
/// The pause before a start with gaps.
const GAP: Duration = Duration::from_millis(100);

/// [`ROUNDS`], or `BENCH_ROUNDS` of the environment, for somebody who tries things out. (The kernel
/// gives PID 1 the words of its command line that it does not know.)
fn rounds() -> usize {
    std::env::var("BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// Makes all starts of a mode and reports them.
///
/// # Errors
/// The first start that fails.
pub fn run(mode: Mode, competitors: &mut [Competitor], report: &mut Report) -> Result<(), Failure> {
    let rounds = rounds();
    for round in 0..rounds {
        report.say(&Line::Progress(format!("{mode:?}: round {} of {rounds}", round + 1)))?;
        for competitor in competitors.iter_mut() {
            let starts = if competitor.is_slow() { SLOW_STARTS } else { STARTS };
            if !competitor.is_slow() {
                competitor.start()?;
            }
            let mut ns = Vec::with_capacity(starts);
            for _ in 0..starts {
                if mode == Mode::Gaps {
                    std::thread::sleep(GAP);
                }
                ns.push(competitor.start()?.ns);
            }
            report.say(&Line::Times { who: competitor.who.to_owned(), mode, ns })?;
        }
    }
    Ok(())
}
