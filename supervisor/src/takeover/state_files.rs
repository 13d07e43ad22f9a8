//! The supervisor's memory over its own death: one file per unit below `/run/keel/units`.

use layout::paths;
use policy::SavedState;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A state file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct FileError {
    path: PathBuf,
    source: io::Error,
}

/// Where the files are.
pub struct StateFiles {
    dir: PathBuf,
}

impl Default for StateFiles {
    fn default() -> StateFiles {
        StateFiles { dir: PathBuf::from(paths::RUN_UNITS) }
    }
}

impl StateFiles {
    /// Files below another directory, for tests.
    pub fn below(dir: &Path) -> StateFiles {
        StateFiles { dir: dir.to_owned() }
    }

    /// Replaces a unit's file, atomically: whoever kills us when, the file is the old or the new one.
    /// (/run is in memory, so there is nothing to sync.)
    ///
    /// # Errors
    /// Which file, and why.
    pub fn save(&self, unit: &str, state: &SavedState) -> Result<(), FileError> {
        let path = self.dir.join(format!("{unit}.json"));
        let fresh = self.dir.join(format!(".{unit}.new"));
        state
            .to_json()
            .map_err(io::Error::other)
            .and_then(|text| fs::write(&fresh, text))
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|source| FileError { path, source })
    }

    /// All files. One that cannot be understood is reported and left out: its unit is then taken for
    /// one that was never started, which the cgroup tree corrects.
    pub fn load(&self) -> (BTreeMap<String, SavedState>, Vec<FileError>) {
        let mut states = BTreeMap::new();
        let mut errors = Vec::new();
        let Ok(entries) = fs::read_dir(&self.dir) else { return (states, errors) };
        for entry in entries.flatten() {
            let path = entry.path();
            let Some(unit) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_suffix(".json"))
                .map(str::to_owned)
            else {
                continue;
            };
            let read = fs::read_to_string(&path)
                .and_then(|text| SavedState::from_json(&text).map_err(io::Error::other));
            match read {
                Ok(state) => drop(states.insert(unit, state)),
                Err(source) => errors.push(FileError { path, source }),
            }
        }
        (states, errors)
    }
}
