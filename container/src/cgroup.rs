//! Control groups, version 2 (kernel `Documentation/admin-guide/cgroup-v2.rst`).

use crate::sys;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Period of the CPU limit in microseconds, the kernel's default.
const CPU_PERIOD: u64 = 100_000;
/// Smallest CPU quota that the kernel accepts, in microseconds.
const CPU_MIN_QUOTA: u64 = 1_000;

/// The extended attribute of [`Cgroup::set_note`].
const NOTE: &CStr = c"user.keel.note";

/// A failed operation on a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action} {}: {}", path.display(), errno.desc())]
pub struct CgroupError {
    /// The operation ("create", "write").
    pub action: &'static str,
    /// The directory or file.
    pub path: PathBuf,
    /// The system call's error. `ENOENT` on a limit's file means that its controller is not
    /// enabled in the parent ([`enable_controllers`]).
    pub errno: Errno,
}

/// Limits of a cgroup; `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes (`memory.max`). Swap is then 0, and an OOM kill ends the whole group, so that a
    /// container never continues with some of its processes missing.
    pub memory: Option<u64>,
    /// Bytes above which the kernel throttles the processes and reclaims memory (`memory.high`).
    pub memory_high: Option<u64>,
    /// Bytes of swap (`memory.swap.max`); 0 if `memory` is set and this is not.
    pub swap: Option<u64>,
    /// Thousandths of a CPU (`cpu.max`), at least 10.
    pub cpu_millis: Option<u64>,
    /// Relative share of CPU time under contention (`cpu.weight`), 1 to 10000.
    pub cpu_weight: Option<u64>,
    /// Tasks (`pids.max`).
    pub pids: Option<u64>,
}

/// Resource usage of a cgroup. A value is `None` if its controller is not enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Current bytes (`memory.current`).
    pub memory_current: Option<u64>,
    /// Peak bytes (`memory.peak`).
    pub memory_peak: Option<u64>,
    /// Processes killed by the OOM killer (`oom_kill` in `memory.events`).
    pub oom_kill: Option<u64>,
    /// CPU time in microseconds (`usage_usec` in `cpu.stat`).
    pub cpu_usec: Option<u64>,
    /// Current tasks (`pids.current`).
    pub pids_current: Option<u64>,
}

/// A cgroup, identified by an open descriptor of its directory.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    dir: OwnedFd,
}

