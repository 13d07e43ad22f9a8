//! The state files, one for each unit, and directories.

use super::errno_of;
use crate::kernel::{CallError, StateFile};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

fn failed(path: &Path) -> impl Fn(io::Error) -> CallError {
    move |error| CallError::new(path.display().to_string(), errno_of(&error))
}

/// Replaces a unit's file atomically: if this process is killed, the file is the old or the new
/// one. (/run is in memory, so there is nothing to sync.)
///
/// # Errors
/// The error, with the file.
pub fn save(dir: &Path, unit: &str, text: &str) -> Result<(), CallError> {
    let path = dir.join(format!("{unit}.json"));
    let fresh = dir.join(format!(".{unit}.new"));
    fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &path)).map_err(failed(&path))
}

/// All files, by unit.
///
/// # Errors
/// The directory cannot be read.
pub fn load(dir: &Path) -> Result<Vec<StateFile>, CallError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed(dir))?.flatten() {
        let name = entry.file_name();
        let Some(unit) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
            continue;
        };
        let path = entry.path();
        files.push((unit.to_owned(), fs::read_to_string(&path).map_err(failed(&path))));
    }
    Ok(files)
}

/// Creates a directory unless it exists.
///
/// # Errors
/// mkdir(2)'s.
pub fn make_dir(path: &Path, mode: u32) -> Result<(), CallError> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done.map_err(failed(path)),
    }
}
