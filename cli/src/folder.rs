//! Reads and checks a host folder.

use crate::{Failure, profiles};
use image::{build::unit_files, oci};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use units::{Diagnostic, Loaded, Severity, SourceFile};

/// A host folder with its diagnostics.
pub struct Folder {
    /// The loaded configuration.
    pub loaded: Loaded,
    /// The texts, by the path that diagnostics use.
    texts: BTreeMap<String, String>,
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
        let mut texts = BTreeMap::new();
        let mut source = |path: &Path| -> Result<SourceFile, Failure> {
            let bytes =
                fs::read(path).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
            let text = String::from_utf8(bytes)
                .map_err(|error| Failure(format!("{}: not UTF-8 text: {error}", path.display())))?;
            let path = path.display().to_string();
            texts.insert(path.clone(), text.clone());
            Ok(SourceFile { path, text })
        };
        let host_path = dir.join("host.toml");
        let host = if host_path.exists() { Some(source(&host_path)?) } else { None };
        let files = unit_files(dir)
            .map_err(|error| Failure(format!("{}/units: {error}", dir.display())))?;
        if host.is_none() && files.is_empty() {
            return Err(Failure(format!(
                "{}: not a host folder: neither host.toml nor units/*.toml found",
                dir.display()
            )));
        }
        let units = files.iter().map(|path| source(path)).collect::<Result<Vec<_>, _>>()?;
        let loaded = units::load(host, units);
        let mut diagnostics = loaded.diagnostics.clone();
        diagnostics.extend(check_images(dir, &loaded));
        diagnostics.extend(profiles::check(dir, &loaded));
        Ok(Folder { loaded, texts, diagnostics })
    }

    /// Whether there is any error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// Prints all diagnostics to standard error.
    pub fn show(&self) {
        let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        for diagnostic in &self.diagnostics {
            let text = self.texts.get(&diagnostic.file).map_or("", String::as_str);
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
