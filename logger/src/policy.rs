//! How much of each unit's output is kept on disk, from the host folder.

use std::collections::BTreeMap;
use std::path::Path;
use units::SourceFile;
use units::model::LogPolicy;

/// The default policy, also for units that are missing in the host folder or have errors there.
pub(crate) const DEFAULT: LogPolicy = LogPolicy { max_size: 10 * 1024 * 1024, max_files: 3 };

/// Reads the `[log]` tables of the host folder `dir`. Mistakes in it are reported elsewhere.
pub(crate) fn load(dir: &Path) -> BTreeMap<String, LogPolicy> {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(dir.join("units")).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => sources.push(SourceFile { path: path.display().to_string(), text }),
            Err(error) => log::warn!("{}: {error}", path.display()),
        }
    }
    let units = units::load(None, sources).config.units;
    units.into_iter().map(|(name, unit)| (name, unit.log)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testdir::Dir;

    #[test]
    fn a_unit_has_its_own_policy_or_the_default() {
        let dir = Dir::new();
        std::fs::create_dir(dir.0.join("units")).unwrap();
        let unit = "[container]\nimage = \"./images/web\"\n";
        std::fs::write(dir.0.join("units/plain.toml"), unit).unwrap();
        let log = format!("{unit}[log]\nmax_size = \"1M\"\nmax_files = 7\n");
        std::fs::write(dir.0.join("units/web.toml"), log).unwrap();
        let policies = load(&dir.0);
        assert_eq!(policies.get("web"), Some(&LogPolicy { max_size: 1 << 20, max_files: 7 }));
        assert_eq!(policies.get("plain"), Some(&DEFAULT));
        assert_eq!(load(&dir.0.join("absent")).len(), 0);
    }
}
