//! What requests only look at: figures, files and logs. Nothing that the supervisor does with units
//! depends on it, so that a simulator may leave all of it at its default, which is nothing.

use crate::kernel::{CallError, Errno, Handles};
use api_types::{Clock, ConfigValue, Disk, Process};
use container::{Access, CgroupError, InsideError, Stats};
use ipc::BootReport;
use ipc::api::FileReport;
use logger::{Counters, Line};
use std::path::Path;

/// Reading, for requests.
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
    /// What open(2) and read(2) say.
    fn read_file(&self, path: &Path, _limit: u64) -> Result<Vec<u8>, String> {
        Err(absent(path))
    }

    /// The names in a directory.
    ///
    /// # Errors
    /// What open(2) and getdents(2) say.
    fn list_dir(&self, path: &Path) -> Result<Vec<String>, String> {
        Err(absent(path))
    }

    /// The kernel's log.
    ///
    /// # Errors
    /// What syslog(2) says.
    fn kernel_log(&self) -> Result<String, CallError> {
        Ok(String::new())
    }

    /// What PID 1 says about the boot so far.
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

    /// Opens a regular file of a running container and says what it is.
    ///
    /// # Errors
    /// See [`InsideError`].
    fn open_file(
        &self,
        _pid: i32,
        _pidfd: &Self::Fd,
        _path: &str,
        _access: Access,
    ) -> Result<(Self::Fd, FileReport), InsideError> {
        Err(InsideError::Sys { call: "open", errno: Errno::ENOENT })
    }
}

fn absent(path: &Path) -> String {
    format!("{}: {}", path.display(), Errno::ENOENT.desc())
}
