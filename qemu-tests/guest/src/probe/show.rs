//! The container's environment, one fact per line.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::{Arguments, Named, ProbeError};

/// `env NAME=VALUE` for each variable, sorted.
pub fn env(_: &mut Arguments) -> Result<(), ProbeError> {
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.sort();
    for (name, value) in variables {
        println!("env {}={}", name.to_string_lossy(), value.to_string_lossy());
    }
    Ok(())
}

/// The process's identity, one line per fact.
pub fn ids(_: &mut Arguments) -> Result<(), ProbeError> {
    let status = status()?;
    for name in ["Uid", "Gid", "Groups"] {
        println!("{} {}", name.to_lowercase(), field(&status, name));
    }
    // SAFETY: these take and return plain numbers; 0 is the calling process.
    let (pid, parent, session) = unsafe { (libc::getpid(), libc::getppid(), libc::getsid(0)) };
    println!("pid {pid}");
    println!("parent {parent}");
    println!("session {session}");
    let directory = std::env::current_dir().named("getcwd")?;
    println!("cwd {}", directory.display());
    let name = fs::read_to_string("/proc/sys/kernel/hostname").named("the host name")?;
    println!("hostname {}", name.trim_end());
    let cgroup = fs::read_to_string("/proc/self/cgroup").named("/proc/self/cgroup")?;
    println!("cgroup {}", cgroup.trim_end());
    Ok(())
}

/// `mount LINE` for each line of mountinfo (proc(5)).
pub fn mounts(_: &mut Arguments) -> Result<(), ProbeError> {
    let table = fs::read_to_string("/proc/self/mountinfo").named("/proc/self/mountinfo")?;
    for line in table.lines() {
        println!("mount {line}");
    }
    Ok(())
}

/// `fd NUMBER WHAT` for each open descriptor but the one used to list them.
pub fn fds(_: &mut Arguments) -> Result<(), ProbeError> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").named("/proc/self/fd")? {
        let entry = entry.named("/proc/self/fd")?;
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let target = fs::read_link(entry.path()).named("a descriptor's link")?;
        // The listing's own descriptor is the one directory below /proc.
        if !target.starts_with("/proc") {
            open.push((number, target));
        }
    }
    open.sort();
    for (number, target) in open {
        println!("fd {number} {}", target.display());
    }
    Ok(())
}

/// Capability sets as the kernel prints them (proc(5)), and the flags that belong to them.
pub fn caps(_: &mut Arguments) -> Result<(), ProbeError> {
    let status = status()?;
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"] {
        println!("{name} {}", field(&status, name));
    }
    Ok(())
}

/// All of the above.
pub fn report(arguments: &mut Arguments) -> Result<(), ProbeError> {
    for part in [env, ids, mounts, fds, caps] {
        part(arguments)?;
    }
    println!("report end");
    Ok(())
}

/// `read LINE` for each line of a file.
pub fn read(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let path = arguments.text("PATH")?;
    let content = fs::read(&path).named(&path)?;
    for line in String::from_utf8_lossy(&content).lines() {
        println!("read {line}");
    }
    Ok(())
}

/// `entry MODE UID:GID LINKS SIZE PATH [-> TARGET]` for a tree, sorted, mode in octal with type.
pub fn list(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let path = arguments.text("PATH")?;
    entry(Path::new(&path))
}

fn entry(path: &Path) -> Result<(), ProbeError> {
    let what = path.display();
    let meta = fs::symlink_metadata(path).named(&what.to_string())?;
    let target = if meta.is_symlink() {
        format!(" -> {}", fs::read_link(path).named(&what.to_string())?.display())
    } else {
        String::new()
    };
    // The size of a directory depends on the file system.
    let size = if meta.is_dir() { 0 } else { meta.len() };
    let (mode, uid, gid, links) = (meta.mode(), meta.uid(), meta.gid(), meta.nlink());
    let links = if meta.is_dir() { 1 } else { links };
    println!("entry {mode:06o} {uid}:{gid} {links} {size} {what}{target}");
    if meta.is_dir() {
        let mut children = Vec::new();
        for child in fs::read_dir(path).named(&what.to_string())? {
            children.push(child.named(&what.to_string())?.path());
        }
        children.sort();
        for child in children {
            entry(&child)?;
        }
    }
    Ok(())
}

fn status() -> Result<String, ProbeError> {
    fs::read_to_string("/proc/self/status").named("/proc/self/status")
}

/// The value of a line `NAME:\tVALUE`, with white space reduced to single spaces; empty if missing.
fn field(status: &str, name: &str) -> String {
    status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" "))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_status_field_is_found_by_its_whole_name() {
        let status = "Name:\tprobe\nCapEff:\t00000000a80425fb\nGroups:\t1 2 \n";
        assert_eq!(field(status, "CapEff"), "00000000a80425fb");
        assert_eq!(field(status, "Groups"), "1 2");
        assert_eq!(field(status, "Cap"), "");
    }
}
