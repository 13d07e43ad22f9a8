//! Lines and events.

use serde::{Deserialize, Serialize};

/// One line that a unit wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// Rises by one with each line of the unit; the first of a boot is 1.
    pub seq: u64,
    /// The boot it is of: 1 for the one before this one; left out, or 0, for this one.
    #[serde(default, skip_serializing_if = "this_boot")]
    pub boot: u64,
    /// Wall clock, microseconds since 1970.
    pub time_us: i64,
    /// `stdout`, `stderr` or `system` (the host's own remarks).
    pub stream: String,
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

/// Something that happened on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Event {
    /// Rises with each event, not always by one.
    pub seq: u64,
    /// Wall clock, microseconds since 1970.
    pub time_us: i64,
    /// The unit it is about, if it is about one.
    #[serde(default)]
    pub unit: Option<String>,
    /// One word for programs, such as `started`.
    pub kind: String,
    /// For people.
    pub text: String,
}

/// The data of an `event: gap`: what a follower will not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Gap {
    /// So many lines are no longer kept. For events, whose numbers do not rise by one, it is the
    /// most that can be missing.
    pub missed: u64,
}
