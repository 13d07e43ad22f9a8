//! `keel check`.

use crate::Failure;
use crate::folder::Folder;
use std::path::Path;
use std::process::ExitCode;
use units::Severity;
use units::model::{DataDisk, Unit};

/// Shows every mistake (exit code 1), or what the folder will do (0).
pub fn check(dir: &Path) -> Result<ExitCode, Failure> {
    let folder = Folder::read(dir)?;
    folder.show();
    let errors = folder.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    if errors > 0 {
        let files: std::collections::BTreeSet<&str> = folder
            .diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.is_error())
            .map(|diagnostic| diagnostic.file.as_str())
            .collect();
        eprintln!(
            "{}: {} in {}",
            dir.display(),
            count(errors, "mistake"),
            count(files.len(), "file")
        );
        return Ok(ExitCode::FAILURE);
    }
    summary(dir, &folder);
    Ok(ExitCode::SUCCESS)
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn summary(dir: &Path, folder: &Folder) {
    let config = &folder.loaded.config;
    let warnings = folder
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity == Severity::Warning)
        .count();
    let note = if warnings == 0 { "no mistakes".to_owned() } else { count(warnings, "warning") };
    println!(
        "{}: host {}, {}, {note}",
        dir.display(),
        config.host.hostname,
        count(config.units.len(), "unit")
    );
    println!();
    println!("start order");
    for (at, level) in folder.loaded.order.0.iter().enumerate() {
        for name in level {
            let Some(unit) = config.units.get(name) else { continue };
            println!("  {}  {name:<16} {}", at + 1, describe(unit));
        }
    }
    let volumes = units::named_volumes(config);
    if !volumes.is_empty() {
        println!();
        println!("volumes");
        for (volume, users) in &volumes {
            println!("  {volume:<16} used by {}", users.join(", "));
        }
        println!("  {}", volumes_fate(config.host.storage.data));
    }
    let weak: Vec<(&String, Vec<String>)> = config
        .units
        .iter()
        .map(|(name, unit)| (name, units::relaxed_settings(unit)))
        .filter(|(_, weakenings)| !weakenings.is_empty())
        .collect();
    if !weak.is_empty() {
        println!();
        println!("less confined than usual");
        for (name, weakenings) in weak {
            println!("  {name:<16} {}", weakenings.join(", "));
        }
    }
}

/// What a unit waits for, publishes and is.
fn describe(unit: &Unit) -> String {
    let mut parts = Vec::new();
    if !unit.requires.is_empty() {
        parts.push(format!("requires {}", unit.requires.join(", ")));
    }
    let order: Vec<&str> = unit
        .after
        .iter()
        .filter(|name| !unit.requires.contains(name))
        .map(String::as_str)
        .collect();
    if !order.is_empty() {
        parts.push(format!("after {}", order.join(", ")));
    }
    if unit.kind == units::model::Kind::Oneshot {
        parts.push("runs once".to_owned());
    }
    if !unit.enabled {
        parts.push("not started at boot".to_owned());
    }
    for port in &unit.container.ports {
        parts.push(format!("port {}", port.host));
    }
    parts.join("; ")
}

fn volumes_fate(policy: DataDisk) -> &'static str {
    match policy {
        DataDisk::Memory => "storage.data = \"memory\": volumes are empty again after every boot",
        DataDisk::Auto => {
            "on the disk labelled KEEL-DATA; a host without one (`keel run` without --data) keeps them in memory, for one boot"
        }
        DataDisk::Required => "on the disk labelled KEEL-DATA; the units that use them wait for it",
    }
}
