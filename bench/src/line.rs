//! What the measuring process reports: one JSON object per line.

use serde::{Deserialize, Serialize};

/// Whether a run immediately follows the previous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Back to back.
    Hot,
    /// After 100 ms of idle time, as on an idle host.
    Gaps,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The current step, to show progress.
    Progress(String),
    /// Something that a reader of the measurements must know.
    Note(String),
    /// The version that a competitor reports.
    Version {
        /// The competitor.
        who: String,
        /// Its version line.
        text: String,
    },
    /// Some runs of a competitor.
    Times {
        /// The competitor.
        who: String,
        /// With or without gaps.
        mode: Mode,
        /// Nanoseconds of each run, from before the command to after the clean-up.
        ns: Vec<u64>,
    },
    /// The memory of one start.
    Memory {
        /// The competitor.
        who: String,
        /// The largest resident set of any of its processes, KiB.
        largest_kib: u64,
        /// The peak memory of all its processes together, daemons included, minus what they used
        /// before the start, KiB (`memory.peak`).
        group_kib: Option<u64>,
    },
    /// What an idle container costs besides its own program.
    Rest {
        /// The competitor.
        who: String,
        /// The names of the processes that exist because of the container.
        processes: Vec<String>,
        /// The sum of their proportional set sizes, KiB.
        pss_kib: u64,
    },
    /// What runs when there are no containers.
    Daemons {
        /// The competitor.
        who: String,
        /// Proportional set size, KiB.
        pss_kib: u64,
    },
    /// What a system call costs under a filter, nanoseconds.
    Calls {
        /// The competitor whose filter is used.
        who: String,
        /// An allowed call.
        allowed_ns: f64,
        /// A denied call.
        denied_ns: f64,
    },
    /// What each step of a start took, nanoseconds, median over the runs.
    Steps {
        /// The competitor.
        who: String,
        /// Name and time.
        steps: Vec<(String, u64)>,
    },
    /// The measurement failed.
    Failed(String),
    /// The measurement is complete.
    Done,
}
