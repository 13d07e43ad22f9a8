//! The rounds: all competitors in turn, so that any disturbance of the machine affects all of them.
//!
//! In each round a competitor makes a few starts in a row. One start before them is not counted,
//! because another competitor has used the caches. (podman and docker have no such start: it would
//! take minutes, and their starts are so long that the previous one leaves nothing in a cache.)

use crate::competitors::Competitor;
use crate::report::Report;
use engine_bench::Failure;
use engine_bench::line::{Line, Mode};
use std::time::Duration;

/// Rounds of each mode.
const ROUNDS: usize = 5;
/// Counted starts of one competitor in one round.
const STARTS: usize = 10;
/// The same for those whose start takes seconds under TCG emulation: 50 in both modes together.
const SLOW_STARTS: usize = 5;
/// The pause before a start with gaps.
const GAP: Duration = Duration::from_millis(100);

/// [`ROUNDS`], or the environment variable `BENCH_ROUNDS`, for experiments. (The kernel passes unknown
/// words of its command line to PID 1.)
fn rounds() -> usize {
    std::env::var("BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// Makes all starts of a mode and reports them.
///
/// # Errors
/// A start fails.
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
