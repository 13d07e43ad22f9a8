//! What a waiting unit waits for.

use crate::State;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing that a waiting unit waits for. `Display` is the text for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WaitReason {
    /// A condition of the host that does not hold yet.
    Condition {
        /// Its name as in the unit file (`net.addr`).
        condition: String,
    },
    /// A unit in `requires` that is not ready.
    Requires {
        /// Its name.
        unit: String,
        /// Why it does not satisfy the requirement.
        unmet: Unmet,
    },
    /// A unit in `after` that is starting.
    After {
        /// Its name.
        unit: String,
        /// Its state.
        state: State,
    },
}

/// Why a required unit does not satisfy the requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "unmet", rename_all = "snake_case")]
pub enum Unmet {
    /// The host has no unit of this name.
    Missing,
    /// Its unit file is invalid.
    Broken,
    /// It has failed permanently.
    Failed {
        /// Why.
        why: String,
    },
    /// A person stopped it.
    StoppedByHand,
    /// It is not enabled, and it has not been started.
    NotStarted,
    /// It is a service, has exited with code 0 and is not restarted.
    Ended,
    /// It is starting.
    NotReady {
        /// Its state.
        state: State,
    },
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition { condition } => write!(f, "the host's condition {condition}"),
            Self::Requires { unit, unmet } => write!(f, "requires {unit}, which {unmet}"),
            Self::After { unit, state } => {
                write!(f, "starts after {unit}, which is not ready yet ({state})")
            }
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist on this host"),
            Self::Broken => f.write_str("has an invalid unit file"),
            Self::Failed { why } => write!(f, "has failed ({why})"),
            Self::StoppedByHand => f.write_str("was stopped by hand"),
            Self::NotStarted => f.write_str("has not been started"),
            Self::Ended => f.write_str("has ended"),
            Self::NotReady { state: State::Running } => f.write_str("has not finished yet"),
            Self::NotReady { state } => write!(f, "is not ready yet ({state})"),
        }
    }
}
