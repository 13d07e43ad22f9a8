//! The cgroup tree: `system/<process>` for Keelhost's own processes, `units/<name>` for containers.
//!
//! PID 1 stays in the root cgroup, which is exempt from the rule that only leaves hold processes
//! (kernel, Documentation/admin-guide/cgroup-v2.rst, "No Internal Process Constraint"). Everything
//! it starts is put into its cgroup by clone3(CLONE_INTO_CGROUP): writing `cgroup.procs` would wait
//! for an RCU grace period.

use layout::paths;
use std::fs;
use std::io;
use std::path::Path;

/// The controllers that limits and statistics need.
pub const CONTROLLERS: &[&str] = &["cpu", "memory", "pids", "io"];

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("cgroup {path}: {source}")]
pub struct CgroupError {
    path: String,
    source: io::Error,
}

/// Limits of our own processes. A busy logger must not slow restarts down. Untrusted clients talk to
/// the API, and nothing waits for it, so it gets little.
const LIMITS: [(ipc::Service, &str, &str); 4] = [
    (ipc::Service::Supervisor, "cpu.weight", "1000"),
    (ipc::Service::Api, "cpu.weight", "20"),
    (ipc::Service::Api, "memory.max", "96M"),
    (ipc::Service::Api, "pids.max", "64"),
];

/// Creates the tree and enables the controllers. A controller that this kernel lacks is skipped and
/// returned, to be logged: the host works without `io`, for example.
///
/// # Errors
/// A directory that cannot be created.
pub fn set_up() -> Result<Vec<String>, CgroupError> {
    let mut missing = Vec::new();
    enable("/sys/fs/cgroup", &mut missing);
    for dir in [paths::CGROUP_SYSTEM, paths::CGROUP_UNITS] {
        make(dir)?;
        enable(dir, &mut Vec::new());
    }
    for service in ipc::Service::ALL {
        make(&service_dir(service))?;
    }
    for (service, key, value) in LIMITS {
        if let Err(error) = fs::write(format!("{}/{key}", service_dir(service)), value) {
            missing.push(format!("{key} of {}: {error}", service.applet()));
        }
    }
    Ok(missing)
}

/// The cgroup of one of Keelhost's own processes.
pub fn service_dir(service: ipc::Service) -> String {
    format!("{}/{}", paths::CGROUP_SYSTEM, service.applet())
}

fn make(path: &str) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn enable(dir: &str, missing: &mut Vec<String>) {
    let control = Path::new(dir).join("cgroup.subtree_control");
    let all = CONTROLLERS.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    if fs::write(&control, all).is_ok() {
        return;
    }
    // One missing controller makes the whole line fail: enable them one by one.
    for name in CONTROLLERS {
        if let Err(error) = fs::write(&control, format!("+{name}")) {
            missing.push(format!("{name}: {error}"));
        }
    }
}
