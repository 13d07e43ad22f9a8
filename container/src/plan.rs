//! The plan: everything that a start needs, resolved by the caller.

use crate::caps::CapSet;
use crate::cgroup::Cgroup;
use crate::rlimit::Rlimit;
use crate::seccomp::Filter;
use crate::userns::UserNs;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use units::kernel_files;
use units::sysctl::{check_sysctl, check_sysctl_value};

/// The `PATH` of a program without one in its environment, as in other container runtimes.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One container, ready to be started by [`crate::spawn()`].
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// Host name inside (`sethostname(2)`), 1 to 64 bytes.
    pub hostname: String,
    /// An existing, preferably empty directory of the host, the same for all containers. The root
    /// is assembled on it inside the container's own mount namespace; on the host it stays
    /// unchanged.
    pub staging: PathBuf,
    /// The source of the root.
    pub root: Root,
    /// The root is read-only for the container's program.
    pub read_only: bool,
    /// Volumes, host paths and tmpfs mounts, in any order (parents are mounted first).
    pub mounts: Vec<Mount>,
    /// Absolute paths inside that are masked in addition to the default ones. Paths that do not
    /// exist are skipped; a path that contains a symbolic link is an error.
    pub masked: Vec<String>,
    /// Absolute paths inside that are read-only in addition to the default ones; missing paths and
    /// links are treated as in `masked`.
    pub read_only_paths: Vec<String>,
    /// Default paths ([`units::kernel_files`]) that are neither masked nor read-only.
    pub unmasked: Vec<String>,
    /// Sysctls of the container's own namespaces: name and value (sysctl(8)).
    pub sysctls: Vec<(String, String)>,
    /// Small files such as `/etc/hosts`; each replaces the image's file at its path.
    pub files: Vec<InlineFile>,
    /// Device nodes in addition to the standard ones.
    pub devices: Vec<Device>,
    /// The program and its attributes.
    pub process: Process,
    /// The unit's user namespace ([`crate::create_userns`]); `None`: root inside is the host's
    /// root. Ids in this plan, in the image and in volumes are those inside; files on host paths
    /// whose file system does not support id-mapped mounts appear to be owned by nobody.
    pub userns: Option<&'a UserNs>,
    /// The system calls that the program may make; `None`: all.
    pub seccomp: Option<&'a Filter>,
    /// The unit's network namespace ([`crate::create_netns`]); `None`: the caller's own.
    pub netns: Option<BorrowedFd<'a>>,
    /// The cgroup of the container's processes; it must exist.
    pub cgroup: &'a Cgroup,
    /// Standard input of the program; `None`: the null device.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Standard output of the program. The container's user becomes the owner of a pipe, so that
    /// the program can open `/dev/stdout`.
    pub stdout: BorrowedFd<'a>,
    /// Standard error.
    pub stderr: BorrowedFd<'a>,
    /// A new terminal that replaces `stdin`, `stdout` and `stderr`.
    pub terminal: Option<Terminal<'a>>,
    /// Wait for a byte on [`crate::Spawned::go`] after setup, before the exec.
    pub wait_for_go: bool,
    /// The same for a caller that exits meanwhile: another process opens the other ends later and
    /// continues the start.
    pub handover: Option<Handover<'a>>,
}

/// The source of a container's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// The layers of an image below a tmpfs that holds what the container writes.
    Layers {
        /// The host's mount points of the layers, topmost first; at least one.
        layers: Vec<PathBuf>,
        /// Maximum size of the tmpfs in bytes. `None`: half of the memory (the default of tmpfs).
        writable_size: Option<u64>,
    },
    /// A directory of the host, with all mounts below it. What the container writes to its root,
    /// and the mount points created for its mounts, stay there.
    Directory(PathBuf),
}

/// A pseudo-terminal (pty(7)) that setup creates on the container's own /dev/pts. It is the
/// controlling terminal of the program's session, and also /dev/console.
#[derive(Debug, Clone, Copy)]
pub struct Terminal<'a> {
    /// A connected unix socket that receives the master (unix(7), `SCM_RIGHTS`).
    pub socket: BorrowedFd<'a>,
    /// Rows and columns; `None`: 0, which means unknown.
    pub size: Option<(u16, u16)>,
}

/// Descriptors for communicating with a setup that outlives the caller (a pair of FIFOs).
#[derive(Debug, Clone, Copy)]
pub struct Handover<'a> {
    /// One byte read from it means go, as with `wait_for_go`; end of file ends the child.
    pub go: BorrowedFd<'a>,
    /// Where the child writes [`crate::Setup::Prepared`] before it waits, or its setup error.
    /// Non-blocking.
    pub status: BorrowedFd<'a>,
    /// The other end of `status`; [`crate::Spawned::status`] is a copy of it.
    pub status_reader: BorrowedFd<'a>,
}

/// The program of a container or of an [`crate::exec()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The program and its arguments; the program is looked up in the environment's `PATH` unless
    /// it contains a slash. Not empty.
    pub argv: Vec<String>,
    /// `NAME=value`. `PATH` ([`DEFAULT_PATH`]) and `HOME` (of the user) are added when absent.
    pub env: Vec<String>,
    /// Absolute working directory; empty means `/`. Created if missing.
    pub cwd: String,
    /// `""`, `uid`, `uid:gid`, `name`, `name:group` and combinations; see [`crate::user`].
    pub user: String,
    /// The supplementary groups. `None`: the user's groups in the image's `/etc/group`.
    pub groups: Option<Vec<u32>>,
    /// The umask, at most 0777; usually [`Process::UMASK`].
    pub umask: u32,
    /// The bounding set, and for root the effective and permitted set.
    pub caps: CapSet,
    /// The inheritable set, limited to `caps`. Empty for units (CVE-2022-24769: it would let a
    /// non-root program gain capabilities from files).
    pub inheritable: CapSet,
    /// The ambient set, which a program of any user keeps across its exec, limited to
    /// `inheritable`. Empty for units.
    pub ambient: CapSet,
    /// `PR_SET_NO_NEW_PRIVS`: set-user-id bits and file capabilities have no effect. The
    /// container's root is mounted `nosuid`, too.
    pub no_new_privs: bool,
    /// Resource limits. `RLIMIT_NOFILE` is raised to [`Rlimit::NOFILE`] (or as far as the caller is
    /// permitted to) unless it is listed here.
    pub rlimits: Vec<Rlimit>,
    /// `oom_score_adj`, -1000 to 1000. The caller's own is never inherited.
    pub oom_score_adj: i32,
}

