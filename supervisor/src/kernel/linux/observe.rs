//! Read access for requests.

use super::{Linux, errno_of, machine, processes};
use crate::config::values;
use crate::kernel::{CallError, Errno, Observe};
use api_types::{BootReport, Clock, ConfigValue, Disk, Process};
use container::{Access, Cgroup, CgroupError, InsideError, Stats};
use ipc::OpenedFile;
use layout::paths;
use logger::{Counters, Line};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Maximum number of bytes of the kernel's log in an answer.
const MAX_KERNEL_LOG: usize = 1024 * 1024;

/// Maximum number of names of a directory in an answer.
const MAX_NAMES: usize = 10_000;

impl Observe for Linux {
    fn unix_us(&self) -> i64 {
        logger::unix_us()
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    fn read_file(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(path)?.flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        Ok(names.take(MAX_NAMES).collect())
    }

    /// The kernel's ring buffer (syslog(2), SYSLOG_ACTION_READ_ALL).
    fn kernel_log(&self) -> Result<String, CallError> {
        const READ_ALL: libc::c_int = 3;
        let mut buffer = vec![0u8; MAX_KERNEL_LOG];
        let size = libc::c_int::try_from(buffer.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the buffer is valid for writes of `size` bytes.
        let got = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), size) };
        let got = Errno::result(got).map_err(|errno| CallError::new("syslog", errno))?;
        buffer.truncate(usize::try_from(got).unwrap_or(0));
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }

    fn boot_report(&self) -> BootReport {
        boot_report().unwrap_or_default()
    }

    fn config_values(&self) -> Vec<ConfigValue> {
        values::list(Path::new(paths::CONFIG))
    }

    fn processes(&self) -> Vec<Process> {
        processes::list()
    }

    fn clock(&self) -> Clock {
        machine::clock()
    }

    fn disks(&self, data: Option<&str>) -> Vec<Disk> {
        machine::disks(data)
    }

    fn own_cpu_usec(&self) -> u64 {
        machine::own_cpu_usec()
    }

    fn stats(&self, group: &Cgroup) -> Result<Stats, CgroupError> {
        group.stats()
    }

    fn pressure(&self, group: &Cgroup, resource: &str) -> Result<Option<(u64, u64)>, CgroupError> {
        group.pressure(resource)
    }

    fn log_tail(&self, unit: &str, lines: usize) -> Result<Vec<Line>, String> {
        match logger::tail(unit, lines) {
            Err(error) if error.is_absent() => Ok(Vec::new()),
            done => done.map_err(|error| error.to_string()),
        }
    }

    fn log_counters(&self, unit: &str) -> Option<Counters> {
        logger::counters(unit).ok()
    }

    fn log_ring(&self, unit: &str) -> Result<Option<OwnedFd>, String> {
        match logger::Reader::open(&logger::ring_path(unit)) {
            Ok(ring) => Ok(Some(ring.into())),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn log_files(&self, data: &str, unit: &str) -> Result<Vec<OwnedFd>, String> {
        let files = logger::history::open(&logger::files_path(Path::new(data)), unit);
        files.map_err(|error| error.to_string())
    }

    fn open_file(
        &self,
        pid: i32,
        pidfd: &OwnedFd,
        path: &str,
        access: Access,
    ) -> Result<(OwnedFd, OpenedFile), InsideError> {
        let file = File::from(container::open_file(pid, pidfd.as_fd(), path, access)?);
        let metadata = file
            .metadata()
            .map_err(|error| InsideError::Sys { call: "fstat", errno: errno_of(&error) })?;
        let report = OpenedFile { size: metadata.len(), mode: metadata.mode() & 0o7777 };
        Ok((file.into(), report))
    }
}

/// What PID 1 has written about the boot; nothing if it has not, or not what a supervisor understands.
///
/// # Errors
/// The file cannot be read now.
pub(super) fn boot_report() -> Result<BootReport, CallError> {
    match fs::read(paths::RUN_BOOT) {
        Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BootReport::default()),
        Err(error) => Err(CallError::new(paths::RUN_BOOT, errno_of(&error))),
    }
}
