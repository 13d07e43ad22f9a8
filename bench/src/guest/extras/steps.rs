//! The time of each step, for the floor program and our engine, from separate starts.

use crate::competitors::Competitor;
use crate::report::Report;
use engine_bench::line::Line;
use engine_bench::{Failure, Naming, marks};
use std::fs;

/// Starts of each.
const STARTS: usize = 50;

/// Measures both.
pub fn measure(report: &mut Report) -> Result<(), Failure> {
    for who in ["floor", "engine"] {
        let mut competitor = match who {
            "floor" => Competitor::floor(&["steps"])?,
            _ => Competitor::ours(who, &["steps"])?,
        };
        for _ in 0..STARTS {
            competitor.start()?;
        }
        // It writes what it has recorded when it ends.
        drop(competitor);
        let path = marks::path(who);
        let text = fs::read(&path).naming(path.display())?;
        let steps = serde_json::from_slice(&text).naming(path.display())?;
        report.say(&Line::Steps { who: who.to_owned(), steps })?;
    }
    Ok(())
}
