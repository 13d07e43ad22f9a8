//! A whole host folder: its texts in, everything that is good in them out.

use crate::diagnostic::{Diagnostic, Mistake, Severity};
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
    /// How the file is called in diagnostics: its path below the host folder, `units/web.toml`.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// What a host folder says.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Everything that is good.
    pub config: HostConfig,
    /// Everything that is to be said, by file and place.
    pub diagnostics: Vec<Diagnostic>,
    /// The order in which `config.units` start.
    pub order: StartOrder,
    /// Names of the units that have been left out because of their mistakes.
    pub left_out: BTreeSet<String>,
    /// Where the units name their images, those of left-out units too.
    pub images: Vec<ImageReference>,
    /// Where the units name profiles of system calls, those of left-out units too.
    pub profiles: Vec<ProfileReference>,
}

impl Loaded {
    /// Whether anything is wrong.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// One `image` key, for whoever can see whether the image is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// The unit.
    pub unit: String,
    /// The value: a path below the host folder, beginning with `./`, without `..`.
    pub image: String,
    /// The unit's file.
    pub file: String,
    /// Place of the value in it.
    pub span: Range<usize>,
    /// Line of the place, from 1.
    pub line: usize,
    /// Column of the place in characters, from 1.
    pub column: usize,
}

impl ImageReference {
    /// A diagnostic about this image, at the place where the unit names it.
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

/// One `seccomp` key that names a file, for whoever can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileReference {
    /// The unit.
    pub unit: String,
    /// The value: a path below the host folder, beginning with `./`, without `..`.
    pub profile: String,
    place: Diagnostic,
}

impl ProfileReference {
    /// A diagnostic about this profile, at the place where the unit names it.
    pub fn diagnostic(&self, severity: Severity, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity, message: message.into(), ..self.place.clone() }
    }
}

/// All `image` keys of a host folder, by unit.
pub fn image_references(loaded: &Loaded) -> impl Iterator<Item = &ImageReference> {
    loaded.images.iter()
}

/// The named volumes of a host, each with the units that mount it.
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

/// Reads the texts of a host folder.
///
/// Nothing in them makes it fail: a unit with a mistake is left out of the result and named in
/// [`Loaded::left_out`], a mistake in `host.toml` leaves the default in place, and the rest stands.
/// A unit that requires a left-out one stays (it will not start), with a note.
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
            let message = "there is no host.toml: defaults are used";
            diagnostics.push(Diagnostic::whole_file(Severity::Note, "host.toml", message));
            Host::default()
        }
    };

    let mut all: All<'_> = BTreeMap::new();
    for file in &units {
        match unit_name(file) {
            Err(mistake) => {
                let mut found =
                    Diagnostic::whole_file(Severity::Error, &file.path, mistake.message);
                found.hint = mistake.hint;
                // Its content is read all the same, so that all mistakes come at once.
                diagnostics.push(found);
                let parsed = unit::parse(Source::new(&file.path, &file.text), "unnamed");
                diagnostics.extend(in_order(parsed.source));
            }
            Ok(name) => {
                if let Some(other) = all.get(name) {
                    let message = format!("`{name}` is already the unit of {}", other.source.file);
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
    graph::check_bridge_room(&all, &in_cycle, host.network.bridge);
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
        if let Some(span) = parsed.places.image.clone() {
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
            (parsed.places.seccomp.clone(), &parsed.unit.container.seccomp)
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
fn unit_name(file: &SourceFile) -> Result<&str, Mistake> {
    let base = file.path.rsplit('/').next().unwrap_or(&file.path);
    let Some(name) = base.strip_suffix(".toml") else {
        return Err(Mistake::whole(base, "a unit's file ends in `.toml`"));
    };
    check_unit_name(name).map(|()| name)
}
