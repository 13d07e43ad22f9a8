//! A host folder, read and judged.

use crate::{Failure, profiles};
use image::oci;
use layout::HostFolder;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::Path;
use units::{Diagnostic, Loaded, Severity};

/// A host folder with everything that is wrong with it.
pub struct Folder {
    /// Its texts.
    pub files: HostFolder,
    /// What the texts say.
    pub loaded: Loaded,
    /// Mistakes, warnings and notes, the images' included.
    pub diagnostics: Vec<Diagnostic>,
}

impl Folder {
    /// Reads a folder. What is wrong in it is for [`Folder::diagnostics`].
    ///
    /// # Errors
    /// It is no folder, or a file cannot be read.
    pub fn read(dir: &Path) -> Result<Folder, Failure> {
        if !dir.is_dir() {
            return Err(Failure(format!(
                "{}: no such folder (a host folder holds host.toml and units/)",
                dir.display()
            )));
        }
        let files = HostFolder::read(dir);
        if let Some(unreadable) = files.unreadable.first() {
            return Err(Failure(unreadable.to_string()));
        }
        if files.is_empty() {
            return Err(Failure(format!(
                "{}: neither host.toml nor units/*.toml: not a host folder",
                dir.display()
            )));
        }
        let loaded = files.load();
        let mut diagnostics = loaded.diagnostics.clone();
        diagnostics.extend(image_mistakes(dir, &loaded));
        diagnostics.extend(profiles::mistakes(dir, &loaded));
        Ok(Folder { files, loaded, diagnostics })
    }

    /// Whether anything is wrong enough to stop.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// Shows everything on standard error.
    pub fn show(&self) {
        let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        for diagnostic in &self.diagnostics {
            let text = self.files.text(&diagnostic.file);
            eprintln!("{}", diagnostic.render(text, color).trim_end());
            eprintln!();
        }
    }
}

/// Images that are not there or cannot be used, at the place that names them.
fn image_mistakes(dir: &Path, loaded: &Loaded) -> Vec<Diagnostic> {
    let mut judged: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut found = Vec::new();
    for reference in units::image_references(loaded) {
        let verdict = judged.entry(reference.image.clone()).or_insert_with(|| {
            oci::probe(&dir.join(reference.image.trim_start_matches("./")))
                .err()
                .map(|error| error.to_string())
        });
        if let Some(why) = verdict {
            found.push(
                reference.diagnostic(Severity::Error, format!("image {}: {why}", reference.image)),
            );
        }
    }
    found
}
