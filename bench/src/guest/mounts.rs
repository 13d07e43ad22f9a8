//! The file systems that are mounted before anything is measured, in the VM and natively.

use engine_bench::{Failure, Naming};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use std::fs;

/// Target, type, options. Engines keep their state in memory: a disk would only slow them down.
const TABLE: [(&str, &str, &str); 9] = [
    ("/proc", "proc", ""),
    ("/sys", "sysfs", ""),
    ("/sys/fs/cgroup", "cgroup2", ""),
    ("/dev", "devtmpfs", ""),
    ("/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5"),
    ("/dev/shm", "tmpfs", "mode=1777"),
    ("/run", "tmpfs", "mode=0755"),
    ("/tmp", "tmpfs", "mode=1777"),
    ("/var/lib", "tmpfs", "mode=0755"),
];

/// Mounts the whole table.
///
/// # Errors
/// A mount fails.
pub fn all() -> Result<(), Failure> {
    for (target, kind, options) in TABLE {
        match fs::create_dir_all(target) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).naming(target);
            }
            _ => {}
        }
        let options = (!options.is_empty()).then_some(options);
        match mount(Some(kind), target, Some(kind), MsFlags::empty(), options) {
            // The kernel has mounted /dev itself.
            Err(Errno::EBUSY) => {}
            done => done.naming(target)?,
        }
    }
    Ok(())
}
