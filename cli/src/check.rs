//! `keel check`.

use crate::Failure;
use crate::folder::Folder;
use crate::summary::{count, summary};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use units::{Diagnostic, Severity};

/// Reports all errors (exit code 1), or shows a summary of the folder (exit code 0). The summary of a
/// large folder is shortened to one screen unless `verbose` is set.
pub fn check(dir: &Path, verbose: bool) -> Result<ExitCode, Failure> {
    let folder = Folder::read(dir)?;
    folder.show();
    let errors: Vec<&Diagnostic> =
        folder.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).collect();
    if !errors.is_empty() {
        let files: BTreeSet<&str> =
            errors.iter().map(|diagnostic| diagnostic.file.as_str()).collect();
        eprintln!(
            "{}: {} in {}",
            dir.display(),
            count(errors.len(), "error"),
            count(files.len(), "file")
        );
        return Ok(ExitCode::FAILURE);
    }
    let warnings = folder
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity == Severity::Warning)
        .count();
    print!("{}", summary(dir, &folder.loaded, warnings, verbose));
    Ok(ExitCode::SUCCESS)
}
