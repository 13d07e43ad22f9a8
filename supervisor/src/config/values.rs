//! The host folder's effective values, with the origin of each.

use api_types::ConfigValue;
use layout::folder::{HOST, HostFolder};
use std::path::Path;
use units::SourceFile;
use units::schema::{HOST_TABLES, Table, UNIT_TABLES};
use units::settings::settings;

/// Every setting of the host folder `dir`: host.toml's, then each unit's, those written before the
/// defaults.
pub fn list(dir: &Path) -> Vec<ConfigValue> {
    let folder = HostFolder::read(dir);
    let mut values = Vec::new();
    // Without a host.toml all its settings are defaults.
    let none = SourceFile { path: HOST.to_owned(), text: String::new() };
    add(dir, folder.host.as_ref().unwrap_or(&none), None, &HOST_TABLES, &mut values);
    for file in &folder.units {
        let unit = Path::new(&file.path).file_stem().and_then(|stem| stem.to_str());
        add(dir, file, unit, &UNIT_TABLES, &mut values);
    }
    values
}

fn add(
    dir: &Path,
    file: &SourceFile,
    unit: Option<&str>,
    tables: &[&Table],
    values: &mut Vec<ConfigValue>,
) {
    let path = Path::new(&file.path).strip_prefix(dir).unwrap_or(Path::new(&file.path)).display();
    for setting in settings(file, tables) {
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
