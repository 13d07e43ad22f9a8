//! What requests only read: metrics, files and logs. The supervisor's handling of units does not
//! depend on it, so a simulator may use the default implementations, which return nothing.

use crate::kernel::{CallError, Errno, Handles};
use api_types::{BootReport, Clock, ConfigValue, Disk, Process};
use container::{Access, CgroupError, InsideError, Stats};
use ipc::OpenedFile;
use logger::{Counters, Line};
use std::io;
use std::path::Path;

/// Read access for requests.
pub trait Observe: Handles {
    /// The time of day, microseconds since 1970.
    fn unix_us(&self) -> i64 {
        0
    }

    /// A small file of the kernel's or of /run; empty when it cannot be read.
    fn text(&self, _path: &str) -> String {
        String::new()
    }

    /// The beginning of a regular file.
    ///
    /// # Errors
    /// Errors of open(2) and read(2); `InvalidInput` if it is not a regular file.
    fn read_file(&self, _path: &Path, _limit: u64) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    /// The names in a directory.
    ///
    /// # Errors
    /// Errors of open(2) and getdents(2).
    fn list_dir(&self, _path: &Path) -> io::Result<Vec<String>> {
        Err(io::ErrorKind::NotFound.into())
    }

    /// The kernel's log.
    ///
    /// # Errors
    /// Errors of syslog(2).
    fn kernel_log(&self) -> Result<String, CallError> {
        Ok(String::new())
    }

    /// PID 1's report on the boot so far.
    fn boot_report(&self) -> BootReport {
        BootReport::default()
    }

    /// The host folder as it is in force.
    fn config_values(&self) -> Vec<ConfigValue> {
        Vec::new()
    }

    /// All processes but the kernel's own threads.
    fn processes(&self) -> Vec<Process> {
        Vec::new()
    }

    /// The machine's clock.
    fn clock(&self) -> Clock;

    /// The data disk at `data` and the memory file systems.
    fn disks(&self, _data: Option<&str>) -> Vec<Disk> {
        Vec::new()
    }

    /// The CPU time of this process, microseconds.
    fn own_cpu_usec(&self) -> u64 {
        0
    }

    /// What a cgroup has used.
    ///
    /// # Errors
    /// Reading failed.
    fn stats(&self, _group: &Self::Cgroup) -> Result<Stats, CgroupError> {
        Ok(Stats::default())
    }

    /// How long its tasks have waited for `resource`; see [`container::Cgroup::pressure`].
    ///
    /// # Errors
    /// Reading failed.
    fn pressure(
        &self,
        _group: &Self::Cgroup,
        _resource: &str,
    ) -> Result<Option<(u64, u64)>, CgroupError> {
        Ok(None)
    }

    /// The last lines that a unit has written; none if it has written nothing in this boot.
    ///
    /// # Errors
    /// The ring cannot be read.
    fn log_tail(&self, _unit: &str, _lines: usize) -> Result<Vec<Line>, String> {
        Ok(Vec::new())
    }

    /// How much a unit has written.
    fn log_counters(&self, _unit: &str) -> Option<Counters> {
        None
    }

    /// A unit's ring, opened for reading; `None`: it has written nothing in this boot.
    ///
    /// # Errors
    /// The ring cannot be opened.
    fn log_ring(&self, _unit: &str) -> Result<Option<Self::Fd>, String> {
        Ok(None)
    }

    /// A unit's log files on the data disk at `data`, opened for reading, the newest first.
    ///
    /// # Errors
    /// The files cannot be opened.
    fn log_files(&self, _data: &str, _unit: &str) -> Result<Vec<Self::Fd>, String> {
        Ok(Vec::new())
    }

    /// Opens a regular file of a running container and returns its attributes.
    ///
    /// # Errors
    /// See [`InsideError`].
    fn open_file(
        &self,
        _pid: i32,
        _pidfd: &Self::Fd,
        _path: &str,
        _access: Access,
    ) -> Result<(Self::Fd, OpenedFile), InsideError> {
        Err(InsideError::Sys { call: "open", errno: Errno::ENOENT })
    }
}
