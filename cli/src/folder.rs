//! Reads and checks a host folder.

use crate::{Failure, profiles};
use image::oci;
use layout::HostFolder;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::Path;
use units::{Diagnostic, Loaded, Severity};

/// A host folder with its diagnostics.
pub struct Folder {
    /// The loaded configuration.
    pub loaded: Loaded,
    /// Its files, as they were read.
    pub files: HostFolder,
    /// Errors, warnings and notes, including those about images and profiles.
    pub diagnostics: Vec<Diagnostic>,
}

impl Folder {
    /// Reads a folder. Errors in its content go to [`Folder::diagnostics`].
    ///
    /// # Errors
    /// It is not a host folder, or a file cannot be read.
    pub fn read(dir: &Path) -> Result<Folder, Failure> {
        if !dir.is_dir() {
            return Err(Failure(format!(
                "{}: no such folder (a host folder contains host.toml and units/)",
                dir.display()
            )));
        }
        let files = HostFolder::read(dir);
        if let Some(unreadable) = files.unreadable.first() {
            return Err(Failure(unreadable.to_string()));
        }
        if files.is_empty() {
            return Err(Failure(format!(
                "{}: not a host folder: neither host.toml nor units/*.toml found",
                dir.display()
            )));
        }
        let loaded = files.load();
        let mut diagnostics = loaded.diagnostics.clone();
        diagnostics.extend(check_images(dir, &loaded));
        diagnostics.extend(profiles::check(dir, &loaded));
        Ok(Folder { files, loaded, diagnostics })
    }

    /// Whether there is any error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// Prints all diagnostics to standard error.
    pub fn show(&self) {
        let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        for diagnostic in &self.diagnostics {
            let text = self.files.text(&diagnostic.file);
            eprintln!("{}", diagnostic.render(text, color).trim_end());
            eprintln!();
        }
    }
}

/// Errors about images that are missing or cannot be used, at the keys that refer to them.
fn check_images(dir: &Path, loaded: &Loaded) -> Vec<Diagnostic> {
    let mut checked: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut found = Vec::new();
    for reference in units::image_references(loaded) {
        let problem = checked.entry(reference.image.clone()).or_insert_with(|| {
            oci::probe(&dir.join(reference.image.trim_start_matches("./")))
                .err()
                .map(|error| error.problem.to_string())
        });
        if let Some(problem) = problem {
            found.push(
                reference
                    .diagnostic(Severity::Error, format!("image `{}`: {problem}", reference.image)),
            );
        }
    }
    found
}
