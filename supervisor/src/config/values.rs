//! The host folder's effective values, with the origin of each.

use ipc::api::ConfigValue;
use std::fs;
use std::path::Path;
use units::SourceFile;
use units::schema::{HOST_TABLES, Table, UNIT_TABLES};
use units::settings::settings;

/// Every setting of the host folder `dir`: host.toml's, then each unit's, those written before the
/// defaults.
pub fn list(dir: &Path) -> Vec<ConfigValue> {
    let mut values = Vec::new();
    add(dir, "host.toml", None, &HOST_TABLES, &mut values);
    let entries = fs::read_dir(dir.join("units")).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    for name in names {
        if let Some(unit) = name.strip_suffix(".toml") {
            add(dir, &format!("units/{name}"), Some(unit), &UNIT_TABLES, &mut values);
        }
    }
    values
}

fn add(
    dir: &Path,
    path: &str,
    unit: Option<&str>,
    tables: &[&Table],
    values: &mut Vec<ConfigValue>,
) {
    let text = fs::read_to_string(dir.join(path)).unwrap_or_default();
    let file = SourceFile { path: path.to_owned(), text };
    for setting in settings(&file, tables) {
        values.push(ConfigValue {
            unit: unit.map(str::to_owned),
            key: setting.key,
            value: setting.value,
            origin: setting
                .line
                .map_or_else(|| "default".to_owned(), |line| format!("{path}:{line}")),
        });
    }
}
