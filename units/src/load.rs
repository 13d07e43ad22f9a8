//! Loads a whole host folder from its texts.

use crate::diagnostic::{Diagnostic, ParseError, Severity};
use crate::graph::{self, All, StartOrder};
use crate::model::{Host, HostConfig, Seccomp, VolumeSource};
use crate::names::check_unit_name;
use crate::reader::Source;
use crate::{host, unit};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A file of a host folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The name of the file in diagnostics: its path below the host folder, such as `units/web.toml`.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// The result of loading a host folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The valid part of the configuration.
    pub config: HostConfig,
    /// Errors, warnings and notes, by file and position.
    pub diagnostics: Vec<Diagnostic>,
    /// The order in which `config.units` start.
    pub order: StartOrder,
    /// Names of the units that are left out because of errors.
    pub left_out: BTreeSet<String>,
    /// The `image` keys of all units, including left-out ones.
    pub images: Vec<ImageReference>,
    /// The `seccomp` keys with a profile, of all units, including left-out ones.
    pub profiles: Vec<ProfileReference>,
}

impl Loaded {
    /// Whether there is any error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// One `image` key, for callers that can check whether the image exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// The unit.
    pub unit: String,
    /// The value: a path below the host folder, beginning with `./`, without `..`.
    pub image: String,
    /// The unit's file.
    pub file: String,
    /// Byte range of the value in it.
    pub span: Range<usize>,
    /// Line of the value, starting at 1.
    pub line: usize,
    /// Column of the value in characters, starting at 1.
    pub column: usize,
}

impl ImageReference {
    /// A diagnostic about this image, at the value of the `image` key.
    pub fn diagnostic(&self, severity: Severity, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity,
            file: self.file.clone(),
            span: self.span.clone(),
            line: self.line,
            column: self.column,
            message: message.into(),
            hint: None,
            related: Vec::new(),
        }
    }
}

/// One `seccomp` key that names a profile, for callers that can read the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileReference {
    /// The unit.
    pub unit: String,
    /// The value: a path below the host folder, beginning with `./`, without `..`.
    pub profile: String,
    place: Diagnostic,
}

impl ProfileReference {
    /// A diagnostic about this profile, at the value of the `seccomp` key.
    pub fn diagnostic(&self, severity: Severity, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity, message: message.into(), ..self.place.clone() }
    }
}

/// All `image` keys of a host folder, by unit.
pub fn image_references(loaded: &Loaded) -> impl Iterator<Item = &ImageReference> {
    loaded.images.iter()
}

/// The named volumes of a host, each with the names of the units that mount it.
pub fn named_volumes(config: &HostConfig) -> BTreeMap<String, Vec<String>> {
    let mut volumes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for unit in config.units.values() {
        for volume in &unit.container.volumes {
            let VolumeSource::Named(name) = &volume.source else { continue };
            let users = volumes.entry(name.clone()).or_default();
            if users.last() != Some(&unit.name) {
                users.push(unit.name.clone());
            }
        }
    }
    volumes
}

/// Loads the texts of a host folder.
///
/// Loading never fails: a unit with an error is left out and listed in [`Loaded::left_out`], and a key
/// of `host.toml` with an error keeps its default. A unit that requires a left-out one is kept, with a
/// note that it cannot start.
pub fn load(host: Option<SourceFile>, units: Vec<SourceFile>) -> Loaded {
    let mut diagnostics = Vec::new();
    let host = match &host {
        Some(file) => {
            let source = Source::new(&file.path, &file.text);
            let host = host::parse(&source);
            diagnostics.extend(in_order(source));
            host
        }
        None => {
            let message = "no host.toml found; using the defaults";
            diagnostics.push(Diagnostic::whole_file(Severity::Note, "host.toml", message));
            Host::default()
        }
    };

    let mut all: All<'_> = BTreeMap::new();
    for file in &units {
        match unit_name(file) {
            Err(error) => {
                let mut found = Diagnostic::whole_file(Severity::Error, &file.path, error.message);
                found.hint = error.hint;
                // Its content is still parsed, so that all errors are reported at once.
                diagnostics.push(found);
                let parsed = unit::parse(Source::new(&file.path, &file.text), "unnamed");
                diagnostics.extend(in_order(parsed.source));
            }
            Ok(name) => {
                if let Some(other) = all.get(name) {
                    let message = format!(
                        "duplicate unit `{name}`, already defined by {}",
                        other.source.file
                    );
                    diagnostics.push(Diagnostic::whole_file(Severity::Error, &file.path, message));
                    continue;
                }
                let parsed = unit::parse(Source::new(&file.path, &file.text), name);
                all.insert(name.to_owned(), parsed);
            }
        }
    }

    graph::check_names(&all);
    let in_cycle = graph::check_cycles(&all);
    graph::check_ports(&all);
    graph::check_port_count(&all, &in_cycle);
    graph::check_bridge_capacity(&all, &in_cycle, host.network.bridge);
    graph::check_volumes(&all);
    let left_out: BTreeSet<String> = all
        .iter()
        .filter(|(name, parsed)| parsed.source.has_errors() || in_cycle.contains(*name))
        .map(|(name, _)| name.clone())
        .collect();
    graph::note_blocked(&all, &left_out);

    let mut good = BTreeMap::new();
    let (mut images, mut profiles) = (Vec::new(), Vec::new());
    for (name, parsed) in all {
        if let Some(span) = parsed.spans.image.clone() {
            let (line, column) = crate::render::position(parsed.source.text, span.start);
            images.push(ImageReference {
                unit: name.clone(),
                image: parsed.unit.container.image.clone(),
                file: parsed.source.file.to_owned(),
                span,
                line,
                column,
            });
        }
        if let (Some(span), Seccomp::Profile(profile)) =
            (parsed.spans.seccomp.clone(), &parsed.unit.container.seccomp)
        {
            let Source { file, text, .. } = parsed.source;
            let place = Diagnostic::new(Severity::Error, file, text, span, "");
            profiles.push(ProfileReference { unit: name.clone(), profile: profile.clone(), place });
        }
        if !left_out.contains(&name) {
            good.insert(name, parsed.unit);
        }
        diagnostics.extend(in_order(parsed.source));
    }
    let order = StartOrder::of(&good);
    let config = HostConfig { host, units: good };
    Loaded { config, diagnostics, order, left_out, images, profiles }
}

fn in_order(source: Source<'_>) -> Vec<Diagnostic> {
    let mut found = source.into_found();
    found.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
    found
}

/// The name of a unit, from its file's name.
fn unit_name(file: &SourceFile) -> Result<&str, ParseError> {
    let base = file.path.rsplit('/').next().unwrap_or(&file.path);
    let Some(name) = base.strip_suffix(".toml") else {
        return Err(ParseError::whole(base, "a unit file name must end in `.toml`"));
    };
    check_unit_name(name).map(|()| name)
}
