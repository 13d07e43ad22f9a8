//! The plan: everything a start needs, resolved by the caller.

use crate::caps::CapSet;
use crate::cgroup::Cgroup;
use crate::rlimit::Rlimit;
use crate::seccomp::Filter;
use crate::userns::UserNs;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use units::kernel_files;
use units::sysctl::{check_sysctl, check_sysctl_value};

/// What a program without `PATH` in its environment gets, as in other container runtimes.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One container, ready to be started by [`crate::spawn()`].
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// Host name inside (`sethostname(2)`), 1 to 64 bytes.
    pub hostname: String,
    /// An existing directory of the host, the same for all containers and best an empty one. The
    /// mounts of a set-up are stacked on it inside the container's own mount namespace; on the host
    /// nothing ever appears there.
    pub staging: PathBuf,
    /// What the root is made of.
    pub root: Root,
    /// The root is read-only for the container's program.
    pub read_only: bool,
    /// Volumes, host paths and tmpfs, in any order (they are mounted parents first).
    pub mounts: Vec<Mount>,
    /// Absolute paths inside that are hidden besides those that always are. What does not exist is
    /// passed over; one that leads over a symbolic link ends the set-up.
    pub masked: Vec<String>,
    /// Absolute paths inside that are read-only besides those that always are; as `masked`.
    pub read_only_paths: Vec<String>,
    /// Those of [`units::kernel_files`] that are neither hidden nor read-only.
    pub unmasked: Vec<String>,
    /// Kernel settings of the container's own namespaces, by their names (sysctl(8)).
    pub sysctls: Vec<(String, String)>,
    /// Small files such as `/etc/hosts`; each replaces what the image has at its path.
    pub files: Vec<InlineFile>,
    /// Device nodes besides the usual ones.
    pub devices: Vec<Device>,
    /// What is run, and as whom.
    pub process: Process,
    /// The unit's user namespace ([`crate::create_userns`]); `None`: root inside is the host's root.
    /// Ids in this plan, in the image and in volumes are those inside; file systems of host paths
    /// that cannot be mapped show their files as nobody's.
    pub userns: Option<&'a UserNs>,
    /// Which system calls the program may make; `None`: all.
    pub seccomp: Option<&'a Filter>,
    /// The unit's network namespace ([`crate::create_netns`]); `None`: the caller's own.
    pub netns: Option<BorrowedFd<'a>>,
    /// Where the container's processes live; it must exist.
    pub cgroup: &'a Cgroup,
    /// Standard input of the program; `None`: the null device.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Standard output of the program. A pipe is given to the container's user, who may then open
    /// it again as `/dev/stdout`.
    pub stdout: BorrowedFd<'a>,
    /// Standard error.
    pub stderr: BorrowedFd<'a>,
    /// A terminal of the container's own in the place of `stdin`, `stdout` and `stderr`.
    pub terminal: Option<Terminal<'a>>,
    /// Wait for a byte on [`crate::Spawned::go`] before the exec, with all else done.
    pub wait_for_go: bool,
    /// The same for a caller that does not stay: whoever opens the other ends later goes on.
    pub handover: Option<Handover<'a>>,
}

/// What a container's root is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// An image's layers under a tmpfs that takes what the container writes.
    Layers {
        /// Where the layers are mounted on the host, highest first; at least one.
        layers: Vec<PathBuf>,
        /// Upper bound in bytes of what the container may write. `None`: half of the memory
        /// (tmpfs's default).
        writable_size: Option<u64>,
    },
    /// A directory of the host, with what is mounted below it. What the container writes to its
    /// root, and what is made for its mounts, stays there.
    Directory(PathBuf),
}

/// A pseudo-terminal (pty(7)) that the set-up makes on the container's own /dev/pts. It controls the
/// program's session and is /dev/console, too.
#[derive(Debug, Clone, Copy)]
pub struct Terminal<'a> {
    /// A connected unix socket that gets the other end (unix(7), `SCM_RIGHTS`).
    pub socket: BorrowedFd<'a>,
    /// Rows and columns; `None`: 0, which means unknown.
    pub size: Option<(u16, u16)>,
}

/// The descriptors that a set-up and the world around it talk through, where they outlive the
/// caller (a pair of FIFOs).
#[derive(Debug, Clone, Copy)]
pub struct Handover<'a> {
    /// One byte read from it means go, as with `wait_for_go`; its end ends the child.
    pub go: BorrowedFd<'a>,
    /// Where the child writes [`crate::Setup::Prepared`] before it waits, and how its set-up has
    /// failed. It does not block.
    pub status: BorrowedFd<'a>,
    /// The other end of `status`; [`crate::Spawned::status`] is a copy of it.
    pub status_reader: BorrowedFd<'a>,
}

