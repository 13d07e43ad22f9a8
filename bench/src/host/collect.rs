//! From the guest's lines to figures.

use crate::figures::Figures;
use engine_bench::line::Line;
use engine_bench::{Failure, Naming};
use std::io::{BufRead, BufReader, Read};

/// Reads until the guest has done or failed.
///
/// # Errors
/// Its failure in its words; or it ended without a word.
pub fn lines(from: impl Read) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    for line in BufReader::new(from).lines() {
        let text = line.naming("the guest's report")?;
        // A serial line's driver may put carriage returns in.
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(text).naming(format!("the guest said {text:?}"))?;
        match line {
            Line::Progress(text) => eprintln!("  {text}"),
            Line::Failed(text) => return Err(Failure(text)),
            Line::Done => return Ok(figures),
            line => figures.add(line),
        }
    }
    Err(Failure("the guest ended before it was done".to_owned()))
}
