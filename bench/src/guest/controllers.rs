//! The cgroup tree of the benchmark, and the controllers that are available on this machine.

use container::{Cgroup, Limits, cgroup};
use engine_bench::{Failure, Naming, limits as all, places};
use std::fs;
use std::path::Path;

/// The controllers behind [`Limits`].
const WANTED: [&str; 3] = ["memory", "cpu", "pids"];

/// Creates the parent of our groups with the available controllers: on a development machine, cgroup
/// version 1 may use some of them.
pub fn set_up() -> Result<(), Failure> {
    let root = Path::new(places::CGROUP).parent().unwrap_or(Path::new("/"));
    for dir in [root, Path::new(places::CGROUP)] {
        match fs::create_dir(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).naming(dir.display());
            }
            _ => {}
        }
        let listed = dir.join("cgroup.controllers");
        let there = fs::read_to_string(&listed).naming(listed.display())?;
        let wanted: Vec<&str> =
            there.split_ascii_whitespace().filter(|name| WANTED.contains(name)).collect();
        cgroup::enable_controllers(dir, &wanted).naming("controllers")?;
    }
    Ok(())
}

/// Removes what [`set_up`] has created.
pub fn clean_up() -> Result<(), Failure> {
    Cgroup::open(Path::new(places::CGROUP)).and_then(|group| group.remove()).naming("clean-up")
}

/// The limits of every container that have a controller here.
pub fn limits() -> Limits {
    let listed = Path::new(places::CGROUP).join("cgroup.subtree_control");
    let enabled = fs::read_to_string(listed).unwrap_or_default();
    let has = |name| enabled.split_ascii_whitespace().any(|there| there == name);
    Limits {
        memory: has("memory").then_some(all::MEMORY),
        cpu_millis: has("cpu").then_some(all::CPU_MILLIS),
        pids: has("pids").then_some(all::PIDS),
        ..Limits::default()
    }
}
