//! From the guest's lines to measurements.

use crate::measurements::Measurements;
use engine_bench::line::Line;
use engine_bench::{Failure, Naming};
use std::io::{BufRead, BufReader, Read};

/// Reads until the guest has finished or failed.
///
/// # Errors
/// The failure that the guest reports, or the guest ended without one.
pub fn lines(from: impl Read) -> Result<Measurements, Failure> {
    let mut measurements = Measurements::default();
    for line in BufReader::new(from).lines() {
        let text = line.naming("the guest's report")?;
        // The driver of a serial line may add carriage returns.
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(text).naming(format!("the guest said {text:?}"))?;
        match line {
            Line::Progress(text) => eprintln!("  {text}"),
            Line::Failed(text) => return Err(Failure(text)),
            Line::Done => return Ok(measurements),
            line => measurements.add(line),
        }
    }
    Err(Failure("the guest ended before it was done".to_owned()))
}
