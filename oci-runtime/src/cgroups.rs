//! The path of a container's cgroup, its creation and its removal.

use crate::config::{Config, Setting};
use crate::error::{About, Error};
use crate::store::State;
use container::cgroup::enable_controllers;
use container::{Cgroup, CgroupError, Limits};
use nix::errno::Errno;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait for killed processes to end. Longer means that they are stuck in the kernel.
const KILLED: Duration = Duration::from_secs(20);

/// Parent of the cgroups of containers whose `config.json` names none.
const PARENT: &str = "keel-oci";

/// The mount point of the cgroup v2 file system (proc_pid_mountinfo(5)).
fn mount_point() -> Result<PathBuf, Error> {
    let path = Path::new("/proc/self/mountinfo");
    let table = fs::read_to_string(path).about("read", path)?;
    let found = table.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        system.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    });
    found.ok_or_else(|| Error::Host {
        key: "linux.cgroupsPath".to_owned(),
        reason: "no cgroup v2 file system is mounted".to_owned(),
    })
}

/// The path that the container's cgroup will have.
pub(crate) fn path(config: &Config, id: &str) -> Result<PathBuf, Error> {
    let below = config.cgroup.clone().unwrap_or_else(|| Path::new(PARENT).join(id));
    Ok(mount_point()?.join(below))
}

/// The cgroups above `path` that must be created for it, topmost first.
pub(crate) fn missing_parents(path: &Path) -> Vec<PathBuf> {
    let missing = path.ancestors().skip(1).take_while(|path| !path.exists());
    let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    missing.reverse();
    missing
}

/// Creates a container's cgroup. An existing one is used if it is empty: it may have been created
/// for this container.
pub(crate) fn make(path: &Path, settings: &[Setting]) -> Result<Cgroup, Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Err(
            CgroupError { action: "create", path: path.into(), errno: Errno::EINVAL }.into()
        );
    };
    for one in missing_parents(path) {
        match fs::create_dir(&one) {
            // Another container may have the same parent.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            done => done.about("create", &one)?,
        }
    }
    for setting in settings {
        enable(parent, setting)?;
    }
    let group = Cgroup::create(parent, name, &Limits::default())?;
    if group.populated()? {
        let reason = format!("{} already contains processes", path.display());
        return Err(Error::Host { key: "linux.cgroupsPath".to_owned(), reason });
    }
    for setting in settings {
        group.set(&setting.file, &setting.value).map_err(|error| {
            let reason = match error.errno {
                Errno::ENOENT => format!("this cgroup has no file {}", setting.file),
                errno => {
                    format!("cannot write {} to {}: {}", setting.value, setting.file, errno.desc())
                }
            };
            Error::Host { key: setting.key.clone(), reason }
        })?;
    }
    Ok(group)
}

/// Enables a controller in every cgroup from the root of the file system down to `parent`.
fn enable(parent: &Path, setting: &Setting) -> Result<(), Error> {
    let controller = setting.file.split('.').next().unwrap_or_default();
    let root = mount_point()?;
    let mut from_root: Vec<&Path> =
        parent.ancestors().take_while(|path| path.starts_with(&root)).collect();
    from_root.reverse();
    for dir in from_root {
        let file = dir.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&file).about("read", &file)?;
        if enabled.split_whitespace().any(|word| word == controller) {
            continue;
        }
        enable_controllers(dir, &[controller]).map_err(|error| {
            let reason = match error.errno {
                // The controller does not exist, or cgroup v1 uses it.
                Errno::EINVAL | Errno::ENOENT => {
                    format!("the cgroup v2 controller {controller:?} is not available")
                }
                Errno::EBUSY => format!("{} contains processes", dir.display()),
                errno => format!("{}: {}", error.path.display(), errno.desc()),
            };
            Error::Host { key: setting.key.clone(), reason }
        })?;
    }
    Ok(())
}

/// The cgroup of a container, if it has one.
pub(crate) fn open(state: &State) -> Result<Option<Cgroup>, Error> {
    let Some(path) = &state.cgroup else { return Ok(None) };
    match Cgroup::open(path) {
        Err(CgroupError { errno: Errno::ENOENT, .. }) => Ok(None),
        done => Ok(Some(done?)),
    }
}

/// Kills every process of a container and removes its cgroup, as well as the empty parents that
/// were created for it.
pub(crate) fn remove(state: &State) -> Result<(), Error> {
    if let Some(group) = open(state)? {
        kill(&group)?;
        group.remove()?;
    }
    for parent in state.parents.iter().rev() {
        // It may contain another container.
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

/// Kills every process and waits until all have ended.
pub(crate) fn kill(group: &Cgroup) -> Result<(), Error> {
    group.kill()?;
    let until = Instant::now() + KILLED;
    while group.populated()? {
        if Instant::now() > until {
            let path = group.path().to_owned();
            return Err(CgroupError { action: "empty", path, errno: Errno::EBUSY }.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
