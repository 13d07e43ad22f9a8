//! A host folder, read and judged.

use crate::{Failure, profiles};
use image::{build::unit_files, oci};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use units::{Diagnostic, Loaded, Severity, SourceFile};

/// A host folder with everything that is wrong with it.
pub struct Folder {
    /// What the texts say.
    pub loaded: Loaded,
    /// Every text, by the path that diagnostics name.
    texts: BTreeMap<String, String>,
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
                "{}: neither host.toml nor units/*.toml: not a host folder",
                dir.display()
            )));
        }
        let units = files.iter().map(|path| source(path)).collect::<Result<Vec<_>, _>>()?;
        let loaded = units::load(host, units);
        let mut diagnostics = loaded.diagnostics.clone();
        diagnostics.extend(image_mistakes(dir, &loaded));
        diagnostics.extend(profiles::mistakes(dir, &loaded));
        Ok(Folder { loaded, texts, diagnostics })
    }

    /// Whether anything is wrong enough to stop.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// Shows everything on standard error.
    pub fn show(&self) {
        let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        for diagnostic in &self.diagnostics {
            let text = self.texts.get(&diagnostic.file).map_or("", String::as_str);
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