/// The program of a container or of an [`crate::exec()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The program and its arguments; the first is looked up in the environment's `PATH` unless it
    /// holds a slash. Not empty.
    pub argv: Vec<String>,
    /// `NAME=value`. `PATH` ([`DEFAULT_PATH`]) and `HOME` (of the user) are added when absent.
    pub env: Vec<String>,
    /// Absolute working directory; empty means `/`. Created when missing.
    pub cwd: String,
    /// `""`, `uid`, `uid:gid`, `name`, `name:group` and mixtures; see [`crate::user`].
    pub user: String,
    /// Exactly these supplementary groups. `None`: those that the image's files give the user.
    pub groups: Option<Vec<u32>>,
    /// Its umask, at most 0777; [`Process::UMASK`] usually.
    pub umask: u32,
    /// The bounding set, and for root the effective and permitted set.
    pub caps: CapSet,
    /// The inheritable set, of which only those count that are in `caps` too. Empty for units
    /// (CVE-2022-24769: it gives a program of another user than root capabilities through files').
    pub inheritable: CapSet,
    /// The ambient set, which a program of any user keeps over its exec, of which only those count
    /// that are in `inheritable` too. Empty for units.
    pub ambient: CapSet,
    /// `PR_SET_NO_NEW_PRIVS`: set-user-id bits and file capabilities are inert. A container's root is
    /// mounted without them (`nosuid`), too.
    pub no_new_privs: bool,
    /// Resource limits. `RLIMIT_NOFILE` is raised to [`Rlimit::NOFILE`] (or as far as the caller
    /// may) unless it is named here.
    pub rlimits: Vec<Rlimit>,
    /// `oom_score_adj`, -1000 to 1000. The caller's own is never inherited.
    pub oom_score_adj: i32,
}

impl Process {
    /// The umask that programs expect.
    pub const UMASK: u32 = 0o022;
}

/// Something mounted in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path inside. Missing directories (for a file: the file, too) are created. Symbolic
    /// links in it are followed inside the container's root.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// Nothing on it can be executed.
    pub no_exec: bool,
    /// What is mounted. Always without set-user-id bits and device nodes.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A directory or file of the host.
    Bind {
        /// Absolute host path.
        path: PathBuf,
        /// With everything that is mounted below it.
        recursive: bool,
        /// The first user of a new named volume fills it from the image.
        copy_up: Option<CopyUp>,
    },
    /// A file of the host in a directory that somebody else may write to: it must be a regular
    /// file, and a symbolic link in its place is refused, since it would be followed with the
    /// caller's rights.
    RegularFile {
        /// Absolute host path; links in its directories are followed.
        path: PathBuf,
    },
    /// A fresh tmpfs.
    Tmpfs {
        /// Upper bound in bytes; `None`: half of the memory.
        size: Option<u64>,
        /// Mode of its root directory.
        mode: u32,
    },
}

/// Filling a new volume with what the image has at the mount target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyUp {
    /// Host path of a file beside the volume's directory, on the same file system, that says
    /// "initialised". While it is missing, the child that mounts the volume fills it first; a fill
    /// that was interrupted is started again from nothing. A volume that already holds something
    /// is taken as it is.
    pub marker: PathBuf,
}

/// A small file written into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// Absolute path inside; missing directories are created.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
    /// Its mode; root owns it.
    pub mode: u32,
}

/// A device node of the host made visible inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The host's node.
    pub source: PathBuf,
    /// Absolute path inside, below `/dev`.
    pub target: String,
}

