//! Log lines.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One line that a unit wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// Rises by one with each line of the unit; the first of a boot is 1.
    pub seq: u64,
    /// The boot: 1 for the previous one, 2 for the one before it; absent or 0 for the present one.
    #[serde(default, skip_serializing_if = "this_boot")]
    pub boot: u64,
    /// Wall clock, microseconds since 1970.
    pub time_us: i64,
    /// Where it was written.
    pub stream: Stream,
    /// The run that wrote it.
    pub generation: u64,
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

// serde's shape of it.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn this_boot(boot: &u64) -> bool {
    *boot == 0
}

/// Where a log line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The container's standard output.
    Stdout,
    /// The container's standard error.
    Stderr,
    /// The host itself, for example when it had to drop lines.
    System,
}

impl Stream {
    /// All streams.
    pub const ALL: [Stream; 3] = [Stream::Stdout, Stream::Stderr, Stream::System];

    /// As in JSON and in log files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        }
    }

    /// The stream of this name.
    pub fn from_name(name: &str) -> Option<Stream> {
        Self::ALL.into_iter().find(|stream| stream.name() == name)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
