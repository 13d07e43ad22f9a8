//! What the measuring process reports: one JSON object a line.

use serde::{Deserialize, Serialize};

/// Whether a run follows the last one at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Back to back.
    Hot,
    /// After 100 ms in which nothing happens, as on an idle host.
    Gaps,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// What is being done now, for somebody who waits.
    Progress(String),
    /// Something that a reader of the figures must know.
    Note(String),
    /// What a competitor says of its own version.
    Version {
        /// Who.
        who: String,
        /// In its words.
        text: String,
    },
    /// Some runs of a competitor, in nanoseconds each.
    Times {
        /// Who.
        who: String,
        /// How.
        mode: Mode,
        /// From before the command to after the clean-up.
        ns: Vec<u64>,
    },
    /// The memory of one start.
    Memory {
        /// Who.
        who: String,
        /// The largest resident set of any one process of it, KiB.
        largest_kib: u64,
        /// What all its processes together, those that serve it included, took at the peak beyond
        /// what they had before, KiB (`memory.peak`).
        group_kib: Option<u64>,
    },
    /// What a container at rest costs besides its own program.
    Rest {
        /// Who.
        who: String,
        /// Processes that are there for it.
        processes: Vec<String>,
        /// Their proportional set size together, KiB.
        pss_kib: u64,
    },
    /// What runs with no container at all.
    Daemons {
        /// Who.
        who: String,
        /// Proportional set size, KiB.
        pss_kib: u64,
    },
    /// What a system call costs under a filter, nanoseconds.
    Calls {
        /// Whose filter.
        who: String,
        /// One that is allowed.
        allowed_ns: f64,
        /// One that is denied.
        denied_ns: f64,
    },
    /// What each step of a start took, nanoseconds, median over the runs.
    Steps {
        /// Who.
        who: String,
        /// Name and time.
        steps: Vec<(String, u64)>,
    },
    /// The measurement cannot go on.
    Failed(String),
    /// That is all.
    Done,
}