impl Cgroup {
    /// Creates `parent/name` with these limits, or opens an existing cgroup and sets its limits.
    ///
    /// # Errors
    /// The file that could not be created or written.
    pub fn create(parent: &Path, name: &str, limits: &Limits) -> Result<Cgroup, CgroupError> {
        let path = parent.join(name);
        let fail = |errno| CgroupError { action: "create", path: path.clone(), errno };
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            return Err(fail(Errno::EINVAL));
        }
        let existed = match nix::unistd::mkdir(&path, Mode::from_bits_truncate(0o755)) {
            Ok(()) => false,
            Err(Errno::EEXIST) => true,
            Err(errno) => return Err(fail(errno)),
        };
        let group = Self::open(&path)?;
        group.limit(limits, existed)?;
        Ok(group)
    }

    /// Opens an existing cgroup, for instance after a restart of the caller.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn open(path: &Path) -> Result<Cgroup, CgroupError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(path, flags, Mode::empty()).map_err(|errno| CgroupError {
            action: "open",
            path: path.to_owned(),
            errno,
        })?;
        Ok(Cgroup { path: path.to_owned(), dir })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn limit(&self, limits: &Limits, reset: bool) -> Result<(), CgroupError> {
        if let Some(bytes) = limits.memory {
            self.write("memory.max", &bytes.to_string())?;
        } else if reset {
            self.write_if_present("memory.max", "max")?;
        }
        // Even without a limit of its own: the host can run out of memory, too.
        self.write_if_present("memory.oom.group", "1")?;
        match limits.swap.or(limits.memory.map(|_| 0)) {
            // The file is missing on a kernel without swap accounting.
            Some(bytes) => self.write_if_present("memory.swap.max", &bytes.to_string())?,
            None if reset => self.write_if_present("memory.swap.max", "max")?,
            None => {}
        }
        if let Some(bytes) = limits.memory_high {
            self.write("memory.high", &bytes.to_string())?;
        } else if reset {
            self.write_if_present("memory.high", "max")?;
        }
        if let Some(weight) = limits.cpu_weight {
            self.write("cpu.weight", &weight.to_string())?;
        } else if reset {
            self.write_if_present("cpu.weight", "100")?;
        }
        if let Some(millis) = limits.cpu_millis {
            let quota = millis.saturating_mul(CPU_PERIOD / 1000).max(CPU_MIN_QUOTA);
            self.write("cpu.max", &format!("{quota} {CPU_PERIOD}"))?;
        } else if reset {
            self.write_if_present("cpu.max", "max")?;
        }
        if let Some(tasks) = limits.pids {
            self.write("pids.max", &tasks.to_string())?;
        } else if reset {
            self.write_if_present("pids.max", "max")?;
        }
        Ok(())
    }

    /// Limits disk throughput in bytes per second (`io.max`); `None` means no limit. `disk` is the
    /// major and minor number of a whole disk, not of a partition.
    ///
    /// # Errors
    /// `ENOENT`: the kernel has no `io` controller; `ENODEV`: no such disk.
    pub fn limit_io(
        &self,
        disk: (u64, u64),
        read: Option<u64>,
        write: Option<u64>,
    ) -> Result<(), CgroupError> {
        let show = |limit: Option<u64>| limit.map_or("max".to_owned(), |bytes| bytes.to_string());
        let (major, minor) = disk;
        let text = format!("{major}:{minor} rbps={} wbps={}", show(read), show(write));
        self.write("io.max", &text)
    }

    /// Writes a control file (`io.max`, `cpuset.cpus`) that [`Limits`] does not cover.
    ///
    /// # Errors
    /// `EINVAL`: an invalid name, or one of the `cgroup.` core files; `ENOENT`: the file's
    /// controller is not enabled in the parent; otherwise the kernel's error for the value.
    pub fn set(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        let (kind, rest) = file.split_once('.').unwrap_or_default();
        if kind.is_empty() || rest.is_empty() || kind == "cgroup" || !file.chars().all(allowed) {
            return Err(self.fail("write", file)(Errno::EINVAL));
        }
        self.write(file, value)
    }

    fn fail(&self, action: &'static str, file: &str) -> impl FnOnce(Errno) -> CgroupError {
        let path = self.path.join(file);
        move |errno| CgroupError { action, path, errno }
    }

    fn write(&self, file: &str, text: &str) -> Result<(), CgroupError> {
        write_at(&self.dir, file, text).map_err(self.fail("write", file))
    }

    fn write_if_present(&self, file: &str, text: &str) -> Result<(), CgroupError> {
        match write_at(&self.dir, file, text) {
            Err(Errno::ENOENT) => Ok(()),
            done => done.map_err(self.fail("write", file)),
        }
    }

    /// A file's content; `None` if the file does not exist.
    fn read(&self, file: &str) -> Result<Option<String>, CgroupError> {
        match openat(&self.dir, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.fail("read", file)(errno)),
            Ok(fd) => {
                let mut text = String::new();
                File::from(fd)
                    .read_to_string(&mut text)
                    .map_err(|error| self.fail("read", file)(sys::errno_of(&error)))?;
                Ok(Some(text))
            }
        }
    }

    /// Sends SIGKILL to every process in the cgroup and below it (`cgroup.kill`).
    ///
    /// # Errors
    /// Writing failed.
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.write("cgroup.kill", "1")
    }

    /// Whether the cgroup or any below it has a live process (zombies do not count).
    ///
    /// # Errors
    /// Reading failed.
    pub fn populated(&self) -> Result<bool, CgroupError> {
        let events = self.read("cgroup.events")?.unwrap_or_default();
        Ok(key(&events, "populated") == Some(1))
    }

    /// `cgroup.events`, to be polled for `POLLPRI` (the file has changed; call
    /// [`Cgroup::populated`]). Reading the descriptor consumes the event, so read it from offset 0
    /// after each one. The kernel throttles these notifications.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn events_fd(&self) -> Result<OwnedFd, CgroupError> {
        openat(&self.dir, "cgroup.events", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(self.fail("open", "cgroup.events"))
    }

    /// Reads the resource usage.
    ///
    /// # Errors
    /// Reading failed. (A missing controller gives `None`, not an error.)
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        let number =
            |file| Ok::<_, CgroupError>(self.read(file)?.and_then(|text| text.trim().parse().ok()));
        let keyed =
            |file, name| Ok::<_, CgroupError>(self.read(file)?.and_then(|text| key(&text, name)));
        Ok(Stats {
            memory_current: number("memory.current")?,
            memory_peak: number("memory.peak")?,
            oom_kill: keyed("memory.events", "oom_kill")?,
            cpu_usec: keyed("cpu.stat", "usage_usec")?,
            pids_current: number("pids.current")?,
        })
    }

    /// How long tasks have waited for `resource` (`cpu`, `memory` or `io`): the totals of `some`
    /// and `full` in `RESOURCE.pressure`, in microseconds (Documentation/accounting/psi.rst).
    /// `None` if the kernel does not account for it.
    ///
    /// # Errors
    /// Reading failed.
    pub fn pressure(&self, resource: &str) -> Result<Option<(u64, u64)>, CgroupError> {
        let Some(text) = self.read(&format!("{resource}.pressure"))? else { return Ok(None) };
        let total = |kind| {
            let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
            line.rsplit_once("total=")?.1.trim().parse().ok()
        };
        Ok(Some((total("some ").unwrap_or(0), total("full ").unwrap_or(0))))
    }

    /// Stores a number that outlives this process, as an extended attribute of the directory. The
    /// caller keeps the value of `oom_kill` at the start of a run there.
    ///
    /// # Errors
    /// Those of `fsetxattr(2)`.
    pub fn set_note(&self, number: u64) -> Result<(), CgroupError> {
        let text = number.to_string();
        // SAFETY: the descriptor is open, the name a C string, the value `text.len()` bytes.
        let done = unsafe {
            libc::fsetxattr(
                self.dir.as_raw_fd(),
                NOTE.as_ptr(),
                text.as_ptr().cast(),
                text.len(),
                0,
            )
        };
        Errno::result(done).map(drop).map_err(self.fail("set an attribute of", ""))
    }

    /// The number that [`Cgroup::set_note`] stored, if any.
    pub fn note(&self) -> Option<u64> {
        let mut buffer = [0u8; 20];
        // SAFETY: the descriptor is open, the name a C string, the buffer valid for its length.
        let got = unsafe {
            libc::fgetxattr(
                self.dir.as_raw_fd(),
                NOTE.as_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
            )
        };
        let text = buffer.get(..usize::try_from(got).ok()?)?;
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    /// Removes the cgroup and every one below it, children first. It is no error if it no longer
    /// exists.
    ///
    /// # Errors
    /// `EBUSY`: it still has processes; wait until it is no longer [`Cgroup::populated`].
    pub fn remove(&self) -> Result<(), CgroupError> {
        remove_children(self.dir.as_fd(), &self.path)?;
        let removed = open_parent(&self.path)
            .and_then(|(parent, name)| unlinkat(parent, name.as_c_str(), UnlinkatFlags::RemoveDir));
        match removed {
            Err(Errno::ENOENT) => Ok(()),
            done => done.map_err(|errno| CgroupError {
                action: "remove",
                path: self.path.clone(),
                errno,
            }),
        }
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Enables controllers for the children of the cgroup at `dir` (`cgroup.subtree_control`). Every
/// ancestor must have them enabled first.
///
/// # Errors
/// `ENOENT`: the kernel or the parent does not provide a controller; `EBUSY`: `dir` itself has
/// processes.
pub fn enable_controllers(dir: &Path, controllers: &[&str]) -> Result<(), CgroupError> {
    let text: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    Cgroup::open(dir)?.write("cgroup.subtree_control", &text.join(" "))
}

fn open_parent(path: &Path) -> sys::Result<(OwnedFd, CString)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::EINVAL);
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let name = CString::new(name.as_encoded_bytes()).map_err(|_| Errno::EINVAL)?;
    Ok((open(parent, flags, Mode::empty())?, name))
}