/// What is wrong with a plan, found before anything is started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A value that cannot be used.
    #[error("{what} {value:?}: {reason}")]
    Bad {
        /// Which value.
        what: &'static str,
        /// The value.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// Something that must not be missing.
    #[error("{0} is missing")]
    Missing(&'static str),
}

fn bad(what: &'static str, value: impl Into<String>, reason: &'static str) -> PlanError {
    PlanError::Bad { what, value: value.into(), reason }
}

/// An absolute path inside a container: no NUL byte, no `..` (which could not mean anything that
/// the plain path does not).
fn inner_path(what: &'static str, path: &str) -> Result<(), PlanError> {
    if !path.starts_with('/') {
        return Err(bad(what, path, "must be absolute"));
    }
    if path.contains('\0') {
        return Err(bad(what, path, "must not hold a NUL byte"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(bad(what, path, "must not hold '..'"));
    }
    if path.len() >= libc::PATH_MAX as usize {
        return Err(bad(what, path, "is too long"));
    }
    Ok(())
}

fn host_path(what: &'static str, path: &Path) -> Result<(), PlanError> {
    use std::os::unix::ffi::OsStrExt;
    let text = || path.to_string_lossy().into_owned();
    if !path.is_absolute() {
        return Err(bad(what, text(), "must be absolute"));
    }
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(bad(what, text(), "must not hold a NUL byte"));
    }
    Ok(())
}

/// The parts of an absolute inner path, without empty ones and `.`.
pub(crate) fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

/// Whether `path` may be the target of a mount: `/proc`, `/sys` and `/dev` belong to the runtime
/// (CVE-2019-16884, CVE-2023-27561: a volume over /proc hides the read-only and masked paths).
/// `/dev/shm` and what is below it may be replaced.
fn mount_target(path: &str) -> Result<(), PlanError> {
    inner_path("mount target", path)?;
    let mut parts = parts(path);
    match (parts.next(), parts.next()) {
        (None, _) => Err(bad("mount target", path, "is the root itself")),
        (Some("proc" | "sys"), _) => {
            Err(bad("mount target", path, "/proc and /sys take no mounts"))
        }
        (Some("dev"), next) if next != Some("shm") => {
            Err(bad("mount target", path, "/dev takes no mounts but /dev/shm (use devices)"))
        }
        _ => Ok(()),
    }
}

impl Process {
    /// Finds what the kernel would refuse or misread.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(PlanError::Missing("the program to run"));
        }
        if let Some(text) = self.argv.iter().chain(&self.env).find(|text| text.contains('\0')) {
            return Err(bad("argument or variable", text, "must not hold a NUL byte"));
        }
        if let Some(text) =
            self.env.iter().find(|text| !text.contains('=') || text.starts_with('='))
        {
            return Err(bad("environment variable", text, "must be NAME=value"));
        }
        if !self.cwd.is_empty() {
            inner_path("working directory", &self.cwd)?;
        }
        if self.umask > 0o777 {
            return Err(bad("umask", format!("{:o}", self.umask), "is 0 to 0777"));
        }
        if let Some(id) = self.groups.iter().flatten().find(|id| **id == u32::MAX) {
            return Err(bad("group", id.to_string(), "must be 0 to 4294967294"));
        }
        if !(-1000..=1000).contains(&self.oom_score_adj) {
            return Err(bad("oom_score_adj", self.oom_score_adj.to_string(), "is -1000 to 1000"));
        }
        crate::user::parse(&self.user)
            .map(drop)
            .map_err(|error| bad("user", &self.user, error.reason()))
    }
}

impl Plan<'_> {
    /// Finds every mistake that can be seen without touching the host. [`crate::spawn()`] does so
    /// first of all.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.hostname.is_empty() || self.hostname.len() > 64 || self.hostname.contains('\0') {
            return Err(bad("host name", &self.hostname, "must have 1 to 64 bytes"));
        }
        host_path("staging directory", &self.staging)?;
        match &self.root {
            Root::Directory(path) => host_path("root", path)?,
            Root::Layers { layers, .. } if layers.is_empty() => {
                return Err(PlanError::Missing("the image's layers"));
            }
            Root::Layers { layers, .. } => {
                layers.iter().try_for_each(|layer| host_path("layer", layer))?;
            }
        }
        for path in &self.masked {
            inner_path("masked path", path)?;
        }
        for path in &self.read_only_paths {
            inner_path("read-only path", path)?;
        }
        for path in &self.unmasked {
            if !kernel_files::all().any(|known| known == path) {
                return Err(bad("unmasked path", path, "is neither hidden nor read-only"));
            }
        }
        for mount in &self.mounts {
            mount_target(&mount.target)?;
            match &mount.source {
                MountSource::Bind { path, copy_up, .. } => {
                    host_path("mount source", path)?;
                    if let Some(CopyUp { marker }) = copy_up {
                        host_path("volume marker", marker)?;
                        if marker.file_name().is_none() {
                            return Err(PlanError::Missing("the volume marker's name"));
                        }
                    }
                }
                MountSource::RegularFile { path } => host_path("mount source", path)?,
                MountSource::Tmpfs { .. } => {}
            }
        }
        for (name, value) in &self.sysctls {
            check_sysctl(name, self.netns.is_some())
                .and_then(|()| check_sysctl_value(value))
                .map_err(|_| bad("sysctl", name, "is not a setting of the container's own"))?;
        }
        for file in &self.files {
            inner_path("file", &file.path)?;
            if parts(&file.path).next().is_none() || file.path.ends_with('/') {
                return Err(bad("file", &file.path, "must name a file"));
            }
        }
        for device in &self.devices {
            host_path("device", &device.source)?;
            inner_path("device", &device.target)?;
            let mut parts = parts(&device.target);
            if parts.next() != Some("dev") || parts.next().is_none() {
                return Err(bad("device", &device.target, "must be below /dev"));
            }
        }
        self.process.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_directories_take_no_mounts() {
        for path in ["/", "//", "/.", "/proc", "/proc/", "/./proc", "/proc/x", "/sys/fs/cgroup"] {
            assert!(mount_target(path).is_err(), "{path}");
        }
        for path in ["/dev", "/dev/pts", "/dev/mqueue", "/a/../proc", "relative", "", "/a\0b"] {
            assert!(mount_target(path).is_err(), "{path}");
        }
        for path in ["/data", "/dev/shm", "/dev/shm/x", "/procs", "/srv/proc", "/..a"] {
            assert!(mount_target(path).is_ok(), "{path}");
        }
    }
}
