//! The report: lines that are sent to the host.

use engine_bench::line::Line;
use engine_bench::{Failure, Naming};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The file to which the lines are written.
pub struct Report(File);

impl Report {
    /// Opens it: the serial line of the VM, or a pipe.
    pub fn open(path: &Path) -> Result<Report, Failure> {
        File::options().write(true).open(path).naming(path.display()).map(Report)
    }

    /// Writes one line, with one system call.
    pub fn say(&mut self, line: &Line) -> Result<(), Failure> {
        let mut text = serde_json::to_vec(line).naming("a line of the report")?;
        text.push(b'\n');
        self.0.write_all(&text).naming("the report")
    }
}
