//! What is measured besides time: memory of a start, containers at rest, filters.

use crate::competitors::Competitor;
use crate::report::Report;
use engine_bench::Failure;
use engine_bench::line::Line;

/// Measures all of it.
///
/// # Errors
/// The first start that fails.
pub fn measure(competitors: &mut [Competitor], report: &mut Report) -> Result<(), Failure> {
    for competitor in competitors {
        let run = competitor.start()?;
        report.say(&Line::Memory {
            who: competitor.who.to_owned(),
            largest_kib: run.max_rss_kib,
            group_kib: None,
        })?;
    }
    Ok(())
}