fn remove_children(dir: BorrowedFd<'_>, path: &Path) -> Result<(), CgroupError> {
    let fail = |errno| CgroupError { action: "remove", path: path.to_owned(), errno };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut entries = match Dir::openat(dir, ".", flags, Mode::empty()) {
        // The directory that `dir` refers to has been removed.
        Err(Errno::ENOENT) => return Ok(()),
        done => done.map_err(fail)?,
    };
    for entry in entries.iter() {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        if entry.file_type() != Some(nix::dir::Type::Directory) || name == c"." || name == c".." {
            continue;
        }
        let child_path = path.join(name.to_string_lossy().as_ref());
        let fail = |errno| CgroupError { action: "remove", path: child_path.clone(), errno };
        let child = openat(dir, name, flags, Mode::empty()).map_err(fail)?;
        remove_children(child.as_fd(), &child_path)?;
        unlinkat(dir, name, UnlinkatFlags::RemoveDir).map_err(fail)?;
    }
    Ok(())
}

fn write_at(dir: &OwnedFd, file: &str, text: &str) -> sys::Result<()> {
    let fd = openat(dir, file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    File::from(fd).write_all(text.as_bytes()).map_err(|error| sys::errno_of(&error))
}

/// The value of `name` in a flat-keyed file (`name value` lines).
fn key(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .and_then(|value| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_matches() {
        let text = "low 0\noom 1\noom_kill 7\noom_group_kill 2\n";
        assert_eq!(key(text, "oom_kill"), Some(7));
        assert_eq!(key(text, "oom"), Some(1));
        assert_eq!(key(text, "high"), None);
    }
}
