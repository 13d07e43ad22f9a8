//! The memory that a start takes: of the largest process, by wait4(2), and of all processes together,
//! by the kernel's accounting.
//!
//! The processes of a competitor (its command, its daemons) and its containers are all in one control
//! group. Its `memory.peak`, reset before the start (Linux 6.12,
//! Documentation/admin-guide/cgroup-v2.rst), is what all of them took. The kernel charges in units of
//! 64 pages, which limits the resolution.

use crate::competitors::Competitor;
use crate::report::Report;
use engine_bench::line::Line;
use engine_bench::{Failure, Naming, places};
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Starts of each competitor; the median counts.
const STARTS: usize = 3;

/// Measures all competitors.
pub fn measure(competitors: &mut [Competitor], report: &mut Report) -> Result<(), Failure> {
    let peak = Peak::open()?;
    for competitor in competitors {
        let who = competitor.who.to_owned();
        let tools = tools()?;
        let mut largest = Vec::new();
        let mut together = Vec::new();
        competitor.work_in(&tools)?;
        for _ in 0..STARTS {
            let before = peak.as_ref().map(Peak::reset).transpose()?;
            let run = competitor.start()?;
            largest.push(run.max_rss_kib);
            if let (Some(peak), Some(before)) = (&peak, before) {
                together.push(peak.bytes()?.saturating_sub(before) / 1024);
            }
        }
        report.say(&Line::Memory {
            who,
            largest_kib: middle(largest).unwrap_or(0),
            group_kib: middle(together),
        })?;
    }
    Ok(())
}

fn middle(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// The group of the processes outside the containers; it is not removed.
fn tools() -> Result<PathBuf, Failure> {
    let dir = Path::new(places::CGROUP).join("tools");
    match fs::create_dir(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).naming(dir.display())
        }
        _ => Ok(dir),
    }
}

/// The memory accounting of our group and everything below it.
struct Peak(File);

impl Peak {
    /// `None` where version 2 has no memory controller.
    fn open() -> Result<Option<Peak>, Failure> {
        let path = Path::new(places::CGROUP).join("memory.peak");
        match File::options().read(true).write(true).open(&path) {
            Ok(file) => Ok(Some(Peak(file))),
            // A kernel before 6.12 has it, but read-only.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error).naming(path.display()),
        }
    }

    /// Resets the peak (for this descriptor). Returns the current charge, bytes.
    fn reset(&self) -> Result<u64, Failure> {
        (&self.0).write_all(b"reset\n").naming("memory.peak")?;
        self.bytes()
    }

    /// The peak since the reset, bytes.
    fn bytes(&self) -> Result<u64, Failure> {
        let mut text = String::new();
        let mut file = &self.0;
        file.rewind().and_then(|()| file.read_to_string(&mut text)).naming("memory.peak")?;
        text.trim().parse().naming("memory.peak")
    }
}