impl Process {
    /// The default umask.
    pub const UMASK: u32 = 0o022;
}

/// Something mounted in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path inside. Missing directories are created; so is a missing file for a file
    /// mount. Symbolic links are followed inside the container's root.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// Nothing on it can be executed.
    pub no_exec: bool,
    /// What is mounted. Always `nosuid` and `nodev`.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A directory or file of the host.
    Bind {
        /// Absolute host path.
        path: PathBuf,
        /// Include all mounts below it.
        recursive: bool,
        /// Fill a new named volume from the image on first use.
        copy_up: Option<CopyUp>,
    },
    /// A file of the host in a directory that is writable by others. It must be a regular file; a
    /// symbolic link is refused, since it would be followed with the caller's privileges.
    RegularFile {
        /// Absolute host path; links in its parent directories are followed.
        path: PathBuf,
    },
    /// A new tmpfs.
    Tmpfs {
        /// Maximum size in bytes; `None`: half of the memory.
        size: Option<u64>,
        /// Mode of its root directory.
        mode: u32,
    },
}

/// Filling a new volume with the image's content at the mount target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyUp {
    /// Host path of a file next to the volume's directory, on the same file system, which marks the
    /// volume as initialised. While it is missing, the child that mounts the volume fills it first;
    /// an interrupted fill is started again from scratch. A volume that already has content is used
    /// as it is.
    pub marker: PathBuf,
}

/// A small file written into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// Absolute path inside; missing directories are created.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
    /// Its mode; the owner is root.
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

/// A mistake in a plan, found before anything is started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// An invalid value.
    #[error("{what} {value:?}: {reason}")]
    Bad {
        /// The name of the value.
        what: &'static str,
        /// The value.
        value: String,
        /// Why it is invalid.
        reason: &'static str,
    },
    /// A missing value.
    #[error("{0} is missing")]
    Missing(&'static str),
}

fn bad(what: &'static str, value: impl Into<String>, reason: &'static str) -> PlanError {
    PlanError::Bad { what, value: value.into(), reason }
}

/// Checks an absolute path inside a container: no NUL byte, and no `..`, which is never needed.
fn inner_path(what: &'static str, path: &str) -> Result<(), PlanError> {
    if !path.starts_with('/') {
        return Err(bad(what, path, "must be absolute"));
    }
    if path.contains('\0') {
        return Err(bad(what, path, "must not contain a NUL byte"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(bad(what, path, "must not contain '..'"));
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
        return Err(bad(what, text(), "must not contain a NUL byte"));
    }
    Ok(())
}

/// The components of an absolute path inside, without empty ones and `.`.
pub(crate) fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

/// Checks whether `path` may be the target of a mount: `/proc`, `/sys` and `/dev` belong to the
/// runtime (CVE-2019-16884, CVE-2023-27561: a volume over /proc hides the read-only and masked
/// paths), except `/dev/shm` and paths below it.
fn mount_target(path: &str) -> Result<(), PlanError> {
    inner_path("mount target", path)?;
    let mut parts = parts(path);
    match (parts.next(), parts.next()) {
        (None, _) => Err(bad("mount target", path, "is the root directory")),
        (Some("proc" | "sys"), _) => {
            Err(bad("mount target", path, "mounts on /proc and /sys are not allowed"))
        }
        (Some("dev"), next) if next != Some("shm") => {
            let reason = "mounts on /dev are not allowed except on /dev/shm; use devices";
            Err(bad("mount target", path, reason))
        }
        _ => Ok(()),
    }
}

impl Process {
    /// Finds values that the kernel would refuse or misinterpret.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(PlanError::Missing("the program to run"));
        }
        if let Some(text) = self.argv.iter().chain(&self.env).find(|text| text.contains('\0')) {
            return Err(bad("argument or variable", text, "must not contain a NUL byte"));
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
            return Err(bad("umask", format!("{:o}", self.umask), "must be 0 to 0777"));
        }
        if let Some(id) = self.groups.iter().flatten().find(|id| **id == u32::MAX) {
            return Err(bad("group", id.to_string(), "must be 0 to 4294967294"));
        }
        if !(-1000..=1000).contains(&self.oom_score_adj) {
            return Err(bad(
                "oom_score_adj",
                self.oom_score_adj.to_string(),
                "must be -1000 to 1000",
            ));
        }
        crate::user::parse(&self.user)
            .map(drop)
            .map_err(|error| bad("user", &self.user, error.reason()))
    }
}

impl Plan<'_> {
    /// Finds every mistake that can be detected without accessing the host. [`crate::spawn()`]
    /// calls this first.
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
                return Err(bad(
                    "unmasked path",
                    path,
                    "is neither masked nor read-only by default",
                ));
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
                .map_err(|_| {
                    bad("sysctl", name, "is not a sysctl of the container's own namespaces")
                })?;
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
    fn mounts_on_kernel_directories_are_refused() {
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
